"""How the site is built: `sphinx-build -W docs site`."""

import os
import re
import sys
from importlib import import_module
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parents[1]))

project = "recur"
author = "The recur developers"
copyright = f"2026, {author}"
version = release = import_module("recur").__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "recur"
default_role = "code"
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

# Pages with code run while the site is built, and the build stops at an error.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_display_short_literal_types = True
python_maximum_signature_line_length = 80
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]

SECTIONS = re.compile(r"(Args|Returns|Raises|Yields|Source|Example|Examples|Note|Notes):$")


def equations_as_written(app, what, name, obj, options, lines: list[str]) -> None:
    """Show a paragraph that is indented, an equation or a table, line by line as it stands."""
    del app, what, name, obj, options
    out: list[str] = []
    section = example = False
    for i, line in enumerate(lines):
        blank_before = i > 0 and not lines[i - 1].strip()
        indented = line.startswith("    ") and line.strip()
        if line and not line.startswith(" "):
            section = bool(SECTIONS.match(line)) or line.startswith("..") or line.endswith("::")
        if indented and blank_before and not section and not _inside(out):
            out += ["::", ""]
        example = line.lstrip().startswith(">>> ") or (example and bool(line.strip()))
        out.append(line if example or (indented and not section) else _plain(line))
    lines[:] = out


def _inside(out: list[str]) -> bool:
    """Whether the last text before this line was indented already."""
    last = next((line for line in reversed(out) if line.strip()), "")
    return last.startswith("    ")


def _plain(line: str) -> str:
    """The line with its bars and stars as they are, but for what stands in backticks."""
    parts = line.split("`")
    parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", equations_as_written, priority=400)
