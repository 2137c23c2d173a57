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
from jax.typing import ArrayLike

from recur import expect, scan
from recur.analysis.numerics.flat_state import as_inputs, flatten, precise, present
from recur.analysis.numerics.orthonormal_frame import directions, transport
from recur.analysis.numerics.qr import lq
from recur.analysis.numerics.step_jacobian import push_forward
from recur.core import Body, Numbers, Tree
from recur.tables import tabled

BLOCKS = 20  # of time, from which the standard error is taken: two errors then hold 94 %


@tabled(
    exponents="exponents, nats per step or s",
    error="standard error",
    rounding="effect of rounding",
)
class Lyapunov(NamedTuple):
    """The exponents of one trajectory, from S = T - discard steps and k of m directions."""

    exponents: Numbers  #: (k,) nats per step, or second; descending; a masked step does not count
    error: Numbers  #: (k,) standard error of their mean, from BLOCKS blocks of time
    history: Numbers  #: (S, k) the estimate after each step, in the frame's order; NaN before a QR
    dimension: Numbers  #: () Kaplan and Yorke's; NaN where k < m exponents do not determine it
    entropy: (
        Numbers  #: () entropy rate, nats per step, or second; NaN where k < m do not determine it
    )
    rounding: Numbers  #: (k,) by how much one rounding of states and directions moves the exponents


@expect.arguments(
    key=expect.key,
    k=expect.optional(expect.integer),
    discard=expect.integer,
    every=expect.optional(expect.integer),
    dt=expect.optional(expect.number(0, open=True)),
)
def lyapunov(
    key: Array,
    body: Body,
    state: Tree,
    xs: Tree,
    k: int | None = None,
    discard: int = 0,
    every: int | None = None,
    dt: ArrayLike | None = None,
) -> Array:
    """The k largest Lyapunov exponents: how fast perturbations grow in the long run.

    The frame is made orthonormal every `every` steps. A large number is cheap, but loses the small
    exponents where the growth of directions differs by more than the digits of a float. By default,
    eight steps share a QR while a probe shows that this loses nothing, and elsewhere each step has
    its own, so the results are those of `every=1`. Under `vmap` both are computed, so use
    `every=1` there.
    Differentiable where all exponents are finite and distinct. Benettin et al. 1980, Meccanica
    15:9.

    Args:
        key: Draws the first frame.
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.
        k: How many exponents, 1 .. m; all m if None.
        discard: Steps that align the frame first and are not counted, 0 .. T-1.
        every: Steps between two QRs; chosen along the way if None.
        dt: The seconds of a step, > 0: rates are per second; per step if None.

    Returns:
        Exponents (k,), nats per step, descending. -inf for a direction that dies out exactly. All
        NaN once a state or a direction is not finite. An exponent is NaN where rounding moves it by
        more than a tenth of itself and .01 nats (`lyapunov_details` tells by how much).

    Raises:
        ValueError: k, discard or every is out of range, or the body does not fit state and xs.
        TypeError: One of them is not an integer, or the key is not a PRNG key.

    Example:
        >>> def body(h, x):
        ...     h = jnp.array([2.0, 0.5]) * h + x
        ...     return h, h
        >>> @jax.jit
        ... def spectrum(key, xs):
        ...     return analysis.lyapunov(key, body, jnp.zeros(2), xs, discard=10, every=1)
        >>> print(spectrum(jax.random.key(0), jnp.zeros((20, 2))))  # log 2, -log 2
        [ 0.693 -0.693]
    """
    return lyapunov_details(key, body, state, xs, k, discard, every, dt).exponents


