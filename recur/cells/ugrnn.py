"""Update-gate network: a simple recurrent network whose units can hold their state.

    u = sigmoid(W_u h + V_u x + b_u)       how much of the old state stays
    c = tanh(W_c h + V_c x + b_c)
    h = u * h + (1 - u) * c

Collins, Sohl-Dickstein and Sussillo 2017, arXiv:1611.09913.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.core import Prior, Unitwise

GATES = ("update", "candidate")


class Params(NamedTuple):
    """W (n, 2n), V (d, 2n), b (2n,), the gates in the order of GATES."""

    W: Array
    V: Array
    b: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior."""
    return Params(*prior.draw(key, d, n, len(GATES)))


def start(params: Params, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)


def drive(params: Params, x: Array) -> list[Array]:
    """V x + b of each gate."""
    return jnp.split(x @ params.V + params.b, len(GATES), axis=-1)


def mix(params: Params, h: Array) -> list[Array]:
    """W h of each gate."""
    return jnp.split(h @ params.W, len(GATES), axis=-1)


def update(params: Params, h: Array, r: list[Array], z: list[Array]) -> Array:
    """u h + (1 - u) c."""
    del params
    u, c = sigmoid(r[0] + z[0]), jnp.tanh(r[1] + z[1])
    return u * h + (1 - u) * c


cell = Unitwise(init, start, drive, mix, update, Params)
