"""Gradients sorted by lag: how far back the loss of one step reaches, and what it brings home.

    dE_t/dW = sum over lags of  (dE_t/dh_t) (dh_t/dh_{t-lag}) (d+ h_{t-lag} / dW)

with d+ the immediate derivative, earlier states held fixed. Pascanu, Mikolov and Bengio 2013,
arXiv:1211.5063, equations 3 to 5.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur import expect, scan
from recur.analysis.gradients import position_of_output, trajectory
from recur.analysis.numerics.flat_state import (
    Step,
    finite_or_nan,
    flatten,
    integer,
    log_norm,
    precise,
    pullback,
    require_every_step,
)
from recur.core import Body, Tree
from recur.tables import tabled

Losses = Callable[[Array], Array]  # hs (T, ..., n) -> (T,), the loss of each step from its own h


@expect.arguments(losses=expect.function)
@precise
def gradient_map(losses: Losses, body: Body, state: Tree, xs: Tree, lags: int) -> Array:
    """log |dloss_t / dh_{t-lag}| for every t and lag = 0 .. lags, (T, lags + 1); nats.

    `losses` maps outputs hs (T, ..., n) to the loss of each step, (T,), which must depend on that
    step's output alone. NaN where t < lag, -inf for an exact zero. One backward pass carries
    lags + 1 cotangents, each renormalised. Raises ValueError for lags outside 0 .. T-1, for losses
    of another shape, for a body with a mask, and as `gradient_norms` does; TypeError where lags is
    no integer.
    """
    step, start = flatten(body, state, xs)
    require_every_step(body, state, xs)
    where = position_of_output(body, state, xs)
    lags = integer("lags", lags)
    before, g = _direct(losses, step, start, xs, lags)

    def back(carry: tuple[Array, Array], now: tuple) -> tuple[tuple[Array, Array], Array]:
        s, x, g = now
        logs, V = _arrive(*carry, g, where)
        seen = logs + log_norm(V[:, where], axis=1)[0]
        growth, V = log_norm(jax.vmap(pullback(step, s, x))(V), axis=1)
        return (logs + growth, V), seen

    rows = lax.scan(back, _nothing(start, lags), (before, xs, g), reverse=True)[1]
    at = np.arange(scan.length(xs))[:, None] - np.arange(lags + 1)  # the row of t and lag
    return jnp.where(at >= 0, rows[at, np.arange(lags + 1)], jnp.nan)


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
    """The terms of dE/dparams by lag, E the sum of the losses: leaves (lags + 1, *shape).

    `network` maps params to a body, such as `partial(scan.tied, cell)`; the state is held fixed.
    With lags = T - 1 the terms add up to the whole gradient. Raises as `gradient_map` does.
    """
    step, start = flatten(network(params), state, xs)
    require_every_step(network(params), state, xs)
    where = position_of_output(network(params), state, xs)
    lags = integer("lags", lags)
    before, g = _direct(losses, step, start, xs, lags)

    def back(carry: tuple, now: tuple) -> tuple[tuple, None]:
        (logs, V), terms = carry
        s, x, g = now
        logs, V = _arrive(logs, V, g, where)

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
    return lax.scan(back, carry, (before, xs, g), reverse=True)[0][1]


@tabled()
class Verdict(NamedTuple):
    """What gradients do on their way back."""

    word: str  # "vanish", "explode", "preserve", or "unknown" after an overflow
    rate: float  # nats per step back

    def __str__(self) -> str:
        return f"gradients {self.word}: {self.rate:+.4f} nats per step back"


@expect.arguments(logs=expect.floats)
def verdict(logs: Array) -> Verdict:
    """Whether gradients vanish, explode or are preserved, from `gradient_map` (..., lags + 1).

    The rate is the slope of the median over steps (and trajectories) against the lag; preserved
    means that it changes them less than tenfold over all lags. An exact zero vanishes at -inf.
    Where the network overflows the word is "unknown" and the rate NaN. For use outside jit. Raises
    ValueError for fewer than two lags.
    """
    if logs.shape[-1] < 2:
        raise ValueError(
            f"a rate needs two lags or more, got {logs.shape[-1]}: call gradient_map with lags >= 1"
        )
    median = np.asarray(quantiles(logs.reshape(-1, logs.shape[-1]), [0.5]))[0]
    lag = np.arange(median.size)
    if np.isnan(median).any():
        return Verdict("unknown", np.nan)
    if np.isneginf(median).any():
        return Verdict("vanish", -np.inf)
    rate = float(np.polyfit(lag, median, 1)[0])
    if abs(rate) * lag[-1] < np.log(10):
        return Verdict("preserve", rate)
    return Verdict("explode" if rate > 0 else "vanish", rate)


@expect.arguments(logs=expect.floats, q=expect.real)
def quantiles(logs: Array, q: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> Array:
    """Quantiles over the first axis, a batch, of logs that may be -inf or NaN (no such step).

    (B, ...) -> (len(q), ...). The nearest order statistic: between -inf and a number is no mean.
    The last axis is that of lags, of which lag 0 always exists: a member of the batch with NaN at
    every lag has overflowed, and makes the quantiles NaN. Raises ValueError for q outside 0 .. 1.
    """
    if not ((np.asarray(q) >= 0) & (np.asarray(q) <= 1)).all():
        raise ValueError(f"quantiles are fractions within 0 .. 1, got {q}")
    found = jnp.nanquantile(logs, jnp.asarray(q, logs.dtype), axis=0, method="nearest")
    lags = jnp.atleast_2d(logs.T).T
    overflow = jnp.isnan(lags).all(axis=-1, keepdims=True).any(axis=0)
    return jnp.where(overflow, jnp.nan, found)


def _direct(losses: Losses, step: Step, start: Array, xs: Tree, lags: int) -> tuple[Array, Array]:
    """The states before each step, (T, m), and dloss_t/dh_t through h_t alone, (T, n)."""
    T = scan.number_of_steps(xs, "a map of lags")
    if not 0 <= lags < T:
        raise ValueError(f"lags is the furthest lag, within 0 .. T-1 = {T - 1}, got {lags}")
    before, hs = trajectory(step, start, xs)
    shape = jax.eval_shape(losses, hs).shape
    if shape != (T,):
        raise ValueError(f"losses maps hs to one loss a step, ({T},), but it returned {shape}")
    direct = jax.vmap(finite_or_nan)(jax.grad(lambda hs: losses(hs).sum())(hs), hs)
    return before, direct.reshape(T, -1)


def _nothing(start: Array, lags: int) -> tuple[Array, Array]:
    """No cotangents yet: logs (lags + 1,) and unit vectors (lags + 1, m)."""
    return (
        jnp.full(lags + 1, -jnp.inf, start.dtype),
        jnp.zeros((lags + 1, start.size), start.dtype),
    )


def _arrive(logs: Array, V: Array, g: Array, where: slice) -> tuple[Array, Array]:
    """One step back: every cotangent is one lag older, and this step's own enters at lag 0."""
    log, unit = log_norm(g)
    V = jnp.roll(V, 1, axis=0).at[0].set(0).at[0, where].set(unit)
    return jnp.roll(logs, 1).at[0].set(log), V
