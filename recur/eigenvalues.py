"""Eigenvalues of matrices that are not symmetric, on every kind of device.

JAX does not implement them on a TPU, so there the host computes them. A program that calls the
host can run, but cannot be exported.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


@jax.custom_jvp
def eigenvalues(a: Array) -> Array:
    """Eigenvalues of a (m, m), complex (m,), in no order. Differentiable once, if all differ."""
    return lax.platform_dependent(a, tpu=lambda a: on_host(a)[0], default=jnp.linalg.eigvals)


@eigenvalues.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """d lambda_i = (V^-1 da V)_ii, the eigenvectors the columns of V."""
    (a,), (da,) = primals, tangents
    values, V = eigenvectors(a)
    return values, jnp.diagonal(jnp.linalg.solve(V, da.astype(V.dtype) @ V))


def eigenvectors(a: Array) -> tuple[Array, Array]:
    """Eigenvalues (m,) and eigenvectors, columns of (m, m), complex, in no order; no derivative."""
    return lax.platform_dependent(a, tpu=on_host, default=lambda a: tuple(jnp.linalg.eig(a)))


def on_host(a: Array) -> tuple[Array, Array]:
    """Eigenvalues (m,) and eigenvectors, columns of (m, m), by NumPy; NaN if a is not finite."""
    kind = np.result_type(a.dtype, np.complex64)

    def pairs(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        finite = np.isfinite(a).all(axis=(-2, -1), keepdims=True)  # NumPy raises for others
        values, V = np.linalg.eig(np.where(finite, a, 0))
        values, V = np.where(finite[..., 0], values, np.nan), np.where(finite, V, np.nan)
        return values.astype(kind), V.astype(kind)

    out = (jax.ShapeDtypeStruct(a.shape[:-1], kind), jax.ShapeDtypeStruct(a.shape, kind))
    return jax.pure_callback(pairs, out, a, vmap_method="expand_dims")
