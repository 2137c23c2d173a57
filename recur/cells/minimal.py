"""MinimalRNN: each coordinate averages the embedded input over time.

    z = tanh(E x + a)                  an embedding of the input alone
    u = sigmoid(W h + V z + b)         how much of the old state stays
    h = u * h + (1 - u) * z            so |h| <= max |z|, coordinate by coordinate

`bare` has no embedding, z = x with d == n, as in papers on its theory.
Chen 2017, arXiv:1711.06788; Chen, Pennington and Schoenholz 2018, arXiv:1806.05394.

Example:
    >>> zeros = jnp.zeros((1, 1))
    >>> params = cells.minimal.Params(W=zeros, V=zeros, b=zeros[0], E=jnp.eye(1), a=zeros[0])
    >>> cell = cells.minimal.cell
    >>> print(scan.run(cell, params, jnp.ones((3, 1)))[1][:, 0])  # u = 1/2, z = tanh(1)
    [0.381 0.571 0.666]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.core import Gates, Prior, Unitwise
from recur.tables import tabled

__all__ = ["cell", "bare", "Params", "Bare", "GATES"]

GATES = ("update",)  #: The gate.


@tabled()
class Params(NamedTuple):
    """Parameters of the gate and of the embedding."""

    W: Array  #: (n, n)
    V: Array  #: (n, n), acts on z
    b: Array  #: (n,)
    E: Array  #: (d, n), the embedding, drawn with sigma_v = 1
    a: Array  #: (n,), its bias, drawn as zeros


@tabled()
class Bare(NamedTuple):
    """Parameters of the gate."""

    W: Array  #: (n, n)
    V: Array  #: (n, n), acts on x
    b: Array  #: (n,)


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """The gate drawn from the prior, the embedding with sigma_v = 1, and a = 0."""
    gate, embedding = jax.random.split(key)
    _, E, a = Prior().draw(embedding, d, n)
    return Params(*prior.draw(gate, n, n), E, a)


def init_bare(key: Array, prior: Prior, d: int, n: int) -> Bare:
    """The gate drawn from the prior. Raises ValueError unless d == n."""
    if d != n:
        raise ValueError(
            f"minimal.bare does not embed its inputs, so d must equal n; got d={d}, n={n}. "
            f"Use minimal.cell, which embeds them, or embed the inputs in n={n} dimensions."
        )
    return Bare(*prior.draw(key, d, n))


def start(params: Params | Bare, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)


def drive(params: Params, x: Array) -> tuple[Array, Array]:
    """z, and V z + b."""
    z = jnp.tanh(x @ params.E + params.a)
    return z, z @ params.V + params.b


def drive_bare(params: Bare, x: Array) -> tuple[Array, Array]:
    """x, and V x + b."""
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
#: With an embedding of the input.
cell = Unitwise(init, start, drive, mix, update, Params, gates, sums=((0, 1),))
#: Without an embedding, d == n.
bare = Unitwise(init_bare, start, drive_bare, mix, update, Bare, gates, sums=((0, 1),))
