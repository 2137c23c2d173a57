"""minLSTM: an LSTM whose gates see only the input, so all steps can be computed at once.

    f = sigmoid(V_f x + b_f)               keep
    i = sigmoid(V_i x + b_i)               write
    c = V_c x + b_c
    h = f / (f + i) * h + i / (f + i) * c

`parallel` runs a whole sequence in O(log T) steps, as for minGRU. Units do not interact: there is
no W, and sigma_w has no effect.
Feng et al. 2024, arXiv:2410.01201, section 3.2.

Example:
    >>> params = cells.minlstm.Params(V=jnp.array([[0.0, 0.0, 1.0]]), b=jnp.zeros(3))
    >>> print(scan.run(cells.minlstm.cell, params, jnp.ones((3, 1)))[1][:, 0])  # f = i, c = 1
    [0.5   0.75  0.875]
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid, sigmoid

from recur.cells import mingru
from recur.core import Gates, Prior, Unitwise
from recur.tables import tabled

__all__ = ["cell", "parallel", "Params", "GATES"]

GATES = ("forget", "input", "candidate")  #: The gates, in their order in V and b.


@tabled()
class Params(NamedTuple):
    """Parameters of the gates."""

    V: Array  #: (d, 3n), in the order of GATES
    b: Array  #: (3n,)


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """V and b drawn from the prior."""
    _, V, b = prior.draw(key, d, n, len(GATES))
    return Params(V, b)


def start(params: Params, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.b.shape[0] // len(GATES)), params.b.dtype)


def drive(params: Params, x: Array) -> list[Array]:
    """V x + b for each gate."""
    return jnp.split(x @ params.V + params.b, len(GATES), axis=-1)


def mix(params: Params, h: Array) -> tuple[()]:
    """Nothing."""
    del params, h
    return ()


def affine(z: list[Array]) -> tuple[Array, Array]:
    """A and B of the step h <- A h + B."""
    odds = log_sigmoid(z[0]) - log_sigmoid(z[1])  # avoids 0 / 0 when both are closed
    return sigmoid(odds), sigmoid(-odds) * z[2]


def update(params: Params, h: Array, r: tuple[()], z: list[Array]) -> Array:
    """f / (f + i) h + i / (f + i) c."""
    del params, r
    A, B = affine(z)
    return A * h + B


def parallel(params: Params, xs: Array, state: Array | None = None) -> tuple[Array, Array]:
    """The cell over a sequence in O(log T) steps, by an associative scan.

        h_t = A_t h_{t-1} + B_t,   A_t = f_t / (f_t + i_t),   B_t = i_t / (f_t + i_t) c_t

    The result is that of `scan.run` up to rounding.

    Args:
        params: The parameters of the cell.
        xs: Inputs (T, ..., d).
        state: The state before the first step, (..., n) or (n,); zeros if None.

    Returns:
        The final state (..., n) and hs (T, ..., n).

    Raises:
        ValueError: T = 0, the inputs are not floating point, or the parameters, inputs or state do
            not fit.
        TypeError: xs is not an array of numbers.

    Example:
        >>> params = cells.minlstm.Params(V=jnp.array([[0.0, 0.0, 1.0]]), b=jnp.zeros(3))
        >>> print(cells.minlstm.parallel(params, jnp.ones((3, 1)))[1][:, 0])
        [0.5   0.75  0.875]
    """
    xs = mingru.fitting(Params, params, xs)
    A, B = affine(drive(params, xs))
    return mingru.solve(A, B, start(params, xs.shape[1:-1]) if state is None else state)


gates = Gates(GATES, overwrites="input")  # f / (f + i) is 1 only if i = 0
#: The minLSTM.
cell = Unitwise(init, start, drive, mix, update, Params, gates)
