"""A batch shared by the devices of a mesh: each device computes its own sequences.

Where the axes of a mesh are Explicit, the type of an array says which of its axes are sharded. A
pass then runs inside `shard_map` over the mesh axes that share the batch, and no part of a sequence
moves between devices. Where they are Manual, inside a `shard_map` of the caller, each device has
its own batch already. Where they are Auto, the compiler divides the work.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from recur.core import Tree
from recur.scan.input_checks import describe, input_array

Walk = Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]  # (params, state, now) -> (state, outs)


class Share(NamedTuple):
    """How the devices of a mesh share a batch."""

    mesh: Mesh | AbstractMesh
    batch: tuple  # for each batch axis, the mesh axes that share it, or None

    @property
    def axes(self) -> frozenset[str]:
        """The mesh axes that share the batch."""
        return frozenset(name for entry in self.batch for name in names_of(entry))

    @property
    def parts(self) -> tuple[int, ...]:
        """The number of parts into which each batch axis is split."""
        return tuple(
            math.prod(self.mesh.shape[name] for name in names_of(entry)) for entry in self.batch
        )

    @property
    def manual(self) -> bool:
        """Whether this runs inside a `shard_map` of the caller."""
        return any(kind == AxisType.Manual for kind in self.mesh.axis_types)

    def place(self, front: tuple, tree: Tree) -> Tree:
        """The arrays, with the first axes sharded as `front` says and no other over our mesh axes.

        On Auto axes, `shard_map` does this.
        """
        kinds = dict(zip(self.mesh.axis_names, self.mesh.axis_types, strict=True))
        if any(kinds[name] == AxisType.Auto for name in self.axes):
            return tree

        def placed(a: Array) -> Array:
            old = jax.typeof(a).sharding.spec
            rest = (tuple(n for n in names_of(e) if n not in self.axes) for e in old[len(front) :])
            new = P(*front, *(names or None for names in rest))
            return a if new == old else jax.reshard(a, NamedSharding(self.mesh, new))

        return jax.tree.map(placed, tree)

    def inside(
        self, f: Callable, fronts: tuple, out_specs: Any, check_vma: bool = True
    ) -> Callable:
        """f on each device, with its arguments sharded as their fronts say."""
        shares = jax.shard_map(
            f,
            mesh=self.mesh,
            in_specs=tuple(P(*front) for front in fronts),
            out_specs=out_specs,
            axis_names=set(self.axes),
            check_vma=check_vma,
        )
        return lambda *trees: shares(*map(self.place, fronts, trees))


def share_of(now: tuple, state: Tree = ()) -> Share | None:
    """The share of the first array that is sharded over its batch. The input is tried first.

    The arrays of now = (xs, ...) are (T, ...batch, ...), those of a state (...batch, n). None if no
    batch is sharded on an Explicit mesh.
    """
    x = input_array(now[0])
    batch = np.ndim(x) - 2
    timed = [(1, a) for a in [x, *jax.tree.leaves(now)]]
    for lead, a in timed + [(0, a) for a in jax.tree.leaves(state)]:
        spec = tuple(jax.typeof(a).sharding.spec[lead : lead + batch])
        if any(map(names_of, spec)):
            return Share(mesh_of(a), spec)
    return None


def share_among(counted: list[tuple[int, Any]], devices: Mesh) -> Share:
    """How arrays are shared along one axis each, given as pairs (axis, array).

    The mesh is that of the arrays, or of `jax.set_mesh`, or else one of these devices. The mesh
    axes are those that already share the arrays; if none does, all that shard nothing else, or all.
    """
    mesh = mesh_of(*(a for _, a in counted))
    mesh = devices if mesh.empty else mesh
    used = set()
    for axis, a in counted:
        spec = jax.typeof(a).sharding.spec
        if names_of(spec[axis]):
            return Share(mesh, (spec[axis],))
        used |= {name for entry in spec for name in names_of(entry)}
    free = tuple(name for name in mesh.axis_names if name not in used)
    return Share(mesh, (free or mesh.axis_names,))


def mesh_of(*arrays: Any) -> Mesh | AbstractMesh:
    """The mesh of the first array that has one, or else of `jax.set_mesh`; it may be empty.

    If the array is not traced, the mesh holds the devices themselves.
    """
    for a in arrays:
        sharding = None if isinstance(a, jax.core.Tracer) else getattr(a, "sharding", None)
        held = sharding if isinstance(sharding, NamedSharding) else jax.typeof(a).sharding
        if not held.mesh.empty:
            return held.mesh
    return jax.sharding.get_abstract_mesh()


def alike(start: Callable[..., Tree], params: Tree, state: Tree, now: tuple) -> tuple:
    """(params, state, now) as devices carry them through time, with now = (xs, ...).

    The state is shared like the inputs. If it is None, it is start(params, batch), and each device
    makes its own part. Raises ValueError if the inputs are sharded and the state does not have
    their batch axes.
    """
    share, batch = share_of(now, state), input_array(now[0]).shape[1:-1]
    if share is None:
        state = start(params, batch) if state is None else state
    elif state is None:
        local = tuple(size // part for size, part in zip(batch, share.parts, strict=True))
        own = share.inside(lambda params: start(params, local), ((),), P(*share.batch))
        state = own(params)
    else:
        _require_batch(state, batch)
        state = share.place(share.batch, state)
    return varying((params, state, now))


def shared(walk: Walk, params: Tree, state: Tree, now: tuple) -> tuple[Tree, Tree]:
    """walk(params, state, now), where each device computes its own part of the batch.

    The arrays of outs are (T, ...batch, ...), like those of now = (xs, ...).
    """
    share = share_of(now, state)
    if share is None:
        return walk(params, state, now)
    each, times = share.batch, (None, *share.batch)
    own = share.inside(
        lambda *given: walk(*varying(given)), ((), each, times), (P(*each), P(*times))
    )
    return own(params, state, now)


def placement(xs: Tree, state: Tree) -> Callable[[Tree], Tree]:
    """A function that shards arrays (...batch, ...) of one step, such as a carry, like xs."""
    share, own = share_of((xs,), state), varies((xs, state))
    if share is None:
        return lambda tree: jax.tree.map(partial(vary, own), tree)
    return partial(share.place, share.batch)


def varying(tree: Tree) -> Tree:
    """The arrays, varying over every Manual axis over which one of them varies.

    So a derivative with respect to parameters that devices share is summed over devices once, after
    the last step, and not at each step.
    """
    return jax.tree.map(partial(vary, varies(tree)), tree)


def varies(tree: Tree) -> frozenset[str]:
    """The Manual axes over which one of the arrays differs from device to device."""
    kinds = (jax.typeof(a).manual_axis_type for a in jax.tree.leaves(tree))
    return frozenset().union(*(kind.varying for kind in kinds if kind is not None))


def vary(axes: frozenset[str], a: Array) -> Array:
    """The array, varying over these Manual axes too."""
    missing = axes - varies(a)
    return lax.pcast(a, tuple(missing), to="varying") if missing else a


def names_of(entry: Any) -> tuple[str, ...]:
    """The mesh axes of one entry of a PartitionSpec."""
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def _require_batch(state: Tree, batch: tuple[int, ...]) -> None:
    if any(np.shape(a)[: len(batch)] != batch for a in jax.tree.leaves(state)):
        raise ValueError(
            f"the inputs are sharded over their batch axes {batch}, so each array of the state "
            f"must begin with these axes; got {describe(state)}. Use cell.start(params, batch)."
        )