@expect.arguments(
    key=expect.key,
    k=expect.optional(expect.integer),
    discard=expect.integer,
    every=expect.optional(expect.integer),
    dt=expect.optional(expect.number(0, open=True)),
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
    dt: ArrayLike | None = None,
) -> Lyapunov:
    """`lyapunov` with its error, its history, the Kaplan-Yorke dimension and the entropy rate.

    Args:
        key: Draws the first frame.
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.
        k: How many exponents, 1 .. m; all m if None.
        discard: Steps that align the frame first and are not counted, 0 .. T-1.
        every: Steps between two QRs; chosen along the way if None.
        dt: The seconds of a step, > 0: rates are per second; per step if None.

    Returns:
        Exponents, nats per step, with their errors and what follows from them.

    Raises:
        ValueError: As in `lyapunov`.
        TypeError: As in `lyapunov`.

    Example:
        >>> def body(h, x):
        ...     h = jnp.array([2.0, 0.4]) * h + x
        ...     return h, h
        >>> @jax.jit
        ... def details(key, xs):
        ...     return analysis.lyapunov_details(key, body, jnp.zeros(2), xs, discard=10, every=1)
        >>> found = details(jax.random.key(0), jnp.zeros((20, 2)))
        >>> print(f"{found.dimension:.3f} {found.entropy:.3f}")  # 1 + log 2 / log 2.5, log 2
        1.756 0.693
    """
    xs = as_inputs(state, xs)
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
    rate = total / jnp.maximum(covered, 1).astype(total.dtype)
    history = jnp.where(covered > 0, rate, jnp.nan)
    rounding = rounding.sum(axis=0) / jnp.maximum(time[-1], 1).astype(total.dtype)
    swamped = rounding > jnp.maximum(0.1 * jnp.abs(history[-1]), 0.01)
    history = jnp.where(swamped, jnp.nan, history)
    order = jnp.argsort(-history[-1])  # NaN last
    exponents, enough = history[-1][order], k == m
    below = (jnp.cumsum(exponents) < 0).any(), (exponents < 0).any()
    found = Lyapunov(
        exponents,
        _standard_error(total, covered)[order],
        history,
        jnp.where(enough | below[0], kaplan_yorke(exponents), jnp.nan),
        jnp.where(enough | below[1], entropy_rate(exponents), jnp.nan),
        rounding[order],
    )
    return found if dt is None else _per_second(found, dt)


@expect.arguments(exponents=expect.floats)
def kaplan_yorke(exponents: Array | np.ndarray) -> Array:
    """Kaplan-Yorke dimension of an attractor: j + (sum of the first j exponents) / |the next|.

    j is the largest number of exponents whose sum is not negative. Frederickson et al. 1983, J.
    Differential Equations 49:185.

    Args:
        exponents: All m of them, descending; (m,).

    Returns:
        The dimension, (), 0 .. m.

    Raises:
        TypeError: The exponents are not an array of floats.

    Example:
        >>> print(f"{analysis.kaplan_yorke(jnp.array([0.9, 0.0, -14.5])):.2f}")  # Lorenz: 2.06
        2.06
    """
    exponents = jnp.asarray(exponents)
    sums = jnp.cumsum(exponents)
    j = jnp.sum(sums >= 0)
    following = exponents[jnp.minimum(j, exponents.size - 1)]
    kept = jnp.where(j > 0, sums[j - 1], 0)
    fraction = jnp.where(j < exponents.size, kept / jnp.abs(following), 0)
    return j.astype(exponents.dtype) + fraction


