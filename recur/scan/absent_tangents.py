"""Tangents that are absent, not zero: without a tangent, nothing is differentiated or computed.

Most passes have no tangent for the inputs, which are data, and none for the first state. With
arrays of zeros in their place, the derivative of the engine would multiply whole sequences by
zeros. JAX says which tangents are zero (`SymbolicZero`, in a `custom_jvp`), but `jax.jvp` takes
only arrays. So a tangent here is an array or None. None is an empty tree, so `lax.scan`, slices and
reshapes skip it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from recur.core import Tree


def without_zeros(tangent: Tree) -> Tree:
    """The tangent that a `custom_jvp` was given, None in place of each symbolic zero."""
    return jax.tree.map(lambda d: None if isinstance(d, SymbolicZero) else d, tangent)


def filled(primal: Tree, tangent: Tree) -> Tree:
    """The tangent with zeros where it is absent."""
    return jax.tree.map(
        lambda p, d: jnp.zeros_like(p) if d is None else d, primal, tangent, is_leaf=_absent
    )


def along(f: Callable[..., Tree], primals: tuple, tangents: tuple) -> tuple[Tree, Tree]:
    """f(*primals) and its derivative along the tangents that are present; None if none are."""
    fixed, structure = jax.tree.flatten(primals)
    moves = jax.tree.map(lambda _, d: d is not None, primals, tangents)
    moving = [i for i, move in enumerate(jax.tree.leaves(moves)) if move]

    def g(*moved: Array) -> Tree:
        leaves = list(fixed)
        for i, leaf in zip(moving, moved, strict=True):
            leaves[i] = leaf
        return f(*jax.tree.unflatten(structure, leaves))

    if not moving:
        value = g()
        return value, jax.tree.map(lambda _: None, value)
    return jax.jvp(g, [fixed[i] for i in moving], jax.tree.leaves(tangents))


def add(tangent: Tree, other: Tree) -> Tree:
    """tangent + other, where the first may be absent."""
    return jax.tree.map(lambda d, e: e if d is None else d + e, tangent, other, is_leaf=_absent)


def _absent(leaf: Any) -> bool:
    return leaf is None
