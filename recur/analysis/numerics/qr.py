"""Factorisations that can be vmapped on a CPU.

jaxlib's batched LAPACK kernels hand the batch to XLA's thread pool and wait for it on one of the
pool's own threads. Two such kernels at once deadlock on a machine with two cores (seen with jaxlib
0.10.2). So a CPU factorises a batch one matrix at a time. OpenBLAS has its own threads, which
compete for the cores of a busy machine: OPENBLAS_NUM_THREADS=1 limits it to one thread.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

PANEL = 16  # rows that LAPACK takes in one piece; and the largest number of pieces


@jax.custom_jvp
def qr(a: Array) -> tuple[Array, Array]:
    """Reduced Q (m, k) and R (k, n) of a (m, n), k = min(m, n); differentiable where m >= n."""
    return _factor(a)


@qr.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Any, Any]:
    """With dA R^-1 = X and M = Q'X: dQ = Q L + (X - Q M), dR = (M - L) R, L skew as tril(M)."""
    (a,), (da,) = primals, tangents
    Q, R = qr(a)
    X = lax.linalg.triangular_solve(R, da, left_side=False, lower=False)
    M = Q.T @ X
    low = jnp.tril(M, -1)
    L = low - low.T
    return (Q, R), (X + Q @ (L - M), (M - L) @ R)


def lq(a: Array) -> tuple[Array, Array]:
    """L (k, k) and Q (k, m) of a = L Q, k <= m, for links of a long chain; differentiable.

    It works by halves, and orthogonalises the second against the first, so most of the work is
    matrix products. This is twice as fast as the QR of LAPACK. As in every Gram-Schmidt method,
    L Q = a is exact up to rounding, while the rows of Q are orthonormal only up to rounding times
    the condition of a. Rows that depend exactly on others give zeros in L and anything in Q.
    """
    k, m = a.shape
    if k <= max(PANEL, m // PANEL):
        Q, R = qr(a.T)
        return R.T, Q.T
    half = k // 2
    first, Q = lq(a[:half])
    along = a[half:] @ Q.T
    second, across = lq(a[half:] - along @ Q)
    L = jnp.block([[first, jnp.zeros_like(along.T)], [along, second]])
    return L, jnp.vstack([Q, across])


def one_by_one(factor: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Factor a batch one after the other on a CPU, for the reason given above."""
    alone = custom_vmap(factor)

    @alone.def_vmap
    def _(size: int, batched: list, a: Any) -> tuple[Any, Any]:
        each = jax.tree.map(
            lambda leaf, has: leaf if has else jnp.broadcast_to(leaf, (size, *leaf.shape)),
            a,
            batched[0],
        )
        # alone again, for a batch of batches
        found = lax.platform_dependent(each, cpu=partial(lax.map, alone), default=jax.vmap(factor))
        return found, jax.tree.map(lambda _: True, found)

    return alone


@one_by_one
def _factor(a: Array) -> tuple[Array, Array]:
    Q, R = jnp.linalg.qr(a)
    return Q, R


@jax.custom_jvp
def singular_values(a: Array) -> Array:
    """Singular values of a (m, n), descending; differentiable once, in both modes, if distinct."""
    return _values(a)


@singular_values.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """ds_i = u_i' dA v_i."""
    U, s, V = _svd(primals[0])
    return s, jnp.sum(U * (tangents[0] @ V.T), axis=0)


@one_by_one
def _values(a: Array) -> Array:
    return jnp.linalg.svd(a, compute_uv=False)


@one_by_one
def _svd(a: Array) -> tuple[Array, Array, Array]:
    U, s, V = jnp.linalg.svd(a, full_matrices=False)
    return U, s, V
