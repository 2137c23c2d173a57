"""The site: every public package and cell has its page of reference, and no link leads nowhere."""

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import recur
from recur import cells

DOCS = Path(__file__).parents[1] / "docs"
BELOW = {
    "recur.core",
    "recur.expect",
    "recur.tables",
    "recur.jaxpr",
    "recur.cell_contract",
    "recur.functions",
    "recur.atomic_files",
    "recur.gated_cells",
    "recur.declared_gates",
    "recur.eigenvalues",
    "recur.cells.elementwise",
    "recur.__main__",
}  # named elsewhere


def modules_of_reference():
    """The modules that pages of reference show whole."""
    pages = [page.read_text() for page in (DOCS / "api").glob("*.md")]
    return {name for page in pages for name in re.findall(r"automodule:: ([\w.]+)", page)}


def public_packages():
    """Packages whose names users import: those with `__all__`, and single files."""
    for found in pkgutil.iter_modules(recur.__path__, "recur."):
        module = importlib.import_module(found.name)
        if not found.ispkg or hasattr(module, "__all__"):
            yield found.name


def test_every_public_package_has_its_page():
    shown = modules_of_reference()
    for name in shown:
        importlib.import_module(name)
    every = {*public_packages(), *(f"recur.cells.{name}" for name in cells.__all__[:-2])}
    for name in tuple(every):
        package = importlib.import_module(name)
        for value in getattr(package, "__all__", ()):
            if isinstance(getattr(package, value), ModuleType):
                every.add(f"{name}.{value}")
    assert every - BELOW <= shown, every - BELOW - shown


def test_links_of_the_site_lead_somewhere():
    links = 0
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not target.startswith(("http://", "https://")):
                links += 1
                assert (page.parent / target).exists(), f"{page.relative_to(DOCS)}: {target}"
    assert links > 20


def test_every_page_is_in_the_table_of_contents():
    trees = "\n".join(
        re.findall(r"```\{toctree\}(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
        + re.findall(r"```\{toctree\}(.*?)```", (DOCS / "api" / "index.md").read_text(), re.DOTALL)
    )
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix("")
        name = name.relative_to("api") if name.parts[0] == "api" and name.name != "index" else name
        assert str(name) == "index" or str(name) in trees.split(), name


def test_no_module_is_hidden_by_a_function_of_its_name():
    """`import recur.scan.plan` would give a module, `recur.scan.plan` a function."""
    for found in pkgutil.walk_packages(recur.__path__, "recur."):
        package, _, name = found.name.rpartition(".")
        importlib.import_module(found.name)
        assert isinstance(getattr(importlib.import_module(package), name), ModuleType), found.name
