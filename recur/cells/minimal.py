"""MinimalRNN: embed the input, then let each coordinate average it over time.

    z = tanh(E x + a)                  an embedding of the input alone
    u = sigmoid(W h + V z + b)         how much of the old state stays
    h = u * h + (1 - u) * z            so |h| <= max |z|, coordinate by coordinate

`bare` takes x as already embedded, z = x (so d == n): the form of the theory papers.
Chen 2017, arXiv:1711.06788; Chen, Pennington and Schoenholz 2018, arXiv:1806.05394.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.core import Gates, Prior, Unitwise

GATES = ("update",)


class Params(NamedTuple):
    """W (n, n), V (n, n), b (n,) of the gate; E (d, n), a (n,) of the embedding."""

    W: Array
    V: Array
    b: Array
    E: Array
    a: Array


class Bare(NamedTuple):
    """W (n, n), V (n, n), b (n,) of the gate."""

    W: Array
    V: Array
    b: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """The gate drawn from the prior, the embedding with sigma 1 and a = 0."""
    gate, embedding = jax.random.split(key)
    _, E, a = Prior().draw(embedding, d, n)
    return Params(*prior.draw(gate, n, n), E, a)


def init_bare(key: Array, prior: Prior, d: int, n: int) -> Bare:
    """The gate drawn from the prior. Raises ValueError unless d == n."""
    if d != n:
        raise ValueError(
            f"minimal.bare takes inputs that are already embedded, so d must equal n; got d={d}, "
            f"n={n}. Use minimal.cell, which embeds them, or embed the inputs in n={n} dimensions."
        )
    return Bare(*prior.draw(key, d, n))


def start(params: Params | Bare, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)


def drive(params: Params, x: Array) -> tuple[Array, Array]:
    """z and its part of the gate."""
    z = jnp.tanh(x @ params.E + params.a)
    return z, z @ params.V + params.b


def drive_bare(params: Bare, x: Array) -> tuple[Array, Array]:
    """x and its part of the gate."""
    return x, x @ params.V + params.b


def mix(params: Params | Bare, h: Array) -> Array:
    """W h."""
    return h @ params.W


def update(params: Params | Bare, h: Array, r: Array, z: tuple[Array, Array]) -> Array:
    """u h + (1 - u) z."""
    del params
    embedded, gate = z
    u = sigmoid(r + gate)
    return u * h + (1 - u) * embedded


gates = Gates(GATES, keeps="update")
cell = Unitwise(init, start, drive, mix, update, Params, gates, sums=((0, 1),))
bare = Unitwise(init_bare, start, drive_bare, mix, update, Bare, gates, sums=((0, 1),))
