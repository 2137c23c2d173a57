"""The parameters of a cell at any width: vectors are drawn, matrices are described by their scales.

How a cell uses its matrices, and how its `init` draws them, is examined once, at small widths. A
cell that the theory does not cover raises ValueError here, with the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recur.core import Prior, Recurrence, Tree, Unitwise, hidden
from recur.theory.preactivations import Roles, roles
from recur.theory.wide_matrix import NoTheory, Wide

Product = Callable[[int, Array], Array]  # (which matrix, x (k, n)) -> x @ W (k, g*n)

PROBE = 128  # the width at which matrices are drawn, once, to learn their scales
DRAWS = 16


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The parameters of a cell at width n: vectors are drawn, matrices are known by their scales.

    `ensemble` makes it. A matrix is g gates side by side, each (rows, n) with entries of variance
    scale^2 / rows.
    """

    cell: Unitwise
    prior: Prior
    n: int
    names: tuple[str, ...]
    shapes: tuple[jax.ShapeDtypeStruct, ...]
    structure: Any
    scales: tuple[Array, ...]  # (g,) for a matrix, (0,) for a vector

    @property
    def dtype(self) -> Any:
        """The dtype of the parameters."""
        return self.shapes[0].dtype

    @property
    def roles(self) -> Roles:
        """The role of each product in the cell, at any width."""
        return _roles(self.cell)

    def vectors(self, key: Array) -> list[Any]:
        """The parameters that are not matrices, drawn by the cell's own `init`."""
        return _vectors(self.cell, self.n, key, self.prior)

    def params(self, vectors: list[Any], product: Product) -> Tree:
        """The cell's parameters, with a `Wide` for each matrix."""
        leaves = [
            Wide(name, shape.shape, shape.dtype, partial(product, j)) if vector is None else vector
            for j, (name, shape, vector) in enumerate(
                zip(self.names, self.shapes, vectors, strict=True)
            )
        ]
        return jax.tree.unflatten(self.structure, leaves)


def ensemble(cell: Recurrence, prior: Prior, n: int) -> Ensemble:
    """What theory needs to know of a cell's parameters. Raises ValueError with the reason if not.

    The scales come from a draw at width 128. Their dependence on the prior is exact and
    differentiable. A constant factor (such as Glorot's) is known to .1 %, and taken as 1 if it is
    within that.
    """
    if not isinstance(cell, Unitwise):
        raise ValueError(
            f"theory needs a Unitwise cell, whose units interact in one linear map; got {cell}. "
            "Simulate it instead: scan.tied and scan.untied run every cell."
        )
    constants = probe(cell)
    names, shapes, structure = _leaves(cell, n)
    scales = tuple(
        jnp.asarray(c, shape.dtype) * scale
        for c, scale, shape in zip(constants, _dependence(cell, prior), shapes, strict=True)
    )
    return Ensemble(cell, prior, n, names, shapes, structure, scales)


@partial(jax.jit, static_argnums=(0, 1))  # so that the unused matrices are never drawn
def _vectors(cell: Unitwise, n: int, key: Array, prior: Prior) -> list[Any]:
    leaves = jax.tree.leaves(cell.init(key, prior, n, n))
    return [None if leaf.ndim == 2 else leaf for leaf in leaves]


def _leaves(cell: Unitwise, n: int) -> tuple[tuple[str, ...], tuple, Any]:
    """Names, shapes and structure of the parameters at width n."""
    tree = jax.eval_shape(lambda: cell.init(jax.random.key(0), Prior(), n, n))
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    names = tuple(jax.tree_util.keystr(path).strip(".") for path, _ in paths)
    return names, tuple(leaf for _, leaf in paths), structure


def _gates(matrix: Array, n: int) -> Array:
    """(..., rows, g*n) -> (..., rows, g, n)."""
    return matrix.reshape(*matrix.shape[:-1], -1, n)


def _dependence(cell: Unitwise, prior: Prior) -> list[Array]:
    """How the scale of each matrix depends on the prior, (g,), relative to `Prior()`; vectors (0,).

    Both priors use the same key, so this is a ratio without noise. It is linear, so it can be zero.
    """
    key = jax.random.key(0)
    drawn, one = (jax.tree.leaves(cell.init(key, p, PROBE, PROBE)) for p in (prior, Prior()))

    def ratio(W: Array, W1: Array) -> Array:
        if W.ndim != 2:
            return jnp.zeros(0, W.dtype)
        W, W1 = _gates(W, PROBE), _gates(W1, PROBE)
        return jnp.sum(W * W1, axis=(0, 2)) / jnp.sum(W1 * W1, axis=(0, 2))

    return [ratio(W, W1) for W, W1 in zip(drawn, one, strict=True)]


@cache
def probe(cell: Unitwise) -> tuple[np.ndarray, ...]:
    """The scale of each matrix under `Prior()`, (g,), and (0,) for vectors, with all checks.

    Raises ValueError for matrices that are not of independent entries of one variance per gate,
    and for functions that do more than multiply by them.
    """
    other = Prior(1.7, 0.6, 0.3, 0.2)

    def draw(key: Array, prior: Prior) -> list[Array]:
        return jax.tree.leaves(cell.init(key, prior, PROBE, PROBE))

    with jax.ensure_compile_time_eval():
        keys = jax.random.split(jax.random.key(1), DRAWS)
        draws = jax.jit(jax.vmap(lambda key: draw(key, Prior())))(keys)
        again, one = jax.jit(lambda key: (draw(key, other), draw(key, Prior())))(keys[0])
        names, _, _ = _leaves(cell, PROBE)
        scales = tuple(
            _scale(name, *(np.asarray(a, np.float64) for a in leaf))
            if leaf[0].ndim >= 3
            else np.zeros(0)
            for name, *leaf in zip(names, draws, again, one, strict=True)
        )
        _check_units(cell, scales)
    return scales


