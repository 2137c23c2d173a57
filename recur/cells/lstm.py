"""Long short-term memory: a cell c that is written, kept and read through gates.

    i = sigmoid(W_i h + V_i x + b_i)       write
    f = sigmoid(W_f h + V_f x + b_f)       keep
    g = tanh(W_g h + V_g x + b_g)          the candidate
    o = sigmoid(W_o h + V_o x + b_o)       read
    c = f * c + i * g
    h = o * tanh(c)

Hochreiter and Schmidhuber 1997, Neural Computation 9:1735; the forget gate, Gers et al. 2000.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.core import Prior, Unitwise

GATES = ("input", "forget", "candidate", "output")


class Params(NamedTuple):
    """W (n, 4n), V (d, 4n), b (4n,), the gates in the order of GATES."""

    W: Array
    V: Array
    b: Array


class State(NamedTuple):
    """h (..., n) and the memory c (..., n)."""

    h: Array
    c: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior."""
    return Params(*prior.draw(key, d, n, len(GATES)))


def start(params: Params, batch: tuple[int, ...] = ()) -> State:
    """The zero state, h and c (*batch, n)."""
    zeros = jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)
    return State(zeros, zeros)


def drive(params: Params, x: Array) -> list[Array]:
    """V x + b of each gate."""
    return jnp.split(x @ params.V + params.b, len(GATES), axis=-1)


def mix(params: Params, h: Array) -> list[Array]:
    """W h of each gate."""
    return jnp.split(h @ params.W, len(GATES), axis=-1)


def update(params: Params, state: State, r: list[Array], z: list[Array]) -> State:
    """c = f c + i g and h = o tanh(c)."""
    del params
    i, f, g, o = (a + b for a, b in zip(r, z, strict=True))
    c = sigmoid(f) * state.c + sigmoid(i) * jnp.tanh(g)
    return State(sigmoid(o) * jnp.tanh(c), c)


cell = Unitwise(init, start, drive, mix, update)
