"""How one random perturbation of the start grows or decays."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect
from recur.analysis.numerics.flat_state import flatten, log_norm, precise
from recur.core import Body, Tree


@expect.arguments(key=expect.key)
@precise
def log_gain(key: Array, body: Body, state: Tree, xs: Tree) -> Array:
    """log |J_t v|, (T,), for J_t = d state_t / d state_0 and one random unit vector v; nats.

    One forward-mode product a step, O(n^2); the tangent is renormalised at each step, so T is not
    limited by the range of floats. -inf where the perturbation dies out exactly. Raises ValueError
    where the body cannot be scanned over xs from the state.
    """
    step, start = flatten(body, state, xs)
    _, v = log_norm(jax.random.normal(key, start.shape, start.dtype))

    def advance(carry: tuple[Array, Array, Array], x: Tree) -> tuple[tuple, Array]:
        s, v, total = carry
        s, v = jax.jvp(lambda s: step(s, x)[0], (s,), (v,))
        log, v = log_norm(v)
        return (s, v, total + log), total + log

    return lax.scan(advance, (start, v, jnp.zeros((), start.dtype)), xs)[1]
