"""Jordan's network, which feeds back its output instead of its hidden units.

    h = tanh(W y + V x + b)
    y = Y h                          `cell`: W Y is one linear map of h, through m outputs

`squashed` has y = tanh(Y h + c), `softmax` y = softmax(Y h + c): probabilities. `outputs(cell, m)`
is the same network with m outputs; by default there are as many outputs as units. The h of the cell
is the hidden layer. `output` computes y from it, and `logits` the values before squashing.

Training targets are compared with the output. A tagger whose logits are those of the network's own
y is `Tagger(outputs(softmax, tags), d, n, tags, read=logits)`. It may be trained on its own
outputs, or `taught`: then the true outputs are fed back, and no step waits for the one before it.
Jordan 1986, ICS report 8604; teacher forcing, Williams and Zipser 1989, Neural Computation 1:270.
(With linear outputs a bias c would only add W c to b.)
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from recur import expect
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


class Softmax(NamedTuple):
    """W (m, n) from the outputs, V (d, n), b (n,); Y (n, m) and c (m,) to the outputs."""

    W: Array
    V: Array
    b: Array
    Y: Array
    c: Array


Form = Params | Squashed | Softmax


@dataclass(frozen=True)
class Init:
    """W, V and b from the prior, W of variance sigma_w^2 / m; Y with sigma 1, and c = 0."""

    form: type = Params
    m: int | None = None

    def __call__(self, key: Array, prior: Prior, d: int, n: int) -> Form:
        """Parameters for m outputs, or n where m is None."""
        hidden, feedback, output = jax.random.split(key, 3)
        m = n if self.m is None else self.m
        _, V, b = prior.draw(hidden, d, n)
        _, W, _ = Prior(sigma_v=prior.sigma_w).draw(feedback, m, n)
        _, Y, c = Prior().draw(output, n, m)
        return Params(W, V, b, Y) if self.form is Params else self.form(W, V, b, Y, c)


@expect.arguments(m=expect.integer)
def outputs(cell: Recurrence, m: int) -> Recurrence:
    """The Jordan cell with m outputs. Raises ValueError for other cells and for m < 1."""
    if not isinstance(cell, Cell | Unitwise) or not isinstance(cell.init, Init):
        raise ValueError(f"outputs sets the size of a Jordan cell's output; {cell} is not one")
    if m < 1:
        raise ValueError(f"a Jordan cell feeds back m >= 1 outputs, got m={m}")
    return replace(cell, init=replace(cell.init, m=m))


def start(params: Form, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[1]), params.W.dtype)


def drive(params: Form, x: Array) -> Array:
    """V x + b."""
    return x @ params.V + params.b


def mix(params: Params, h: Array) -> Array:
    """W Y h."""
    return h @ params.Y @ params.W


def update(params: Params, h: Array, r: Array, z: Array) -> Array:
    """tanh(W y + V x + b)."""
    del params, h
    return jnp.tanh(r + z)


@expect.arguments(params=expect.instance(Params, Squashed, Softmax), h=expect.floats)
def logits(params: Form, h: Array) -> Array:
    """Y h + c, (..., m), what y is squashed from, of hidden states h (..., n)."""
    if h.shape[-1] != params.Y.shape[0]:
        raise ValueError(f"h has n = {params.Y.shape[0]} units; got {expect.told(h)}")
    y = h @ params.Y
    return y if isinstance(params, Params) else y + params.c


def output(params: Form, h: Array) -> Array:
    """y (..., m) of hidden states h (..., n)."""
    y = logits(params, h)
    if isinstance(params, Softmax):
        return jax.nn.softmax(y)
    return jnp.tanh(y) if isinstance(params, Squashed) else y


def step(params: Form, h: Array, x: Array) -> tuple[Array, Array]:
    """The forms whose output is squashed before it is fed back."""
    h = jnp.tanh(output(params, h) @ params.W + drive(params, x))
    return h, h


@expect.arguments(
    params=expect.instance(Params, Squashed, Softmax), xs=expect.floats, ys=expect.numeric
)
def taught(params: Form, xs: Array, ys: Array) -> Array:
    """h of every step (T, ..., n), where the outputs fed back are the true ones, ys (T, ..., m).

    The first step is fed what the network says before it has read anything; ys[t] is fed to step
    t + 1, and the last to none. xs are (T, ..., d). Raises ValueError where ys are no such outputs.
    """
    d = params.V.shape[0]
    if xs.ndim < 2 or xs.shape[-1] != d:
        raise ValueError(f"inputs are (T, ..., d) with d = {d}; got xs {expect.told(xs)}")
    ys, first = jnp.asarray(ys), output(params, start(params, xs.shape[1:-1]))[None]
    if ys.shape != (*xs.shape[:-1], first.shape[-1]):
        raise ValueError(
            f"the true outputs of inputs {xs.shape} are (T, ...batch, m) = "
            f"{(*xs.shape[:-1], first.shape[-1])}; got {ys.shape}. Of labels take one_hot"
        )
    before = jnp.concatenate([first, ys[:-1].astype(first.dtype)])
    return jnp.tanh(before @ params.W + drive(params, xs))


cell = Unitwise(Init(), start, drive, mix, update, Params, sums=((0, 0),))
squashed = Cell(Init(Squashed), start, step, Squashed)
softmax = Cell(Init(Softmax), start, step, Softmax)
