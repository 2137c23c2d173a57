"""A baseline without memory, in the form of a cell. Its output depends on the current input only.

h = tanh(V x + b)
"""

import jax.numpy as jnp
from jax import Array

from recur.cells import vanilla
from recur.core import Cell


def step(params: vanilla.Params, state: Array, x: Array) -> tuple[Array, Array]:
    """tanh(V x + b), whatever the state. W is not used."""
    del state
    h = jnp.tanh(vanilla.drive(params, x))
    return h, h


cell = Cell(vanilla.init, vanilla.start, step, vanilla.Params)
