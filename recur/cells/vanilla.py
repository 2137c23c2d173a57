"""Elman's simple recurrent network, with a choice of nonlinearity.

    h = phi(W h + V x + b)

`cell` has phi = tanh, `relu` and `linear` the others; `elman(phi)` takes any elementwise function.
Elman 1990, Cognitive Science 14:179.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from recur import expect
from recur.cells.elementwise import require_elementwise
from recur.core import Prior, Unitwise
from recur.functions import Given

GATES = ("hidden",)


class Params(NamedTuple):
    """W (n, n), V (d, n), b (n,)."""

    W: Array
    V: Array
    b: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior."""
    return Params(*prior.draw(key, d, n))


def start(params: Params, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)


def drive(params: Params, x: Array) -> Array:
    """V x + b."""
    return x @ params.V + params.b


def mix(params: Params, h: Array) -> Array:
    """W h."""
    return h @ params.W


def identity(a: Array) -> Array:
    """phi of the linear network."""
    return a


@expect.arguments(phi=expect.function)
def update(phi: Callable[[Array], Array], params: Params, h: Array, r: Array, z: Array) -> Array:
    """phi(W h + V x + b)."""
    del params, h
    return phi(r + z)


def elman(phi: Callable[[Array], Array]) -> Unitwise:
    """The cell h = phi(W h + V x + b); the same phi gives the same cell.

    Raises ValueError for a phi by which a unit reads another, such as a softmax.
    """
    require_elementwise(phi)
    return Unitwise(init, start, drive, mix, Given(update, phi), Params, sums=((0, 0),))


cell = elman(jnp.tanh)
relu = elman(jax.nn.relu)
linear = elman(identity)
