"""Placement of the members of a sweep on devices before training."""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import jax

from recur import train

T = TypeVar("T")


def placed(members: T) -> T:
    """Move the members to the devices on which `train.over_devices` returns its results.

    XLA compiles a program for the devices of its arguments. Without this function, a program that
    is applied to its own results would be compiled twice, at the first and at the second call.
    """
    return _placing()(members)


@cache
def _placing() -> Callable:
    return jax.jit(train.over_devices(lambda members: members))
