"""Declared sums: parts of r = mix(h) and z = drive(x) that `update` reads only as r + z.

For these, update(params, state, r, z) = update(params, state, r + z, 0), and the derivatives agree
as well. So the sum is stored in place of r, and `drive` is not computed again.
"""

import jax
import jax.numpy as jnp

from recur.core import Tree

Sums = tuple[tuple[int, int], ...]  # (i, j): leaf i of r and leaf j of z are added


def summed(sums: Sums, r: Tree, z: Tree) -> Tree:
    """r with the sums in it."""
    leaves, structure = jax.tree.flatten(r)
    for i, j in sums:
        leaves[i] = leaves[i] + jax.tree.leaves(z)[j]
    return jax.tree.unflatten(structure, leaves)


def remaining(sums: Sums, z: Tree) -> Tree:
    """z with zeros where r holds the sum."""
    leaves, structure = jax.tree.flatten(z)
    for _, j in sums:
        leaves[j] = jnp.zeros_like(leaves[j])
    return jax.tree.unflatten(structure, leaves)
