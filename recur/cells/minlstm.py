"""minLSTM: an LSTM whose gates see only the input, so that all steps can be taken at once.

    f = sigmoid(V_f x + b_f)               keep
    i = sigmoid(V_i x + b_i)               write
    c = V_c x + b_c
    h = f / (f + i) * h + i / (f + i) * c

`parallel` runs a whole sequence in O(log T) steps, as minGRU's does.
Feng et al. 2024, arXiv:2410.01201, section 3.2.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid, sigmoid

from recur.cells import mingru
from recur.core import Gates, Prior, Unitwise

GATES = ("forget", "input", "candidate")


class Params(NamedTuple):
    """V (d, 3n), b (3n,), the gates in the order of GATES."""

    V: Array
    b: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior; sigma_w has no part."""
    _, V, b = prior.draw(key, d, n, len(GATES))
    return Params(V, b)


def start(params: Params, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.b.shape[0] // len(GATES)), params.b.dtype)


def drive(params: Params, x: Array) -> list[Array]:
    """V x + b of each gate."""
    return jnp.split(x @ params.V + params.b, len(GATES), axis=-1)


def mix(params: Params, h: Array) -> tuple[()]:
    """Nothing."""
    del params, h
    return ()


def affine(z: list[Array]) -> tuple[Array, Array]:
    """A and B of the step h <- A h + B."""
    odds = log_sigmoid(z[0]) - log_sigmoid(z[1])  # f / (f + i) without 0 / 0 when both are closed
    return sigmoid(odds), sigmoid(-odds) * z[2]


def update(params: Params, h: Array, r: tuple[()], z: list[Array]) -> Array:
    """f / (f + i) h + i / (f + i) c."""
    del params, r
    A, B = affine(z)
    return A * h + B


def parallel(params: Params, xs: Array, state: Array | None = None) -> tuple[Array, Array]:
    """What `scan.run` gives, by an associative scan: xs (T, ..., d) -> (h_T, hs (T, ..., n)).

    Raises ValueError as `scan.run` does.
    """
    xs = mingru.fitting(Params, params, xs)
    A, B = affine(drive(params, xs))
    return mingru.solve(A, B, start(params, xs.shape[1:-1]) if state is None else state)


gates = Gates(GATES, overwrites="input")  # f / (f + i): only i = 0 keeps all
cell = Unitwise(init, start, drive, mix, update, Params, gates)
