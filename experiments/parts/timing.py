"""How long a part of the work takes."""

import time
from collections.abc import Callable
from typing import TypeVar

import jax

T = TypeVar("T")


def timed(f: Callable[..., T], *args: object) -> tuple[T, float]:
    """f(*args) once it is computed, and the seconds that took; a first call compiles."""
    begin = time.perf_counter()
    value = jax.block_until_ready(f(*args))
    return value, time.perf_counter() - begin