@expect.arguments(exponents=expect.floats)
def entropy_rate(exponents: Array | np.ndarray) -> Array:
    """The sum of the positive exponents: a bound on the entropy rate (Pesin).

    Args:
        exponents: All m of them, descending; (m,), nats per step.

    Returns:
        The sum, (), nats per step. NaN where an exponent that might be positive is NaN.

    Raises:
        TypeError: The exponents are not an array of floats.

    Example:
        >>> print(analysis.entropy_rate(jnp.array([0.5, 0.25, -1.0])))
        0.75
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
    """The sum of squares of the k largest exponents, as a loss that keeps gradients from vanishing.

    Minimising it, before or during training, pushes the exponents to zero. Differentiable through
    the QR.
    Gradient flossing, arXiv:2312.17306, equation 6.

    Args:
        key: Draws the first frame.
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.
        k: How many exponents, 1 .. m.
        discard: Steps that align the frame first and are not counted, 0 .. T-1.
        every: Steps between two QRs.

    Returns:
        The loss, (), in squared nats per step.

    Raises:
        ValueError: As in `lyapunov`.
        TypeError: As in `lyapunov`.

    Example:
        >>> def floss(w):
        ...     def body(h, x):
        ...         h = w * h + x
        ...         return h, h
        ...     return analysis.flossing(key, body, jnp.zeros(1), jnp.zeros((9, 1)), k=1)
        >>> key = jax.random.key(0)
        >>> loss, slope = jax.jit(jax.value_and_grad(floss))(2.0)
        >>> print(f"{loss:.3f} {slope:.3f}")  # log(w)^2 and 2 log(w) / w
        0.480 0.693
    """
    return jnp.sum(lyapunov(key, body, state, xs, k, discard, every) ** 2)


@expect.arguments(
    key=expect.key,
    k=expect.integer,
    discard=expect.integer,
    dt=expect.optional(expect.number(0, open=True)),
)
def finite_growth(
    key: Array,
    body: Body,
    state: Tree,
    xs: Tree,
    k: int = 1,
    discard: int = 0,
    dt: ArrayLike | None = None,
) -> Array:
    """The k largest exponents without a derivative, as a check of `lyapunov` and of a body.

    It follows 2k neighbours, at +-eps^(1/3) along an orthonormal frame, and rescales them to this
    distance at every step.

    Args:
        key: Draws the first frame.
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.
        k: How many exponents, 1 .. m.
        discard: Steps that align the frame first and are not counted, 0 .. T-1.
        dt: The seconds of a step, > 0: rates are per second; per step if None.

    Returns:
        Exponents (k,), nats per step, descending.

    Raises:
        ValueError: k or discard is out of range, or the body does not fit state and xs.
        TypeError: k or discard is not an integer, or the key is not a PRNG key.

    Example:
        >>> def body(h, x):  # the logistic map at r = 4 has the exponent log 2
        ...     h = 4 * h * (1 - h)
        ...     return h, h
        >>> key, xs = jax.random.key(0), jnp.zeros((2000, 1))
        >>> growth = jax.jit(analysis.finite_growth, static_argnums=1)
        >>> print(abs(growth(key, body, jnp.array([0.3]), xs) - jnp.log(2)) < 0.02)
        [ True]
    """
    xs = as_inputs(state, xs)
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
    if dt is not None:
        time = time * jnp.asarray(dt, start.dtype)
    rates = jnp.where(time > 0, logs[discard:].sum(axis=0) / time, jnp.nan)
    return jnp.sort(rates, descending=True)


def _per_second(found: Lyapunov, dt: ArrayLike) -> Lyapunov:
    """Rates per second from rates per step; the dimension has no unit."""
    rates = jax.tree.map(lambda rate: rate / jnp.asarray(dt, rate.dtype), found)
    return rates._replace(dimension=found.dimension)


def happening(body: Body, state: Tree, xs: Tree) -> Array:
    """Which steps are unmasked, (T,) integers 0 or 1; all if the body has no mask."""
    there = present(body, state, xs)
    return jnp.ones(scan.length(xs), int) if there is None else there.astype(int)


def _standard_error(total: Array, covered: Array) -> Array:
    """The standard error of the growth (k,), from BLOCKS blocks; NaN if fewer than two have a QR.

    A block ends at its last QR, so blocks differ in length, and are weighted by it.
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
        raise ValueError(f"k must be within 1 .. {m}, the size m of the state; got k = {k}")
    if not 0 <= discard < T:
        raise ValueError(
            f"discard must be within 0 .. {T - 1}, to leave some of the T = {T} steps; got "
            f"{discard}"
        )
    if every is not None and every < 1:
        raise ValueError(f"every must be a number of steps, 1 or more; got {every}")
