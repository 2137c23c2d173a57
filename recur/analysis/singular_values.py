"""Singular values of long products of Jacobians."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import scan
from recur.analysis.gradients import trajectory
from recur.analysis.numerics import matrix_product as product
from recur.analysis.numerics.flat_state import (
    Step,
    as_inputs,
    finite_or_nan,
    flatten,
    integers,
    precise,
    present,
    require_inputs,
)
from recur.analysis.numerics.qr import lq, qr
from recur.analysis.numerics.rounding import Round, compare, exact, rms
from recur.analysis.numerics.singular_value_derivatives import (
    Chain,
    differentiable,
    from_left,
    from_right,
    total_change,
)
from recur.analysis.numerics.step_jacobian import Push, push_forward
from recur.core import Body, Numbers, Tree
from recur.tables import tabled

Pull = Callable[[Array, int, Array], tuple[Array, Array]]


@tabled(logs="logs, nats", rounding="effect of rounding, nats")
class SingularValues(NamedTuple):
    """The singular values of a long product, as natural logarithms."""

    logs: Numbers  #: (m,) descending; -inf for an exact zero, NaN where lost to rounding
    rounding: Numbers  #: (m,) how far one rounding of each state and tangent moves each value; nats


def log_singular_values(body: Body, state: Tree, xs: Tree) -> Array:
    """The singular values of d state_T / d state_0: the effect of the first state on the last.

    The product is carried as J_T ... J_1 Q_0 = Q_T R_T ... R_1 with the triangular factors in logs.
    So each value is accurate relative to itself, however small: its error is about T * eps *
    (condition of the Jacobian of one step), not eps times the largest. The exception is when
    directions first grow and later shrink below others: then the factors determine the product less
    accurately. O(T m^3). Differentiable in both modes, with memory for T frames (m, m). Where
    values coincide up to rounding, derivatives are NaN.

    Args:
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.

    Returns:
        Their natural logarithms (m,), descending. -inf is for exact zeros only. NaN where the value
        is lost to rounding: 16 roundings of each step move it by a nat, or by 1e-4 of itself if
        that is more (see `singular_value_details`).

    Raises:
        ValueError: The body cannot be scanned over xs from the state.

    Example:
        >>> def body(h, x):
        ...     h = jnp.array([2.0, 0.5]) * h + x
        ...     return h, h
        >>> logs = jax.jit(analysis.log_singular_values, static_argnums=0)
        >>> print(logs(body, jnp.zeros(2), jnp.zeros((10, 2))))  # 10 log 2 and -10 log 2
        [ 6.931 -6.931]
    """
    return singular_value_details(body, state, xs).logs


@precise
def singular_value_details(body: Body, state: Tree, xs: Tree) -> SingularValues:
    """`log_singular_values` with the effect of rounding on each value; the product runs twice.

    Args:
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.

    Returns:
        Logs and their rounding, (m,) each; nats.

    Raises:
        ValueError: The body cannot be scanned over xs from the state.

    Example:
        >>> def body(h, x):
        ...     h = jnp.tanh(h @ jnp.array([[1.0, 1.0], [0.0, 1.0]]) + x)
        ...     return h, h
        >>> details = jax.jit(analysis.singular_value_details, static_argnums=0)
        >>> found = details(body, jnp.zeros(2), jnp.ones((10, 2)))
        >>> print(found.logs, (found.rounding < 1e-3).all())
        [-23.613 -40.744] True
    """
    xs = as_inputs(state, xs)
    flatten(body, state, xs)  # its errors
    return SingularValues(*differentiable(_values, _change, body, state, xs))


def _values(body: Body, state: Tree, xs: Tree) -> tuple[Array, Array]:
    """Logs and rounding of the singular values of d state_T / d state_0."""
    step, start = flatten(body, state, xs)
    m = start.size
    push = push_forward(body, state, step, m)

    def spectrum(round: Round) -> Array:
        total, dead = _product(push, step, start, xs, round)
        logs = product.log_singular_values(total)
        zero = (jnp.arange(m) >= m - dead) & ~jnp.isnan(logs)
        return jnp.where(zero, -jnp.inf, logs)

    return compare(spectrum, start.dtype)


def _product(
    push: Push, step: Step, start: Array, xs: Tree, round: Round = exact
) -> tuple[product.Graded, Array]:
    """R_T ... R_1, and the largest number of units that nothing reaches at one step."""

    def advance(carry: tuple, x: Tree) -> tuple[tuple, Array]:
        before, Q, total = carry
        s = step(before, x)[0]
        _, Qt = push(round(before, before), Q.T, x)
        dead = jnp.sum(jnp.all(Qt == 0, axis=0))
        Q, R = qr(round(finite_or_nan(Qt.T, before, s), rms(Qt)))
        return (s, Q, product.times(R, total)), dead

    one = product.graded(jnp.eye(start.size, dtype=start.dtype))
    carry = (start, product.orthogonal(start.size, start.dtype), one)
    (_, _, total), dead = lax.scan(advance, carry, xs)
    return total, dead.max()


@precise
def _change(body: Body, state: Tree, xs: Tree) -> Callable[[Body, Tree, Tree], Array]:
    """A function with the derivatives of the logs of `_values`."""

    def chain(body: Body, state: Tree, xs: Tree) -> Chain:
        step, start = flatten(body, state, xs)
        before, _ = trajectory(step, start, xs)

        def factor(now: Tree, W: Array) -> Array:
            s, x = now
            return jax.vmap(lambda w: jax.jvp(lambda s: step(s, x)[0], (s,), (w,))[1])(W)

        return Chain(factor, factor, *_split_last((before, xs)))

    step, start = flatten(body, state, xs)
    total, _ = _product(push_forward(body, state, step, start.size), step, start, xs)
    V = product.orthogonalised(total).rows @ product.orthogonal(start.size, start.dtype).T
    weights = from_right(chain(body, state, xs), V)
    return precise(lambda body, state, xs: total_change(chain(body, state, xs), weights))


@precise
def input_output(body: Body, state: Tree, xs: Tree, lags: Sequence[int]) -> Array:
    """How far back the output sees: the singular values of dh_T/dx_{T-lag}, each lag in turn.

    Two passes back over max(lags) steps serve all lags: O(max(lags) m n^2). Derivatives are as in
    `log_singular_values`.

    Args:
        body: One step, (state, x) -> (state, h). With a mask, T is the last unmasked step, and lags
            count unmasked steps.
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); in a tuple (noise, input), x is the last array.
        lags: Steps before the last input, each within 0 .. T-1.

    Returns:
        Natural logarithms (len(lags), min(n, d)). Each row is descending and accurate relative to
        itself. NaN where a value is lost to rounding, as in `log_singular_values`, and for a lag
        beyond the first unmasked step.

    Raises:
        ValueError: A lag is outside 0 .. T-1, or the body does not fit state and xs.
        TypeError: A lag is not an integer.

    Example:
        >>> def body(h, x):
        ...     h = jnp.array([0.9, 0.5]) * h + x
        ...     return h, h
        >>> measure = jax.jit(analysis.input_output, static_argnums=(0, 3))
        >>> print(measure(body, jnp.zeros(2), jnp.zeros((10, 2)), (0, 1, 9)))
        [[ 0.     0.   ]
         [-0.105 -0.693]
         [-0.948 -6.238]]
    """
    xs = as_inputs(state, xs)
    scan.require_float(xs)
    require_inputs(xs)
    flatten(body, state, xs)  # its errors
    T = scan.number_of_steps(xs, "a list of lags")
    lags = integers("lags", lags)
    if not lags or min(lags) < 0 or max(lags) >= T:
        raise ValueError(f"lags must be a list of steps within 0 .. T-1 = {T - 1}; got {lags}")
    find, change = partial(_input_values, lags), partial(_input_change, lags)
    return differentiable(find, change, body, state, xs)[0]


def _input_values(lags: list[int], body: Body, state: Tree, xs: Tree) -> tuple[Array, Array]:
    """Logs and rounding of the singular values of dh_T/dx_{T-lag}, for each lag."""
    step, start = flatten(body, state, xs)
    where = places(lags, present(body, state, xs))
    h = _output(step, start, xs)
    k = min(h.size, scan.input_array(xs)[0].size)

    def spectrum(factor: Array, total: product.Graded) -> Array:
        logs = product.log_singular_values(product.times(factor, total))
        return jnp.pad(logs, (0, k - logs.size), constant_values=-jnp.inf)

    logs, rounding = compare(partial(_back, where, step, start, xs, spectrum), start.dtype)
    return jnp.where(where.known[:, None], logs, jnp.nan), rounding


def _input_change(
    lags: list[int], body: Body, state: Tree, xs: Tree
) -> Callable[[Body, Tree, Tree], Array]:
    """A function with the derivatives of the logs of `_input_values`.

    The factors act on (change of x_{T-lag}, change of the state), so one program serves all lags.
    """
    step, start = flatten(body, state, xs)
    where = places(lags, present(body, state, xs))
    h, d = _output(step, start, xs), scan.input_array(xs)[0].size
    k = min(h.size, d)

    def data(body: Body, state: Tree, xs: Tree) -> tuple[Step, Tree]:
        step, start = flatten(body, state, xs)
        return step, (jnp.arange(where.reach, -1, -1), *late(step, start, xs, where))

    def chain(step: Step, data: Tree, lag: Array) -> Chain:
        def pushed(out: int, now: Tree, W: Array) -> Array:
            back, s, now = now  # steps before the last
            after, x = _by_input(step, now, out)
            ds, dx = jnp.where(back < lag, W[:, d:], 0), jnp.where(back == lag, W[:, :d], 0)
            return jax.vmap(lambda *tangent: jax.jvp(after, (s, x), tangent)[1])(ds, dx)

        def factor(now: Tree, W: Array) -> Array:
            state = jnp.where(now[0] <= lag, pushed(0, now, W), 0)
            return jnp.concatenate([jnp.where(now[0] > lag, W[:, :d], 0), state], axis=1)

        return Chain(factor, partial(pushed, 1), *_split_last(data))

    def left(factor: Array, total: product.Graded) -> Array:
        U = product.orthogonalised(product.times(factor, total)).rows
        return jnp.pad(U, ((0, k - len(U)), (0, 0))) @ product.orthogonal(h.size, h.dtype)

    U = _back(where, step, start, xs, left)
    here = partial(chain, *data(body, state, xs))
    weights = lax.map(lambda now: from_left(here(now[0]), now[1], d + start.size), (where.back, U))

    @precise
    def value(body: Body, state: Tree, xs: Tree) -> Array:
        there = partial(chain, *data(body, state, xs))
        return lax.map(lambda now: total_change(there(now[0]), now[1]), (where.back, weights))

    return value


Read = Callable[[Array, product.Graded], Array]


class Places(NamedTuple):
    """The positions of L lags, in steps back from the last unmasked step."""

    reach: int  # the furthest of them
    back: Array  # (L,)
    known: Array  # (L,) whether there is such a step
    rest: Array | None  # masked steps at the end; None if no step is masked


def places(lags: list[int], there: Array | None) -> Places:
    """The places of lags that count only the steps which are `there` (T,)."""
    wanted = jnp.asarray(lags)
    if there is None:
        return Places(max(lags), wanted, jnp.ones(len(lags), bool), None)
    T = len(there)
    last = jnp.max(jnp.where(there, jnp.arange(T), 0))
    later = there.sum() - jnp.cumsum(there)
    match = there & (later == wanted[:, None])
    known = match.any(axis=1)
    back = jnp.where(known, last - jnp.argmax(match, axis=1), 0)
    return Places(T - 1, back, known, T - 1 - last)


def _back(
    where: Places,
    step: Step,
    start: Array,
    xs: Tree,
    read: Read,
    round: Round = exact,
) -> Array:
    """read(R, total) for each lag, dh_T/dx_{T-lag} = C' total' R' (a rotation), C `orthogonal`."""
    h = _output(step, start, xs)
    pull = _pullback(step, start, xs, where, round)
    wanted = jnp.isin(jnp.arange(1, where.reach + 1), where.back)

    def here(CB: Array, total: product.Graded) -> Array:
        return read(qr(round(CB, rms(CB)).T)[1], total)

    def back(carry: tuple, now: tuple) -> tuple[tuple, Array]:
        C, total = carry
        lag, wanted = now
        CJ, CB = pull(lag, 0, C)
        row = lax.cond(wanted, here, lambda *_: jnp.zeros(like.shape, like.dtype), CB, total)
        L, C = lq(round(CJ, rms(CJ)))
        return (C, product.times(L.T, total)), row

    # dh_T/ds_{T-lag} = U total' C, with U a rotation that no singular value sees
    CJ, CB = pull(jnp.asarray(0), 1, product.orthogonal(h.size, h.dtype))
    one = product.graded(jnp.eye(h.size, dtype=h.dtype))
    now = here(CB, one)
    like = jax.eval_shape(lambda: now)
    Q, R = qr(round(CJ, rms(CJ)).T)  # h may be wider than the state
    carry = Q.T, product.times(R, one)
    _, rows = lax.scan(back, carry, (jnp.arange(1, where.reach + 1), wanted))
    return jnp.concatenate([now[None], rows])[where.back]


