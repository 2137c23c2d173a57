"""Public names say what they take, give and refuse, and their examples print what they say."""

import ast
import doctest
import importlib
import inspect
import re
from functools import cache

import numpy as np
import pytest
from matplotlib import pyplot
from test_docs import DOCS, modules_of_reference

from recur import Cell, Unitwise, cells

PACKAGES = sorted(modules_of_reference())
CELLS = {"cells": cells} | {f"cells.{name}": getattr(cells, name) for name in cells.__all__[:-2]}
# what a cell is made of; its equation is its docstring, and its module need not export it
PARTS = re.compile("(init|start|drive|mix|update|step|affine|fitting|solve)(_|$)")
DEAR = {"theory.untied", "theory.tied", "theory.signal_tied", "theory.critical", "theory.slowest"}
COLON = "without a colon in its first line: Sphinx takes what is before it for a type"


def beginning():
    """The names with which examples begin, by the lines of docs/api/index.md."""
    (lines,) = re.findall(r"```python\n(.*?)```", (DOCS / "api/index.md").read_text(), re.DOTALL)
    names = {}
    with np.printoptions():  # and back to those that are
        exec(lines, names)
    return names


def public():
    """Every public function and type, by its name without `recur.`."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", vars(module)):
            value = getattr(module, name)
            own = hasattr(module, "__all__") or getattr(value, "__module__", "") == package
            described = inspect.isroutine(value) or inspect.isclass(value)
            if own and described and not name.startswith("_"):
                found[f"{package}.{name}".removeprefix("recur.")] = value
    return found


PUBLIC, NAMES = public(), beginning()
SHOWN = CELLS | PUBLIC  # what may have an example


@cache
def tree_of(module):
    source = inspect.getsource(importlib.import_module(module))
    return ast.parse(source), source.splitlines()


def definition(value):
    """The syntax tree of a function or a class, and the lines of its file."""
    tree, lines = tree_of(value.__module__)
    for part in value.__qualname__.split("."):
        tree = next(node for node in tree.body if getattr(node, "name", None) == part)
    return tree, lines


def sections(text):
    """The sections of a docstring in Google's style, by their headings."""
    parts = re.split(r"^(\w+):\n(?=    )", inspect.cleandoc(text or ""), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def refuses(node):
    """Whether a function raises an error itself, or has its arguments checked."""
    decorated = any(ast.unparse(d).startswith("expect.arguments") for d in node.decorator_list)
    return decorated or any(isinstance(part, ast.Raise) for part in ast.walk(node))


def described(text):
    """The names that a section Args describes; several may share a line."""
    heads = re.findall(r"^    (\*{0,2}\w[\w, *]*):", text, flags=re.MULTILINE)
    return {name.strip(" *") for head in heads for name in head.split(",")}


def lacking_of_function(value):
    """What the docstring of a function lacks."""
    node, _ = definition(inspect.unwrap(value))
    has = sections(value.__doc__)
    takes = {*inspect.signature(value).parameters} - {"self"}
    if described(has.get("Args", "")) != takes:
        yield f"Args: {sorted(described(has.get('Args', '')) ^ takes)}"
    if ast.unparse(node.returns or ast.Constant(1)) != "None" and not has.keys() & {
        "Returns",
        "Yields",
    }:
        yield "Returns"
    if ":" in has.get("Returns", "").partition("\n")[0]:
        yield f"Returns {COLON}"
    if refuses(node) and "Raises" not in has:
        yield "Raises"
    if ">>> " not in has.get("Example", ""):
        yield "Example"


def lacking_of_type(value):
    """What a type lacks: `#:` beside fields, words for methods, its arguments, an example."""
    node, lines = definition(value)
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and not part.target.id.startswith("_"):
            around = lines[part.lineno - 2 : part.end_lineno]
            above = around[0].lstrip().startswith("#: ")
            if not above and not any("#: " in line for line in around[1:]):
                yield f"#: {part.target.id}"
            if any(":" in line.partition("#: ")[2] for line in around[1:]):
                yield f"#: {part.target.id} {COLON}"
        method = isinstance(part, ast.FunctionDef) and not part.name.startswith("_")
        if method and not ast.get_docstring(part):
            yield part.name
    has = sections(value.__doc__)
    if any(getattr(part, "name", "") == "__init__" for part in node.body):
        takes = {*inspect.signature(value.__init__).parameters} - {"self"}
        if described(has.get("Args", "")) != takes:
            yield f"Args: {sorted(described(has.get('Args', '')) ^ takes)}"
    result = issubclass(value, tuple | Exception) or getattr(value, "_is_protocol", False)
    if not result and ">>> " not in has.get("Example", ""):
        yield "Example"


def lacking(value):
    return [*(lacking_of_type if inspect.isclass(value) else lacking_of_function)(value)]


def examples(name):
    """The examples of a public name and, of a type, of its methods; of a module, its own."""
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=name not in CELLS)
    return [t for t in finder.find(SHOWN[name], name, module=False, globs=NAMES) if t.examples]


def test_public_names_say_what_they_take_give_and_refuse():
    """And name their arguments as they are called."""
    told = {name: found for name, value in PUBLIC.items() if (found := lacking(value))}
    assert not told, told


def test_modules_of_cells_have_an_example_and_export_all_but_the_parts_of_their_cells():
    for path, module in CELLS.items():
        assert ">>> " in sections(module.__doc__).get("Example", ""), path
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if own and inspect.isfunction(value) and name not in module.__all__:
                part = PARTS.match(name) and value.__doc__
                assert part or name.startswith("_"), f"{path}.{name}"
            elif isinstance(value, Cell | Unitwise) or (own and hasattr(value, "_fields")):
                assert name in module.__all__, f"{path}.{name}"


def test_a_docstring_that_lacks_something_is_found():
    def good(a, b):
        """Sum.

        Args:
            a, b: Numbers.

        Returns:
            Their sum.
        """

    assert described(sections(good.__doc__)["Args"]) == {"a", "b"}
    assert sections(good.__doc__).keys() == {"Args", "Returns"}
    assert refuses(ast.parse("def f():\n  if x:\n    raise ValueError").body[0])
    assert refuses(ast.parse("@expect.arguments(a=1)\ndef f(a): pass").body[0])
    assert not refuses(ast.parse("def f(a): return a").body[0])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in DEAR else pytest.mark.slow)
        for name, value in SHOWN.items()
        if ">>> " in (value.__doc__ or "")
    ],
)
def test_example_prints_what_it_says(name):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    told = []
    with np.printoptions(precision=3, suppress=True):
        for example in examples(name):
            runner.run(example, out=told.append)
    pyplot.close("all")
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
