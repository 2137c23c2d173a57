"""How one random perturbation of the start grows or decays."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect
from recur.analysis.numerics.flat_state import as_inputs, flatten, log_norm, precise
from recur.core import Body, Tree


@expect.arguments(key=expect.key)
@precise
def log_gain(key: Array, body: Body, state: Tree, xs: Tree) -> Array:
    """How one random perturbation of the start has grown after each step.

    One forward-mode product per step, O(n^2). The tangent is renormalised at each step, so T is not
    limited by the range of floats.

    Args:
        key: Draws v, a random unit vector.
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.

    Returns:
        log |J_t v| (T,), nats, for J_t = d state_t / d state_0; -inf where the perturbation dies
        out exactly.

    Raises:
        ValueError: The body cannot be scanned over xs from the state.
        TypeError: The key is not a PRNG key.

    Example:
        >>> def body(h, x):  # every direction doubles
        ...     h = 2 * h + x
        ...     return h, h
        >>> key = jax.random.key(0)
        >>> gain = jax.jit(analysis.log_gain, static_argnums=1)
        >>> print(gain(key, body, jnp.zeros(3), jnp.zeros((4, 3))))  # t log 2
        [0.693 1.386 2.079 2.773]
    """
    xs = as_inputs(state, xs)
    step, start = flatten(body, state, xs)
    _, v = log_norm(jax.random.normal(key, start.shape, start.dtype))

    def advance(carry: tuple[Array, Array, Array], x: Tree) -> tuple[tuple, Array]:
        s, v, total = carry
        s, v = jax.jvp(lambda s: step(s, x)[0], (s,), (v,))
        log, v = log_norm(v)
        return (s, v, total + log), total + log

    return lax.scan(advance, (start, v, jnp.zeros((), start.dtype)), xs)[1]
