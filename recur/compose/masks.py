"""Steps that are skipped, and sequences that restart: cell -> cell.

    masked       x = (mask, x):   where the mask is False the state does not change
    resetting    x = (reset, x):  where the flag is True the state before the step is `start`

Combine them as `resetting(masked(cell))`, x = (reset, (mask, x)), so that a reset also counts at a
masked step. A `Unitwise` cell stays a `Unitwise`: z carries the flag, and `update` reads it.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recur import expect
from recur.compose.presence import tell
from recur.core import Recurrence, Tree, Unitwise, hidden, recurrence, with_step
from recur.functions import Given


@expect.arguments(cell=recurrence)
def masked(cell: Recurrence) -> Any:
    """The cell with a mask, over x = (mask, x): steps where the mask is False are skipped.

    A skipped step keeps the state and the output h of the step before. It ignores x, so even NaN in
    x reaches no result and no gradient. An output that is not part of the state, as with a skip
    connection around the cell, is zero there.

    Args:
        cell: A recurrence. A `Unitwise` cell stays a `Unitwise`.

    Returns:
        The cell. At a step the mask is booleans (...), one per sequence. A step raises ValueError
        if x has no such mask.

    Raises:
        ValueError: The cell is not a recurrence.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> xs = jnp.array([True, False, True]), jnp.ones((3, 1))
        >>> print(scan.run(compose.masked(cells.vanilla.relu), params, xs)[1][:, 0])
        [1. 1. 2.]
    """
    if isinstance(cell, Unitwise):
        return replace(cell, drive=Given(_masked_drive, cell), update=Given(_masked_update, cell))
    return with_step(cell, Given(_masked_step, cell))


@expect.arguments(cell=recurrence)
def resetting(cell: Recurrence) -> Any:
    """The cell with resets, over x = (reset, x): where reset is True, x begins a new sequence.

    The state before that step becomes `cell.start`, learned or not. Earlier steps affect no later
    result and no gradient.

    Args:
        cell: A recurrence. A `Unitwise` cell stays a `Unitwise`.

    Returns:
        The cell. At a step reset is booleans (...), one per sequence. A step raises ValueError if x
        has no such flags.

    Raises:
        ValueError: The cell is not a recurrence.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> xs = jnp.array([False, False, True]), jnp.ones((3, 1))
        >>> print(scan.run(compose.resetting(cells.vanilla.relu), params, xs)[1][:, 0])
        [1. 2. 1.]
    """
    if isinstance(cell, Unitwise):
        drive, update = Given(_resetting_drive, cell), Given(_resetting_update, cell)
        return replace(cell, drive=drive, update=update, sums=())
    return with_step(cell, Given(_resetting_step, cell))


def beside(name: str, x: Tree) -> tuple[Tree, Tree]:
    """The two parts of a pair x = (name, x). Raises ValueError for anything else.

    An array with a first axis of length 2 is not a pair, although it could be unpacked.
    """
    if isinstance(x, tuple | list) and len(x) == 2 and not hasattr(x, "_fields"):
        return x[0], x[1]
    given = [jnp.shape(leaf) for leaf in jax.tree.leaves(x)]
    raise ValueError(
        f"this cell takes x = ({name}, x) at every step, so run it over such a pair of sequences; "
        f"got {type(x).__name__} of shapes {given}"
    )


def flagged(name: str, x: Tree) -> tuple[Array, Tree]:
    """The flag (...) and the input (..., d) of a pair. Raises ValueError for anything else."""
    flag, x = beside(name, x)
    dtypes = [str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(flag)]
    if dtypes != ["bool"]:
        raise ValueError(f"{name} holds {dtypes}; pass one array of booleans, such as {name} != 0")
    flag = jnp.asarray(flag)
    batch = jnp.shape(jax.tree.leaves(x)[-1])[:-1]
    if flag.shape != batch:
        raise ValueError(
            f"{name} has shape {flag.shape} at a step, and the input has batch axes {batch}. Pass "
            "one flag per step and sequence; use jnp.broadcast_to if all sequences share them"
        )
    return flag, x


def choose(flag: Array, new: Tree, old: Tree) -> Tree:
    """`new` where flag is True, else `old`. The axes of flag are the first ones of every array."""
    return jax.tree.map(lambda a, b: jnp.where(_spread(flag, a), a, b), new, old)


def clean(mask: Array, x: Tree) -> Tree:
    """x with zeros where the mask is False. A NaN there would reach gradients, as 0 * NaN."""
    return choose(mask, x, jax.tree.map(jnp.zeros_like, x))


def follow(h: Array, after: Tree, changed: Tree) -> Array | None:
    """The array of `changed` at the place of the output h in the state `after`, if it has one."""
    pairs = zip(jax.tree.leaves(after), jax.tree.leaves(changed), strict=True)
    return next((mine for leaf, mine in pairs if leaf is h), None)


def _spread(flag: Array, like: Array) -> Array:
    """The flag with as many axes as `like`."""
    return flag.reshape(flag.shape + (1,) * (like.ndim - flag.ndim))


def _number(flag: Array, z: Tree) -> Array:
    """The flag as 0 or 1 in the shape and dtype of z, so that z stays differentiable."""
    like = jax.tree.leaves(z)[0]
    return jnp.broadcast_to(_spread(flag, like), like.shape).astype(like.dtype)


def _where(number: Array, new: Tree, old: Tree) -> Tree:
    """`choose` with a flag made by `_number`."""
    return jax.tree.map(lambda a, b: jnp.where(number != 0, a, b), new, old)


def _masked_drive(cell: Unitwise, params: Tree, x: Tree) -> tuple[Tree, Array]:
    mask, x = flagged("mask", x)
    z = cell.drive(params, clean(tell(mask), x))
    return z, _number(mask, z)


def _masked_update(
    cell: Unitwise, params: Tree, state: Tree, r: Tree, z: tuple[Tree, Array]
) -> Tree:
    z, mask = z
    return _where(mask, cell.update(params, state, r, z), state)


def _masked_step(cell: Recurrence, params: Tree, state: Tree, x: Tree) -> tuple[Tree, Array]:
    mask, x = flagged("mask", x)
    after, h = cell.step(params, state, clean(tell(mask), x))
    carried = choose(mask, after, state)
    output = follow(h, after, carried)
    return carried, clean(mask, h) if output is None else output


def _resetting_drive(cell: Unitwise, params: Tree, x: Tree) -> tuple[Array, Tree, Tree, Tree]:
    # mix(start) depends on no input: computed here, it is one product for all steps
    reset, x = flagged("reset", x)
    z = cell.drive(params, x)
    fresh = cell.start(params)
    r = cell.mix(params, hidden(fresh))
    fresh, r = jax.tree.map(lambda a: jnp.broadcast_to(a, reset.shape + a.shape), (fresh, r))
    return _number(reset, z), fresh, r, z


def _resetting_update(
    cell: Unitwise, params: Tree, state: Tree, r: Tree, z: tuple[Array, Tree, Tree, Tree]
) -> Tree:
    reset, fresh, r_fresh, z_cell = z
    state, r = _where(reset, (fresh, r_fresh), (state, r))
    return cell.update(params, state, r, z_cell)


def _resetting_step(cell: Recurrence, params: Tree, state: Tree, x: Tree) -> tuple[Tree, Array]:
    reset, x = flagged("reset", x)
    fresh = cell.start(params, reset.shape)
    return cell.step(params, choose(reset, fresh, state), x)
