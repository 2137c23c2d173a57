"""QR factorisation that can be vmapped on a CPU.

jaxlib's batched LAPACK kernels hand the batch to XLA's thread pool and wait for it on one of the
pool's own threads: two of them at once, on a machine of two cores, wait for each other for ever
(seen with jaxlib 0.10.2). So on a CPU a batch is factorised one matrix after the other. OpenBLAS
has threads of its own, which get in each other's way on a busy machine: OPENBLAS_NUM_THREADS=1
keeps one.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap


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


def _lapack(a: Array) -> tuple[Array, Array]:
    Q, R = jnp.linalg.qr(a)
    return Q, R


@custom_vmap
def _factor(a: Array) -> tuple[Array, Array]:
    return _lapack(a)


@_factor.def_vmap
def _(size: int, batched: list[bool], a: Array) -> tuple[tuple[Array, Array], tuple[bool, bool]]:
    del size, batched
    one_by_one = partial(lax.map, _lapack)
    return lax.platform_dependent(a, cpu=one_by_one, default=_lapack), (True, True)
