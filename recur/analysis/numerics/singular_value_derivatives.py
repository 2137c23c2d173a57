"""Derivatives of the singular values of a long product of factors F_T ... F_1, in both modes.

    d log s_i = sum over t of  b_i' dF_t a_i / (b_i' F_t a_i)

where a_i is the i-th right singular vector, pushed forward to factor t, and b_i the left one,
pulled back to it. A single vector cannot be followed, since rounding turns it towards the largest.
But the first i vectors of each kind span a space, and a frame Q or P, made orthonormal at each
step, follows this space. Also b_j' a_i = 0 for i != j. So P Q' = L U at factor t gives both:

    A = U^-T Q,   B = L^-1 P

Vectors are rows. Their lengths cancel, so nothing leaves the range of floats.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur.analysis.numerics.flat_state import parametrised
from recur.analysis.numerics.qr import qr
from recur.core import Body, Tree

Factor = Callable[[Tree, Array], Array]  # (now, W (k, D)) -> W F^T


class Chain(NamedTuple):
    """Factors in the order of time: one function for all but the last, and the inputs of each."""

    factor: Factor
    last: Factor
    middle: Tree  # leaves (S, ...)
    end: Tree


class Weights(NamedTuple):
    """A and B before each factor, (S + 1, k, D), and B after the last, (k, n)."""

    A: Array
    B: Array
    b: Array


def differentiable(
    find: Callable[[Body, Tree, Tree], tuple[Array, Array]],
    change: Callable[[Body, Tree, Tree], Callable[[Body, Tree, Tree], Array]],
    body: Body,
    state: Tree,
    xs: Tree,
) -> tuple[Array, Array]:
    """find(body, state, xs) = (logs (..., k), rounding), with derivatives of the logs.

    change(body, state, xs) returns a function whose derivatives are those of the logs. They are NaN
    for values that lie within rounding of the next one, and in forward mode for values that are not
    finite. Reverse mode treats the latter as constants, so that a loss can leave them out.
    """
    build, params = parametrised(body, state, xs)

    @jax.custom_jvp
    def values(params: Tree, state: Tree, xs: Tree) -> tuple[Array, Array]:
        return find(build(params), state, xs)

    @values.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
        logs, rounding = values(*primals)
        first_order = change(build(primals[0]), *primals[1:])
        _, dlogs = jax.jvp(lambda p, s, x: first_order(build(p), s, x), primals, tangents)
        dlogs = dlogs * jnp.where(_coincide(logs, rounding), jnp.nan, jnp.ones_like(dlogs))
        dlogs = jnp.where(jnp.isfinite(logs), dlogs, jnp.nan)  # which reverse mode can mask
        return (logs, rounding), (dlogs, jnp.zeros_like(rounding))

    return values(params, jax.tree.map(jnp.asarray, state), jax.tree.map(jnp.asarray, xs))


def _coincide(logs: Array, rounding: Array) -> Array:
    """Whether a value (..., k) lies within rounding of a neighbour."""
    # a vector turns by rounding / gap: a per cent at most
    both = jnp.maximum(rounding[..., 1:], rounding[..., :-1])
    close = -jnp.diff(logs, axis=-1) < 100 * both + 1e3 * jnp.finfo(logs.dtype).eps
    close &= jnp.isfinite(logs[..., 1:])
    edge = jnp.zeros_like(logs[..., :1], dtype=bool)
    return jnp.concatenate([edge, close], -1) | jnp.concatenate([close, edge], -1)


def from_right(chain: Chain, V: Array) -> Weights:
    """The weights, from right singular vectors V (k, D)."""
    Q = _forward(chain, V)
    U = _orthonormal(chain.last(chain.end, Q[-1]))
    return _weights(chain, Q, _backward(chain, U, V.shape[1]), U)


def from_left(chain: Chain, U: Array, D: int) -> Weights:
    """The weights, from left singular vectors U (k, n); D is the size before the last factor."""
    P = _backward(chain, U, D)
    return _weights(chain, _forward(chain, P[0]), P, U)


def total_change(chain: Chain, weights: Weights) -> Array:
    """The sum over t of b_i' F_t a_i, divided by its present value, (k,): it changes as log s_i."""
    A, B, b = lax.stop_gradient(weights)

    def ratio(b: Array, Fa: Array) -> Array:
        value = jnp.sum(b * Fa, axis=1)
        here = lax.stop_gradient(value)
        return value / jnp.where(here == 0, 1, here)

    def add(sum: Array, now: tuple) -> tuple[Array, None]:
        a, b, now = now
        return sum + ratio(b, chain.factor(now, a)), None

    end = ratio(b, chain.last(chain.end, A[-1]))
    return lax.scan(add, end, (A[:-1], B[1:], chain.middle))[0]


def _weights(chain: Chain, Q: Array, P: Array, U: Array) -> Weights:
    A, B = lax.map(lambda frames: _dual(*frames), (Q, P))
    return Weights(A, B, _dual(_orthonormal(chain.last(chain.end, Q[-1])), U)[1])


def _forward(chain: Chain, V: Array) -> Array:
    """The frame before each factor, including the last, (S + 1, k, D)."""

    def one(W: Array, now: Tree) -> tuple[Array, Array]:
        return _orthonormal(chain.factor(now, W)), W

    end, before = lax.scan(one, V, chain.middle)
    return jnp.concatenate([before, end[None]])


def _backward(chain: Chain, U: Array, D: int) -> Array:
    """The frame U (k, n) pulled back to before each factor, (S + 1, k, D)."""
    like = jax.ShapeDtypeStruct((len(U), D), U.dtype)

    def pull(factor: Factor, now: Tree, W: Array) -> Array:
        return _orthonormal(jax.linear_transpose(partial(factor, now), like)(W)[0])

    def one(W: Array, now: Tree) -> tuple[Array, Array]:
        return pull(chain.factor, now, W), W

    begin, after = lax.scan(one, pull(chain.last, chain.end, U), chain.middle, reverse=True)
    return jnp.concatenate([begin[None], after])


def _orthonormal(W: Array) -> Array:
    return qr(W.T)[0].T


def _dual(Q: Array, P: Array) -> tuple[Array, Array]:
    """A = U^-T Q and B = L^-1 P, from P Q' = L U, so that B A' = 1."""
    L, U = _lu(P @ Q.T)
    solve = partial(lax.linalg.triangular_solve, left_side=True)
    A = solve(U, Q, lower=False, transpose_a=True)
    B = solve(L, P, lower=True, unit_diagonal=True)
    return A, B


def _lu(G: Array) -> tuple[Array, Array]:
    """G = L U without pivots, L with a diagonal of ones; a pivot of zero counts as one."""
    rows = jnp.arange(len(G))

    def eliminate(j: Array, LU: tuple[Array, Array]) -> tuple[Array, Array]:
        L, U = LU
        pivot = jnp.where(U[j, j] == 0, 1, U[j, j])
        U = U.at[j, j].set(pivot)
        column = jnp.where(rows > j, U[:, j] / pivot, 0)
        return L.at[:, j].add(column), U - column[:, None] * U[j]

    return lax.fori_loop(0, len(G), eliminate, (jnp.eye(len(G), dtype=G.dtype), G))
