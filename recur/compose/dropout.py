"""Dropout: of a cell's inputs, of its recurrent product, of its weights.

    input_dropout        x enters as keep * x
    recurrent_dropout    r = mix(keep * h): one mask per sequence
    weight_drop          some entries of W are zero, the same ones at every step

Masks are passed as arrays, x = (keep, x), never as keys. Gal and Ghahramani 2016,
arXiv:1512.05287; weight drop, Merity, Keskar and Socher 2018, arXiv:1708.02182.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from recur import expect
from recur.compose.masks import beside
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


def _dropping_step(
    cell: Unitwise, params: Tree, state: Tree, x: tuple[Array, Tree]
) -> tuple[Tree, Array]:
    keep, x = beside("keep", x)
    require_shape(keep, hidden(state))
    r = cell.mix(params, keep * hidden(state))
    state = cell.update(params, state, r, cell.drive(params, x))
    return state, hidden(state)


def require_shape(keep: Array, a: Array) -> None:
    """Raise ValueError unless keep has the shape of the array that it multiplies."""
    if jnp.shape(keep) != jnp.shape(a):
        raise ValueError(
            f"keep has shape {jnp.shape(keep)} at a step, and the array that it multiplies "
            f"{jnp.shape(a)}. Pass one number for each entry; use jnp.broadcast_to if sequences, "
            "units or steps share them"
        )


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
