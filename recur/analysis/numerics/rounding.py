"""The effect of rounding on a spectrum: the product is computed again with larger rounding errors.

The state at which each Jacobian is taken, and the frame after it, are moved by COARSE eps relative
to their size; the trajectory does not change. A value determined by the factors then moves by about
COARSE times the effect of rounding itself. A value that is only rounding error moves by log COARSE,
2.8 nats, or more.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur.core import Tree

COARSE = 16.0
SWAMPED = 1.0  # nats by which COARSE roundings move a value that is lost to rounding,
FRACTION = 1e-4  # or this much of the value, if that is more: after 1e5 steps a nat is little

Round = Callable[[Array, Array], Array]  # an array, and the size of its entries


def compare(spectrum: Callable[[Round], Array], dtype: jnp.dtype) -> tuple[Array, Array]:
    """The logs that `spectrum(round)` returns, NaN where lost to rounding, and their rounding.

    `round` moves a state before its Jacobian is taken, or a frame after it. The rounding, in nats,
    is how much eps of these moves each value. It is zero for a value that is exactly zero.
    """
    return judge(twice(spectrum, dtype))


def twice(spectrum: Callable[[Round], Tree], dtype: jnp.dtype) -> Tree:
    """`spectrum(round)` without rounding, and with COARSE roundings: leaves (2, ...)."""

    def run(size: Array) -> Tree:
        def round(array: Array, scale: Array) -> Array:
            noise = jax.random.normal(jax.random.key(0), array.shape, dtype)
            return array + size * scale * noise

        return spectrum(round)

    sizes = jnp.array([0.0, COARSE], dtype) * jnp.finfo(dtype).eps
    return lax.map(run, sizes)  # in a loop: one program


def judge(logs: Array) -> tuple[Array, Array]:
    """From logs (2, ...) of `twice`: the first, NaN where lost to rounding, and their rounding."""
    fine, coarse = logs
    moved = jnp.where(fine == coarse, 0, jnp.abs(fine - coarse))
    allowed = jnp.maximum(SWAMPED, FRACTION * jnp.abs(fine))
    return jnp.where(moved < allowed, fine, jnp.nan), moved / COARSE


def exact(array: Array, _: Array) -> Array:
    """A `Round` that moves nothing."""
    return array


def rms(frame: Array) -> Array:
    """The typical size of the entries of a frame."""
    return jnp.sqrt(jnp.mean(frame**2))
