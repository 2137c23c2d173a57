"""Sequences of different lengths in one array: which steps are there, and where one begins."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recur.core import Tree
from recur.scan.checks import input_array


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
    lengths = _require_lengths(lengths, steps, tuple(batch))
    times = jnp.arange(steps).reshape(steps, *(1 for _ in batch))
    inside = times < lengths
    return inside if mask is None else inside & mask


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


def _require_lengths(lengths: Any, steps: int, batch: tuple[int, ...]) -> Array:
    known = None if isinstance(lengths, jax.core.Tracer) else np.asarray(lengths)
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
    if known is not None and known.size and (known.min() < 0 or known.max() > steps):
        raise ValueError(
            f"lengths lie between 0 and T = {steps}; got {known.min()} to {known.max()}. Shorten "
            "them, or pad the inputs to the longest sequence."
        )
    return lengths.astype(int)  # one that holds T: that of a file may be of 8 bits
