"""One batch over all local devices, each with its share of the examples."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from recur import expect
from recur.core import Tree
from recur.scan.sharding import share_among, varies, vary


@expect.arguments(loss=expect.function)
def value_and_grad(
    loss: Callable[[Tree, Tree], Array], batch_axes: Any = 1
) -> Callable[[Tree, Tree], tuple[Array, Tree]]:
    """`jax.value_and_grad` of a mean loss, the batch split over local devices.

    Value and gradient are those of one device, to rounding; one device is not a special case. A
    batch that is already on a mesh, or runs under `jax.set_mesh`, is split over that mesh: over the
    axes that share its examples if these are Explicit, and otherwise over all axes. Within
    `shard_map` each device already has its examples, and the mean goes over the axes over which the
    batch varies and the parameters do not.

    Args:
        loss: (params, batch) -> a number, a mean over examples.
        batch_axes: Which axis of each array of the batch counts examples, like `in_axes` of vmap: 1
            for xs (T, B, d), None for arrays that all devices need whole.

    Returns:
        (params, batch) -> (value, gradient), the gradient like the parameters.

    Raises:
        ValueError: An axis is counted from the end. When called: the devices do not divide the
            batch, an array lacks an axis, or within `shard_map` the batch does not vary (or
            check_vma is False).
        TypeError: The loss is not a function, or an axis is not an integer.

    Example:
        >>> def loss(w, batch):
        ...     xs, targets = batch
        ...     return jnp.mean((xs @ w - targets) ** 2)
        >>> batch = jnp.ones((8, 1)), jnp.zeros(8)
        >>> value, gradient = jax.jit(train.value_and_grad(loss, (0, 0)))(jnp.ones(1), batch)
        >>> print(value, gradient)
        1.0 [2.]
    """
    for axis in jax.tree.leaves(batch_axes):
        expect.integer("each of batch_axes", axis)
        if axis < 0:
            raise ValueError(
                f"batch_axes must be counted from the front, 0 or more; got {batch_axes}"
            )
    local = jax.make_mesh(
        (jax.local_device_count(),),
        ("batch",),
        axis_types=(AxisType.Auto,),
        devices=jax.local_devices(),
    )

    def mean(axes: Any, params: Tree, batch: Tree) -> tuple[Array, Tree]:
        return lax.pmean(jax.value_and_grad(loss)(params, batch), tuple(axes))

    def split(params: Tree, batch: Tree) -> tuple[Array, Tree]:
        axes = jax.tree.leaves(
            jax.tree.broadcast(batch_axes, batch, is_leaf=_is_none), is_leaf=_is_none
        )
        arrays, structure = jax.tree.flatten(batch)
        counted = [(axis, a) for axis, a in zip(axes, arrays, strict=True) if axis is not None]
        for axis, a in counted:
            if axis >= jnp.ndim(a):
                raise ValueError(
                    f"batch_axes says that axis {axis} of an array {jnp.shape(a)} counts "
                    "examples, but the array has no such axis; use None for arrays that every "
                    "device needs whole"
                )
        if own := varies([a for _, a in counted]):
            return mean(own - varies(params), jax.tree.map(partial(vary, own), params), batch)
        share = share_among(counted, local)
        if share.manual:
            raise ValueError(
                "within shard_map, the mean over examples goes over the mesh axes that the batch "
                "varies over, and this batch varies over none (or check_vma is False). For the "
                "examples of one device, use jax.value_and_grad"
            )
        for axis, a in counted:
            _require(axis, a, *share.parts)
        fronts = tuple(() if axis is None else (None,) * axis + share.batch for axis in axes)
        inside = share.inside(
            lambda params, *arrays: mean(share.axes, params, jax.tree.unflatten(structure, arrays)),
            ((), *fronts),
            P(),
            check_vma=False,
        )
        return inside(params, *arrays)

    return split


def _is_none(axis: Any) -> bool:
    return axis is None


def _require(axis: int, array: Array, devices: int) -> None:
    if array.shape[axis] % devices:
        raise ValueError(
            f"{devices} devices cannot share {array.shape[axis]} examples (axis {axis} of "
            f"{array.shape}) equally; use a multiple of {devices}"
        )
