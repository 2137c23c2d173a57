"""The states of a Unitwise cell over time, with a derivative that keeps little beside them.

Autodiff of a scan stores every gate of every step. Here the derivative is written from the cell's
structure instead: with h the output of state s,

    ds_t = A_t ds_{t-1} + B_t mix(dh_{t-1}) + u_t

A and B are the elementwise derivatives of `update`, and u is the contribution of the parameters and
inputs. They are recomputed from the states and from mix(h), for all steps of a chunk at once:
`drive` is one product, and so is the gradient of the weights, the transpose of u. Only the linear
recurrence remains in the loop, and the weights are stored in the order in which its product reads
them. Where memory is scarce, `mix` is recomputed as well. The derivative is a `custom_jvp`, so it
supports forward mode, second derivatives and `vmap`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur.core import Tree, Unitwise, hidden
from recur.scan import absent_tangents
from recur.scan.absent_tangents import along
from recur.scan.cutting import in_pieces, joined
from recur.scan.parameter_precision import as_given, wide
from recur.scan.planning import Plan
from recur.scan.sums import Sums, remaining, summed
from recur.scan.update_derivatives import combine, slopes


def trajectory(
    cell: Unitwise, plan: Plan, params: Tree, state: Tree, xs: Tree
) -> tuple[Tree, Tree]:
    """The last state and the states after every step, (T, ..., n), of inputs xs (T, ..., d).

    The derivative goes through time in pieces of `plan.chunk` steps. The last piece is shorter if T
    is not a multiple of it. For every step it keeps the state, and either keeps mix(h) or computes
    it again. If the cell declares that `update` reads only mix(h) + drive(x), it keeps this sum.
    """
    axes = hidden(state).ndim - 1
    batches = [s.shape[:axes] for s in jax.tree.leaves(state)]
    batches += [a.shape[1 : 1 + axes] for a in jax.tree.leaves(xs)]
    if axes == 0 or set(batches) != {(1,) * axes}:
        return _trajectory(cell, plan, params, state, xs)
    # a single sequence: without batch axes, its products are matrix-vector products
    alone = jax.tree.map(lambda s: s.reshape(s.shape[axes:]), state)
    xs = jax.tree.map(lambda a: a.reshape(a.shape[0], *a.shape[1 + axes :]), xs)
    final, ss = _trajectory(cell, plan, params, alone, xs)
    final = jax.tree.map(lambda s, end: end.reshape(s.shape), state, final)
    return final, jax.tree.map(lambda s, each: each.reshape(-1, *s.shape), state, ss)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _trajectory(
    cell: Unitwise, plan: Plan, params: Tree, state: Tree, xs: Tree
) -> tuple[Tree, Tree]:
    return _forward(cell, plan, params, state, xs, lambda state, *_: state)


def _forward(
    cell: Unitwise, plan: Plan, params: Tree, state: Tree, xs: Tree, out: Callable[..., Tree]
) -> tuple[Tree, Tree]:
    """The last state, and out(state, r, z) for the new state of every step and its r and z."""

    def step(state: Tree, z: Tree) -> tuple[Tree, Tree]:
        r = cell.mix(params, hidden(state))
        state = cell.update(params, state, r, z)
        return state, out(state, r, z)

    def chunk(state: Tree, xs: Tree) -> tuple[Tree, Tree]:
        return lax.scan(step, state, rows(cell.drive, hidden(state).ndim)(params, xs))

    if plan.ahead:
        final, outs = in_pieces(chunk, state, xs, plan.chunk)
        return final, joined(outs)
    return lax.scan(lambda state, x: step(state, cell.drive(params, x)), state, xs)


@partial(_trajectory.defjvp, symbolic_zeros=True)
def _(cell: Unitwise, plan: Plan, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    params, state, xs = primals
    dparams, dstate, dxs = map(absent_tangents.without_zeros, tangents)
    if plan.keep_mix:
        sums = cell.sums
        final, (ss, rs) = _forward(
            cell, plan, params, state, xs, lambda state, r, z: (state, summed(sums, r, z))
        )
    else:
        (final, ss), rs, sums = _trajectory(cell, plan, params, state, xs), None, ()
    vector = hidden(state).ndim == 1  # has a fast product with the weights as they are
    mix = partial(cell.mix, params) if vector else _turned_mix(cell, params)
    tangents_of = partial(_tangents, cell, sums, mix, params, wide(dparams))
    piece = jax.checkpoint(tangents_of, prevent_cse=False)
    start = state, absent_tangents.filled(state, dstate)
    (_, dfinal), dss = in_pieces(piece, start, (ss, rs, xs, dxs), plan.chunk)
    return (final, ss), (dfinal, joined(dss))


def _tangents(
    cell: Unitwise, sums: Sums, mix: Callable, params: Tree, dparams: Tree, carry: tuple, now: tuple
) -> tuple[tuple, Tree]:
    """The tangents of the states of one chunk, from the state before it and its tangent."""
    (first, ds), (ss, kept, xs, dxs) = carry, now
    dparams = as_given(params, dparams)
    lead = hidden(ss).ndim - 1
    before = jax.tree.map(lambda s, ss: jnp.concatenate([s[None], ss[:-1]]), first, ss)
    zs, dzs = along(rows(cell.drive, lead), (params, xs), (dparams, dxs))
    h = hidden(before)
    rs, drs = along(lambda params: rows(cell.mix, lead)(params, h), (params,), (dparams,))
    rs, zs = rs if kept is None else kept, remaining(sums, zs)

    _, us = along(
        lambda params, r, z: cell.update(params, before, r, z),
        (params, rs, zs),
        (dparams, drs, dzs),
    )
    _, A, B = slopes(cell, params, before, rs, zs)

    def step(ds: Tree, now: tuple) -> tuple[Tree, Tree]:
        A, B, u = now
        d, structure = jax.tree.flatten(ds)
        d += jax.tree.leaves(mix(hidden(ds)))
        ds = [combine([*A, *B], i, d) for i in range(len(A))]
        ds = absent_tangents.add(u, jax.tree.unflatten(structure, ds))
        return ds, ds

    ds, dss = lax.scan(step, ds, (A, B, us))
    return (jax.tree.map(lambda ss: ss[-1], ss), ds), dss


def rows(f: Callable[[Tree, Tree], Tree], lead: int) -> Callable[[Tree, Tree], Tree]:
    """f(params, x) with the `lead` leading axes of x merged, so its products are of matrices."""

    def flat(params: Tree, x: Tree) -> Tree:
        shape = jax.tree.leaves(x)[-1].shape[:lead]
        x = jax.tree.map(lambda a: a.reshape(math.prod(shape), *a.shape[lead:]), x)
        return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), f(params, x))

    return flat


def _turned_mix(cell: Unitwise, params: Tree) -> Callable[[Array], Tree]:
    """`mix` with matrices that lie in memory transposed: its transpose reads them in order.

    The transpose is the product of every backward step; docs/performance.md says what this saves.
    The matrices are transposed back within the step, where this costs nothing.
    """
    leaves, structure = jax.tree.flatten(params)
    matrices = {i: a.T for i, a in enumerate(leaves) if _is_matrix(a)}

    @partial(jax.checkpoint, prevent_cse=False)  # otherwise transposed back before the loop
    def mix(matrices: dict[int, Array], dh: Array) -> Tree:
        back = [matrices[i].T if i in matrices else leaf for i, leaf in enumerate(leaves)]
        return cell.mix(jax.tree.unflatten(structure, back), dh)

    return partial(mix, matrices)


def _is_matrix(leaf: Any) -> bool:
    return jnp.ndim(leaf) == 2 and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
