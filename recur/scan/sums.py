"""Where `update` reads r = mix(h) and z = drive(x) by their sum alone: then the sum is kept for r.

There update(params, state, r, z) = update(params, state, r + z, 0), and its derivatives too, and
what `drive` made of the input need not be computed again.
"""

from collections import Counter

import jax
import jax.numpy as jnp
from jax import Array

from recur.core import Tree, Unitwise, hidden

Sums = dict[int, int]  # leaf i of r: leaf j of z; they are added, and read nowhere else


def sums_of(cell: Unitwise, params: Tree, state: Tree, x: Tree) -> Sums:
    """The sums, read from the program of one step's `update`."""
    from jax.extend.core import Literal  # here, as it would be a sixth of what importing recur adds

    leaves, structure = jax.tree.flatten((params, state, x))
    arrays = {i: _alone(leaf) for i, leaf in enumerate(leaves) if isinstance(leaf, Array)}

    def whole(arrays: dict[int, Array]) -> tuple[Tree, Tree, Tree]:
        return jax.tree.unflatten(structure, [arrays.get(i, v) for i, v in enumerate(leaves)])

    def parts(arrays: dict[int, Array]) -> tuple[Tree, Tree]:
        params, state, x = whole(arrays)
        return cell.mix(params, hidden(state)), cell.drive(params, x)

    def update(arrays: dict[int, Array], r: Tree, z: Tree) -> Tree:
        params, state, _ = whole(arrays)
        return cell.update(params, state, r, z)

    r, z = jax.eval_shape(parts, arrays)
    program = jax.make_jaxpr(update)(arrays, r, z).jaxpr
    sizes = [len(jax.tree.leaves(tree)) for tree in (r, z)]
    inputs = program.invars[-sum(sizes) :]
    rs = {v: i for i, v in enumerate(inputs[: sizes[0]])}
    zs = {v: j for j, v in enumerate(inputs[sizes[0] :])}
    read = [v for eqn in program.eqns for v in eqn.invars] + program.outvars
    uses = Counter(v for v in read if not isinstance(v, Literal))
    sums = {}
    for eqn in program.eqns:
        once = [v for v in eqn.invars if not isinstance(v, Literal) and uses[v] == 1]
        alike = len({(v.aval.shape, v.aval.dtype) for v in once}) == 1
        if eqn.primitive.name == "add" and alike:
            i, j = (next((of[v] for v in once if v in of), None) for of in (rs, zs))
            if i is not None and j is not None:
                sums[i] = j
    return sums


def _alone(a: Array) -> jax.ShapeDtypeStruct:
    """The type of an array, without the mesh that it is on."""
    return jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a))


def summed(sums: Sums, r: Tree, z: Tree) -> Tree:
    """r with the sums in it."""
    leaves, structure = jax.tree.flatten(r)
    for i, j in sums.items():
        leaves[i] = leaves[i] + jax.tree.leaves(z)[j]
    return jax.tree.unflatten(structure, leaves)


def remaining(sums: Sums, z: Tree) -> Tree:
    """z with zeros where r holds the sum."""
    leaves, structure = jax.tree.flatten(z)
    for j in sums.values():
        leaves[j] = jnp.zeros_like(leaves[j])
    return jax.tree.unflatten(structure, leaves)
