"""A sweep over all devices, each with its share of the members."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from recur import expect
from recur.core import Tree
from recur.scan.sharding import share_among


@expect.arguments(function=expect.function)
def over_devices(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """The same function of stacked members, computed by all devices of all processes at once.

        advance = jax.jit(train.over_devices(jax.vmap(one)))

    Members do not depend on each other, so nothing is communicated. If the devices do not divide
    the number of members, copies of the last member fill it up, and are removed again. On one
    device the result is the function itself, and also within `shard_map`, where members are already
    on their devices. Members that are on a mesh, or run under `jax.set_mesh`, are shared over that
    mesh: over the axes that share them if these are Explicit, or else over all axes that shard
    nothing else.

    Args:
        function: A function from pytrees of arrays (members, ...) to such pytrees; data that the
            members share are closed over.

    Returns:
        The function. Results stay where they were computed. If there are several processes, each
        gets all results. Use `jax.device_get` on results for programs that are not over devices.

    Raises:
        ValueError: When called, the arguments disagree on members.
        TypeError: It is not a function.

    Example:
        >>> double = jax.jit(train.over_devices(jax.vmap(lambda w: 2 * w)))
        >>> print(double(jnp.arange(3.0)))
        [0. 2. 4.]
    """
    if jax.device_count() == 1:
        return function
    devices = jax.make_mesh((jax.device_count(),), ("members",), axis_types=(AxisType.Auto,))

    def spread(*members: Any) -> Tree:
        size = _size(members)
        share = share_among([(0, a) for a in jax.tree.leaves(members)], devices)
        if share.manual:
            return function(*members)
        parts, split = *share.parts, P(*share.batch)
        filled = -(-size // parts) * parts
        index = jnp.minimum(jnp.arange(filled), size - 1)
        given = jax.tree.map(lambda a: a[index], members) if filled > size else members
        shared = share.inside(function, (share.batch,) * len(members), split, check_vma=False)
        results = shared(*given)
        if filled > size:
            results = jax.tree.map(lambda a: a[:size], share.place((), results))
        if jax.process_count() > 1:
            whole = NamedSharding(share.mesh, P())
            results = jax.lax.with_sharding_constraint(share.place((), results), whole)
        return results

    return spread


def _size(members: Tree) -> int:
    """How many members there are."""
    shapes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(members)}
    if len(shapes) != 1 or shapes == {()}:
        raise ValueError(
            "a sweep needs arrays (members, ...) that share their first axis; got first axes "
            f"{sorted(shapes)}. Close over arrays that the members share"
        )
    return shapes.pop()[0]
