"""Update-gate network: a simple recurrent network whose units can hold their state.

    u = sigmoid(W_u h + V_u x + b_u)       how much of the old state stays
    c = tanh(W_c h + V_c x + b_c)
    h = u * h + (1 - u) * c

Collins, Sohl-Dickstein and Sussillo 2017, arXiv:1611.09913.

Example:
    >>> V = jnp.array([[0.0, 1.0]])
    >>> params = cells.ugrnn.Params(W=jnp.zeros((1, 2)), V=V, b=jnp.zeros(2))
    >>> print(scan.run(cells.ugrnn.cell, params, jnp.ones((3, 1)))[1][:, 0])  # u = 1/2
    [0.381 0.571 0.666]
"""

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.gated_cells import GateParams, gated

__all__ = ["cell", "Params", "GATES"]

GATES = ("update", "candidate")  #: The gates, in their order in W, V and b.


class Params(GateParams):
    """W (n, 2n), V (d, 2n), b (2n,), in the order of GATES."""


def update(h: Array, u: Array, c: Array) -> Array:
    """u h + (1 - u) c."""
    u, c = sigmoid(u), jnp.tanh(c)
    return u * h + (1 - u) * c


cell = gated(Params, update, GATES, keeps="update")  #: The update-gate network.
