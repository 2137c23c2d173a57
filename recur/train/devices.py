"""A sweep over all devices, each with its share of the members."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from recur.core import Tree


def over_devices(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """The same function of stacked members, computed by all devices of all processes at once.

        advance = jax.jit(train.over_devices(jax.vmap(one)))

    Arguments and results are pytrees of arrays (members, ...); data that the members share are
    closed over. No member sees another, so nothing is communicated on the way. A number of members
    that the devices do not divide is filled up with copies of the last, which are cut off again.

    Results stay where they were computed, unless there are several processes: then each gets all
    of them. Take `jax.device_get` of what goes on to programs that are not over devices. One
    device gives the function itself. Raises ValueError where the arguments disagree on members.
    """
    if jax.device_count() == 1:
        return function
    mesh = jax.make_mesh((jax.device_count(),), ("members",), axis_types=(AxisType.Auto,))
    split, whole = PartitionSpec("members"), NamedSharding(mesh, PartitionSpec())
    shared = jax.shard_map(function, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)

    def spread(*members: Any) -> Tree:
        size = _size(members)
        filled = -(-size // mesh.size) * mesh.size
        index = jnp.minimum(jnp.arange(filled), size - 1)
        results = shared(*jax.tree.map(lambda a: a[index], members) if filled > size else members)
        if filled > size:
            results = jax.tree.map(lambda a: a[:size], results)
        if jax.process_count() > 1:
            results = jax.lax.with_sharding_constraint(results, whole)
        return results

    return spread


def _size(members: Tree) -> int:
    """How many members there are."""
    shapes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(members)}
    if len(shapes) != 1 or shapes == {()}:
        raise ValueError(
            "a sweep takes arrays (members, ...) that share their first axis; got first axes "
            f"{sorted(shapes)}. Close over what the members share"
        )
    return shapes.pop()[0]
