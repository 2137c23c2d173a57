"""IRNN: a rectified network that starts out copying its state.

    h = relu(W h + V x + b),     W = sigma_w I when drawn

The recurrence is `vanilla.relu`; only the start of training differs.
Le, Jaitly and Hinton 2015, arXiv:1504.00941 (sigma_w = 1, b = 0).
"""

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from recur.cells import vanilla
from recur.core import Prior

GATES = vanilla.GATES


def init(key: Array, prior: Prior, d: int, n: int) -> vanilla.Params:
    """V and b drawn from the prior, W = sigma_w I."""
    W, V, b = prior.draw(key, d, n)
    return vanilla.Params(jnp.asarray(prior.sigma_w, W.dtype) * jnp.eye(n, dtype=W.dtype), V, b)


cell = replace(vanilla.relu, init=init)
