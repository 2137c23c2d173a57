"""Minimal gated unit: the one gate both resets and blends.

    f = sigmoid(W_f h + V_f x + b_f)               how much of the old state is overwritten
    c = tanh(f * (W_c h) + V_c x + b_c)            reset after the product
    h = (1 - f) * h + f * c

`reset_before` has c = tanh(W_c (f * h) + V_c x + b_c), the paper's form, with two products a step.
Zhou et al. 2016, arXiv:1603.09420.
"""

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.core import Cell, Prior
from recur.gated_cells import GateParams, gated

GATES = ("forget", "candidate")


class Params(GateParams):
    """W (n, 2n), V (d, 2n), b (2n,), the gates in the order of GATES."""


class ResetBefore(GateParams):
    """W (n, 2n), V (d, 2n), b (2n,), the gates in the order of GATES; W_c acts on f * h."""


def update(h: Array, f: Array, c: tuple[Array, Array]) -> Array:
    """(1 - f) h + f tanh(f (W_c h) + V_c x + b_c)."""
    f, (mixed, driven) = sigmoid(f), c
    return (1 - f) * h + f * jnp.tanh(f * mixed + driven)


def init_reset_before(key: Array, prior: Prior, d: int, n: int) -> ResetBefore:
    """Parameters drawn from the prior: `cell`'s own draw."""
    return ResetBefore(*cell.init(key, prior, d, n))


def step_reset_before(params: ResetBefore, h: Array, x: Array) -> tuple[Array, Array]:
    """The form whose reset comes before the product."""
    W_f, W_c = jnp.split(params.W, 2, axis=1)
    z = cell.drive(params, x)
    f = sigmoid(h @ W_f + z[0])
    h = (1 - f) * h + f * jnp.tanh((f * h) @ W_c + z[1])
    return h, h


cell = gated(Params, update, GATES, overwrites="forget", apart=("candidate",))
reset_before = Cell(init_reset_before, cell.start, step_reset_before, ResetBefore, cell.gates)
