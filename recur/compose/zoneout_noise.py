"""Zoneout: units that skip a step. The noise is passed as arrays, x = (keep, x), never as keys.

    state = keep * old + (1 - keep) * new

Krueger et al. 2017, arXiv:1606.01305.
"""

from dataclasses import replace
from typing import Any

import jax
from jax import Array

from recur import expect
from recur.compose.dropout import possible, require_rate, require_shape
from recur.compose.masks import beside, follow
from recur.core import Recurrence, Tree, Unitwise, recurrence, with_step
from recur.functions import Given


@expect.arguments(cell=recurrence)
def zoneout(cell: Recurrence) -> Any:
    """The cell with zoneout, over x = (keep, x): the state keeps its old value where keep is 1.

        state_t = keep * state_{t-1} + (1 - keep) * new

    Here new is the state after a step of the cell. Krueger et al. 2017, arXiv:1606.01305.

    Args:
        cell: A recurrence. A `Unitwise` cell stays a `Unitwise`.

    Returns:
        The cell. At a step keep has the structure and the shapes of the state (`State(h, c)` for an
        LSTM), with values in [0, 1]. Draw it by `zoneout_keep`. At test time pass the probability
        itself at every place, which gives the expected step. A step raises ValueError for other
        shapes.

    Raises:
        ValueError: The cell is not a recurrence.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> xs = jnp.array([[0.0], [1.0], [0.5]]), jnp.ones((3, 1))
        >>> print(scan.run(compose.zoneout(cells.vanilla.relu), params, xs)[1][:, 0])
        [1.  1.  1.5]
    """
    if isinstance(cell, Unitwise):
        return replace(cell, drive=Given(_zoneout_drive, cell), update=Given(_zoneout_update, cell))
    return with_step(cell, Given(_zoneout_step, cell))


def _zoneout_drive(cell: Unitwise, params: Tree, x: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
    keep, x = beside("keep", x)
    return cell.drive(params, x), keep


def _zoneout_update(
    cell: Unitwise, params: Tree, state: Tree, r: Tree, z: tuple[Tree, Tree]
) -> Tree:
    z, keep = z
    return _blend(keep, state, cell.update(params, state, r, z))


def _zoneout_step(
    cell: Recurrence, params: Tree, state: Tree, x: tuple[Tree, Tree]
) -> tuple[Tree, Array]:
    keep, x = beside("keep", x)
    after, h = cell.step(params, state, x)
    blended = _blend(keep, state, after)
    output = follow(h, after, blended)
    if output is None:
        raise ValueError(
            "zoneout needs a cell with its output in its state; put a skip connection around "
            "zoneout, Residual(zoneout(cell)), not inside it"
        )
    return blended, output


def _blend(keep: Tree, old: Tree, new: Tree) -> Tree:
    """keep * old + (1 - keep) * new."""
    given, needed = (str(jax.tree.structure(tree)) for tree in (keep, old))
    if given != needed:
        raise ValueError(
            f"zoneout's keep has the structure of the state, {needed}; got {given}. Draw it by "
            "zoneout_keep(key, rate, steps, state)"
        )
    for k, a in zip(jax.tree.leaves(keep), jax.tree.leaves(old), strict=True):
        require_shape(k, a)
    return jax.tree.map(lambda k, a, b: k * a + (1 - k) * b, keep, old, new)


@expect.arguments(key=expect.key, rate=expect.scalar, steps=expect.count(1), state=expect.arrays)
def zoneout_keep(key: Array, rate: float, steps: int, state: Tree) -> Tree:
    """keep for `zoneout`, drawn for each number of the state at each step.

    Args:
        key: A random key.
        rate: The probability that a number keeps its old value, 0 <= rate < 1.
        steps: The number of steps T, 1 or more.
        state: A state, arrays (..., n).

    Returns:
        The structure of the state, with arrays (T, ..., n) of 0 and 1. NaN for a traced rate out of
        range.

    Raises:
        ValueError: The rate or steps is out of range.
        TypeError: The key is not a PRNG key, the state holds no arrays, or rate or steps is not a
            number.

    Example:
        >>> keep = compose.zoneout_keep(jax.random.key(0), 0.2, 3, jnp.zeros(6))
        >>> print(keep.shape, jnp.unique(keep))
        (3, 6) [0. 1.]
    """
    require_rate(rate)
    leaves, structure = jax.tree.flatten(state)
    keys = jax.random.split(key, len(leaves))
    draws = [
        possible(rate, jax.random.bernoulli(k, rate, (steps, *leaf.shape)).astype(leaf.dtype))
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, draws)
