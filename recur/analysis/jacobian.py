"""Singular values of long products of Jacobians."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import scan
from recur.analysis import product
from recur.analysis.flat import flatten, precise
from recur.analysis.push import push_forward
from recur.analysis.qr import qr
from recur.core import Body, Tree


@precise
def log_singular_values(body: Body, state: Tree, xs: Tree) -> Array:
    """Logs of the singular values of d state_T / d state_0, (m,) for states of size m; nats.

    Descending. The product is carried as J_T ... J_1 Q_0 = Q_T R_T ... R_1 with the triangular
    factors in logs, so each of them is accurate relative to itself, however small: its error is
    about T * eps * (condition of one step's Jacobian), not eps times the largest. (Where directions
    that grew for a while shrink later, below others, the factors themselves determine the product
    only up to that detour.) O(T m^3).
    Raises ValueError where the body cannot be scanned over xs from the state.
    """
    step, start = flatten(body, state, xs)
    m = start.size
    push = push_forward(body, state, step, m)

    def advance(carry: tuple[Array, Array, product.Graded], x: Tree) -> tuple[tuple, None]:
        s, Q, total = carry
        s, Qt = push(s, Q.T, x)
        Q, R = qr(Qt.T)
        return (s, Q, product.times(R, total)), None

    one = product.graded(jnp.eye(m, dtype=start.dtype))
    carry = (start, product.orthogonal(m, start.dtype), one)
    (_, _, total), _ = lax.scan(advance, carry, xs)
    return product.log_singular_values(total)


@precise
def input_output(body: Body, state: Tree, xs: Tree, lags: Sequence[int]) -> Array:
    """Logs of the singular values of dh_T/dx_{T-lag}, (len(lags), min(n, d)); nats.

    h_T is the last output and x_T, lag 0, the last input. Each row is descending and accurate
    relative to itself, as in `log_singular_values`. One pass back over max(lags) steps serves all
    lags: O(max(lags) m n^2). Where xs is a tuple (masks, noise, input), x is its last array.
    Raises ValueError for lags outside 0 .. T-1 and where the body does not fit state and xs.
    """
    scan.require_float(xs)
    step, start = flatten(body, state, xs)
    T = scan.length(xs)
    lags = [int(lag) for lag in lags]
    if not lags or min(lags) < 0 or max(lags) >= T:
        raise ValueError(f"lags must be a list of steps within 0 .. T-1 = {T - 1}, got {lags}")
    inputs, structure = jax.tree.flatten(xs)

    def parts(x: Array, now: list[Array]) -> Tree:
        return jax.tree.unflatten(structure, [*now, x])

    _, before = lax.scan(lambda s, x: (step(s, x)[0], s), start, xs)  # states before each step

    def pull(t: Array, out: int, Q: Array) -> tuple[Array, Array]:
        """J^T Q and B^T Q of the step t, for its new state (out = 0) or its output (out = 1)."""
        now = [leaf[t] for leaf in inputs]
        x = now.pop()
        value, vjp = jax.vjp(
            lambda s, x: step(s, parts(x.reshape(now_shape), now))[out].ravel(),
            before[t],
            x.ravel(),
        )
        del value
        return jax.vmap(vjp, in_axes=1, out_axes=1)(Q)

    now_shape = inputs[-1].shape[1:]
    h = jax.eval_shape(step, start, jax.tree.map(lambda leaf: leaf[0], xs))[1]
    k = min(h.size, inputs[-1][0].size)

    def spectrum(Bt_Q: Array, total: product.Graded) -> Array:
        factor = qr(Bt_Q)[1]
        logs = product.log_singular_values(product.times(factor, total))
        return jnp.pad(logs, (0, k - logs.size), constant_values=-jnp.inf)

    one = product.graded(jnp.eye(h.size, dtype=h.dtype))
    Jt_Q, Bt_Q = pull(jnp.asarray(T - 1), 1, product.orthogonal(h.size, h.dtype))
    Q, R = qr(Jt_Q)
    found = jnp.zeros((max(lags) + 1, k), start.dtype).at[0].set(spectrum(Bt_Q, one))
    wanted = jnp.zeros(max(lags) + 1, bool).at[jnp.asarray(lags)].set(True)

    def back(carry: tuple, lag: Array) -> tuple[tuple, Array]:
        Q, total = carry
        Jt_Q, Bt_Q = pull(T - 1 - lag, 0, Q)
        row = lax.cond(wanted[lag], spectrum, lambda *_: jnp.zeros(k, start.dtype), Bt_Q, total)
        Q, R = qr(Jt_Q)
        return (Q, product.times(R, total)), row

    _, rows = lax.scan(back, (Q, product.times(R, one)), jnp.arange(1, max(lags) + 1))
    return found.at[1:].set(rows)[jnp.asarray(lags)]
