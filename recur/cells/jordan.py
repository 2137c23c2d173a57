"""Jordan's network, which feeds back its output instead of its hidden units.

    h = tanh(W y + V x + b)
    y = Y h                          in `cell`, where W Y is one linear map of h
    y = tanh(Y h + c)                in `squashed`
    y = softmax(Y h + c)             in `softmax`

There are m outputs y, by default as many as units; `outputs(cell, m)` sets m. The h of the cell is
the hidden layer. `output` computes y from h, and `logits` the values before squashing. With linear
outputs a bias c would only add W c to b, so `cell` has none.

Training compares targets with y. `Tagger(outputs(softmax, tags), d, n, tags, read=logits)` is a
tagger that feeds back its own predictions. With `taught` the true outputs are fed back instead, and
all steps are computed at once.
Jordan 1986, ICS report 8604; teacher forcing, Williams and Zipser 1989, Neural Computation 1:270.

Example:
    >>> params = cells.jordan.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1), Y=2 * jnp.eye(1))
    >>> h, _ = cells.jordan.cell.step(params, jnp.ones(1), jnp.ones(1))
    >>> print(h, cells.jordan.output(params, h))  # tanh(3), 2 tanh(3)
    [0.995] [1.99]
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from recur import expect
from recur.core import Cell, Prior, Recurrence, Unitwise
from recur.tables import tabled

__all__ = [
    "cell",
    "squashed",
    "softmax",
    "outputs",
    "output",
    "logits",
    "taught",
    "Params",
    "Squashed",
    "Softmax",
    "GATES",
]

GATES = ("hidden",)


@tabled()
class Params(NamedTuple):
    """Parameters of `cell`."""

    W: Array  #: (m, n), acts on the outputs, drawn with variance sigma_w^2 / m
    V: Array  #: (d, n)
    b: Array  #: (n,)
    Y: Array  #: (n, m), makes the outputs, drawn with variance 1 / n


@tabled()
class Squashed(NamedTuple):
    """Parameters of `squashed`."""

    W: Array  #: (m, n), acts on the outputs, drawn with variance sigma_w^2 / m
    V: Array  #: (d, n)
    b: Array  #: (n,)
    Y: Array  #: (n, m), makes the outputs, drawn with variance 1 / n
    c: Array  #: (m,), bias of the outputs, drawn as zeros


@tabled()
class Softmax(NamedTuple):
    """Parameters of `softmax`."""

    W: Array  #: (m, n), acts on the outputs, drawn with variance sigma_w^2 / m
    V: Array  #: (d, n)
    b: Array  #: (n,)
    Y: Array  #: (n, m), makes the outputs, drawn with variance 1 / n
    c: Array  #: (m,), bias of the outputs, drawn as zeros


Form = Params | Squashed | Softmax


@dataclass(frozen=True)
class Init:
    """`init` for m outputs: W, V and b from the prior, W with variance sigma_w^2 / m."""

    form: type = Params
    m: int | None = None

    def __call__(self, key: Array, prior: Prior, d: int, n: int) -> Form:
        """Parameters for m outputs, or for n if m is None."""
        hidden, feedback, output = jax.random.split(key, 3)
        m = n if self.m is None else self.m
        _, V, b = prior.draw(hidden, d, n)
        _, W, _ = Prior(sigma_v=prior.sigma_w).draw(feedback, m, n)
        _, Y, c = Prior().draw(output, n, m)
        return Params(W, V, b, Y) if self.form is Params else self.form(W, V, b, Y, c)


@expect.arguments(m=expect.integer)
def outputs(cell: Recurrence, m: int) -> Recurrence:
    """The same Jordan cell with m outputs.

    Args:
        cell: `cell`, `squashed` or `softmax`.
        m: The number of outputs, 1 or more.

    Returns:
        The cell.

    Raises:
        ValueError: The cell is not a Jordan cell, or m < 1.
        TypeError: m is not an integer.

    Example:
        >>> cell = cells.jordan.outputs(cells.jordan.softmax, 5)
        >>> params = jax.eval_shape(lambda key: cell.init(key, Prior(), 2, 3), jax.random.key(0))
        >>> print(params.W.shape, params.Y.shape)
        (5, 3) (3, 5)
    """
    if not isinstance(cell, Cell | Unitwise) or not isinstance(cell.init, Init):
        raise ValueError(f"outputs takes a cell of cells.jordan; {cell} is not one")
    if m < 1:
        raise ValueError(f"a Jordan cell feeds back m >= 1 outputs; got m={m}")
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
    """The outputs before squashing, Y h + c.

    Args:
        params: The parameters of a Jordan cell.
        h: Hidden states (..., n).

    Returns:
        An array (..., m). Without c for `Params`.

    Raises:
        ValueError: h has another number of units.
        TypeError: The parameters are not those of a Jordan cell, or h is not an array of floats.

    Example:
        >>> one = jnp.eye(1)
        >>> params = cells.jordan.Squashed(W=one, V=one, b=one[0], Y=2 * one, c=one[0])
        >>> print(cells.jordan.logits(params, jnp.ones(1)))
        [3.]
    """
    if h.shape[-1] != params.Y.shape[0]:
        raise ValueError(f"h is (..., n) with n = {params.Y.shape[0]}; got {expect.told(h)}")
    y = h @ params.Y
    return y if isinstance(params, Params) else y + params.c


def output(params: Form, h: Array) -> Array:
    """The outputs y, which the network feeds back.

        y = Y h,   tanh(Y h + c)   or   softmax(Y h + c)

    Args:
        params: The parameters of a Jordan cell. Their type decides which y.
        h: Hidden states (..., n).

    Returns:
        y (..., m).

    Raises:
        ValueError: h has another number of units.
        TypeError: The parameters are not those of a Jordan cell, or h is not an array of floats.

    Example:
        >>> zeros = jnp.zeros((2, 2))
        >>> params = cells.jordan.Softmax(W=zeros, V=zeros, b=zeros[0], Y=zeros, c=zeros[0])
        >>> print(cells.jordan.output(params, jnp.ones(2)))
        [0.5 0.5]
    """
    y = logits(params, h)
    if isinstance(params, Softmax):
        return jax.nn.softmax(y)
    return jnp.tanh(y) if isinstance(params, Squashed) else y


def step(params: Form, h: Array, x: Array) -> tuple[Array, Array]:
    """The forms that squash the output before they feed it back."""
    h = jnp.tanh(output(params, h) @ params.W + drive(params, x))
    return h, h


@expect.arguments(
    params=expect.instance(Params, Squashed, Softmax), xs=expect.floats, ys=expect.numeric
)
def taught(params: Form, xs: Array, ys: Array) -> Array:
    """The hidden states of every step with teacher forcing: the true outputs are fed back.

        h_t = tanh(W ys_{t-1} + V xs_t + b)

    The first step takes the y of the zero state, and no step takes ys[-1]. Williams and Zipser
    1989, Neural Computation 1:270.

    Args:
        params: The parameters of a Jordan cell.
        xs: Inputs (T, ..., d).
        ys: True outputs (T, ..., m): numbers, or classes as one-hot vectors.

    Returns:
        hs (T, ..., n).

    Raises:
        ValueError: xs or ys does not fit the parameters, or xs does not fit ys.
        TypeError: The parameters are not those of a Jordan cell, xs is not an array of floats, or
            ys is not an array of numbers.

    Example:
        >>> one = jnp.eye(1)
        >>> params = cells.jordan.Params(W=one, V=one, b=jnp.zeros(1), Y=one)
        >>> ys = jnp.array([[1.0], [2.0], [3.0]])
        >>> print(cells.jordan.taught(params, jnp.zeros((3, 1)), ys)[:, 0])  # tanh of 0, 1, 2
        [0.    0.762 0.964]
    """
    d = params.V.shape[0]
    if xs.ndim < 2 or xs.shape[-1] != d:
        raise ValueError(f"inputs are (T, ..., d) with d = {d}; got xs {expect.told(xs)}")
    ys, first = jnp.asarray(ys), output(params, start(params, xs.shape[1:-1]))[None]
    if ys.shape != (*xs.shape[:-1], first.shape[-1]):
        raise ValueError(
            f"for inputs {xs.shape} the true outputs are (T, ...batch, m) = "
            f"{(*xs.shape[:-1], first.shape[-1])}; got {ys.shape}. Turn labels into one-hot vectors"
        )
    before = jnp.concatenate([first, ys[:-1].astype(first.dtype)])
    return jnp.tanh(before @ params.W + drive(params, xs))


cell = Unitwise(Init(), start, drive, mix, update, Params, sums=((0, 0),))  #: Linear outputs.
squashed = Cell(Init(Squashed), start, step, Squashed)  #: Outputs through a tanh.
softmax = Cell(Init(Softmax), start, step, Softmax)  #: Outputs are probabilities.
