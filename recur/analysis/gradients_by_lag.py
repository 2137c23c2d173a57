"""Gradients by lag: how much each earlier step contributes to the gradient of one step's loss.

    dE_t/dW = sum over lags of  (dE_t/dh_t) (dh_t/dh_{t-lag}) (d+ h_{t-lag} / dW)

with d+ the immediate derivative, earlier states held fixed. Pascanu, Mikolov and Bengio 2013,
arXiv:1211.5063, equations 3 to 5.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur import expect, scan
from recur.analysis.gradients import position_of_output, trajectory
from recur.analysis.numerics.flat_state import (
    Step,
    as_inputs,
    finite_or_nan,
    flatten,
    integer,
    log_norm,
    precise,
    present,
    pullback,
)
from recur.core import Body, Tree

Losses = Callable[[Array], Array]  # hs (T, ..., n) -> (T,), the loss of each step from its own h


@expect.arguments(losses=expect.function)
@precise
def gradient_map(losses: Losses, body: Body, state: Tree, xs: Tree, lags: int) -> Array:
    """How far back the loss of each step reaches: |dloss_t / dh_{t-lag}| for every t and lag.

    One backward pass carries lags + 1 cotangents, each renormalised.

    Args:
        losses: hs (T, ..., n) -> the loss of each step (T,), which depends only on the output of
            that step.
        body: One step, (state, x) -> (state, h), where h is an array of the new state. With a mask,
            lags count unmasked steps.
        state: The state before the first step.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.
        lags: The furthest lag, within 0 .. T-1.

    Returns:
        Natural logarithms (T, lags + 1). NaN where t < lag and in the row of a masked step, -inf
        for an exact zero.

    Raises:
        ValueError: lags is outside 0 .. T-1, the losses have another shape, or as in
            `gradient_norms`.
        TypeError: lags is not an integer, or losses is not a function.

    Example:
        >>> def body(h, x):
        ...     h = 0.5 * h + x
        ...     return h, h
        >>> def losses(hs):
        ...     return hs.sum(axis=-1)
        >>> measure = jax.jit(analysis.gradient_map, static_argnums=(0, 1, 4))
        >>> print(measure(losses, body, jnp.zeros(1), jnp.zeros((3, 1)), 2))  # -lag log 2
        [[ 0.       nan    nan]
         [ 0.    -0.693    nan]
         [ 0.    -0.693 -1.386]]
    """
    xs = as_inputs(state, xs)
    step, start = flatten(body, state, xs)
    there = present(body, state, xs)
    where = position_of_output(body, state, xs)
    lags = integer("lags", lags)
    before, g = _direct(losses, step, start, xs, lags)

    def back(carry: tuple[Array, Array], now: tuple) -> tuple[tuple[Array, Array], Array]:
        s, x, *arriving = now
        logs, V = _arrive(*carry, where, *arriving)
        seen = logs + log_norm(V[:, where], axis=1)[0]
        growth, V = log_norm(jax.vmap(pullback(step, s, x))(V), axis=1)
        return (logs + growth, V), seen

    now = before, xs, g, *([] if there is None else [there])
    rows = lax.scan(back, _nothing(start, lags), now, reverse=True)[1]
    if there is None:
        at = np.arange(scan.length(xs))[:, None] - np.arange(lags + 1)  # the row of t and lag
        return jnp.where(at >= 0, rows[at, np.arange(lags + 1)], jnp.nan)
    number = jnp.cumsum(there)[:, None] - 1 - np.arange(lags + 1)  # of unmasked steps
    row = jnp.argsort(~there, stable=True)[number]
    return jnp.where(there[:, None] & (number >= 0), rows[row, np.arange(lags + 1)], jnp.nan)


@expect.arguments(losses=expect.function, network=expect.function)
@precise
def gradient_by_lag(
    losses: Losses,
    network: Callable[[Tree], Body],
    params: Tree,
    state: Tree,
    xs: Tree,
    lags: int,
) -> Tree:
    """What each lag adds to dE/dparams, where E is the sum of the losses.

    Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, equations 3 to 5.

    Args:
        losses: hs (T, ..., n) -> the loss of each step (T,), which depends only on the output of
            that step.
        network: params -> a body, such as `partial(scan.tied, cell)`.
        params: A pytree of arrays.
        state: The state before the first step, held fixed.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.
        lags: The furthest lag, within 0 .. T-1; with T - 1 the terms add up to the whole gradient.

    Returns:
        A tree like params, leaves (lags + 1, *shape). With a mask, E sums the losses of unmasked
        steps, and lags count these steps.

    Raises:
        ValueError: As in `gradient_map`.
        TypeError: As in `gradient_map`.

    Example:
        >>> def network(w):
        ...     def body(h, x):
        ...         h = w * h + x
        ...         return h, h
        ...     return body
        >>> def losses(hs):
        ...     return hs.sum(axis=-1)
        >>> w, xs = jnp.array(0.5), jnp.ones((3, 1))
        >>> terms = analysis.gradient_by_lag(losses, network, w, jnp.zeros(1), xs, lags=2)
        >>> print(terms, terms.sum())  # E = 3 + 2 w + w^2, so dE/dw = 3
        [2.5 0.5 0. ] 3.0
    """
    xs = as_inputs(state, xs)
    step, start = flatten(network(params), state, xs)
    there = present(network(params), state, xs)
    where = position_of_output(network(params), state, xs)
    lags = integer("lags", lags)
    before, g = _direct(losses, step, start, xs, lags)

    def back(carry: tuple, now: tuple) -> tuple[tuple, None]:
        (logs, V), terms = carry
        s, x, *arriving = now
        logs, V = _arrive(logs, V, where, *arriving)

        def next_state(s: Array, params: Tree) -> Array:
            return flatten(network(params), state, xs)[0](s, x)[0]

        after, pull = jax.vjp(next_state, s, params)
        V, new = jax.tree.map(lambda v: finite_or_nan(v, s, after), jax.vmap(pull)(V))
        scale = jnp.exp(logs)
        terms = jax.tree.map(lambda sum, v: sum + jnp.einsum("l,l...->l...", scale, v), terms, new)
        growth, V = log_norm(V, axis=1)
        return ((logs + growth, V), terms), None

    zeros = jax.tree.map(lambda p: jnp.zeros((lags + 1, *p.shape), p.dtype), params)
    carry = (_nothing(start, lags), zeros)
    now = before, xs, g, *([] if there is None else [there])
    return lax.scan(back, carry, now, reverse=True)[0][1]


def _direct(losses: Losses, step: Step, start: Array, xs: Tree, lags: int) -> tuple[Array, Array]:
    """The states before each step, (T, m), and dloss_t/dh_t through h_t only, (T, n)."""
    T = scan.number_of_steps(xs, "a map of lags")
    if not 0 <= lags < T:
        raise ValueError(
            f"lags is the furthest lag and must be within 0 .. T-1 = {T - 1}; got {lags}"
        )
    before, hs = trajectory(step, start, xs)
    shape = jax.eval_shape(losses, hs).shape
    if shape != (T,):
        raise ValueError(f"losses must map hs to one loss per step, ({T},); it returned {shape}")
    direct = jax.vmap(finite_or_nan)(jax.grad(lambda hs: losses(hs).sum())(hs), hs)
    return before, direct.reshape(T, -1)


def _nothing(start: Array, lags: int) -> tuple[Array, Array]:
    """No cotangents yet: logs (lags + 1,) and unit vectors (lags + 1, m)."""
    return (
        jnp.full(lags + 1, -jnp.inf, start.dtype),
        jnp.zeros((lags + 1, start.size), start.dtype),
    )


def _arrive(
    logs: Array, V: Array, where: slice, g: Array, there: Array | None = None
) -> tuple[Array, Array]:
    """One step back: every cotangent is one lag older, and that of this step enters at lag 0.

    A masked step changes nothing.
    """
    log, unit = log_norm(g)
    new = jnp.roll(V, 1, axis=0).at[0].set(0).at[0, where].set(unit)
    older = jnp.roll(logs, 1).at[0].set(log)
    if there is None:
        return older, new
    return jnp.where(there, older, logs), jnp.where(there, new, V)
