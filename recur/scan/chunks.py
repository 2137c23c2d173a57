"""A sequence in chunks of equal length; the last one may be shorter."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from recur.core import Tree
from recur.scan.input_checks import length


def in_pieces(
    f: Callable[[Tree, Tree], tuple[Tree, Tree]], state: Tree, xs: Tree, size: int
) -> tuple[Tree, list[Tree]]:
    """Carry a state through f(state, piece) -> (state, out) over pieces of `size` steps of xs.

    The outs come as a list of one or two trees, (pieces, ...) each: of the whole pieces, and of the
    last one by itself where it is shorter.
    """
    T = length(xs)
    whole, outs = T - T % size, []
    if whole:
        parts = jax.tree.map(lambda a: a[:whole].reshape(whole // size, size, *a.shape[1:]), xs)
        state, out = lax.scan(f, state, parts)
        outs.append(out)
    if whole < T:
        state, out = f(state, jax.tree.map(lambda a: a[whole:], xs))
        outs.append(jax.tree.map(lambda a: a[None], out))
    return state, outs


def joined(outs: list[Tree]) -> Tree:
    """Outs (pieces, steps, ...) of `in_pieces` as (T, ...)."""
    flat = [
        jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), out)
        for out in outs
    ]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *flat)