def _output(step: Step, start: Array, xs: Tree) -> jax.ShapeDtypeStruct:
    """The shape and dtype of h."""
    return jax.eval_shape(step, start, jax.tree.map(lambda leaf: leaf[0], xs))[1]


def late(step: Step, start: Array, xs: Tree, where: Places) -> tuple[Array, Tree]:
    """The states before the last reach + 1 steps, and the inputs of those.

    Masked steps at the end come first, where no lag reaches them.
    """
    rest = where.rest
    if rest is not None:
        pairs = trajectory(step, start, xs)[0], xs
        return jax.tree.map(lambda leaf: jnp.roll(leaf, rest, axis=0), pairs)
    reach = where.reach
    early, last = (
        jax.tree.map(lambda leaf, part=part: jnp.asarray(leaf)[part], xs)
        for part in (slice(None, -1 - reach), slice(-1 - reach, None))
    )
    first, _ = lax.scan(lambda s, x: (step(s, x)[0], None), start, early)
    return trajectory(step, first, last)[0], last


def _split_last(data: Tree) -> tuple[Tree, Tree]:
    """All steps but the last, and the last."""
    return (
        jax.tree.map(lambda leaf: leaf[:-1], data),
        jax.tree.map(lambda leaf: leaf[-1], data),
    )


def _by_input(step: Step, now: Tree, out: int) -> tuple[Callable[[Array, Array], Array], Array]:
    """(s, x) -> the new state (out = 0) or the output (1), flat, and the present flat x."""
    inputs, structure = jax.tree.flatten(now)

    def after(s: Array, x: Array) -> Array:
        now = jax.tree.unflatten(structure, [*inputs[:-1], x.reshape(inputs[-1].shape)])
        return step(s, now)[out].ravel()

    return after, inputs[-1].ravel()


def _pullback(step: Step, start: Array, xs: Tree, where: Places, round: Round) -> Pull:
    """(back, out, C) -> C J, C B for J = d/d state and B = d/dx, 0 .. reach steps before the end.

    For out = 0 these are derivatives of the new state, and for out = 1 of the output.
    """
    pairs = late(step, start, xs, where)

    def pull(back: Array, out: int, C: Array) -> tuple[Array, Array]:
        s, now = jax.tree.map(lambda leaf: leaf[where.reach - back], pairs)
        after, x = _by_input(step, now, out)
        value, vjp = jax.vjp(after, round(s, s), x)
        CJ, CB = jax.vmap(vjp)(C)
        return finite_or_nan(CJ, s, value), finite_or_nan(CB, s, value)

    return pull
