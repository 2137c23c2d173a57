"""Recurrent networks in JAX: write a cell once; the rest is derived from it."""

from recur import analysis, cells, compose, generate, scan, tasks, theory
from recur.check import check_cell
from recur.core import Cell, Prior, Recurrence, Unitwise, hidden

__all__ = [
    "Cell",
    "Prior",
    "Recurrence",
    "Unitwise",
    "analysis",
    "cells",
    "check_cell",
    "compose",
    "generate",
    "hidden",
    "scan",
    "tasks",
    "theory",
]
