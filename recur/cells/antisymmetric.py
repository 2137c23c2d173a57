"""Antisymmetric network: an Euler step of a differential equation that neither grows nor decays.

    h <- h + eps * tanh((W - W^T - gamma I) h + V x + b)

The eigenvalues of W - W^T are imaginary; gamma compensates for the growth that Euler steps add.
`gated` multiplies the step by sigmoid((W - W^T - gamma I) h + V_u x + b_u), with the same W.
`euler(eps, gamma)` and `euler_gated(eps, gamma)` replace the default eps = gamma = 0.1.
Chang et al. 2019, arXiv:1902.09689, equations 10 and 16-17.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur import expect
from recur.core import Gates, Prior, Unitwise
from recur.functions import Given

GATES = ("hidden",)
GATED = ("hidden", "update")  # V and b have a block for each, W only for the first


class Params(NamedTuple):
    """W (n, n), V (d, n), b (n,)."""

    W: Array
    V: Array
    b: Array


class Gated(NamedTuple):
    """W (n, n), V (d, 2n), b (2n,), V and b in the order of GATED."""

    W: Array
    V: Array
    b: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior."""
    return Params(*prior.draw(key, d, n))


def init_gated(key: Array, prior: Prior, d: int, n: int) -> Gated:
    """Parameters drawn from the prior; the W that both share has the first sigma_w."""
    W, V, b = prior.draw(key, d, n, len(GATED))
    return Gated(W[:, :n], V, b)


def start(params: Params | Gated, batch: tuple[int, ...] = ()) -> Array:
    """The zero state, (*batch, n)."""
    return jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)


def drive(params: Params, x: Array) -> Array:
    """V x + b."""
    return x @ params.V + params.b


def drive_gated(params: Gated, x: Array) -> list[Array]:
    """V x + b of the hidden units and of the gate."""
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
    """The same, the step times the gate."""
    del params
    field = r - gamma * h
    return h + eps * sigmoid(field + z[1]) * jnp.tanh(field + z[0])


@expect.arguments(eps=expect.number(), gamma=expect.number())
def euler(eps: float, gamma: float) -> Unitwise:
    """The cell with step eps and diffusion gamma. Raises ValueError unless eps > 0, gamma >= 0."""
    _check(eps, gamma)
    own = Given(update, float(eps), float(gamma))
    return Unitwise(init, start, drive, mix, own, Params, Gates(GATES))


@expect.arguments(eps=expect.number(), gamma=expect.number())
def euler_gated(eps: float, gamma: float) -> Unitwise:
    """The gated cell with step eps and diffusion gamma. Raises ValueError as `euler` does."""
    _check(eps, gamma)
    own = Given(update_gated, float(eps), float(gamma))
    return Unitwise(init_gated, start, drive_gated, mix, own, Gated, Gates(GATED, writes="update"))


def _check(eps: float, gamma: float) -> None:
    if not (eps > 0 and gamma >= 0):
        raise ValueError(
            f"an antisymmetric cell needs a step eps > 0 and a diffusion gamma >= 0, got "
            f"eps={eps}, gamma={gamma}"
        )


cell = euler(0.1, 0.1)
gated = euler_gated(0.1, 0.1)
