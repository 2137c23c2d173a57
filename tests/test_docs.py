"""The site: every public package and cell has its page of reference, and no link leads nowhere."""

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import recur
from experiments import gallery
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
    pages, named = set(DOCS.rglob("*.md")), set()
    for page in pages:
        for tree in re.findall(r"```\{toctree\}(.*?)```", page.read_text(), re.DOTALL):
            named |= {page.parent / f"{name}.md" for name in tree.split() if name[0] != ":"}
    assert pages - named == {DOCS / "index.md"}


def test_no_module_is_hidden_by_a_function_of_its_name():
    """`import recur.scan.plan` would give a module, `recur.scan.plan` a function."""
    for found in pkgutil.walk_packages(recur.__path__, "recur."):
        package, _, name = found.name.rpartition(".")
        importlib.import_module(found.name)
        assert isinstance(getattr(importlib.import_module(package), name), ModuleType), found.name


def test_pages_of_the_gallery_say_what_their_experiments_say():
    """`python -m experiments.gallery` writes them anew after a docstring has changed."""
    shown = list(gallery.every())
    assert len(shown) > 25
    for one in shown:
        page = gallery.PAGES / f"{one.name}.md"
        assert page.exists(), f"{one.name} has no page: python -m experiments.gallery results"
        assert page.read_text() == one.page(gallery.table_of(page)), one.name
        assert page.with_suffix(".webp").stat().st_size < 150_000  # of all of them, a few MB
    assert (gallery.PAGES / "index.md").read_text() == gallery.index(shown)


def test_a_docstring_stays_as_it_stands_in_markdown():
    assert gallery.markdown("a < b, x*y, <name>.wav of `p * q`") == (
        r"a < b, x\*y, \<name>.wav of `p * q`"
    )
