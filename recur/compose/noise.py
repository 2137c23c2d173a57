"""Noise that regularises a recurrence. It is passed as arrays, x = (keep, x), never as keys.

    recurrent_dropout    r = mix(keep * h): one mask per sequence
    zoneout              state = keep * old + (1 - keep) * new: units that skip a step

Gal and Ghahramani 2016, arXiv:1512.05287; zoneout, Krueger et al. 2017, arXiv:1606.01305.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from recur import expect
from recur.compose.masks import beside, follow
from recur.core import Cell, Recurrence, Tree, Unitwise, hidden, recurrence, with_step
from recur.functions import Given


@expect.arguments(cell=recurrence)
def recurrent_dropout(cell: Unitwise) -> Cell:
    """The cell with recurrent dropout, over x = (keep, x): the product takes keep * h for h.

        state_t = update(state_{t-1}, mix(keep * h_{t-1}), drive(x_t))

    `update` still sees the whole old state. Gal and Ghahramani 2016, arXiv:1512.05287.

    Args:
        cell: A `Unitwise` cell, which has its recurrent product apart, in `mix`.

    Returns:
        The cell. Draw keep (T, ..., n) by `sequence_keep`. At test time pass ones, or run the cell
        without dropout. A step raises ValueError if keep and h differ in shape.

    Raises:
        ValueError: The cell is not a `Unitwise`.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.eye(2), V=jnp.ones((1, 2)), b=jnp.zeros(2))
        >>> keep = jnp.tile(jnp.array([0.0, 2.0]), (3, 1))  # a rate of 1/2
        >>> cell = compose.recurrent_dropout(cells.vanilla.relu)
        >>> print(scan.run(cell, params, (keep, jnp.ones((3, 1))))[1])
        [[1. 1.]
         [1. 3.]
         [1. 7.]]
    """
    if not isinstance(cell, Unitwise):
        raise ValueError(
            "recurrent_dropout takes a Unitwise cell, which has its recurrent product in mix; got "
            f"{type(cell).__name__}. Apply it to the layers of a stack before you stack them"
        )
    return with_step(cell, Given(_dropping_step, cell))


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


def _dropping_step(
    cell: Unitwise, params: Tree, state: Tree, x: tuple[Array, Tree]
) -> tuple[Tree, Array]:
    keep, x = beside("keep", x)
    require_shape(keep, hidden(state))
    r = cell.mix(params, keep * hidden(state))
    state = cell.update(params, state, r, cell.drive(params, x))
    return state, hidden(state)


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


def require_shape(keep: Array, a: Array) -> None:
    """Raise ValueError unless keep has the shape of the array that it multiplies."""
    if jnp.shape(keep) != jnp.shape(a):
        raise ValueError(
            f"keep has shape {jnp.shape(keep)} at a step, and the array that it multiplies "
            f"{jnp.shape(a)}. Pass one number for each entry; use jnp.broadcast_to if sequences, "
            "units or steps share them"
        )


@expect.arguments(key=expect.key, rate=expect.scalar, steps=expect.count(1), h=expect.floats)
def sequence_keep(key: Array, rate: float, steps: int, h: Array) -> Array:
    """keep for `recurrent_dropout` or `input_dropout`, with one mask for all steps of a sequence.

    Args:
        key: A random key.
        rate: The probability that an entry is dropped, 0 <= rate < 1.
        steps: The number of steps T, 1 or more.
        h: An array (..., n) of the shape and dtype of h, or of one step's input.

    Returns:
        keep (T, ..., n), 0 with probability `rate` and 1 / (1 - rate) otherwise, so that keep * h
        has the mean h. NaN for a traced rate out of range.

    Raises:
        ValueError: The rate or steps is out of range.
        TypeError: The key is not a PRNG key, h is not an array of floats, or rate or steps is not a
            number.

    Example:
        >>> keep = compose.sequence_keep(jax.random.key(0), 0.5, 3, jnp.zeros(6))
        >>> print(keep.shape, (keep[0] == keep[2]).all(), jnp.unique(keep))
        (3, 6) True [0. 2.]
    """
    require_rate(rate)
    return jnp.broadcast_to(inverted(key, rate, h.shape, h.dtype), (steps, *h.shape))


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


def inverted(key: Array, rate: ArrayLike, shape: tuple[int, ...], dtype: Any) -> Array:
    """0 with probability `rate`, otherwise 1 / (1 - rate); NaN for a traced rate out of range."""
    keep = jax.random.bernoulli(key, 1 - rate, shape).astype(dtype)
    return possible(rate, keep / jnp.asarray(1 - rate, dtype))


def possible(rate: ArrayLike, keep: Array) -> Array:
    """keep, or NaN for a traced rate out of range."""
    if not isinstance(rate, jax.core.Tracer):
        return keep
    return jnp.where((rate >= 0) & (rate < 1), keep, jnp.nan)


def require_rate(rate: float) -> None:
    """Raise ValueError unless the rate is traced, or a probability below 1."""
    if not isinstance(rate, jax.core.Tracer) and not 0 <= rate < 1:
        raise ValueError(f"rate is the probability of noise, 0 <= rate < 1; got {rate}")
