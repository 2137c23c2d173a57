"""Parameters and inputs from NumPy: a draw in JAX would be one more program to compile."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.on_device.jobs import alone
from recur import Prior, Recurrence
from recur.core import Tree


def rounded(numbers: np.ndarray, dtype: Any) -> np.ndarray:
    """The numbers, first rounded to bfloat16, so that every dtype computes with the same ones."""
    return numbers.astype(jnp.bfloat16).astype(dtype)


def parameters(cell: Recurrence, d: int, n: int, dtype: Any = np.float32) -> Tree:
    """A network near criticality, W ~ N(0, 1/n): NumPy arrays."""
    source = np.random.default_rng(0)
    with alone:
        shapes = jax.eval_shape(lambda key: cell.init(key, Prior(), d, n), jax.random.key(0))
        return jax.tree.map(
            lambda a: rounded(source.normal(size=a.shape) / np.sqrt(a.shape[0]), dtype), shapes
        )


@lru_cache(maxsize=16)
def inputs(dtype: str, *shape: int) -> Array:
    """Standard normal inputs, on the device; calls with the same arguments share them."""
    with alone:
        numbers = np.random.default_rng(1).standard_normal(shape, np.float32)
        return jnp.asarray(rounded(numbers, jnp.dtype(dtype)))
