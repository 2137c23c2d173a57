"""Dropout of a cell's inputs and of its weights. For dropout of the recurrence, see `noise`.

    input_dropout    x enters as keep * x
    weight_drop      some entries of W are zero, the same ones at every step

Gal and Ghahramani 2016, arXiv:1512.05287; weight drop, Merity, Keskar and Socher 2018,
arXiv:1708.02182.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recur import expect
from recur.compose.masks import beside
from recur.compose.noise import inverted, require_rate, require_shape
from recur.core import Recurrence, Tree, Unitwise, recurrence, with_step
from recur.functions import Given


@expect.arguments(cell=recurrence)
def input_dropout(cell: Recurrence) -> Any:
    """The cell with dropout of its inputs, over x = (keep, x): the input enters as keep * x.

    For dropout between layers, wrap the upper layers of a stack; `PerLayer` passes each layer its
    keep. Gal and Ghahramani 2016, arXiv:1512.05287.

    Args:
        cell: A recurrence over inputs x (..., d). A `Unitwise` cell stays a `Unitwise`.

    Returns:
        The cell. Draw keep (T, ..., d) by `sequence_keep`, with one mask for all steps, or by
        `step_keep`, with a mask for each. At test time run the cell without dropout. A step raises
        ValueError if keep and x differ in shape.

    Raises:
        ValueError: The cell is not a recurrence.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.ones((2, 1)), b=jnp.zeros(1))
        >>> keep = jnp.tile(jnp.array([0.0, 2.0]), (3, 1))  # a rate of 1/2
        >>> cell = compose.input_dropout(cells.vanilla.relu)
        >>> print(scan.run(cell, params, (keep, jnp.ones((3, 2))))[1][:, 0])
        [2. 4. 6.]
    """
    if isinstance(cell, Unitwise):
        return replace(cell, drive=Given(_drive, cell))
    return with_step(cell, Given(_step, cell))


def _kept(x: tuple[Array, Array]) -> Array:
    keep, x_ = beside("keep", x)
    require_shape(keep, x_)
    return keep * x_


def _drive(cell: Unitwise, params: Tree, x: tuple[Array, Array]) -> Tree:
    return cell.drive(params, _kept(x))


def _step(
    cell: Recurrence, params: Tree, state: Tree, x: tuple[Array, Array]
) -> tuple[Tree, Array]:
    return cell.step(params, state, _kept(x))


@expect.arguments(key=expect.key, rate=expect.scalar, steps=expect.count(1), x=expect.floats)
def step_keep(key: Array, rate: float, steps: int, x: Array) -> Array:
    """keep for `input_dropout`, with a new mask for each step.

    Args:
        key: A random key.
        rate: The probability that an entry is dropped, 0 <= rate < 1.
        steps: The number of steps T.
        x: An array (..., d) of the shape and dtype of one step's input.

    Returns:
        keep (T, ..., d), 0 with probability `rate` and 1 / (1 - rate) otherwise, so that keep * x
        has the mean x. NaN for a traced rate out of range.

    Raises:
        ValueError: The rate is out of range.

    Example:
        >>> keep = compose.step_keep(jax.random.key(0), 0.5, 100, jnp.zeros(50))
        >>> print(keep.shape, sorted(set(keep.ravel().tolist())), f"{keep.mean():.1f}")
        (100, 50) [0.0, 2.0] 1.0
    """
    require_rate(rate)
    return inverted(key, rate, (steps, *x.shape), x.dtype)


@expect.arguments(key=expect.key, rate=expect.scalar, weights=expect.arrays)
def weight_drop(key: Array, rate: float, weights: Tree) -> Tree:
    """The weights with some entries set to zero (DropConnect).

    Draw once before a pass over a sequence, so that the same entries are zero at every step.
    Gradients reach the entries that are kept. Merity, Keskar and Socher 2018, arXiv:1708.02182.

    Args:
        key: A random key.
        rate: The probability that a weight is dropped, 0 <= rate < 1.
        weights: An array, such as the recurrent matrix `params.W`, or a tree of arrays.

    Returns:
        The same structure. Each entry is 0 with probability `rate` and divided by 1 - rate
        otherwise. NaN for a traced rate out of range.

    Raises:
        ValueError: The rate is out of range.
        TypeError: The weights are not arrays of floats.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.ones((50, 50)), V=jnp.eye(50), b=jnp.zeros(50))
        >>> thinner = params._replace(W=compose.weight_drop(jax.random.key(0), 0.5, params.W))
        >>> print(f"{(thinner.W == 0).mean():.1f} {thinner.W.max():.1f}")
        0.5 2.0
    """
    require_rate(rate)
    leaves, structure = jax.tree.flatten(weights)
    if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
        raise TypeError(f"weights are floating-point arrays; got {expect.told(weights)}")
    keys = jax.random.split(key, len(leaves))
    kept = [
        leaf * inverted(k, rate, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, kept)
