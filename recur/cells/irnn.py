"""IRNN: a network of rectified units that copies its state at the start of training.

    h = relu(W h + V x + b),     W = sigma_w I when drawn

The recurrence is that of `vanilla.relu`; only the initial W differs.
Le, Jaitly and Hinton 2015, arXiv:1504.00941 (sigma_w = 1, b = 0).

Example:
    >>> params = cells.irnn.cell.init(jax.random.key(0), Prior(), d=1, n=3)
    >>> print(cells.irnn.cell.step(params, jnp.arange(3.0), jnp.zeros(1))[1])
    [0. 1. 2.]
"""

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from recur.cells import vanilla
from recur.core import Prior

__all__ = ["cell", "GATES"]

GATES = vanilla.GATES


def init(key: Array, prior: Prior, d: int, n: int) -> vanilla.Params:
    """V and b drawn from the prior, W = sigma_w I."""
    W, V, b = prior.draw(key, d, n)
    return vanilla.Params(jnp.asarray(prior.sigma_w, W.dtype) * jnp.eye(n, dtype=W.dtype), V, b)


cell = replace(vanilla.relu, init=init)  #: Its parameters are `vanilla.Params`.
