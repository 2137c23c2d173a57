"""Integers used as indices: labels, symbols, items.

Values out of range raise an error where they are known, and give NaN where they are traced. They
are never wrapped around or clipped.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import expect


def known(values: Any) -> np.ndarray | None:
    """The values as a NumPy array; None if they are traced or on other processes."""
    if isinstance(values, jax.core.Tracer):
        return None
    if isinstance(values, jax.Array) and not values.is_fully_addressable:
        return None
    return np.asarray(values)


@expect.arguments(index=expect.numeric)
def require_index(
    name: str, index: Any, size: int, what: str, there: np.ndarray | bool | None = True
) -> None:
    """Check that these are integers 0 .. size - 1, as far as they are known.

    Args:
        name: What the error calls them.
        index: Integers of any shape.
        size: How many things they choose from.
        what: The name of these things, in the plural.
        there: Booleans of the shape of `index`: which entries are used. None: this is not known,
            and no value is checked.

    Raises:
        ValueError: They are not integers, or one that is known and read is out of range.
        TypeError: They are not numbers.

    Example:
        >>> scan.require_index("labels", np.array([0, 5]), 5, "classes")
        Traceback (most recent call last):
            ...
        ValueError: labels holds 5 at (1,) (1 such), but 5 classes are numbered 0 .. 4: count from 0
    """
    dtype = jnp.result_type(index)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(
            f"{name} must hold integers, 0 .. {size - 1} for {size} {what}; got {dtype}"
        )
    values = known(index)
    if values is None or there is None:
        return
    outside = np.argwhere(((values < 0) | (values >= size)) & there)
    if not len(outside):
        return
    first = tuple(map(int, outside[0]))
    bad = values[first]
    advice = (
        "leave out entries that stand for nothing, with lengths or a mask"
        if bad < 0
        else "count from 0"
    )
    raise ValueError(
        f"{name} holds {bad} at {first} ({len(outside)} such), but {size} {what} are numbered "
        f"0 .. {size - 1}: {advice}"
    )


def require_integers(**counts: Any) -> None:
    """Check that counts are integers.

    Args:
        **counts: Counts by their names.

    Raises:
        ValueError: One is not an integer.

    Example:
        >>> scan.require_integers(T=20.0)
        Traceback (most recent call last):
            ...
        ValueError: T must be a whole number, an int; got 20.0
    """
    for name, value in counts.items():
        try:
            expect.integer(name, value)
        except TypeError:
            raise ValueError(f"{name} must be a whole number, an int; got {value!r}") from None


def whole(name: str, value: Any) -> None:
    """A check of `expect`: a count."""
    require_integers(**{name: value})


def inside(index: Array | np.ndarray, size: int) -> Array:
    """Which of these integers are 0 .. size - 1.

    Args:
        index: Integers of any shape, also of 8 bits.
        size: How many things they choose from.

    Returns:
        Booleans of the same shape.

    Example:
        >>> print(scan.inside(np.array([-1, 0, 4, 5]), 5))
        [False  True  True False]
    """
    index = jnp.asarray(index).astype(int)  # labels read from a file may have 8 bits
    return (index >= 0) & (index < size)


def or_nan(valid: Array, values: Array) -> Array:
    """The values, with NaN where they are not valid. The derivatives there are NaN too.

    Args:
        valid: Booleans; their axes are the first of `values`.
        values: Floats.

    Returns:
        Like the values.

    Example:
        >>> print(scan.or_nan(np.array([True, False]), jnp.ones((2, 2))))
        [[ 1.  1.]
         [nan nan]]
    """
    valid = valid.reshape(valid.shape + (1,) * (values.ndim - valid.ndim))
    # the factor is for derivatives; XLA makes 0 of NaN times a boolean, hence the term
    return values * jnp.where(valid, 1.0, jnp.nan) + jnp.where(valid, 0.0, jnp.nan)
