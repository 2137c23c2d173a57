"""Singular values of long products of Jacobians."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import scan
from recur.analysis import product
from recur.analysis.flat import Step, finite_or_nan, flatten, integers, precise
from recur.analysis.push import push_forward
from recur.analysis.qr import lq, qr
from recur.analysis.rounding import Round, compare
from recur.core import Body, Tree

Pull = Callable[[Array, int, Array], tuple[Array, Array]]


class SingularValues(NamedTuple):
    """Those of a long product, as natural logarithms."""

    logs: Array  # (m,) descending; -inf for an exact zero, NaN where rounding swamps the value
    rounding: Array  # (m,) what one rounding of the tangents of each step moves each by; nats


def log_singular_values(body: Body, state: Tree, xs: Tree) -> Array:
    """Logs of the singular values of d state_T / d state_0, (m,) for states of size m; nats.

    Descending. The product is carried as J_T ... J_1 Q_0 = Q_T R_T ... R_1 with the triangular
    factors in logs, so each of them is accurate relative to itself, however small: its error is
    about T * eps * (condition of one step's Jacobian), not eps times the largest. (Where directions
    that grew for a while shrink later, below others, the factors themselves determine the product
    only up to that detour.) A value that rounding swamps is NaN: 16 roundings of each step move it
    by a nat or more, see `singular_value_details`. -inf is for exact zeros alone. O(T m^3).
    Raises ValueError where the body cannot be scanned over xs from the state.
    """
    return singular_value_details(body, state, xs).logs


@precise
def singular_value_details(body: Body, state: Tree, xs: Tree) -> SingularValues:
    """`log_singular_values` with the rounding of each value, for which the product runs twice."""
    step, start = flatten(body, state, xs)
    m = start.size
    push = push_forward(body, state, step, m)

    def spectrum(round: Round) -> Array:
        def advance(carry: tuple, x: Tree) -> tuple[tuple, Array]:
            before, Q, total = carry
            s, Qt = push(before, Q.T, x)
            dead = jnp.sum(jnp.all(Qt == 0, axis=0))  # units that nothing reaches
            Q, R = qr(round(finite_or_nan(Qt.T, before, s)))
            return (s, Q, product.times(R, total)), dead

        one = product.graded(jnp.eye(m, dtype=start.dtype))
        carry = (start, product.orthogonal(m, start.dtype), one)
        (_, _, total), dead = lax.scan(advance, carry, xs)
        logs = product.log_singular_values(total)
        zero = (jnp.arange(m) >= m - dead.max()) & ~jnp.isnan(logs)
        return jnp.where(zero, -jnp.inf, logs)

    return SingularValues(*compare(spectrum, start.dtype))


@precise
def input_output(body: Body, state: Tree, xs: Tree, lags: Sequence[int]) -> Array:
    """Logs of the singular values of dh_T/dx_{T-lag}, (len(lags), min(n, d)); nats.

    h_T is the last output and x_T, lag 0, the last input. Each row is descending and accurate
    relative to itself, and NaN where rounding swamps a value, as in `log_singular_values`. Two
    passes back over max(lags) steps serve all lags: O(max(lags) m n^2). Where xs is a tuple (masks,
    noise, input), x is its last array.
    Raises ValueError for lags outside 0 .. T-1 and where the body does not fit state and xs,
    TypeError for lags that are no integers.
    """
    scan.require_float(xs)
    step, start = flatten(body, state, xs)
    T = scan.length(xs)
    lags = integers("lags", lags)
    if not lags or min(lags) < 0 or max(lags) >= T:
        raise ValueError(f"lags must be a list of steps within 0 .. T-1 = {T - 1}, got {lags}")
    reach = max(lags)
    pull = _pullback(step, start, xs, reach)
    h = jax.eval_shape(step, start, jax.tree.map(lambda leaf: leaf[0], xs))[1]
    k = min(h.size, jax.tree.leaves(xs)[-1][0].size)

    later = jnp.arange(1, reach + 1)
    wanted = jnp.isin(later, jnp.asarray(lags))

    def spectra(round: Round) -> Array:
        def spectrum(CB: Array, total: product.Graded) -> Array:
            logs = product.log_singular_values(product.times(qr(round(CB).T)[1], total))
            return jnp.pad(logs, (0, k - logs.size), constant_values=-jnp.inf)

        def back(carry: tuple, now: tuple) -> tuple[tuple, Array]:
            C, total = carry
            lag, wanted = now
            CJ, CB = pull(lag, 0, C)
            row = lax.cond(wanted, spectrum, lambda *_: jnp.zeros(k, start.dtype), CB, total)
            L, C = lq(round(CJ))
            return (C, product.times(L.T, total)), row

        # dh_T/ds_{T-lag} = U total' C, with U a rotation that no singular value sees
        CJ, CB = pull(jnp.asarray(0), 1, product.orthogonal(h.size, h.dtype))
        one = product.graded(jnp.eye(h.size, dtype=h.dtype))
        Q, R = qr(round(CJ).T)  # h may be wider than the state
        _, rows = lax.scan(back, (Q.T, product.times(R, one)), (later, wanted))
        return jnp.vstack([spectrum(CB, one), rows])[jnp.asarray(lags)]

    return compare(spectra, start.dtype)[0]


def _pullback(step: Step, start: Array, xs: Tree, reach: int) -> Pull:
    """(lag, out, C) -> C J, C B for J = d/d state and B = d/dx of a step 0 .. reach before the end.

    They are those of the new state for out = 0 and of the output for out = 1.
    """
    early, late = (
        jax.tree.map(lambda leaf, part=part: jnp.asarray(leaf)[part], xs)
        for part in (slice(None, -1 - reach), slice(-1 - reach, None))
    )
    first, _ = lax.scan(lambda s, x: (step(s, x)[0], None), start, early)
    _, states = lax.scan(lambda s, x: (step(s, x)[0], s), first, late)  # before each step

    def pull(lag: Array, out: int, C: Array) -> tuple[Array, Array]:
        s, now = jax.tree.map(lambda leaf: leaf[reach - lag], (states, late))
        inputs, structure = jax.tree.flatten(now)

        def after(s: Array, x: Array) -> Array:
            now = jax.tree.unflatten(structure, [*inputs[:-1], x.reshape(inputs[-1].shape)])
            return step(s, now)[out].ravel()

        value, vjp = jax.vjp(after, s, inputs[-1].ravel())
        CJ, CB = jax.vmap(vjp)(C)
        return finite_or_nan(CJ, s, value), finite_or_nan(CB, s, value)

    return pull
