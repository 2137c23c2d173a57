"""What rounding does to a spectrum: the same product again, with rounding errors made larger.

After each step the frame is moved by COARSE eps of its own size. A value that follows from the
factors then moves by about COARSE times what rounding itself does to it; a value that is made of
rounding moves by log COARSE, 2.8 nats, or more.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

COARSE = 16.0
SWAMPED = 1.0  # nats by which COARSE roundings move a value that rounding swamps,
FRACTION = 1e-4  # or this much of the value, if that is more: after 1e5 steps a nat is little

Round = Callable[[Array], Array]


def compare(spectrum: Callable[[Round], Array], dtype: jnp.dtype) -> tuple[Array, Array]:
    """The logs that `spectrum(round)` returns, NaN where rounding swamps them, and their rounding.

    `round` moves a frame after a step. The rounding, in nats, is what eps of the frames moves each
    value by; zero for a value that is exactly zero, of log -inf.
    """

    def run(size: Array) -> Array:
        def round(Q: Array) -> Array:
            noise = jax.random.normal(jax.random.key(0), Q.shape, dtype)
            return Q + size * jnp.sqrt(jnp.mean(Q**2)) * noise

        return spectrum(round)

    sizes = jnp.array([0.0, COARSE], dtype) * jnp.finfo(dtype).eps
    fine, coarse = lax.map(run, sizes)  # in a loop: one program
    moved = jnp.where(fine == coarse, 0, jnp.abs(fine - coarse))
    allowed = jnp.maximum(SWAMPED, FRACTION * jnp.abs(fine))
    return jnp.where(moved < allowed, fine, jnp.nan), moved / COARSE
