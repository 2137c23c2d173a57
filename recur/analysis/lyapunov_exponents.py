"""Lyapunov exponents: how fast the directions of the tangent space grow along a trajectory.

An orthonormal frame Q is pushed forward by the Jacobians and made orthonormal again,

    Q_t R_t = J_t Q_{t-1},        lambda_i = mean over time of log |(R_t)_ii|

Benettin et al. 1980, Meccanica 15:9; Shimada and Nagashima 1979, Prog. Theor. Phys. 61:1605.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur import expect, scan
from recur.analysis.numerics.flat_state import flatten, precise
from recur.analysis.numerics.orthonormal_frame import directions, transport
from recur.analysis.numerics.qr import lq
from recur.analysis.numerics.step_jacobian import push_forward
from recur.compose.presence import steps_present
from recur.core import Body, Tree
from recur.tables import tabled

BLOCKS = 20  # of time, from which the standard error is taken: two errors then hold 94 %


@tabled(exponents="exponents, nats per step", error="standard error", rounding="moved by rounding")
class Lyapunov(NamedTuple):
    """What one trajectory says of its exponents: S = T - discard steps, k directions, m in all."""

    exponents: Array  # (k,) nats per step, descending; a masked step is none
    error: Array  # (k,) standard error of their mean, from BLOCKS blocks of time
    history: (
        Array  # (S, k) the estimate after each step, in the order of the frame; NaN before a QR
    )
    dimension: Array  # () Kaplan and Yorke's; NaN where k < m are too few to tell
    entropy: Array  # () entropy rate, nats per step; NaN where k < m are too few to tell
    rounding: Array  # (k,) nats per step by which one rounding of states and directions moves them


@expect.arguments(
    key=expect.key,
    k=expect.optional(expect.integer),
    discard=expect.integer,
    every=expect.optional(expect.integer),
)
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
    and are not counted. A direction that dies out exactly has -inf. NaN stands for what is not
    known: everything, once a state or a direction is not finite; and an exponent that rounding
    moves by more than a tenth of itself and .01 nats (`lyapunov_details` tells by how much).

    The frame is made orthonormal every `every` steps. Many of them are cheap, and lose the small
    exponents where directions part by more than the digits of a float in between. By default eight
    steps share a QR while a probe shows that this loses nothing, and each has its own elsewhere:
    the results are those of `every=1`. Under `vmap` both ways are computed: take `every=1` there.

    Differentiable where all exponents are finite and distinct. Raises ValueError for k, discard and
    every out of range, and where the body does not fit state and xs.
    """
    return lyapunov_details(key, body, state, xs, k, discard, every).exponents


@expect.arguments(
    key=expect.key,
    k=expect.optional(expect.integer),
    discard=expect.integer,
    every=expect.optional(expect.integer),
)
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
    T = scan.number_of_steps(xs, "a spectrum, which goes over stretches of steps,")
    _require_range(k, m, discard, T, every)
    push = push_forward(body, state, step, k)
    growth = transport(key, push, step, start, xs, k, discard, every)
    logs, rounding, closed = jax.tree.map(lambda leaf: leaf[discard:], growth)
    total = jnp.cumsum(logs, axis=0)
    time = jnp.cumsum(happening(body, state, xs)[discard:])
    covered = lax.cummax(jnp.where(closed, time, 0))[:, None]  # by a QR
    history = total / covered.astype(total.dtype)
    rounding = rounding.sum(axis=0) / jnp.maximum(time[-1], 1).astype(total.dtype)
    swamped = rounding > jnp.maximum(0.1 * jnp.abs(history[-1]), 0.01)
    history = jnp.where(swamped, jnp.nan, history)
    order = jnp.argsort(-history[-1])  # NaN last
    exponents, enough = history[-1][order], k == m
    below = (jnp.cumsum(exponents) < 0).any(), (exponents < 0).any()
    return Lyapunov(
        exponents,
        _standard_error(total, covered)[order],
        history,
        jnp.where(enough | below[0], kaplan_yorke(exponents), jnp.nan),
        jnp.where(enough | below[1], entropy_rate(exponents), jnp.nan),
        rounding[order],
    )


