"""Sequences of different lengths in one array: which steps are there, and where one begins."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from recur.core import Tree
from recur.scan.checks import input_array
from recur.scan.indices import inside, known


def present(xs: Tree, lengths: Any = None, mask: Any = None) -> Array | None:
    """Which steps of xs (T, ..., d) are there, (T, ...) boolean; None where all are.

    `lengths` (...) counts the steps of each sequence from the first, 0 allowed; `mask` (T, ...) is
    True where a step is there; given both, a step must be there by both. Raises ValueError for
    wrong shapes and dtypes, and for lengths outside 0 .. T where their values are known; traced
    lengths beyond T act as T.
    """
    if mask is not None:
        mask = require_flags("mask", mask, xs)
    if lengths is None:
        return mask
    steps, *batch = input_array(xs).shape[:-1]
    lengths, _ = require_lengths(lengths, steps, tuple(batch))
    within = _times(steps, batch) < lengths
    return within if mask is None else within & mask


def known_present(shape: tuple[int, ...], lengths: Any = None, mask: Any = None) -> Any:
    """`present` for inputs (T, ...) in NumPy; True where all are there, None where not known.

    What jnp makes under jit is traced, even of values that are known.
    """
    flags: Any = True
    if mask is not None:
        flags = known(mask)
    if lengths is not None and flags is not None:
        counts = known(lengths)
        flags = None if counts is None else flags & (_times(shape[0], shape[1:]) < counts)
    return flags


def require_flags(name: str, flags: Any, xs: Tree) -> Array:
    """The flags as an array. Raises ValueError unless they are boolean, (T, ...batch) of xs."""
    flags = jnp.asarray(flags)
    expected = input_array(xs).shape[:-1]
    if flags.dtype != bool:
        raise ValueError(f"{name} holds {flags.dtype}; pass booleans, for example {name} != 0")
    if flags.shape != expected:
        raise ValueError(
            f"{name} has shape {flags.shape}; for these inputs it is (T, ...batch) = {expected}, "
            f"one flag a step of each sequence. Use jnp.broadcast_to where all share one."
        )
    return flags


def require_lengths(lengths: Any, steps: int, batch: tuple[int, ...]) -> tuple[Array, Array]:
    """The lengths as int, and which of them are 0 .. T.

    Raises ValueError for a wrong shape or dtype, and for lengths outside of it that are known.
    """
    values = known(lengths)
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"lengths holds {lengths.dtype}; pass integers, the steps of each sequence"
        )
    if lengths.shape != batch:
        raise ValueError(
            f"lengths has shape {lengths.shape}; for these inputs it has that of the batch axes, "
            f"{batch}, one length a sequence"
        )
    if values is not None and values.size and (values.min() < 0 or values.max() > steps):
        raise ValueError(
            f"lengths lie between 0 and T = {steps}; got {values.min()} to {values.max()}. Shorten "
            "them, or pad the inputs to the longest sequence."
        )
    lengths = lengths.astype(int)  # one that holds T: that of a file may be of 8 bits
    return lengths, inside(lengths, steps + 1)


def _times(steps: int, batch: Any) -> np.ndarray:
    """0 .. T - 1 along the first axis."""
    return np.arange(steps).reshape(steps, *(1 for _ in batch))
