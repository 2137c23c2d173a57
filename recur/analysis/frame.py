"""An orthonormal frame carried along a trajectory by the Jacobians of its steps."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import scan
from recur.analysis.push import Push
from recur.analysis.qr import lq, qr
from recur.core import Tree


def transport(
    key: Array, push: Push, start: Array, xs: Tree, k: int, discard: int, every: int | None
) -> tuple[Array, Array]:
    """Growth log |R_ii| of k directions, (T, k), and the number of steps covered so far, (T,).

    The frame is made orthonormal every `every` steps (None: at each) and after steps `discard` and
    T; in between, the growth is zero and stands in the next value.
    """
    T = scan.length(xs)
    Q, _ = qr(jax.random.normal(key, (start.size, k), start.dtype))

    gap = 1 if every is None else every

    def orthonormal(Q: Array) -> tuple[Array, Array]:
        L, Q = lq(Q)
        return Q, jnp.log(jnp.abs(jnp.diagonal(L)))

    def later(Q: Array) -> tuple[Array, Array]:
        return Q, jnp.zeros(k, Q.dtype)

    def advance(carry: tuple, now: tuple) -> tuple[tuple, tuple]:
        s, Q, last = carry
        t, x = now
        s, Q = push(s, Q, x)
        due = (t - last >= gap) | (t == discard) | (t == T)
        Q, logs = orthonormal(Q) if gap == 1 else lax.cond(due, orthonormal, later, Q)
        last = jnp.where(due, t, last)
        return (s, Q, last), (logs, last)

    times = jnp.arange(1, T + 1, dtype=jnp.int32)
    return lax.scan(advance, (start, Q.T, jnp.zeros((), jnp.int32)), (times, xs))[1]
