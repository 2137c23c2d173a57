"""Recurrent networks in JAX: write a cell once; the rest is derived from it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recur import analysis, cells, compose, generate, scan, tasks, theory
from recur.cell_contract import check_cell
from recur.core import Cell, Gates, Prior, Recurrence, Unitwise, hidden
from recur.gated_cells import GateParams, gated

if TYPE_CHECKING:
    from recur import checkpoint as checkpoint
    from recur import flax as flax
    from recur import plot as plot
    from recur import train as train
    from recur import weights as weights
    from recur.reporting import report as report

__version__ = "0.1.0"  # defined only here; the wheel, the site and the records read it
LATER = ("checkpoint", "flax", "plot", "train", "weights")  # imported when first used

__all__ = [
    "Cell",
    "GateParams",
    "Gates",
    "Prior",
    "Recurrence",
    "Unitwise",
    "analysis",
    "cells",
    "check_cell",
    "compose",
    "gated",
    "generate",
    "hidden",
    "scan",
    "tasks",
    "theory",
]


def __getattr__(name: str) -> Any:
    """`recur.report`, `recur.train` and others of LATER, which `import recur` does not import."""
    if name in LATER:
        return import_module(f"recur.{name}")
    if name == "report":
        return import_module("recur.reporting").report
    raise AttributeError(f"module 'recur' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LATER, "report"})
