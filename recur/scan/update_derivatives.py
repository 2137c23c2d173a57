"""The elementwise derivatives of a Unitwise cell's update."""

import jax
import jax.numpy as jnp
from jax import Array

from recur.core import Tree, Unitwise

Slopes = list[list[Array]]


def slopes(
    cell: Unitwise, params: Tree, state: Tree, r: Tree, z: Tree
) -> tuple[list[Array], Slopes, Slopes]:
    """The arrays of the new state, A[j][i] = d after_i / d state_j and B[g][i] = d after_i / d r_g.

    All A and B are diagonal, since `update` acts on each unit by itself. Each is stored in the
    shape of a state (..., n), and is the derivative in a direction of ones.
    """
    inputs, structure = jax.tree.flatten((state, r))

    def update(*inputs: Array) -> list[Array]:
        state, r = jax.tree.unflatten(structure, inputs)
        return jax.tree.leaves(cell.update(params, state, r, z))

    after, along = jax.linearize(update, *inputs)
    columns = [
        along(*(jnp.full_like(leaf, i == j) for i, leaf in enumerate(inputs)))
        for j in range(len(inputs))
    ]
    return after, columns[: len(after)], columns[len(after) :]


def combine(columns: Slopes, i: int, tangents: list[Array]) -> Array:
    """sum_j columns_j * tangent_j, for array i of the new state."""
    return sum(column[i] * d for column, d in zip(columns, tangents, strict=True))  # type: ignore
