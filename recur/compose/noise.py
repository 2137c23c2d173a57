"""Noise that regularises a recurrence; it enters as arrays, x = (keep, x), never as keys.

    recurrent_dropout    r = mix(keep * h): one mask a sequence, on what the other units hear
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
from recur.core import Cell, Recurrence, Tree, Unitwise, gates, hidden, recurrence, takes
from recur.functions import Given, unbound


@expect.arguments(cell=recurrence)
def recurrent_dropout(cell: Unitwise) -> Cell:
    """The cell over x = (keep, x), keep (..., n): h enters the recurrent product as keep * h.

    Draw keep by `sequence_keep`; at test time pass ones, or the cell itself. What a unit keeps of
    its own past is not touched. Raises ValueError unless the cell is `Unitwise`, for only there
    is it known where other units hear h, and at a step where keep and h differ in shape.
    """
    if not isinstance(cell, Unitwise):
        raise ValueError(
            f"recurrent_dropout takes a Unitwise cell, whose recurrent product is known; got "
            f"{type(cell).__name__}. Apply it to the layers of a stack before stacking them."
        )
    return Cell(cell.init, cell.start, Given(_dropping_step, cell), cell.takes, cell.gates)


@expect.arguments(cell=recurrence)
def zoneout(cell: Recurrence) -> Any:
    """The cell over x = (keep, x): each number of the state keeps its old value where keep is 1.

    keep has the structure and the shapes of the state (for an LSTM `State(h, c)`), arrays (..., n)
    in [0, 1]. Draw it by `zoneout_keep`; at test time pass arrays full of the probability itself,
    which gives the expected step. A `Unitwise` cell stays one. Raises ValueError for other shapes.
    """
    if isinstance(cell, Unitwise):
        return replace(cell, drive=Given(_zoneout_drive, cell), update=Given(_zoneout_update, cell))
    step = Given(_zoneout_step, cell)
    return Cell(unbound(cell.init), unbound(cell.start), step, takes(cell), gates(cell))


def _dropping_step(
    cell: Unitwise, params: Tree, state: Tree, x: tuple[Array, Tree]
) -> tuple[Tree, Array]:
    keep, x = beside("keep", x)
    _require_shape(keep, hidden(state))
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
            "zoneout needs a cell whose output is part of its state; put a skip around the "
            "zoneout, Residual(zoneout(cell)), not inside it"
        )
    return blended, output


def _blend(keep: Tree, old: Tree, new: Tree) -> Tree:
    """keep * old + (1 - keep) * new."""
    given, needed = (str(jax.tree.structure(tree)) for tree in (keep, old))
    if given != needed:
        raise ValueError(
            f"zoneout's keep has the structure of the state, {needed}; got {given}. Draw it by "
            "zoneout_keep(key, rate, steps, state)."
        )
    for k, a in zip(jax.tree.leaves(keep), jax.tree.leaves(old), strict=True):
        _require_shape(k, a)
    return jax.tree.map(lambda k, a, b: k * a + (1 - k) * b, keep, old, new)


def _require_shape(keep: Array, a: Array) -> None:
    if jnp.shape(keep) != jnp.shape(a):
        raise ValueError(
            f"keep has shape {jnp.shape(keep)} at a step, and what it is for {jnp.shape(a)}: one "
            "number for each. Use jnp.broadcast_to where batch, units or steps share one."
        )


@expect.arguments(key=expect.key, rate=expect.real, steps=expect.count(1), h=expect.floats)
def sequence_keep(key: Array, rate: float, steps: int, h: Array) -> Array:
    """keep (T, ..., n) for `recurrent_dropout`: one mask for all steps of a sequence.

    An entry is 0 with probability `rate`, else 1 / (1 - rate), so that keep * h has the mean of h.
    h (..., n) gives shape and dtype. Raises ValueError unless 0 <= rate < 1, and gives NaN where
    the rate is traced.
    """
    _require_rate(rate)
    keep = jax.random.bernoulli(key, 1 - rate, h.shape).astype(h.dtype) / (1 - rate)
    return jnp.broadcast_to(_possible(rate, keep), (steps, *h.shape))


@expect.arguments(key=expect.key, rate=expect.real, steps=expect.count(1), state=expect.arrays)
def zoneout_keep(key: Array, rate: float, steps: int, state: Tree) -> Tree:
    """keep for `zoneout`, structured as `state`, arrays (T, ..., n): 1 with probability `rate`.

    Every number of the state draws its own at every step. Raises ValueError unless 0 <= rate < 1,
    and gives NaN where the rate is traced.
    """
    _require_rate(rate)
    leaves, structure = jax.tree.flatten(state)
    keys = jax.random.split(key, len(leaves))
    draws = [
        _possible(rate, jax.random.bernoulli(k, rate, (steps, *leaf.shape)).astype(leaf.dtype))
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, draws)


def _possible(rate: ArrayLike, keep: Array) -> Array:
    """keep, NaN for a traced rate out of range."""
    if not isinstance(rate, jax.core.Tracer):
        return keep
    return jnp.where((rate >= 0) & (rate < 1), keep, jnp.nan)


def _require_rate(rate: float) -> None:
    if not isinstance(rate, jax.core.Tracer) and not 0 <= rate < 1:
        raise ValueError(f"rate is the probability of noise, 0 <= rate < 1; got {rate}")
