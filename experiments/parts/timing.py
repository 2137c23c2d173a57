"""The time that a computation takes."""

import time
from collections.abc import Callable
from typing import TypeVar

import jax

T = TypeVar("T")


def timed(f: Callable[..., T], *args: object) -> tuple[T, float]:
    """f(*args) and the seconds until it was computed; those of a first call include compilation."""
    begin = time.perf_counter()
    value = jax.block_until_ready(f(*args))
    return value, time.perf_counter() - begin
