"""Chaos-free network: without input every state decays to zero, whatever the weights.

    f = sigmoid(W_f h + V_f x + b_f)           how much of the old state stays
    i = sigmoid(W_i h + V_i x + b_i)           how much of the input enters
    h = f * tanh(h) + i * tanh(E x)            so |h| <= 2

Laurent and von Brecht 2016, arXiv:1612.06212 (theta is our f, eta our i).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.core import Gates, Prior, Unitwise

GATES = ("forget", "input")


class Params(NamedTuple):
    """W (n, 2n), V (d, 2n), b (2n,) of the gates, in the order of GATES; E (d, n)."""

    W: Array
    V: Array
    b: Array
    E: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """The gates drawn from the prior, the embedding with sigma 1."""
    gates, embedding = jax.random.split(key)
    _, E, _ = Prior().draw(embedding, d, n)
    return Params(*prior.draw(gates, d, n, len(GATES)), E)


def start(params: Params, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)


def drive(params: Params, x: Array) -> tuple[Array, list[Array]]:
    """tanh(E x), and V x + b of each gate."""
    return jnp.tanh(x @ params.E), jnp.split(x @ params.V + params.b, len(GATES), axis=-1)


def mix(params: Params, h: Array) -> list[Array]:
    """W h of each gate."""
    return jnp.split(h @ params.W, len(GATES), axis=-1)


def update(params: Params, h: Array, r: list[Array], z: tuple[Array, list[Array]]) -> Array:
    """f tanh(h) + i tanh(E x)."""
    del params
    embedded, z_gates = z
    f, i = (sigmoid(a + b) for a, b in zip(r, z_gates, strict=True))
    return f * jnp.tanh(h) + i * embedded


gates = Gates(GATES, keeps="forget", writes="input")
cell = Unitwise(init, start, drive, mix, update, Params, gates, sums=((0, 1), (1, 2)))
