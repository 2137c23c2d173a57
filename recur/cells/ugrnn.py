"""Update-gate network: a simple recurrent network whose units can hold their state.

    u = sigmoid(W_u h + V_u x + b_u)       how much of the old state stays
    c = tanh(W_c h + V_c x + b_c)
    h = u * h + (1 - u) * c

Collins, Sohl-Dickstein and Sussillo 2017, arXiv:1611.09913.
"""

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.gated_cells import GateParams, gated

GATES = ("update", "candidate")


class Params(GateParams):
    """W (n, 2n), V (d, 2n), b (2n,), the gates in the order of GATES."""


def update(h: Array, u: Array, c: Array) -> Array:
    """u h + (1 - u) c."""
    u, c = sigmoid(u), jnp.tanh(c)
    return u * h + (1 - u) * c


cell = gated(Params, update, GATES, keeps="update")
