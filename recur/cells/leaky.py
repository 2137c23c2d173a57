"""Leaky integrator: the continuous-time network, one Euler step at a time.

    tau dh/dt = -h + tanh(W h + V x + b)
    h <- (1 - alpha) * h + alpha * tanh(W h + V x + b),     alpha = dt / tau

In `cell` every unit has its own rate, alpha = sigmoid(a), and learns it; `fixed(alpha)` has one
constant rate for all.
Jaeger et al. 2007, Neural Networks 20:335 (leaky echo-state networks); Mozer 1992, NIPS 4.
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

GATES = vanilla.GATES


class Params(NamedTuple):
    """W (n, n), V (d, n), b (n,); a (n,), the logits of the rates."""

    W: Array
    V: Array
    b: Array
    a: Array


class Fixed(NamedTuple):
    """W (n, n), V (d, n), b (n,)."""

    W: Array
    V: Array
    b: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """W, V and b drawn from the prior, the logits of the rates with sigma 1."""
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
    """(1 - alpha) h + alpha tanh(W h + V x + b), alpha the same for all."""
    del params
    return (1 - alpha) * h + alpha * jnp.tanh(r + z)


@expect.arguments(alpha=expect.scalar)
def fixed(alpha: float) -> Unitwise:
    """The cell whose units share the rate alpha. Raises ValueError unless 0 < alpha <= 1."""
    if not 0 < alpha <= 1:
        raise ValueError(f"a leaky unit has a rate 0 < alpha <= 1 (alpha = dt / tau), got {alpha}")
    return replace(
        vanilla.cell, init=init_fixed, update=Given(update_fixed, float(alpha)), takes=Fixed
    )


cell = replace(vanilla.cell, init=init, update=update, takes=Params)
