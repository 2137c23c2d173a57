"""Elman's simple recurrent network, with a choice of nonlinearity.

    h = phi(W h + V x + b)

`cell` has phi = tanh, `relu` phi(a) = max(a, 0), and `linear` phi(a) = a. `elman(phi)` takes any
elementwise function.
Elman 1990, Cognitive Science 14:179.

Example:
    >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
    >>> print(scan.run(cells.vanilla.relu, params, jnp.ones((3, 1)))[1][:, 0])  # h <- h + x
    [1. 2. 3.]
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from recur.cells.elementwise import require_elementwise
from recur.core import Prior, Unitwise
from recur.functions import Given
from recur.tables import tabled

__all__ = ["cell", "relu", "linear", "elman", "identity", "Params", "GATES"]

GATES = ("hidden",)


@tabled()
class Params(NamedTuple):
    """Parameters of every cell in this module."""

    W: Array  #: (n, n)
    V: Array  #: (d, n)
    b: Array  #: (n,)


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
    """The identity, phi(a) = a.

    Args:
        a: Pre-activations (..., n).

    Returns:
        a, as it is.

    Example:
        >>> print(cells.vanilla.elman(cells.vanilla.identity) == cells.vanilla.linear)
        True
    """
    return a


def update(phi: Callable[[Array], Array], params: Params, h: Array, r: Array, z: Array) -> Array:
    """phi(W h + V x + b)."""
    del params, h
    return phi(r + z)


def elman(phi: Callable[[Array], Array]) -> Unitwise:
    """The simple recurrent network with any nonlinearity.

        h = phi(W h + V x + b)

    Args:
        phi: An elementwise function, (..., n) -> (..., n). It is a part of the cell, so pass a
            function of a module, or one that is made once.

    Returns:
        The cell. The same phi gives an equal cell.

    Raises:
        ValueError: Through phi a unit reads another one, as in a softmax.
        TypeError: phi is not a function, or has no hash.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> cell = cells.vanilla.elman(jnp.sin)
        >>> print(cell.step(params, jnp.ones(1), jnp.ones(1))[1])  # sin(2)
        [0.909]
    """
    require_elementwise(phi)
    return Unitwise(init, start, drive, mix, Given(update, phi), Params, sums=((0, 0),))


cell = elman(jnp.tanh)  #: With phi = tanh.
relu = elman(jax.nn.relu)  #: With phi(a) = max(a, 0).
linear = elman(identity)  #: With phi(a) = a.
