"""Products of many matrices, whose singular values span more than the range of floats.

A product R_T ... R_1 of triangular factors is kept as diag(exp(log)) @ rows, with rows of unit
length. One-sided Jacobi rotations then make the rows orthogonal: their scales are the singular
values, each to high *relative* accuracy, because rows of any two scales are compared by their
angle alone (Demmel and Veselic 1992, SIAM J. Matrix Anal. Appl. 13:1204).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur.analysis.flat import log_norm

SWEEPS = 30  # a few suffice after a QR; the limit only ends a hopeless case (NaN)


class Graded(NamedTuple):
    """The matrix diag(exp(log)) @ rows: log (k,), rows (k, n) of unit length."""

    log: Array
    rows: Array


def graded(matrix: Array) -> Graded:
    """A matrix (k, n), k <= n, as its scaled rows."""
    return Graded(*log_norm(matrix, axis=1))


def times(factor: Array, product: Graded) -> Graded:
    """factor (j, k) @ product (k, n), without forming anything that could overflow."""
    exponent = jnp.log(jnp.abs(factor)) + product.log
    top = exponent.max(axis=1)
    top = jnp.where(jnp.isfinite(top), top, 0)  # a row of zeros stays one
    weights = jnp.sign(factor) * jnp.exp(exponent - top[:, None])
    log, rows = log_norm(weights @ product.rows, axis=1)
    return Graded(top + log, rows)


def log_singular_values(product: Graded) -> Array:
    """Logs of the k singular values, descending; -inf for zero. k <= n."""
    return orthogonalised(product).log


def orthogonalised(product: Graded) -> Graded:
    """The logs of the k singular values, descending, and the right singular vectors, as rows.

    The row of a value that is exactly zero is zero. k <= n.
    """
    k, n = product.rows.shape
    pad = k % 2  # pairs need an even number of rows
    start = Graded(
        jnp.pad(product.log, (0, pad), constant_values=-jnp.inf),
        jnp.pad(product.rows, ((0, pad), (0, 0))),
    )
    rounds = jnp.asarray(_round_robin(k + pad))
    tolerance = 4 * jnp.finfo(product.rows.dtype).eps * np.sqrt(n)  # rounding of a dot product

    def sweep(state: tuple[Graded, Array, Array]) -> tuple[Graded, Array, Array]:
        product, _, sweeps = state
        product, cosines = lax.scan(_rotate, product, rounds)
        return product, cosines.max(), sweeps + 1

    def unfinished(state: tuple[Graded, Array, Array]) -> Array:
        _, cosine, sweeps = state
        return (cosine > tolerance) & (sweeps < SWEEPS)

    infinity = jnp.full((), jnp.inf, product.rows.dtype)
    product, _, _ = lax.while_loop(unfinished, sweep, (start, infinity, jnp.zeros((), jnp.int32)))
    order = jnp.argsort(-product.log)[:k]
    return Graded(product.log[order], product.rows[order])


def _rotate(product: Graded, pairs: Array) -> tuple[Graded, Array]:
    """Rotate k/2 disjoint pairs of rows until each is orthogonal; the largest |cosine| met.

    With r <= 1 the ratio of the scales and g the cosine, the rotation that annihilates g is, in
    units of each row's own scale, i <- i + r^2 t j and j <- j - t i (up to their norm), where
    t = 2 g / ((1 - r^2) + sqrt((1 - r^2)^2 + 4 r^2 g^2)): nothing in it can overflow.
    """
    log, rows = product
    first, second = pairs
    swap = log[first] < log[second]
    i, j = jnp.where(swap, second, first), jnp.where(swap, first, second)
    g = jnp.sum(rows[i] * rows[j], axis=1)
    r2 = jnp.where(jnp.isfinite(log[j]), jnp.exp(2 * (log[j] - log[i])), 0)
    denominator = (1 - r2) + jnp.sqrt((1 - r2) ** 2 + 4 * r2 * g**2)
    t = 2 * g / jnp.where(denominator > 0, denominator, 1)
    shorten = -jnp.log1p(r2 * t**2) / 2
    log_i, row_i = log_norm(rows[i] + (r2 * t)[:, None] * rows[j], axis=1)
    log_j, row_j = log_norm(rows[j] - t[:, None] * rows[i], axis=1)
    log = log.at[i].add(log_i + shorten).at[j].add(log_j + shorten)
    return Graded(log, rows.at[i].set(row_i).at[j].set(row_j)), jnp.abs(g).max()


def _round_robin(k: int) -> np.ndarray:
    """(k-1, 2, k/2) indices: a tournament in which each round pairs all k rows, each pair once."""
    ring = np.arange(1, k)
    order = np.stack([np.concatenate([[0], np.roll(ring, shift)]) for shift in range(k - 1)])
    return np.stack([order[:, : k // 2], order[:, : k // 2 - 1 : -1]], axis=1)


def orthogonal(n: int, dtype: jnp.dtype) -> Array:
    """A fixed generic rotation (n, n) to start from.

    Generic, so that the first columns of a long product catch its largest singular values, and the
    scaled rows stay far from parallel.
    """
    return jnp.linalg.qr(jax.random.normal(jax.random.key(0), (n, n), dtype))[0]
