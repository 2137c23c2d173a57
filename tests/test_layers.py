"""Data flows one way, and importing recur is light."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from recur import core

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parent.parent

# Each layer may import those before it (design: core <- cells <- compose <- scan <- ...).
ORDER = [
    "expect",
    "atomic_files",
    "tables",
    "functions",
    "core",
    "jaxpr",
    "eigenvalues",
    "gated_cells",
    "cells",
    "compose",
    "scan",
    "generate",
    "analysis",
    "theory",
    "plot",
    "declared_gates",
    "reporting",
    "__main__",
    "cell_contract",
    "tasks",
    "train",
    "checkpoint",
    "weights",
    "flax",
    "experiments",
    "benchmarks",
]

# Packages that only one layer may import.
ONLY = {
    "orbax": {"checkpoint"},
    "flax": {"flax", "experiments", "benchmarks"},
    "matplotlib": {"plot", "reporting", "experiments", "benchmarks"},
    # what recur.weights reads, it does not import
    **{name: {"benchmarks"} for name in ("torch", "keras", "haiku", "equinox")},
}


def layer_of(module):
    """The layer of recur.cells.gru is cells, that of experiments.data is experiments."""
    first, *rest = module.split(".")
    if first != "recur":
        return first
    if not rest:
        return ORDER[ORDER.index("experiments") - 1]  # all of the library
    return "core" if hasattr(core, rest[0]) else rest[0]  # `from recur import Prior`


@cache
def imports():
    """(importing layer, imported module, where) of every import in the library and its scripts."""
    return list(each_import())


def each_import():
    for folder in ("recur", "experiments", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = ".".join(parts).removesuffix(".__init__")
            if module == "recur":
                continue  # the front door shows every room
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module]
                    if node.module in ("recur", "experiments", "benchmarks"):
                        names = [f"{node.module}.{alias.name}" for alias in node.names]
                else:
                    continue
                for name in names:
                    yield layer_of(module), name, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_data_flows_one_way():
    wrong = []
    for layer, name, where in imports():
        if name.split(".")[0] not in ("recur", "experiments", "benchmarks"):
            continue
        assert layer in ORDER, f"{where}: no layer is named {layer}"
        if ORDER.index(layer_of(name)) > ORDER.index(layer):
            wrong.append(f"{where}: {layer} imports {name}")
    assert not wrong


def test_heavy_packages_stay_in_their_layer():
    wrong = [
        f"{where}: {layer} imports {name}"
        for layer, name, where in imports()
        if layer not in ONLY.get(name.split(".")[0], {layer})
    ]
    assert not wrong


def test_importing_recur_is_light():
    heavy = "{'flax', 'orbax', 'chex', 'optax', 'matplotlib'}"
    code = f"import sys, recur; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_tests_of_a_package_are_where_one_looks_for_them():
    """A folder for each package, a file for each other module of which users call functions."""
    packages = {path.parent.name for path in (ROOT / "recur").glob("*/__init__.py")}
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders == packages | {"experiments"}
    for module in ("cell_contract", "checkpoint", "expect", "gated_cells", "generate", "tasks"):
        assert (ROOT / "recur" / f"{module}.py").exists()
        assert (ROOT / "tests" / f"test_{module}.py").exists()
