"""Recurrent networks in JAX: write a cell once; the rest is derived from it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recur import analysis, cells, compose, generate, scan, tasks, theory
from recur.cell_contract import check_cell
from recur.core import Cell, Gates, Prior, Recurrence, Unitwise, hidden
from recur.gated_cells import GateParams, gated

if TYPE_CHECKING:
    from recur import plot as plot

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
    """`recur.plot` on first use: it needs matplotlib, which importing recur does without."""
    if name == "plot":
        return import_module("recur.plot")
    raise AttributeError(f"module 'recur' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "plot"])
