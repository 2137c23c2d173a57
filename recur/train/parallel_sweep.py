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

    No member sees another, so nothing is communicated on the way. A number of members that the
    devices do not divide is filled up with copies of the last, which are cut off again. One device
    gives the function itself, and so does `shard_map`, where members are on their devices already.
    Members that are on a mesh, or run under `jax.set_mesh`, are shared over that mesh: over the
    axes that share them where these are Explicit, or else over all that shard nothing else.

    Args:
        function: A function from pytrees of arrays (members, ...) to such pytrees; data that the
            members share are closed over.

    Returns:
        The function. Results stay where they were computed, unless there are several processes,
        which get all of them each. Take `jax.device_get` of what goes on to programs that are not
        over devices.

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
            "a sweep takes arrays (members, ...) that share their first axis; got first axes "
            f"{sorted(shapes)}. Close over what the members share"
        )
    return shapes.pop()[0]
