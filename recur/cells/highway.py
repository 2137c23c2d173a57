"""Recurrent highway network: the state passes through L layers in each step.

    c = tanh(W_c h + V_c x + b_c)
    t = sigmoid(W_t h + V_t x + b_t)       how much of the state is transformed
    h = (1 - t) * h + t * c                for each layer in turn

Each layer has its own weights, and x enters only the first. `cell` has L = 1; `deep(L)` has L
layers, and so L products per step.
Zilly et al. 2017, arXiv:1607.03474, equations 6-9, with the carry gate 1 - t.

Example:
    >>> V = jnp.array([[1.0, 0.0]])
    >>> params = cells.highway.Params(W=jnp.zeros((1, 2)), V=V, b=jnp.zeros(2))
    >>> cell = cells.highway.cell
    >>> print(scan.run(cell, params, jnp.ones((3, 1)))[1][:, 0])  # t = 1/2, c = tanh(1)
    [0.381 0.571 0.666]
"""

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur import expect
from recur.core import Cell, Prior, Unitwise
from recur.functions import Given
from recur.gated_cells import GateParams, gated

__all__ = ["cell", "deep", "Params", "GATES"]

GATES = ("candidate", "transform")  #: The gates of a layer, in their order in W and b.


class Params(GateParams):
    """W (n, 2Ln), V (d, 2n), b (2Ln,). W and b hold the GATES of the first layer, then the next."""


def update(h: Array, c: Array, t: Array) -> Array:
    """(1 - t) h + t c for one layer."""
    c, t = jnp.tanh(c), sigmoid(t)
    return (1 - t) * h + t * c


def init_deep(L: int, key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters of L layers drawn from the prior, V of the first layer only."""
    W, V, b = prior.draw(key, d, n, L * len(GATES))
    return Params(W, V[:, : len(GATES) * n], b)


def step_deep(L: int, params: Params, h: Array, x: Array) -> tuple[Array, Array]:
    """L layers, one after another."""
    b = jnp.split(params.b, L)
    b[0] = b[0] + x @ params.V
    for W, z in zip(jnp.split(params.W, L, axis=1), b, strict=True):
        h = update(h, *jnp.split(h @ W + z, len(GATES), axis=-1))
    return h, h


cell = gated(Params, update, GATES, overwrites="transform")  #: One layer.


@expect.arguments(L=expect.integer)
def deep(L: int) -> Cell | Unitwise:
    """The recurrent highway cell with L layers.

    Args:
        L: The number of layers, 1 or more.

    Returns:
        The cell. A field of its prior has one value, or 2L in the order of W and b.

    Raises:
        ValueError: L < 1.
        TypeError: L is not an integer.

    Example:
        >>> cell = cells.highway.deep(2)
        >>> W, V, b = jnp.zeros((1, 4)), jnp.ones((1, 2)), jnp.zeros(4)
        >>> print(cell.step(cells.highway.Params(W, V, b), jnp.zeros(1), jnp.ones(1))[1])
        [0.278]
    """
    if L < 1:
        raise ValueError(f"a recurrent highway network has L >= 1 layers; got L={L}")
    if L == 1:
        return cell
    return Cell(Given(init_deep, L), cell.start, Given(step_deep, L), Params)
