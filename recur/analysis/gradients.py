"""How far back the gradient of a loss reaches."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect
from recur.analysis.numerics.flat_state import (
    Step,
    as_inputs,
    finite_or_nan,
    flatten,
    known_steps,
    log_norm,
    precise,
    pullback,
)
from recur.core import Body, Tree


@expect.arguments(loss=expect.function)
@precise
def gradient_norms(loss: Callable[[Array], Array], body: Body, state: Tree, xs: Tree) -> Array:
    """How strongly each output acts on the loss: |dloss/dh_t| for every t, from one backward pass.

    This is the total derivative: the effect of a perturbation of h_t on the loss through this
    output and through all later steps. The cotangent is renormalised at each step, so it neither
    vanishes nor overflows.

    Args:
        loss: hs (T, ..., n) -> a number.
        body: One step, (state, x) -> (state, h), where h is an array of the new state.
        state: The state before the first step.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.

    Returns:
        log |dloss/dh_t| (T,), nats. -inf where it is exactly zero, NaN where a state, an output or
        a cotangent on the way is not finite, and at a step that a mask leaves out.

    Raises:
        ValueError: The body cannot be scanned over xs, its output is not part of its new state, or
            the loss is not one number.
        TypeError: The loss is not a function.

    Example:
        >>> def body(h, x):
        ...     h = 0.5 * h + x
        ...     return h, h
        >>> def loss(hs):
        ...     return hs[-1, 0]
        >>> norms = jax.jit(analysis.gradient_norms, static_argnums=(0, 1))
        >>> print(norms(loss, body, jnp.zeros(1), jnp.zeros((4, 1))))  # -lag log 2
        [-2.079 -1.386 -0.693  0.   ]
    """
    xs = as_inputs(state, xs)
    step, start = flatten(body, state, xs)
    where = position_of_output(body, state, xs)
    before, hs = trajectory(step, start, xs)
    shape = jax.eval_shape(loss, hs).shape
    if shape != ():
        raise ValueError(f"loss must map all outputs to one number, (); it returned {shape}")
    direct = jax.vmap(finite_or_nan)(jax.grad(loss)(hs), hs)

    def back(carry: tuple[Array, Array], now: tuple) -> tuple[tuple[Array, Array], Array]:
        v, scale = carry  # dloss/dstate_t through later steps is exp(scale) v
        s, x, g = now
        log_g, g = log_norm(g.ravel())
        top = lax.stop_gradient(jnp.maximum(scale, log_g))  # it cancels
        top = jnp.where(jnp.isfinite(top), top, 0)
        v = jnp.exp(scale - top) * v
        v = v.at[where].add(jnp.exp(log_g - top) * g)
        log, _ = log_norm(v[where])
        log_v, v = log_norm(pullback(step, s, x)(v))
        return (v, top + log_v), top + log

    nothing = (jnp.zeros_like(start), jnp.full((), -jnp.inf, start.dtype))
    logs = lax.scan(back, nothing, (before, xs, direct), reverse=True)[1]
    return known_steps(body, state, xs, logs)


def trajectory(step: Step, start: Array, xs: Tree) -> tuple[Array, Array]:
    """The states before each step, (T, m), and the outputs, (T, ..., n)."""

    def advance(s: Array, x: Tree) -> tuple[Array, tuple[Array, Array]]:
        after, h = step(s, x)
        return after, (s, h)

    return lax.scan(advance, start, xs)[1]


def position_of_output(body: Body, state: Tree, xs: Tree) -> slice:
    """The position of the output h in the flat state."""
    found: list[slice] = []

    def look(state: Tree, x: Tree) -> None:
        after, h = body(state, x)
        end = 0
        for leaf in jax.tree.leaves(after):
            end += leaf.size
            if leaf is h:
                found.append(slice(end - leaf.size, end))

    jax.eval_shape(look, state, jax.tree.map(lambda leaf: leaf[0], xs))
    if not found:
        raise ValueError(
            "the output of the body must be part of its new state; otherwise dloss/dh_t through "
            "later steps is not defined. Return the hidden state itself as output (the same "
            "array, not a copy, and not from inside jax.jit), and put the readout into the loss"
        )
    return found[0]
