"""The one way in which a sequence is cut: chunks of equal length; the last one may be shorter."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from recur.core import Tree
from recur.scan.input_checks import length


def in_pieces(
    f: Callable[[Tree, Tree], tuple[Tree, Tree]],
    state: Tree,
    xs: Tree,
    size: int,
    between: Callable[[Tree], Tree] | None = None,
) -> tuple[Tree, list[Tree]]:
    """Carry a state through f(state, piece) -> (state, out) over pieces of `size` steps of xs.

    `between` is applied to the state between two pieces. The outs are a list of one or two trees,
    (pieces, ...) each: one for the pieces in the loop, and one for the last piece if it is shorter
    or if there is a `between`, which is not applied after it.
    """
    T = length(xs)
    looped = (T - (between is not None)) // size * size
    outs = []

    def piece(state: Tree, xs: Tree) -> tuple[Tree, Tree]:
        state, out = f(state, xs)
        return state if between is None else between(state), out

    if looped:
        parts = jax.tree.map(lambda a: a[:looped].reshape(looped // size, size, *a.shape[1:]), xs)
        state, out = lax.scan(piece, state, parts)
        outs.append(out)
    if looped < T:
        state, out = f(state, jax.tree.map(lambda a: a[looped:], xs))
        outs.append(jax.tree.map(lambda a: a[None], out))
    return state, outs


def joined(outs: list[Tree]) -> Tree:
    """Outs (pieces, steps, ...) of `in_pieces` as (T, ...)."""
    flat = [
        jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), out)
        for out in outs
    ]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *flat)