@cache
def _roles(cell: Unitwise) -> Roles:
    """The role of each product in the cell, read from the programs of one unit."""
    names, shapes, structure = _leaves(cell, 1)
    one = Ensemble(cell, Prior(), 1, names, shapes, structure, ())

    def params(product: Product) -> Tree:
        vectors = [None if s.ndim == 2 else jnp.zeros(s.shape, s.dtype) for s in shapes]
        return one.params(vectors, product)

    def start() -> tuple[Tree, Tree]:
        idle = params(lambda j, x: jnp.zeros((*x.shape[:-1], shapes[j].shape[1]), x.dtype))
        return idle, cell.start(idle)

    def parts(product: Product) -> tuple[Tree, Tree]:
        z = cell.drive(params(product), jnp.zeros(1, one.dtype))
        return cell.mix(params(product), hidden(start()[1])), z

    def update(r: Tree, z: Tree) -> Tree:
        idle, state = start()
        return cell.update(idle, state, r, z)

    return roles(parts, update, [s.shape[-1] for s in shapes], one.dtype)


def _scale(name: str, draws: np.ndarray, again: np.ndarray, one: np.ndarray) -> np.ndarray:
    """The scale of one matrix from its draws (DRAWS, rows, g*n), (g,); 1 if within error of 1."""
    if draws.shape[1] != PROBE or draws.shape[2] % PROBE or draws.ndim != 3:
        raise ValueError(
            f"theory at infinite width needs matrices (n, g*n) or (d, g*n); the matrix {name} has "
            f"shape {draws.shape[1:]} where d = n = {PROBE}"
        )
    W, again, one = (a.reshape(*a.shape[:-1], -1, PROBE) for a in (draws, again, one))
    slope = np.sum(again * one, axis=(0, 2)) / np.sum(one * one, axis=(0, 2))
    if np.abs(again - slope[:, None] * one).max() > 1e-3 * np.abs(again).max():
        raise ValueError(
            "theory needs a prior that does nothing but scale its matrices; this one does more "
            f"to the matrix {name}"
        )
    power = np.moveaxis(PROBE * W**2, 2, 1)  # (DRAWS, g, rows, n)
    variance = power.mean(axis=(0, 1 + 1, 3))
    power = power / variance[:, None, None]
    diagonal = power.diagonal(axis1=2, axis2=3).mean(axis=(0, 2))
    # 2048 entries: a relative error of .03 for Gaussian ones, so .25 is beyond chance
    uneven = np.abs(
        np.concatenate(
            [
                diagonal - 1,
                power.mean(axis=(0, 2)).ravel() - 1,
                power.mean(axis=(0, 3)).ravel() - 1,
            ]
        )
    ).max()
    error = np.sqrt(variance.max() / PROBE / power[:, 0].size)
    zeros, offset = np.mean(W == 0), np.abs(W.mean(axis=(0, 1, 3))).max()
    if uneven > 0.25 or zeros > 1e-3 or offset > 6 * error:
        raise ValueError(
            f"theory at infinite width needs dense random matrices: init must draw {name} with "
            "independent entries of mean 0 and one variance, and it does not (the diagonal's is "
            f"{diagonal.max():.3g} of the mean, {zeros:.0%} of the entries are 0). Identity and "
            "sparse matrices have no theory here. Simulate the cell (scan.tied, scan.untied)."
        )
    return np.where(np.abs(variance - 1) < 5 * np.sqrt(2 / power[:, 0].size), 1, np.sqrt(variance))


def _check_units(cell: Unitwise, scales: tuple[Any, ...]) -> None:
    """Raise ValueError unless units interact only in the products with matrices."""
    n = 3
    names, shapes, structure = _leaves(cell, n)
    small = Ensemble(cell, Prior(), n, names, shapes, structure, scales)
    vectors = small.vectors(jax.random.key(0))

    def product(j: int, x: Array) -> Array:
        return jnp.ones((*x.shape[:-1], shapes[j].shape[1]), x.dtype)

    params = small.params(vectors, product)

    def step(state: Tree, x: Array) -> Tree:
        r = cell.mix(params, hidden(state))
        return cell.update(params, state, r, cell.drive(params, x))

    x = jnp.linspace(0.1, 0.9, n, dtype=small.dtype)
    try:
        state = jax.tree.map(lambda s: s + x, cell.start(params))
        jacobians = jax.tree.leaves(jax.jit(jax.jacfwd(step, (0, 1)))(state, x))
    except NoTheory:
        raise
    except Exception as error:
        raise ValueError(
            "the functions of the cell do not run on matrices known only by their products x @ "
            f"W, with inputs x (..., d), so this cell has no theory here. Its own error: {error}"
        ) from error
    if any(np.any(J[~np.eye(n, dtype=bool)] != 0) for J in map(np.asarray, jacobians)):
        raise ValueError(
            "units interact outside a product with a matrix (in mix, drive or update), but "
            "theory at infinite width covers only products with dense random matrices"
        )
