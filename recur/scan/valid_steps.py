"""Sequences of different lengths in one array: which steps are valid, and where each begins."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import expect
from recur.core import Tree
from recur.scan.indices import inside, known
from recur.scan.input_checks import are_numbers, input_array

TIME_FIRST = "time is the first axis here, so pass jnp.moveaxis(xs, -2, 0) for xs (..., T, d)"


@expect.arguments(xs=expect.timed)
def present(xs: Tree, lengths: Any = None, mask: Any = None) -> Array | None:
    """Which steps of a batch of sequences are valid, from lengths, a mask or both.

    Warns if a mask is known and padded only along its second axis, like a mask with batch axes
    first.

    Args:
        xs: Inputs (T, ..., d).
        lengths: Steps of each sequence from the first, integers (...), 0 allowed; None: all.
        mask: Booleans (T, ...), True where a step is valid; None: everywhere. With lengths and a
            mask, a step must be valid by both.

    Returns:
        Booleans (T, ...), or None if all steps are valid. Traced lengths beyond T act as T.

    Raises:
        ValueError: A shape or a dtype is wrong, or lengths are outside 0 .. T where they are known.
        TypeError: xs holds no arrays (T, ...).

    Example:
        >>> print(scan.present(jnp.zeros((3, 2, 1)), lengths=jnp.array([3, 1])))
        [[ True  True]
         [ True False]
         [ True False]]
    """
    if mask is not None:
        _warn_of_batch_first(mask)
        mask = require_flags("mask", mask, xs)
    if lengths is None:
        return mask
    steps, *batch = input_array(xs).shape[:-1]
    lengths, _ = require_lengths(lengths, steps, tuple(batch))
    within = _times(steps, batch) < lengths
    return within if mask is None else within & mask


def known_present(shape: tuple[int, ...], lengths: Any = None, mask: Any = None) -> Any:
    """`present` in NumPy, if the values are known. Arrays made by jnp under jit are not known.

    Args:
        shape: (T, ...), of the inputs without their features.
        lengths: As in `present`.
        mask: As in `present`.

    Returns:
        Booleans (T, ...); True if all steps are valid, None if this is not known.

    Example:
        >>> print(scan.known_present((3, 2), lengths=np.array([3, 1])))
        [[ True  True]
         [ True False]
         [ True False]]
    """
    flags: Any = True
    if mask is not None:
        flags = known(mask)
    if lengths is not None and flags is not None:
        counts = known(lengths)
        known_too = counts is not None and are_numbers(*shape)
        flags = flags & (_times(shape[0], shape[1:]) < counts) if known_too else None
    return flags


def require_flags(name: str, flags: Any, xs: Tree) -> Array:
    """The flags as an array. Raises ValueError unless they are boolean, (T, ...batch) of xs."""
    expect.numeric(name, flags)
    flags = jnp.asarray(flags)
    expected = input_array(xs).shape[:-1]
    if flags.dtype != bool:
        raise ValueError(
            f"{name} must hold booleans; it holds {flags.dtype}: pass for example {name} != 0"
        )
    if flags.shape != expected:
        raise ValueError(
            f"{name} must have shape (T, ...batch) = {expected}, one flag for each step of each "
            f"sequence; got {flags.shape}. {_advice(flags.shape, expected)}"
        )
    return flags


def _advice(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """What to do about flags with another shape than expected."""
    if len(shape) > 1 and expected in (shape[1:] + shape[:1], shape[-1:] + shape[:-1]):
        return f"One of the two has batch axes first: {TIME_FIRST}."
    return "Use jnp.broadcast_to where all share one."


def _warn_of_batch_first(mask: Any) -> None:
    """Warn about a mask (T, B) whose rows end in padding while its columns, the sequences, do not.

    This needs at least four columns. With fewer, a mask with gaps may look like this by chance.
    """
    flags = known(mask)
    if flags is None or flags.ndim != 2 or flags.dtype != bool or flags.shape[1] < 4:
        return

    def begins(axis: int) -> bool:  # where a step is valid, the previous one is too
        return not np.any(np.diff(flags.astype(np.int8), axis=axis) > 0)

    if begins(1) and not begins(0) and np.any(flags[:, 0] & ~flags[:, -1]):
        warnings.warn(
            f"the mask {flags.shape} is padded along its second axis and not along its first, "
            f"like a mask of batch-first inputs: {TIME_FIRST}, and the mask with them",
            stacklevel=2,
        )


def require_lengths(lengths: Any, steps: int, batch: tuple[int, ...]) -> tuple[Array, Array]:
    """Lengths as JAX integers, or an error that says what is wrong with them.

    Args:
        lengths: Integers (...), the steps of each sequence.
        steps: T.
        batch: The shape (...) of the batch axes.

    Returns:
        The lengths, and booleans that say which of them are 0 .. T.

    Raises:
        ValueError: The shape or the dtype is wrong, or a length that is known is outside 0 .. T.
        TypeError: The lengths are not numbers.

    Example:
        >>> print(scan.require_lengths(np.array([4, 2]), 4, (2,)))
        (Array([4, 2], dtype=int32), Array([ True,  True], dtype=bool))
    """
    expect.numeric("lengths", lengths)
    values = known(lengths)
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"lengths must hold integers, the steps of each sequence; it holds {lengths.dtype}"
        )
    if lengths.shape != batch:
        batch_first = lengths.shape == (steps, *batch)[:-1]
        raise ValueError(
            f"lengths must have the shape of the batch axes, {batch}, one length per sequence; got "
            f"{lengths.shape}"
            + (f". The inputs have batch axes first: {TIME_FIRST}" if batch_first else "")
        )
    longest = steps if are_numbers(steps) else np.inf
    if values is not None and values.size and (values.min() < 0 or values.max() > longest):
        raise ValueError(
            f"lengths must be within 0 .. T = {steps}; got {values.min()} to {values.max()}. "
            "Shorten them, or pad the inputs to the longest sequence."
        )
    lengths = lengths.astype(int)  # can hold T: lengths from a file may have 8 bits
    return lengths, inside(lengths, steps + 1)


def _times(steps: int, batch: Any) -> Any:
    """0 .. T - 1 along the first axis, in NumPy where T is a number."""
    arange = np.arange if are_numbers(steps) else jnp.arange
    return arange(steps).reshape(steps, *(1 for _ in batch))
