"""Gated recurrent unit: forget, then propose, then blend.

    u = sigmoid(W_u h + V_u x + b_u)               how much of the old state stays
    r = sigmoid(W_r h + V_r x + b_r)
    c = phi(r * (W_c h) + V_c x + b_c)             reset after the product
    h = u * h + (1 - u) * c

`cell` has phi = tanh; `with_candidate(phi)` takes any elementwise function.
`cudnn` has c = tanh(r * (W_c h + b_h) + V_c x + b_c), as in cuDNN, PyTorch and Flax.
`reset_before` has c = tanh(W_c (r * h) + V_c x + b_c), the original form, which most texts show. It
needs two products per step.

Many texts use the gate i = 1 - u, which controls writing: h = (1 - i) h + i c. Since
1 - sigmoid(a) = sigmoid(-a), their network is this one with W_u, V_u and b_u negated. A bias of -1
at their gate, which makes it remember, is a bias of +1 here.
Cho et al. 2014, arXiv:1406.1078; the reset-after form and i, arXiv:1412.3555 and cuDNN.

Example:
    >>> V = jnp.array([[0.0, 0.0, 1.0]])
    >>> params = cells.gru.Params(W=jnp.zeros((1, 3)), V=V, b=jnp.zeros(3))
    >>> print(scan.run(cells.gru.cell, params, jnp.ones((3, 1)))[1][:, 0])  # u = 1/2, c = tanh(1)
    [0.381 0.571 0.666]
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.cells.elementwise import require_elementwise
from recur.core import Cell, Prior, Unitwise
from recur.functions import Given
from recur.gated_cells import GateParams, gated
from recur.tables import tabled

__all__ = [
    "cell",
    "cudnn",
    "reset_before",
    "with_candidate",
    "Params",
    "Cudnn",
    "ResetBefore",
    "GATES",
]

GATES = ("update", "reset", "candidate")  #: The gates, in their order in W, V and b.


class Params(GateParams):
    """W (n, 3n), V (d, 3n), b (3n,), in the order of GATES."""


@tabled()
class Cudnn(NamedTuple):
    """Parameters of `cudnn`, with a second bias of the candidate."""

    W: Array  #: (n, 3n), in the order of GATES
    V: Array  #: (d, 3n)
    b: Array  #: (3n,)
    b_h: Array  #: (n,), the bias within the reset, drawn as zeros


class ResetBefore(GateParams):
    """W (n, 3n), V (d, 3n), b (3n,), in the order of GATES. W_c acts on r * h."""


def update(
    phi: Callable[[Array], Array], h: Array, u: Array, r: Array, c: tuple[Array, Array]
) -> Array:
    """u h + (1 - u) phi(r (W_c h) + V_c x + b_c)."""
    u, r, (mixed, driven) = sigmoid(u), sigmoid(r), c
    return u * h + (1 - u) * phi(r * mixed + driven)


def with_candidate(phi: Callable[[Array], Array]) -> Unitwise:
    """The GRU with another nonlinearity of the candidate.

        c = phi(r * (W_c h) + V_c x + b_c)

    Args:
        phi: An elementwise function, (..., n) -> (..., n). It is a part of the cell, so pass a
            function of a module, or one that is made once.

    Returns:
        The cell. The same phi gives an equal cell.

    Raises:
        ValueError: Through phi a unit reads another one, as in a softmax.
        TypeError: phi is not a function, or has no hash.

    Example:
        >>> print(cells.gru.with_candidate(jnp.tanh) == cells.gru.cell)
        True
    """
    require_elementwise(phi)
    return gated(Params, Given(update, phi), GATES, keeps="update", apart=("candidate",))


def init_cudnn(key: Array, prior: Prior, d: int, n: int) -> Cudnn:
    """Parameters drawn as for `cell`, and b_h = 0."""
    W, V, b = cell.init(key, prior, d, n)
    return Cudnn(W, V, b, jnp.zeros(n, b.dtype))


def update_cudnn(params: Cudnn, h: Array, r: list[Array], z: list[Array]) -> Array:
    """The form with a second bias within the reset."""
    return cell.update(params, h, [r[0], r[1], r[2] + params.b_h], z)


def init_reset_before(key: Array, prior: Prior, d: int, n: int) -> ResetBefore:
    """Parameters drawn as for `cell`."""
    return ResetBefore(*cell.init(key, prior, d, n))


def step_reset_before(params: ResetBefore, h: Array, x: Array) -> tuple[Array, Array]:
    """The form with the reset before the product."""
    n = h.shape[-1]
    z = cell.drive(params, x)
    r = jnp.split(h @ params.W[:, : 2 * n], 2, axis=-1)
    u = sigmoid(r[0] + z[0])
    c = jnp.tanh((sigmoid(r[1] + z[1]) * h) @ params.W[:, 2 * n :] + z[2])
    h = u * h + (1 - u) * c
    return h, h


cell = with_candidate(jnp.tanh)  #: The reset after the product, one bias per gate.
#: A second bias within the reset, as in cuDNN, PyTorch and Flax.
cudnn = replace(cell, init=init_cudnn, update=update_cudnn, takes=Cudnn)
#: The original form, with the reset before the product.
reset_before = Cell(init_reset_before, cell.start, step_reset_before, ResetBefore, cell.gates)
