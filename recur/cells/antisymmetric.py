"""Antisymmetric network: an Euler step of a differential equation that neither grows nor decays.

    h <- h + eps * tanh((W - W^T - gamma I) h + V x + b)

The eigenvalues of W - W^T are imaginary. gamma compensates for the growth that Euler steps add.
`gated` multiplies the step by sigmoid((W - W^T - gamma I) h + V_u x + b_u), with the same W.
Both have eps = gamma = 0.1; `euler(eps, gamma)` and `euler_gated(eps, gamma)` take other values.
Chang et al. 2019, arXiv:1902.09689, equations 10 and 16-17.

Example:
    >>> W = jnp.array([[0.0, 1.0], [0.0, 0.0]])
    >>> params = cells.antisymmetric.Params(W, V=jnp.zeros((1, 2)), b=jnp.zeros(2))
    >>> cell = cells.antisymmetric.euler(eps=0.1, gamma=0.0)
    >>> print(cell.step(params, jnp.array([1.0, 0.0]), jnp.zeros(1))[1])  # a rotation
    [1.    0.076]
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur import expect
from recur.core import Gates, Prior, Unitwise
from recur.functions import Given
from recur.tables import tabled

__all__ = ["cell", "gated", "euler", "euler_gated", "Params", "Gated", "GATES", "GATED"]

GATES = ("hidden",)
GATED = ("hidden", "update")  #: The blocks of V and b in `gated`; W has only the first.


@tabled()
class Params(NamedTuple):
    """Parameters of `cell` and `euler`."""

    W: Array  #: (n, n), used as W - W^T
    V: Array  #: (d, n)
    b: Array  #: (n,)


@tabled()
class Gated(NamedTuple):
    """Parameters of `gated` and `euler_gated`."""

    W: Array  #: (n, n), used as W - W^T; drawn with the first sigma_w
    V: Array  #: (d, 2n), in the order of GATED
    b: Array  #: (2n,), in the order of GATED


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior."""
    return Params(*prior.draw(key, d, n))


def init_gated(key: Array, prior: Prior, d: int, n: int) -> Gated:
    """Parameters drawn from the prior, W with the first sigma_w."""
    W, V, b = prior.draw(key, d, n, len(GATED))
    return Gated(W[:, :n], V, b)


def start(params: Params | Gated, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)


def drive(params: Params, x: Array) -> Array:
    """V x + b."""
    return x @ params.V + params.b


def drive_gated(params: Gated, x: Array) -> list[Array]:
    """V x + b for the hidden units and for the gate."""
    return jnp.split(x @ params.V + params.b, len(GATED), axis=-1)


def mix(params: Params | Gated, h: Array) -> Array:
    """(W - W^T) h."""
    return h @ (params.W - params.W.T)


def update(eps: float, gamma: float, params: Params, h: Array, r: Array, z: Array) -> Array:
    """h + eps tanh((W - W^T - gamma I) h + V x + b)."""
    del params
    return h + eps * jnp.tanh(r - gamma * h + z)


def update_gated(
    eps: float, gamma: float, params: Gated, h: Array, r: Array, z: list[Array]
) -> Array:
    """The same, with the step multiplied by the gate."""
    del params
    field = r - gamma * h
    return h + eps * sigmoid(field + z[1]) * jnp.tanh(field + z[0])


@expect.arguments(eps=expect.number(), gamma=expect.number())
def euler(eps: float, gamma: float) -> Unitwise:
    """The antisymmetric cell with a given step and diffusion.

        h <- h + eps * tanh((W - W^T - gamma I) h + V x + b)

    Args:
        eps: The step of the Euler method, in units of time, > 0.
        gamma: The diffusion, per unit of time, >= 0.

    Returns:
        The cell. Its parameters are `Params`.

    Raises:
        ValueError: eps or gamma is out of range.
        TypeError: eps or gamma is not a number.

    Example:
        >>> print(cells.antisymmetric.euler(0.1, 0.1) == cells.antisymmetric.cell)
        True
    """
    _check(eps, gamma)
    own = Given(update, float(eps), float(gamma))
    return Unitwise(init, start, drive, mix, own, Params, Gates(GATES))


@expect.arguments(eps=expect.number(), gamma=expect.number())
def euler_gated(eps: float, gamma: float) -> Unitwise:
    """The gated antisymmetric cell with a given step and diffusion.

        h <- h + eps * sigmoid(A h + V_u x + b_u) * tanh(A h + V x + b),   A = W - W^T - gamma I

    Args:
        eps: The step of the Euler method, in units of time, > 0.
        gamma: The diffusion, per unit of time, >= 0.

    Returns:
        The cell. Its parameters are `Gated`.

    Raises:
        ValueError: eps or gamma is out of range.
        TypeError: eps or gamma is not a number.

    Example:
        >>> print(cells.antisymmetric.euler_gated(0.1, 0.1).gates.names)
        ('hidden', 'update')
    """
    _check(eps, gamma)
    own = Given(update_gated, float(eps), float(gamma))
    return Unitwise(init_gated, start, drive_gated, mix, own, Gated, Gates(GATED, writes="update"))


def _check(eps: float, gamma: float) -> None:
    if not (eps > 0 and gamma >= 0):
        raise ValueError(
            f"an antisymmetric cell needs a step eps > 0 and a diffusion gamma >= 0; got "
            f"eps={eps}, gamma={gamma}"
        )


cell = euler(0.1, 0.1)  #: Without a gate.
gated = euler_gated(0.1, 0.1)  #: With a gate on the step.
