"""Spectra of long products for states too large for m x m matrices, by Krylov methods.

    A v = exp(-sum g_t) J_T ... J_1 v

is applied by forward mode and transposed by JAX; g_t, the growth of one random vector at step t,
keeps it within range at any T. Golub and Kahan's bidiagonalisation then needs only such products.
Its accuracy is relative to the largest singular value: a much smaller one is lost in rounding, and
is NaN here. Where an m x m matrix fits in memory, `log_singular_values` computes all of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect
from recur.analysis.numerics.flat_state import as_inputs, flatten, integer, log_norm, precise
from recur.core import Body, Tree
from recur.tables import tabled

AGREE = 0.01  # nats, and relative: the accuracy of a value


@tabled(logs="logs, nats", weights="weights")
class Density(NamedTuple):
    """A density of log singular values: nodes and their weights."""

    logs: Array  #: (P, M), nats; NaN for values lost in the rounding of the largest
    weights: Array  #: (P, M), summing to 1


@expect.arguments(key=expect.key)
@precise
def top_log_singular_values(
    key: Array, body: Body, state: Tree, xs: Tree, k: int, products: int | None = None
) -> Array:
    """The largest singular values of d state_T / d state_0, of states too large for a matrix.

    Each is found twice, from two random vectors. Costs twice `products` products with the Jacobians
    and with their transposes, O(T n^2) each, and memory for T states. Golub and Kahan 1965, SIAM J.
    Numer. Anal. B 2:205.

    Args:
        key: Draws the two vectors.
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.
        k: How many values.
        products: Size of the Krylov space, k .. m; 2k + 10, at most m, if None.

    Returns:
        Natural logarithms (k,), descending. NaN where the two searches differ by AGREE nats or
        more: the value has not converged, and more products help. NaN too where eps times the
        largest value is more than AGREE times this value.

    Raises:
        ValueError: k or products is out of range, or the body does not fit.
        TypeError: k or products is not an integer.

    Example:
        >>> def body(h, x):
        ...     h = jnp.array([1.5, 1.0, 0.5]) * h + x
        ...     return h, h
        >>> key, xs = jax.random.key(0), jnp.zeros((5, 3))
        >>> top = jax.jit(analysis.top_log_singular_values, static_argnums=(1, 4))
        >>> print(abs(top(key, body, jnp.zeros(3), xs, 2)))  # 5 log 1.5 and 0
        [2.027 0.   ]
    """
    apply, total, m = _operator(key, body, state, xs)
    k = integer("k", k)
    products = min(2 * k + 10, m) if products is None else integer("products", products)
    if not 1 <= k <= products <= m:
        raise ValueError(
            f"k and products must satisfy 1 <= k <= products <= m = {m}; got k = {k}, products = "
            f"{products}"
        )
    twice = jax.random.split(jax.random.split(key)[1])
    values, _ = lax.map(lambda key: _ritz(apply, key, m, products, total.dtype), twice)
    logs = _known(values)[:, :k]
    best = logs.max(axis=0)  # they are reached from below
    return total + jnp.where(best - logs.min(axis=0) < AGREE, best, jnp.nan)


@expect.arguments(key=expect.key)
@precise
def singular_density(
    key: Array, body: Body, state: Tree, xs: Tree, products: int, probes: int = 8
) -> Density:
    """The density of the singular values of d state_T / d state_0, of large states.

    The method is stochastic Lanczos quadrature. Each of P random vectors gives M nodes with
    weights, whose mean over the vectors is the spectral density. The weighted histogram of the
    nodes is that of the m log singular values up to O(1/sqrt(P m)), except in the tail. Values
    orders of magnitude below the largest need as many products as there are such values; with
    fewer, they are smeared upwards. Ubaru, Chen and Saad 2017, SIAM J. Matrix Anal. Appl. 38:1075.

    Args:
        key: Draws the vectors.
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.
        products: M, the nodes of each vector, 1 .. m.
        probes: P, the number of vectors.

    Returns:
        Nodes, nats, and weights, (P, M) each.

    Raises:
        ValueError: products or probes is out of range, or the body does not fit.
        TypeError: products or probes is not an integer.

    Example:
        >>> def body(h, x):
        ...     h = jnp.array([1.5, 1.5, 0.5, 0.5]) * h + x
        ...     return h, h
        >>> key, xs = jax.random.key(0), jnp.zeros((5, 4))
        >>> density = jax.jit(analysis.singular_density, static_argnums=(1, 4, 5))
        >>> logs, weights = density(key, body, jnp.zeros(4), xs, 2, 4)
        >>> print(logs[0], weights.shape)  # 5 log 1.5 and 5 log .5
        [ 2.027 -3.466] (4, 2)
    """
    apply, total, m = _operator(key, body, state, xs)
    products, probes = integer("products", products), integer("probes", probes)
    if not 1 <= products <= m or probes < 1:
        raise ValueError(
            f"products and probes must satisfy 1 <= products <= m = {m} and probes >= 1; got "
            f"products = {products}, probes = {probes}"
        )
    keys = jax.random.split(jax.random.split(key)[1], probes)
    values, weights = lax.map(lambda key: _ritz(apply, key, m, products, total.dtype), keys)
    return Density(total + _known(values), weights / probes)


def _known(values: Array) -> Array:
    """Logs of singular values (..., products), descending; NaN where they are lost to rounding."""
    rounding = values[..., :1] * jnp.finfo(values.dtype).eps
    return jnp.where(AGREE * values > rounding, jnp.log(values), jnp.nan)


def _operator(
    key: Array, body: Body, state: Tree, xs: Tree
) -> tuple[Callable[[Array], Array], Array, int]:
    """A, the log of the factor taken out of it, and the size m of the state."""
    xs = as_inputs(state, xs)
    step, start = flatten(body, state, xs)

    def push(s: Array, v: Array, x: Tree) -> tuple[Array, Array]:
        return jax.jvp(lambda s: step(s, x)[0], (s,), (v,))

    def pilot(carry: tuple[Array, Array], x: Tree) -> tuple[tuple, tuple]:
        s, v = carry
        after, v = push(s, v, x)
        log, v = log_norm(v)
        return (after, v), (s, log)

    _, v = log_norm(jax.random.normal(jax.random.split(key)[0], start.shape, start.dtype))
    _, (before, growth) = lax.scan(pilot, (start, v), xs)
    growth = jnp.where(growth == -jnp.inf, 0, growth)

    def apply(v: Array) -> Array:
        def one(v: Array, now: tuple) -> tuple[Array, None]:
            s, x, log = now
            return jnp.exp(-log) * push(s, v, x)[1], None

        return lax.scan(one, v, (before, xs, growth))[0]

    return apply, growth.sum(), start.size


def _ritz(
    apply: Callable[[Array], Array], key: Array, m: int, products: int, dtype: jnp.dtype
) -> tuple[Array, Array]:
    """Approximate singular values, descending, and their weights in the random start vector.

    This is the bidiagonalisation A V = U B of Golub and Kahan, with each new vector orthogonalised
    against all older ones. If only rounding remains of a vector, the Krylov space is complete, and
    the vector and the rest of B are zero. Golub and Kahan 1965, SIAM J. Numer. Anal. B 2:205.
    """
    rounding = m**0.5 * float(jnp.finfo(dtype).eps)
    at = jnp.zeros((), dtype)

    def fresh(w: Array, older: Array, size: Array) -> tuple[Array, Array]:
        """The norm and the direction of w without the older vectors; zeros for rounding."""
        for _ in range(2):  # the second pass removes the rounding of the first
            w = w - older.T @ (older @ w)
        log, w = log_norm(w)
        norm = jnp.exp(log)
        none = norm <= rounding * size  # false for NaN, which stays
        return jnp.where(none, 0, norm), jnp.where(none, 0, w)

    def extend(carry: tuple, i: Array) -> tuple[tuple, tuple]:
        U, V, v, size = carry
        V = V.at[i].set(v)
        Av, transposed = jax.vjp(apply, v)
        alpha, u = fresh(Av, U, jnp.maximum(size, jnp.linalg.norm(Av)))
        U = U.at[i].set(u)
        size = jnp.maximum(size, alpha)
        beta, v = fresh(transposed(u)[0], V, size)
        return (U, V, v, jnp.maximum(size, beta)), (alpha, beta)

    _, v = log_norm(jax.random.normal(key, (m,), dtype))
    none = jnp.zeros((products, m), dtype)
    _, (alpha, beta) = lax.scan(extend, (none, none, v, at), jnp.arange(products))
    _, values, right = jnp.linalg.svd(jnp.diag(alpha) + jnp.diag(beta[:-1], 1))
    return values, right[:, 0] ** 2
