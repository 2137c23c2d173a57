"""Where the members of a sweep lie before a step."""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import jax

from recur import train

T = TypeVar("T")


def placed(members: T) -> T:
    """The same members, on the devices on which `train.over_devices` leaves its results.

    XLA compiles a program for where its arguments lie: without this, one that takes its own results
    is compiled at the first call and once more at the second.
    """
    return _placing()(members)


@cache
def _placing() -> Callable:
    return jax.jit(train.over_devices(lambda members: members))
