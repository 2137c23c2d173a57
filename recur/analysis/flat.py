"""A body whose state is one vector: the door through which every analysis enters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from recur import scan
from recur.analysis.saturation import accurate
from recur.core import Body, Tree

# TF32, a GPU's default, would drown small singular values.
precise = jax.default_matmul_precision("highest")

Step = Callable[[Array, Tree], tuple[Array, Array]]


def flatten(body: Body, state: Tree, xs: Tree) -> tuple[Step, Array]:
    """The step (s, x) -> (s, h) on flat states s (m,), and the flat start.

    Raises ValueError where the body cannot be scanned over xs, or the state is neither float32 nor
    float64.
    """
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(state)}
    if len(dtypes) != 1 or not jnp.issubdtype(min(dtypes, key=str), jnp.floating):
        raise ValueError(
            "an analysis differentiates with respect to the state, so its arrays must be floating "
            f"point and of one dtype; got {scan.describe(state)}"
        )
    if jnp.finfo(min(dtypes, key=str)).bits < 32:
        raise ValueError(
            "an analysis factorises matrices, which takes float32 or float64: cast state, inputs "
            f"and parameters; got {scan.describe(state)}"
        )
    scan.check(body, state, xs)
    start, unravel = ravel_pytree(state)

    exact = accurate(body)

    def step(s: Array, x: Tree) -> tuple[Array, Array]:
        after, h = exact(unravel(s), x)
        return ravel_pytree(after)[0], h

    return step, start


def affordable(dtype: jnp.dtype) -> Array:
    """Nats of dynamic range that a shortcut may lose to rounding: two fifths of the digits."""
    return -0.4 * jnp.log(jnp.finfo(dtype).eps)


def log_norm(v: Array, axis: int | None = None) -> tuple[Array, Array]:
    """log |v| and v / |v|; where v is zero, -inf and zero."""
    norm = jnp.linalg.norm(v, axis=axis, keepdims=axis is not None)
    unit = v / jnp.where(norm > 0, norm, 1)
    return jnp.log(norm if axis is None else jnp.squeeze(norm, axis)), unit