@expect.arguments(exponents=expect.floats)
def kaplan_yorke(exponents: Array) -> Array:
    """Kaplan-Yorke dimension of all exponents, descending: j + (their first j)'s sum / |next|.

    j is the largest number of them whose sum is not negative. Frederickson et al. 1983, J.
    Differential Equations 49:185.
    """
    exponents = jnp.asarray(exponents)
    sums = jnp.cumsum(exponents)
    j = jnp.sum(sums >= 0)
    following = exponents[jnp.minimum(j, exponents.size - 1)]
    kept = jnp.where(j > 0, sums[j - 1], 0)
    fraction = jnp.where(j < exponents.size, kept / jnp.abs(following), 0)
    return j.astype(exponents.dtype) + fraction


@expect.arguments(exponents=expect.floats)
def entropy_rate(exponents: Array) -> Array:
    """Sum of the positive exponents of all, descending: a bound on the entropy rate (Pesin); nats.

    NaN where an exponent is that might be positive.
    """
    exponents = jnp.asarray(exponents)
    j = jnp.sum(exponents > 0)
    following = exponents[jnp.minimum(j, exponents.size - 1)]
    total = jnp.maximum(exponents, 0).sum(where=exponents > 0)
    return jnp.where((j < exponents.size) & jnp.isnan(following), jnp.nan, total)


@expect.arguments(key=expect.key, k=expect.integer, discard=expect.integer, every=expect.integer)
def flossing(
    key: Array, body: Body, state: Tree, xs: Tree, k: int, discard: int = 0, every: int = 1
) -> Array:
    """Sum of squares of the k largest exponents, a loss; differentiable through the QR.

    Descending it pushes them to zero, so that gradients pass through the network: before training
    or during it. Gradient flossing, arXiv:2312.17306, equation 6. Raises as `lyapunov` does.
    """
    return jnp.sum(lyapunov(key, body, state, xs, k, discard, every) ** 2)


@expect.arguments(key=expect.key, k=expect.integer, discard=expect.integer)
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

    def advance(carry: tuple[Array, Array], x: Tree) -> tuple[tuple[Array, Array], Array]:
        s, Q = push(*carry, x)
        L, Q = lq(Q)
        finite = jnp.isfinite(s).all() & jnp.isfinite(L).all()
        return (s, Q), jnp.where(finite, jnp.log(jnp.abs(jnp.diagonal(L))), jnp.nan)

    _, logs = lax.scan(advance, (start, directions(key, start, k)), xs)
    time = happening(body, state, xs)[discard:].sum().astype(start.dtype)
    return jnp.sort(logs[discard:].sum(axis=0) / time, descending=True)


def happening(body: Body, state: Tree, xs: Tree) -> Array:
    """Which steps are there, (T,) integers 0 or 1; all where the body has no mask.

    Raises ValueError where sequences side by side have masks of their own.
    """
    present = steps_present(body, state, xs)
    if present is None:
        return jnp.ones(scan.length(xs), int)
    if present.ndim > 1:
        raise ValueError(
            "exponents are growth per step, so a mask must be that of one sequence, (T,); got "
            f"{present.shape}. Take jax.vmap over the sequences"
        )
    return present.astype(int)


def _standard_error(total: Array, covered: Array) -> Array:
    """Of the mean growth (k,), from BLOCKS blocks of time; NaN where fewer than two have a QR.

    A block ends at its last QR, so blocks differ in length, and count by it.
    """
    S = total.shape[0]
    blocks = min(BLOCKS, S)
    ends = np.arange(1, blocks + 1) * S // blocks - 1
    growth, duration = (jnp.diff(leaf[ends], axis=0, prepend=0) for leaf in (total, covered))
    n = (duration > 0).sum().astype(total.dtype)
    duration = duration.astype(total.dtype)
    share = duration / duration.sum()
    rate = growth / jnp.maximum(duration, 1)
    mean = (share * rate).sum(axis=0)
    return jnp.sqrt(
        (share**2 * (rate - mean) ** 2).sum(axis=0) * jnp.where(n > 1, n / (n - 1), jnp.nan)
    )


def _require_range(k: int, m: int, discard: int, T: int, every: int | None) -> None:
    """Raise ValueError for sizes that do not fit."""
    if not 1 <= k <= m:
        raise ValueError(f"k exponents of a state of size m = {m}: 1 <= k <= {m}, got k = {k}")
    if not 0 <= discard < T:
        raise ValueError(f"discard leaves some of the T = {T} steps: 0 .. {T - 1}, got {discard}")
    if every is not None and every < 1:
        raise ValueError(f"every is a number of steps, 1 or more, got {every}")
