"""Products of many matrices, whose singular values span more than the range of floats.

A product R_T ... R_1 of triangular factors is kept as diag(exp(log)) @ rows, with rows of unit
length. One-sided Jacobi rotations then make the rows orthogonal: their scales are the singular
values, each to high *relative* accuracy, because rows of any two scales are compared by their
angle alone (Demmel and Veselic 1992, SIAM J. Matrix Anal. Appl. 13:1204).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur.analysis.numerics.flat_state import affordable, log_norm
from recur.analysis.numerics.qr import one_by_one, qr, singular_values

SWEEPS = 30  # a few suffice after a QR; the limit only ends a case that cannot converge (NaN)
UNROLL = 4  # rounds of rotations; they are short


class Graded(NamedTuple):
    """The matrix diag(exp(log)) @ rows: log (k,), rows (k, n) of unit length."""

    log: Array
    rows: Array


def graded(matrix: Array) -> Graded:
    """A matrix (k, n), k <= n, as its scaled rows."""
    return Graded(*log_norm(matrix, axis=1))


def times(factor: Array, product: Graded) -> Graded:
    """factor (j, k) @ product (k, n), without forming anything that could overflow."""
    zero = factor == 0
    exponent = jnp.where(zero, -jnp.inf, jnp.log(jnp.abs(jnp.where(zero, 1, factor)))) + product.log
    top = lax.stop_gradient(exponent.max(axis=1))  # it cancels
    top = jnp.where(jnp.isfinite(top), top, 0)  # a row of zeros stays zero
    weights = jnp.sign(factor) * jnp.exp(exponent - top[:, None])
    log, rows = log_norm(weights @ product.rows, axis=1)
    return Graded(top + log, rows)


@one_by_one  # so that each member of a batch takes only as many rounds as it needs
def log_singular_values(product: Graded) -> Array:
    """Logs of the k singular values, descending; -inf for zero. k <= n.

    The triangular factor of the rows has the same singular values, is smaller, and is closer to
    diagonal if its scales are far apart. This saves half of the sweeps (Drmac and Veselic 2008,
    SIAM J. Matrix Anal. Appl. 29:1322). If the scales are so close that rounding relative to the
    largest is acceptable, no sweep is needed.
    """
    order = jnp.argsort(-product.log)
    log, rows = product.log[order], product.rows[order]
    factor = times(qr(rows.T)[1], Graded(log, jnp.eye(log.size, dtype=log.dtype)))
    top = factor.log.max()

    def dense(factor: Graded) -> Array:
        return top + jnp.log(singular_values(jnp.exp(factor.log - top)[:, None] * factor.rows))

    close = top - factor.log.min() <= affordable(log.dtype)  # false for zeros
    return lax.cond(close, dense, lambda factor: orthogonalised(factor).log, factor)


def orthogonalised(product: Graded) -> Graded:
    """The logs of the k singular values, descending, and the right singular vectors, as rows.

    The row of a value that is exactly zero is zero. All are NaN if an entry of the product is NaN,
    or if the rotations do not converge. k <= n.
    """
    k, n = product.rows.shape
    pad = k % 2  # pairs need an even number of rows
    log = jnp.pad(product.log, (0, pad), constant_values=-jnp.inf)
    rows = jnp.pad(product.rows, ((0, pad), (0, 0)))
    tolerance = 4 * float(jnp.finfo(rows.dtype).eps) * n**0.5  # rounding of a dot product

    def cosine(product: Graded) -> Array:
        """The largest cosine between two rows."""
        rows = product.rows
        return jnp.abs(jnp.fill_diagonal(rows @ rows.T, 0, inplace=False)).max()

    def sweep(state: tuple[Graded, Array, Array]) -> tuple[Graded, Array, Array]:
        product, _, sweeps = state
        rounds = k + pad - 1  # rounds in which each pair meets once
        product, _ = lax.scan(_rotate, product, None, length=rounds, unroll=UNROLL)
        return product, cosine(product), sweeps + 1

    def unfinished(state: tuple[Graded, Array, Array]) -> Array:
        _, cosine, sweeps = state
        return (cosine > tolerance) & (sweeps < SWEEPS)  # false for NaN

    start = Graded(log, rows)
    carry = start, cosine(start), jnp.zeros((), jnp.int32)
    (log, rows), worst, _ = lax.while_loop(unfinished, sweep, carry)
    order = jnp.argsort(-log)[:k]
    found = (worst <= tolerance) & ~jnp.isnan(log).any()
    return Graded(*(jnp.where(found, a[order], jnp.nan) for a in (log, rows)))


def _rotate(product: Graded, _: None) -> tuple[Graded, None]:
    """Make each row of the first half orthogonal to one of the second; then form the next pairs.

    Let r <= 1 be the ratio of the scales and g the cosine. In units of the scale of each row, the
    rotation that makes g zero is i <- i + r^2 t j and j <- j - t i (up to their norm), where i is
    the larger row and t = 2 g / ((1 - r^2) + sqrt((1 - r^2)^2 + 4 r^2 g^2)). Nothing can overflow.
    """
    (a, b), (p, q) = jnp.split(product.log, 2), jnp.split(product.rows, 2)
    g = jnp.sum(p * q, axis=1)
    r2 = jnp.where(jnp.minimum(a, b) > -jnp.inf, jnp.exp(-2 * jnp.abs(a - b)), 0)
    denominator = (1 - r2) + jnp.sqrt((1 - r2) ** 2 + 4 * r2 * g**2)
    t = 2 * g / jnp.where(denominator > 0, denominator, 1)
    shorten = -jnp.log1p(r2 * t**2) / 2
    log_p, row_p = log_norm(p + jnp.where(a >= b, r2 * t, -t)[:, None] * q, axis=1)
    log_q, row_q = log_norm(q + jnp.where(a >= b, -t, r2 * t)[:, None] * p, axis=1)
    log, rows = (a + log_p + shorten, b + log_q + shorten), (row_p, row_q)
    return Graded(_turn(*log), _turn(*rows)), None


def _turn(p: Array, q: Array) -> Array:
    """The pairs of the next round, as in a round-robin tournament: p_0 stays, the others rotate."""
    return jnp.concatenate([p[:1], q[:1], p[1:-1], q[1:], p[-1:]]) if len(p) > 1 else jnp.r_[p, q]


def orthogonal(n: int, dtype: jnp.dtype) -> Array:
    """A fixed generic rotation (n, n) to start from.

    It is generic so that the first columns of a long product contain its largest singular values,
    and so that the scaled rows stay far from parallel.
    """
    return jnp.linalg.qr(jax.random.normal(jax.random.key(0), (n, n), dtype))[0]
