"""Layer norm inside the gates, and a learned initial state.

    layer_normed     r = g_r N(W h),  z = g_z N(V x + b) + s,  separately for each gate
                     N(a) = (a - mean a) / sqrt(var a + 1e-5) over the units

Ba, Kiros and Hinton 2016, arXiv:1607.06450.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect
from recur.core import Cell, Prior, Recurrence, Tree, Unitwise, hidden, recurrence, takes
from recur.functions import Given, unbound
from recur.tables import tabled


@tabled()
class Normed(NamedTuple):
    """Parameters of a `layer_normed` cell. Gains and shifts are arrays (n,)."""

    cell: Tree  #: parameters of the cell inside
    gain_r: Tree  #: g_r, structured like r
    gain_z: Tree  #: g_z, structured like z
    shift: Tree  #: s, structured like z


@expect.arguments(cell=recurrence)
def layer_normed(cell: Unitwise) -> Cell:
    """The cell with layer norm: r and z of each gate are standardised over the units.

        r = g_r N(W h),  z = g_z N(V x + b) + s,  N(a) = (a - mean a) / sqrt(var a + 1e-5)

    N removes the mean of a gate, and so the bias that the prior gave it. The shift s therefore
    starts as the mean of z for a zero input, which restores for example the bias of a forget gate.
    Ba, Kiros and Hinton 2016, arXiv:1607.06450.

    Args:
        cell: A `Unitwise` cell.

    Returns:
        A `Cell`, since units interact in the norm. Its parameters are those of the cell, and the
        gains and shifts, which are trained.

    Raises:
        ValueError: The cell is not a `Unitwise`.

    Example:
        >>> cell = compose.layer_normed(cells.vanilla.relu)
        >>> params = jax.jit(cell.init, static_argnums=(2, 3))(jax.random.key(0), Prior(), 1, 4)
        >>> print(params.gain_r, params.shift)
        [1. 1. 1. 1.] [0. 0. 0. 0.]
    """
    if not isinstance(cell, Unitwise):
        raise ValueError(
            "layer_normed takes a Unitwise cell, and standardises its r and z; got "
            f"{type(cell).__name__}. Apply it to the layers of a stack before you stack them"
        )
    own = Normed(cell.takes, None, None, None)
    return Cell(
        Given(_normed_init, cell), Given(_normed_start, cell), Given(_normed_step, cell), own
    )


def _normed_init(cell: Unitwise, key: Array, prior: Prior, d: int, n: int) -> Normed:
    params = cell.init(key, prior, d, n)
    h = hidden(cell.start(params))
    r, z = cell.mix(params, h), cell.drive(params, jnp.zeros(d, h.dtype))
    shift = jax.tree.map(lambda a: jnp.full_like(a, a.mean()), z)
    gain_r, gain_z = jax.tree.map(jnp.ones_like, (r, z))
    return Normed(params, gain_r, gain_z, shift)


def _normed_start(cell: Unitwise, params: Normed, batch: tuple[int, ...] = ()) -> Tree:
    return cell.start(params.cell, batch)


def _normed_step(cell: Unitwise, params: Normed, state: Tree, x: Tree) -> tuple[Tree, Array]:
    r, z = jax.tree.map(
        standardise, (cell.mix(params.cell, hidden(state)), cell.drive(params.cell, x))
    )
    r = jax.tree.map(jnp.multiply, params.gain_r, r)
    z = jax.tree.map(lambda g, a, s: g * a + s, params.gain_z, z, params.shift)
    state = cell.update(params.cell, state, r, z)
    return state, hidden(state)


def standardise(a: Array) -> Array:
    """(a - mean a) / sqrt(var a + 1e-5), over the last axis."""
    a = a - a.mean(axis=-1, keepdims=True)
    return a * lax.rsqrt(jnp.mean(a**2, axis=-1, keepdims=True) + 1e-5)


@tabled()
class Learned(NamedTuple):
    """Parameters of a `learned_start` cell."""

    cell: Tree  #: parameters of the cell inside
    start: Tree  #: the state before the first input, arrays (n,)


@expect.arguments(cell=recurrence)
def learned_start(cell: Recurrence) -> Any:
    """The cell with an initial state that is trained. At first it is the start of the cell.

    Args:
        cell: A recurrence. A `Unitwise` cell stays a `Unitwise`.

    Returns:
        The cell. Its parameters are those of the cell, and `start`, arrays (n,).

    Raises:
        ValueError: The cell is not a recurrence.

    Example:
        >>> cell = compose.learned_start(cells.vanilla.relu)
        >>> params = jax.jit(cell.init, static_argnums=(2, 3))(jax.random.key(0), Prior(), 1, 2)
        >>> print(cell.start(params._replace(start=jnp.ones(2)), batch=(3,)).shape)
        (3, 2)
    """
    init, own = Given(_learned_init, cell), Learned(takes(cell), None)
    if isinstance(cell, Unitwise):
        drive, mix, update = (
            Given(_of_cell, function) for function in (cell.drive, cell.mix, cell.update)
        )
        return Unitwise(init, _learned_start, drive, mix, update, own, sums=cell.sums)
    return Cell(init, _learned_start, Given(_of_cell, unbound(cell.step)), own)


def _learned_init(cell: Recurrence, key: Array, prior: Prior, d: int, n: int) -> Learned:
    params = cell.init(key, prior, d, n)
    return Learned(params, cell.start(params))


def _learned_start(params: Learned, batch: tuple[int, ...] = ()) -> Tree:
    return jax.tree.map(lambda s: jnp.broadcast_to(s, (*batch, *s.shape)), params.start)


def _of_cell(function: Callable[..., Tree], params: Learned, *rest: Tree) -> Tree:
    return function(params.cell, *rest)
