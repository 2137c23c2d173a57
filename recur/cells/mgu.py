"""Minimal gated unit: one gate both resets and blends.

    f = sigmoid(W_f h + V_f x + b_f)               how much of the old state is overwritten
    c = tanh(f * (W_c h) + V_c x + b_c)            reset after the product
    h = (1 - f) * h + f * c

`reset_before` has c = tanh(W_c (f * h) + V_c x + b_c), the form of the paper. It needs two products
per step.
Zhou et al. 2016, arXiv:1603.09420.

Example:
    >>> V = jnp.array([[0.0, 1.0]])
    >>> params = cells.mgu.Params(W=jnp.zeros((1, 2)), V=V, b=jnp.zeros(2))
    >>> print(scan.run(cells.mgu.cell, params, jnp.ones((3, 1)))[1][:, 0])  # f = 1/2, c = tanh(1)
    [0.381 0.571 0.666]
"""

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.core import Cell, Prior
from recur.gated_cells import GateParams, gated

__all__ = ["cell", "reset_before", "Params", "ResetBefore", "GATES"]

GATES = ("forget", "candidate")  #: The gates, in their order in W, V and b.


class Params(GateParams):
    """W (n, 2n), V (d, 2n), b (2n,), in the order of GATES."""


class ResetBefore(GateParams):
    """W (n, 2n), V (d, 2n), b (2n,), in the order of GATES. W_c acts on f * h."""


def update(h: Array, f: Array, c: tuple[Array, Array]) -> Array:
    """(1 - f) h + f tanh(f (W_c h) + V_c x + b_c)."""
    f, (mixed, driven) = sigmoid(f), c
    return (1 - f) * h + f * jnp.tanh(f * mixed + driven)


def init_reset_before(key: Array, prior: Prior, d: int, n: int) -> ResetBefore:
    """Parameters drawn as for `cell`."""
    return ResetBefore(*cell.init(key, prior, d, n))


def step_reset_before(params: ResetBefore, h: Array, x: Array) -> tuple[Array, Array]:
    """The form with the reset before the product."""
    W_f, W_c = jnp.split(params.W, 2, axis=1)
    z = cell.drive(params, x)
    f = sigmoid(h @ W_f + z[0])
    h = (1 - f) * h + f * jnp.tanh((f * h) @ W_c + z[1])
    return h, h


#: The reset after the product, as in `gru.cell`.
cell = gated(Params, update, GATES, overwrites="forget", apart=("candidate",))
#: The reset before the product, as in the paper.
reset_before = Cell(init_reset_before, cell.start, step_reset_before, ResetBefore, cell.gates)
