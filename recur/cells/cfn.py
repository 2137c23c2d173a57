"""Chaos-free network: without input every state decays to zero, whatever the weights are.

    f = sigmoid(W_f h + V_f x + b_f)           how much of the old state stays
    i = sigmoid(W_i h + V_i x + b_i)           how much of the input enters
    h = f * tanh(h) + i * tanh(E x)            so |h| <= 2

Laurent and von Brecht 2016, arXiv:1612.06212. Their theta is f here, and their eta is i.

Example:
    >>> zeros = jnp.zeros((1, 2))
    >>> params = cells.cfn.Params(W=zeros, V=zeros, b=zeros[0], E=jnp.eye(1))  # f = i = 1/2
    >>> print(scan.run(cells.cfn.cell, params, jnp.zeros((3, 1)), jnp.ones(1))[1][:, 0])
    [0.381 0.182 0.09 ]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.core import Gates, Prior, Unitwise
from recur.tables import tabled

__all__ = ["cell", "Params", "GATES"]

GATES = ("forget", "input")  #: The gates, in their order in W, V and b.


@tabled()
class Params(NamedTuple):
    """Parameters of the gates, and the embedding of the input."""

    W: Array  #: (n, 2n), in the order of GATES
    V: Array  #: (d, 2n)
    b: Array  #: (2n,)
    E: Array  #: (d, n), the embedding, drawn with sigma_v = 1


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """The gates drawn from the prior, the embedding with sigma_v = 1."""
    gates, embedding = jax.random.split(key)
    _, E, _ = Prior().draw(embedding, d, n)
    return Params(*prior.draw(gates, d, n, len(GATES)), E)


def start(params: Params, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)


def drive(params: Params, x: Array) -> tuple[Array, list[Array]]:
    """tanh(E x), and V x + b for each gate."""
    return jnp.tanh(x @ params.E), jnp.split(x @ params.V + params.b, len(GATES), axis=-1)


def mix(params: Params, h: Array) -> list[Array]:
    """W h for each gate."""
    return jnp.split(h @ params.W, len(GATES), axis=-1)


def update(params: Params, h: Array, r: list[Array], z: tuple[Array, list[Array]]) -> Array:
    """f tanh(h) + i tanh(E x)."""
    del params
    embedded, z_gates = z
    f, i = (sigmoid(a + b) for a, b in zip(r, z_gates, strict=True))
    return f * jnp.tanh(h) + i * embedded


gates = Gates(GATES, keeps="forget", writes="input")
#: The chaos-free network.
cell = Unitwise(init, start, drive, mix, update, Params, gates, sums=((0, 1), (1, 2)))
