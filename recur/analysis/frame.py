"""An orthonormal frame carried along a trajectory by the Jacobians of its steps."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import scan
from recur.analysis.flat import affordable
from recur.analysis.push import Push
from recur.analysis.qr import lq, qr
from recur.core import Tree


def transport(
    key: Array, push: Push, start: Array, xs: Tree, k: int, discard: int, every: int | None
) -> tuple[Array, Array]:
    """Growth log |R_ii| of k directions, (T, k), and the number of steps covered so far, (T,).

    The frame is made orthonormal every `every` steps (None: as the growth allows) and after steps
    `discard` and T; in between, the growth is zero and stands in the next value.
    """
    T = scan.length(xs)
    Q, _ = qr(jax.random.normal(key, (start.size, k), start.dtype))

    def orthonormal(Q: Array, gap: Array) -> tuple[Array, Array, Array]:
        L, Q = lq(Q)
        logs = jnp.log(jnp.abs(jnp.diagonal(L)))
        return Q, logs, next_gap(logs, gap) if every is None else gap

    def later(Q: Array, gap: Array) -> tuple[Array, Array, Array]:
        return Q, jnp.zeros(k, Q.dtype), gap

    def advance(carry: tuple, now: tuple) -> tuple[tuple, tuple]:
        s, Q, gap, last = carry
        t, x = now
        s, Q = push(s, Q, x)
        due = (t - last >= gap) | (t == discard) | (t == T)
        Q, logs, gap = lax.cond(due, orthonormal, later, Q, gap)
        last = jnp.where(due, t, last)
        return (s, Q, gap, last), (logs, last)

    gap = jnp.full((), 1 if every is None else every, jnp.int32)
    times = jnp.arange(1, T + 1, dtype=jnp.int32)
    carry = (start, Q.T, gap, jnp.zeros((), jnp.int32))
    return lax.scan(advance, carry, (times, xs))[1]


def next_gap(logs: Array, gap: Array) -> Array:
    """Steps until a frame has lost two fifths of its digits, at most twice the last gap."""
    spread = logs.max() - logs.min()
    lost = jnp.maximum(spread, jnp.abs(logs).max() / 2)  # of 1 too: no overflow or underflow
    allowed = affordable(logs.dtype) * gap.astype(logs.dtype) / lost
    allowed = jnp.where(lost < jnp.inf, allowed, 1)  # 1 where a direction has died out
    return jnp.clip(allowed, 1, (2 * gap).astype(logs.dtype)).astype(gap.dtype)
