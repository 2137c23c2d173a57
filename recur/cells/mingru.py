"""minGRU: a gated unit whose gate sees only the input, so all steps can be computed at once.

    z = sigmoid(V_z x + b_z)               how much of the old state is overwritten
    c = V_c x + b_c
    h = (1 - z) * h + z * c

Each step is an affine map of h, and composing affine maps is associative, so `parallel` runs a
whole sequence in O(log T) steps. Units do not interact: there is no W, and sigma_w has no effect.
Feng et al. 2024, arXiv:2410.01201, section 3.1.

Example:
    >>> params = cells.mingru.Params(V=jnp.array([[0.0, 1.0]]), b=jnp.zeros(2))
    >>> print(scan.run(cells.mingru.cell, params, jnp.ones((3, 1)))[1][:, 0])  # z = 1/2, c = 1
    [0.5   0.75  0.875]
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.nn import sigmoid

from recur import expect
from recur.core import Gates, Prior, Unitwise, require_params
from recur.tables import tabled

__all__ = ["cell", "parallel", "Params", "GATES"]

GATES = ("update", "candidate")  #: The gates, in their order in V and b.


@tabled()
class Params(NamedTuple):
    """Parameters of the gates."""

    V: Array  #: (d, 2n), in the order of GATES
    b: Array  #: (2n,)


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
    return sigmoid(-z[0]), sigmoid(z[0]) * z[1]


def update(params: Params, h: Array, r: tuple[()], z: list[Array]) -> Array:
    """(1 - z) h + z c."""
    del params, r
    A, B = affine(z)
    return A * h + B


def parallel(params: Params, xs: Array, state: Array | None = None) -> tuple[Array, Array]:
    """The cell over a sequence in O(log T) steps, by an associative scan.

        h_t = A_t h_{t-1} + B_t,   A_t = 1 - z_t,   B_t = z_t c_t

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
        >>> params = cells.mingru.Params(V=jnp.array([[0.0, 1.0]]), b=jnp.zeros(2))
        >>> print(cells.mingru.parallel(params, jnp.ones((3, 1)))[1][:, 0])
        [0.5   0.75  0.875]
    """
    xs = fitting(Params, params, xs)
    A, B = affine(drive(params, xs))
    return solve(A, B, start(params, xs.shape[1:-1]) if state is None else state)


def fitting(takes: type, params: Any, xs: Array) -> Array:
    """The inputs as an array. Raises ValueError if they or the parameters do not fit."""
    require_params(takes, params)
    expect.numeric("xs", xs)
    xs, d = jnp.asarray(xs), params.V.shape[0]
    floats = jnp.issubdtype(xs.dtype, jnp.floating)
    if not (floats and xs.ndim >= 2 and xs.shape[0] != 0 and xs.shape[-1] == d):
        raise ValueError(
            f"inputs are floating point, (T, ..., d) with T >= 1 steps and d = {d}, as in the "
            f"parameters; got {xs.dtype} {xs.shape}"
        )
    return xs


def solve(A: Array, B: Array, h: Array) -> tuple[Array, Array]:
    """(h_T, hs) with h_t = A_t h_{t-1} + B_t and h_0 = h, in O(log T) steps; A, B (T, ..., n).

    It takes T steps if T is symbolic, as in `jax.export`. Raises ValueError if h is neither
    (..., n) nor (n,).
    """
    if jnp.shape(h) not in (B.shape[1:], B.shape[-1:]):
        raise ValueError(
            f"the state has shape {jnp.shape(h)}; for these inputs it is {B.shape[1:]}, as from "
            "cell.start(params, batch)"
        )
    if not isinstance(A.shape[0], int):

        def step(h: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            h = now[0] * h + now[1]
            return h, h

        return lax.scan(step, h, (A, B))
    scales, shifts = lax.associative_scan(lambda s, t: (s[0] * t[0], s[1] * t[0] + t[1]), (A, B))
    hs = scales * h + shifts
    return hs[-1], hs


#: The minGRU.
cell = Unitwise(init, start, drive, mix, update, Params, Gates(GATES, overwrites="update"))
