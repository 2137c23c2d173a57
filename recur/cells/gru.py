"""Gated recurrent unit: forget, then propose, then blend.

    u = sigmoid(W_u h + V_u x + b_u)               how much of the old state stays
    r = sigmoid(W_r h + V_r x + b_r)
    c = phi(r * (W_c h) + V_c x + b_c)             reset after the product
    h = u * h + (1 - u) * c

`cell` has phi = tanh; `with_candidate(phi)` takes any elementwise function.
`cudnn` has c = tanh(r * (W_c h + b_h) + V_c x + b_c): the weights of cuDNN, PyTorch and Flax.
`reset_before` has c = tanh(W_c (r * h) + V_c x + b_c), the original form and that of most texts. It
takes two products per step.

Many texts use the gate i = 1 - u, which controls writing: h = (1 - i) h + i c. Since
1 - sigmoid(a) = sigmoid(-a), their network is this one with W_u, V_u and b_u negated: a bias of -1
at their gate, chosen to remember, is a bias of +1 here.
Cho et al. 2014, arXiv:1406.1078; the reset-after form and i, arXiv:1412.3555 and cuDNN.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur import expect
from recur.cells.elementwise import require_elementwise
from recur.core import Cell, Prior, Unitwise
from recur.functions import Given
from recur.gated_cells import GateParams, gated

GATES = ("update", "reset", "candidate")


class Params(GateParams):
    """W (n, 3n), V (d, 3n), b (3n,), the gates in the order of GATES."""


class Cudnn(NamedTuple):
    """W (n, 3n), V (d, 3n), b (3n,); b_h (n,), the candidate's bias that the reset acts on."""

    W: Array
    V: Array
    b: Array
    b_h: Array


class ResetBefore(GateParams):
    """W (n, 3n), V (d, 3n), b (3n,), the gates in the order of GATES; W_c acts on r * h."""


def update(
    phi: Callable[[Array], Array], h: Array, u: Array, r: Array, c: tuple[Array, Array]
) -> Array:
    """u h + (1 - u) phi(r (W_c h) + V_c x + b_c)."""
    u, r, (mixed, driven) = sigmoid(u), sigmoid(r), c
    return u * h + (1 - u) * phi(r * mixed + driven)


@expect.arguments(phi=expect.function)
def with_candidate(phi: Callable[[Array], Array]) -> Unitwise:
    """The cell with this phi at the candidate; the same phi gives the same cell.

    Raises ValueError for a phi by which a unit reads another, such as a softmax.
    """
    require_elementwise(phi)
    return gated(Params, Given(update, phi), GATES, keeps="update", apart=("candidate",))


def init_cudnn(key: Array, prior: Prior, d: int, n: int) -> Cudnn:
    """Parameters drawn from the prior, with b_h = 0: `cell`'s own draw."""
    W, V, b = cell.init(key, prior, d, n)
    return Cudnn(W, V, b, jnp.zeros(n, b.dtype))


def update_cudnn(params: Cudnn, h: Array, r: list[Array], z: list[Array]) -> Array:
    """The form with a second bias, inside the reset."""
    return cell.update(params, h, [r[0], r[1], r[2] + params.b_h], z)


def init_reset_before(key: Array, prior: Prior, d: int, n: int) -> ResetBefore:
    """Parameters drawn from the prior: `cell`'s own draw."""
    return ResetBefore(*cell.init(key, prior, d, n))


def step_reset_before(params: ResetBefore, h: Array, x: Array) -> tuple[Array, Array]:
    """The form whose reset comes before the product."""
    n = h.shape[-1]
    z = cell.drive(params, x)
    r = jnp.split(h @ params.W[:, : 2 * n], 2, axis=-1)
    u = sigmoid(r[0] + z[0])
    c = jnp.tanh((sigmoid(r[1] + z[1]) * h) @ params.W[:, 2 * n :] + z[2])
    h = u * h + (1 - u) * c
    return h, h


cell = with_candidate(jnp.tanh)
cudnn = replace(cell, init=init_cudnn, update=update_cudnn, takes=Cudnn)
reset_before = Cell(init_reset_before, cell.start, step_reset_before, ResetBefore, cell.gates)
