"""Leaky integrator: the continuous-time network, one Euler step at a time.

    tau dh/dt = -h + tanh(W h + V x + b)
    h <- (1 - alpha) * h + alpha * tanh(W h + V x + b),     alpha = dt / tau

In `cell` each unit has its own rate alpha = sigmoid(a), which is trained. `fixed(alpha)` has one
constant rate for all units.
Jaeger et al. 2007, Neural Networks 20:335 (leaky echo-state networks); Mozer 1992, NIPS 4.

Example:
    >>> zeros = jnp.zeros((1, 1))
    >>> params = cells.leaky.Params(W=zeros, V=jnp.eye(1), b=zeros[0], a=zeros[0])
    >>> print(scan.run(cells.leaky.cell, params, jnp.ones((3, 1)))[1][:, 0])  # alpha = 1/2
    [0.381 0.571 0.666]
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur import expect
from recur.cells import vanilla
from recur.core import Prior, Unitwise
from recur.functions import Given
from recur.tables import tabled

__all__ = ["cell", "fixed", "Params", "Fixed", "GATES"]

GATES = vanilla.GATES


@tabled()
class Params(NamedTuple):
    """Parameters of `cell`."""

    W: Array  #: (n, n)
    V: Array  #: (d, n)
    b: Array  #: (n,)
    a: Array  #: (n,), the logits of the rates, drawn from N(0, 1)


@tabled()
class Fixed(NamedTuple):
    """Parameters of `fixed`."""

    W: Array  #: (n, n)
    V: Array  #: (d, n)
    b: Array  #: (n,)


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """W, V and b drawn from the prior, a from N(0, 1)."""
    weights, rates = jax.random.split(key)
    W, V, b = prior.draw(weights, d, n)
    return Params(W, V, b, jax.random.normal(rates, (n,), b.dtype))


def init_fixed(key: Array, prior: Prior, d: int, n: int) -> Fixed:
    """Parameters drawn from the prior."""
    return Fixed(*prior.draw(key, d, n))


def update(params: Params, h: Array, r: Array, z: Array) -> Array:
    """(1 - alpha) h + alpha tanh(W h + V x + b)."""
    alpha = sigmoid(params.a)
    return (1 - alpha) * h + alpha * jnp.tanh(r + z)


def update_fixed(alpha: float, params: Fixed, h: Array, r: Array, z: Array) -> Array:
    """(1 - alpha) h + alpha tanh(W h + V x + b) with one alpha for all units."""
    del params
    return (1 - alpha) * h + alpha * jnp.tanh(r + z)


@expect.arguments(alpha=expect.scalar)
def fixed(alpha: float) -> Unitwise:
    """The leaky cell with one constant rate for all units.

        h <- (1 - alpha) * h + alpha * tanh(W h + V x + b)

    Args:
        alpha: The rate dt / tau, 0 < alpha <= 1. With 1 the equation is that of `vanilla.cell`.

    Returns:
        The cell. Its parameters are `Fixed`.

    Raises:
        ValueError: alpha is out of range.
        TypeError: alpha is not a number.

    Example:
        >>> params = cells.leaky.Fixed(W=jnp.zeros((1, 1)), V=jnp.eye(1), b=jnp.zeros(1))
        >>> print(cells.leaky.fixed(0.5).step(params, jnp.ones(1), jnp.zeros(1))[1])
        [0.5]
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"a leaky unit has a rate 0 < alpha <= 1 (alpha = dt / tau); got {alpha}")
    return replace(
        vanilla.cell, init=init_fixed, update=Given(update_fixed, float(alpha)), takes=Fixed
    )


cell = replace(vanilla.cell, init=init, update=update, takes=Params)  #: A rate for each unit.
