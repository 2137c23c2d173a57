"""Lyapunov exponents: how fast the directions of the tangent space grow along a trajectory.

An orthonormal frame Q is pushed forward by the Jacobians and made orthonormal again,

    Q_t R_t = J_t Q_{t-1},        lambda_i = mean over time of log |(R_t)_ii|

Benettin et al. 1980, Meccanica 15:9; Shimada and Nagashima 1979, Prog. Theor. Phys. 61:1605.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import scan
from recur.analysis.flat import flatten, precise
from recur.analysis.frame import transport
from recur.analysis.push import push_forward
from recur.core import Body, Tree

BLOCKS = 10  # of time, from which the standard error is taken


class Lyapunov(NamedTuple):
    """What one trajectory says of its exponents: S = T - discard steps, k directions, m in all."""

    exponents: Array  # (k,) nats per step, descending
    error: Array  # (k,) standard error of their mean, from BLOCKS blocks of time
    history: Array  # (S, k) the estimate after each step, in the order of the frame
    dimension: Array  # () Kaplan and Yorke's; NaN where k < m are too few to tell
    entropy: Array  # () entropy rate, nats per step; NaN where k < m are too few to tell


def lyapunov(
    key: Array,
    body: Body,
    state: Tree,
    xs: Tree,
    k: int | None = None,
    discard: int = 0,
    every: int | None = None,
) -> Array:
    """The k largest Lyapunov exponents of a driven trajectory, (k,); nats per step, descending.

    All m of them without `k`, m the size of the state. The first `discard` steps align the frame
    and are not counted. The frame is made orthonormal at each step (`every` None or 1), or every
    `every` steps: that is cheaper, and loses the small exponents where directions grow apart by
    more than the digits of a float within so many steps. -inf where a direction dies out exactly.
    Differentiable where it does not. Raises ValueError for k, discard and every out of range, and
    where the body does not fit state and xs.
    """
    return lyapunov_details(key, body, state, xs, k, discard, every).exponents


@precise
def lyapunov_details(
    key: Array,
    body: Body,
    state: Tree,
    xs: Tree,
    k: int | None = None,
    discard: int = 0,
    every: int | None = None,
) -> Lyapunov:
    """`lyapunov` with its error, its history, the Kaplan-Yorke dimension and the entropy rate."""
    step, start = flatten(body, state, xs)
    m = start.size
    k = m if k is None else k
    _require_range(k, m, discard, scan.length(xs), every)
    push = push_forward(body, state, step, k)
    logs, covered = transport(key, push, start, xs, k, discard, every)
    total, steps = jnp.cumsum(logs[discard:], axis=0), covered[discard:, None] - discard
    history = total / jnp.maximum(steps, 1).astype(total.dtype)
    order = jnp.argsort(-history[-1])
    exponents = history[-1][order]
    enough = k == m
    return Lyapunov(
        exponents,
        _standard_error(total, steps)[order],
        history,
        jnp.where(enough | (exponents.sum() < 0), kaplan_yorke(exponents), jnp.nan),
        jnp.where(enough | (exponents[-1] < 0), entropy_rate(exponents), jnp.nan),
    )


def kaplan_yorke(exponents: Array) -> Array:
    """Kaplan-Yorke dimension of all exponents, descending: j + (their first j)'s sum / |next|.

    j is the largest number of them whose sum is not negative. Frederickson et al. 1983, J.
    Differential Equations 49:185.
    """
    sums = jnp.cumsum(exponents)
    j = jnp.sum(sums >= 0)
    kept = jnp.where(j > 0, sums[j - 1], 0)
    following = jnp.abs(exponents[jnp.minimum(j, exponents.size - 1)])
    fraction = jnp.where(j < exponents.size, kept / jnp.where(following > 0, following, 1), 0)
    return j.astype(exponents.dtype) + fraction


def entropy_rate(exponents: Array) -> Array:
    """Sum of the positive exponents: a bound on the entropy rate, nats per step (Pesin)."""
    return jnp.maximum(exponents, 0).sum()


def flossing(
    key: Array, body: Body, state: Tree, xs: Tree, k: int, discard: int = 0, every: int = 1
) -> Array:
    """Sum of squares of the k largest exponents, a loss; differentiable through the QR.

    Descending it pushes them to zero, so that gradients pass through the network: before training
    or during it. Gradient flossing, arXiv:2312.17306, equation 6. Raises as `lyapunov` does.
    """
    return jnp.sum(lyapunov(key, body, state, xs, k, discard, every) ** 2)


def finite_growth(
    key: Array, body: Body, state: Tree, xs: Tree, k: int = 1, discard: int = 0
) -> Array:
    """The k largest exponents without a derivative: from neighbours at a finite distance, (k,).

    A check of a body's derivative and of `lyapunov`. The 2k neighbours, at +-eps^(1/3) along an
    orthonormal frame, are brought back to that distance at every step. Nats per step, descending.
    """
    step, start = flatten(body, state, xs)
    _require_range(k, start.size, discard, scan.length(xs), 1)
    size = jnp.finfo(start.dtype).eps ** (1 / 3)  # where rounding and curvature err equally

    def push(s: Array, Q: Array, x: Tree) -> tuple[Array, Array]:
        forward, backward = (
            jax.vmap(lambda q, sign=sign: step(s + sign * size * q, x)[0])(Q) for sign in (1, -1)
        )
        return step(s, x)[0], (forward - backward) / (2 * size)

    logs, _ = transport(key, push, start, xs, k, discard, every=1)
    return jnp.sort(logs[discard:].mean(axis=0), descending=True)


def _standard_error(total: Array, steps: Array) -> Array:
    """Of the mean growth (k,), from the means of blocks of time; NaN for fewer than two steps."""
    S = total.shape[0]
    blocks = min(BLOCKS, S)
    if blocks < 2:
        return jnp.full(total.shape[1], jnp.nan, total.dtype)
    ends = np.arange(1, blocks + 1) * S // blocks - 1
    growth = jnp.diff(total[ends], axis=0, prepend=0)
    duration = jnp.maximum(jnp.diff(steps[ends], axis=0, prepend=0), 1)
    return jnp.std(growth / duration.astype(total.dtype), axis=0, ddof=1) / np.sqrt(blocks)


def _require_range(k: int, m: int, discard: int, T: int, every: int | None) -> None:
    """Raise ValueError for sizes that do not fit."""
    if not 1 <= k <= m:
        raise ValueError(f"k exponents of a state of size m = {m}: 1 <= k <= {m}, got k = {k}")
    if not 0 <= discard < T:
        raise ValueError(f"discard leaves some of the T = {T} steps: 0 .. {T - 1}, got {discard}")
    if every is not None and every < 1:
        raise ValueError(f"every is a number of steps, 1 or more, got {every}")
