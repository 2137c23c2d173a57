"""Recurrent highway network: L layers between one step and the next; the input enters the first.

    c = tanh(W_c h + V_c x + b_c)
    t = sigmoid(W_t h + V_t x + b_t)       how much is transformed
    h = (1 - t) * h + t * c                once a layer, with weights of its own and x in the first

`cell` has L = 1, one product a step; `deep(L)` has L of them.
Zilly et al. 2017, arXiv:1607.03474, equations 6-9, with the carry gate 1 - t.
"""

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur import expect
from recur.core import Cell, Prior, Unitwise
from recur.functions import Given
from recur.gated_cells import GateParams, gated

GATES = ("candidate", "transform")


class Params(GateParams):
    """W (n, 2Ln) and b (2Ln,), the GATES of the first layer, of the second, ...; V (d, 2n)."""


def update(h: Array, c: Array, t: Array) -> Array:
    """(1 - t) h + t c, one layer."""
    c, t = jnp.tanh(c), sigmoid(t)
    return (1 - t) * h + t * c


def init_deep(L: int, key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters of L layers drawn from the prior; the input enters the first."""
    W, V, b = prior.draw(key, d, n, L * len(GATES))
    return Params(W, V[:, : len(GATES) * n], b)


def step_deep(L: int, params: Params, h: Array, x: Array) -> tuple[Array, Array]:
    """L layers, one after the other."""
    b = jnp.split(params.b, L)
    b[0] = b[0] + x @ params.V
    for W, z in zip(jnp.split(params.W, L, axis=1), b, strict=True):
        h = update(h, *jnp.split(h @ W + z, len(GATES), axis=-1))
    return h, h


cell = gated(Params, update, GATES, overwrites="transform")


@expect.arguments(L=expect.integer)
def deep(L: int) -> Cell | Unitwise:
    """The cell of L layers; a prior has one value, or 2L, the GATES of each layer in turn.

    Raises ValueError for L < 1.
    """
    if L < 1:
        raise ValueError(f"a recurrent highway network has L >= 1 layers, got L={L}")
    if L == 1:
        return cell
    return Cell(Given(init_deep, L), cell.start, Given(step_deep, L), Params)
