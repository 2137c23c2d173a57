"""Cells over time: `run` over a sequence, and the bodies that analyses take."""

from recur.scan.indices import inside, or_nan, require_index, require_integers
from recur.scan.input_checks import (
    check,
    check_finite,
    describe,
    first_nonfinite,
    input_array,
    length,
    number_of_steps,
    require_float,
)
from recur.scan.one_step import Tied, masked, tied, untied
from recur.scan.over_time import run, states, total, truncated
from recur.scan.planning import Plan, plan
from recur.scan.valid_steps import known_present, present, require_lengths

__all__ = [
    "run",
    "states",
    "truncated",
    "total",
    "present",
    "Plan",
    "plan",
    "Tied",
    "tied",
    "masked",
    "untied",
    "check",
    "check_finite",
    "describe",
    "first_nonfinite",
    "input_array",
    "length",
    "number_of_steps",
    "require_float",
    "require_index",
    "require_integers",
    "require_lengths",
    "known_present",
    "inside",
    "or_nan",
]
