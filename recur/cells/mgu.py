"""Minimal gated unit: the one gate both resets and blends.

    f = sigmoid(W_f h + V_f x + b_f)               how much of the old state is overwritten
    c = tanh(f * (W_c h) + V_c x + b_c)            reset after the product
    h = (1 - f) * h + f * c

`reset_before` has c = tanh(W_c (f * h) + V_c x + b_c), the paper's form, with two products a step.
Zhou et al. 2016, arXiv:1603.09420.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.core import Cell, Prior, Unitwise

GATES = ("forget", "candidate")


class Params(NamedTuple):
    """W (n, 2n), V (d, 2n), b (2n,), the gates in the order of GATES."""

    W: Array
    V: Array
    b: Array


class ResetBefore(NamedTuple):
    """W (n, 2n), V (d, 2n), b (2n,), the gates in the order of GATES; W_c acts on f * h."""

    W: Array
    V: Array
    b: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior."""
    return Params(*prior.draw(key, d, n, len(GATES)))


def init_reset_before(key: Array, prior: Prior, d: int, n: int) -> ResetBefore:
    """Parameters drawn from the prior: `cell`'s own draw."""
    return ResetBefore(*init(key, prior, d, n))


def start(params: Params | ResetBefore, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)


def drive(params: Params | ResetBefore, x: Array) -> list[Array]:
    """V x + b of each gate."""
    return jnp.split(x @ params.V + params.b, len(GATES), axis=-1)


def mix(params: Params, h: Array) -> list[Array]:
    """W h of each gate."""
    return jnp.split(h @ params.W, len(GATES), axis=-1)


def update(params: Params, h: Array, r: list[Array], z: list[Array]) -> Array:
    """(1 - f) h + f c."""
    del params
    f = sigmoid(r[0] + z[0])
    return (1 - f) * h + f * jnp.tanh(f * r[1] + z[1])


def step_reset_before(params: ResetBefore, h: Array, x: Array) -> tuple[Array, Array]:
    """The form whose reset comes before the product."""
    W_f, W_c = jnp.split(params.W, 2, axis=1)
    z = drive(params, x)
    f = sigmoid(h @ W_f + z[0])
    h = (1 - f) * h + f * jnp.tanh((f * h) @ W_c + z[1])
    return h, h


cell = Unitwise(init, start, drive, mix, update, Params)
reset_before = Cell(init_reset_before, start, step_reset_before, ResetBefore)
