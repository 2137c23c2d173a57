"""The network of Jordan: what is fed back is the output, not the hidden units.

    h = tanh(W y + V x + b)
    y = Y h                          `cell`: W Y is one linear map of h, through m outputs

`squashed` has y = tanh(Y h + c). `outputs(cell, m)` is the same network with m outputs; without
it there are as many as units. The h of the cell is the hidden layer, `output` reads y from it.
Jordan 1986, ICS report 8604. (With linear outputs a bias c would only add W c to b.)
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from recur.core import Cell, Prior, Recurrence, Unitwise

GATES = ("hidden",)


class Params(NamedTuple):
    """W (m, n) from the outputs, V (d, n), b (n,); Y (n, m) to the outputs."""

    W: Array
    V: Array
    b: Array
    Y: Array


class Squashed(NamedTuple):
    """W (m, n) from the outputs, V (d, n), b (n,); Y (n, m) and c (m,) to the outputs."""

    W: Array
    V: Array
    b: Array
    Y: Array
    c: Array


@dataclass(frozen=True)
class Init:
    """W, V and b from the prior, W of variance sigma_w^2 / m; Y with sigma 1, and c = 0."""

    squashed: bool = False
    m: int | None = None

    def __call__(self, key: Array, prior: Prior, d: int, n: int) -> Params | Squashed:
        """Parameters for m outputs, or n where m is None."""
        hidden, feedback, output = jax.random.split(key, 3)
        m = n if self.m is None else self.m
        _, V, b = prior.draw(hidden, d, n)
        _, W, _ = Prior(sigma_v=prior.sigma_w).draw(feedback, m, n)
        _, Y, c = Prior().draw(output, n, m)
        return Squashed(W, V, b, Y, c) if self.squashed else Params(W, V, b, Y)


def outputs(cell: Recurrence, m: int) -> Recurrence:
    """The Jordan cell with m outputs. Raises ValueError for other cells and for m < 1."""
    if not isinstance(cell, Cell | Unitwise) or not isinstance(cell.init, Init):
        raise ValueError(f"outputs sets the size of a Jordan cell's output; {cell} is none")
    if m < 1:
        raise ValueError(f"a Jordan cell feeds back m >= 1 outputs, got m={m}")
    return replace(cell, init=replace(cell.init, m=m))


def start(params: Params | Squashed, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[1]), params.W.dtype)


def drive(params: Params | Squashed, x: Array) -> Array:
    """V x + b."""
    return x @ params.V + params.b


def mix(params: Params, h: Array) -> Array:
    """W Y h."""
    return h @ params.Y @ params.W


def update(params: Params, h: Array, r: Array, z: Array) -> Array:
    """tanh(W y + V x + b)."""
    del params, h
    return jnp.tanh(r + z)


def output(params: Params | Squashed, h: Array) -> Array:
    """y (..., m) of hidden states h (..., n)."""
    if isinstance(params, Squashed):
        return jnp.tanh(h @ params.Y + params.c)
    return h @ params.Y


def step_squashed(params: Squashed, h: Array, x: Array) -> tuple[Array, Array]:
    """The form whose output is squashed before it is fed back."""
    h = jnp.tanh(output(params, h) @ params.W + drive(params, x))
    return h, h


cell = Unitwise(Init(), start, drive, mix, update, Params)
squashed = Cell(Init(squashed=True), start, step_squashed, Squashed)
