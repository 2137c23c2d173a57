"""One batch over all local devices, each with its share of the examples."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax
from jax.sharding import AxisType, PartitionSpec

from recur.core import Tree


def value_and_grad(
    loss: Callable[[Tree, Tree], Array], batch_axes: Any = 1
) -> Callable[[Tree, Tree], tuple[Array, Tree]]:
    """`jax.value_and_grad` of a mean loss(params, batch), the batch split over local devices.

        value, gradient = jax.jit(train.value_and_grad(loss, (1, 0)))(params, (xs, labels))

    `batch_axes` says which axis of the batch's arrays counts examples, as vmap's `in_axes` does: 1
    for xs (T, B, d), None for what all devices need whole. The loss must be a mean over examples;
    then value and gradient are those of one device, to rounding. One device is no special case.
    Raises ValueError where the devices do not divide the batch, and for axes counted from the end.
    """
    mesh = jax.make_mesh(
        (jax.local_device_count(),),
        ("batch",),
        axis_types=(AxisType.Auto,),
        devices=jax.local_devices(),
    )

    def mean(params: Tree, batch: Tree) -> tuple[Array, Tree]:
        return lax.pmean(jax.value_and_grad(loss)(params, batch), "batch")

    def split(params: Tree, batch: Tree) -> tuple[Array, Tree]:
        if any(axis < 0 for axis in jax.tree.leaves(batch_axes)):
            raise ValueError(f"batch_axes are counted from the front, 0 or more; got {batch_axes}")
        specs = jax.tree.map(_spec, batch_axes, is_leaf=lambda axis: axis is None)
        axes = jax.tree.broadcast(batch_axes, batch, is_leaf=lambda axis: axis is None)
        jax.tree.map(lambda axis, a: _require(axis, a, mesh.size), axes, batch,
                     is_leaf=lambda axis: axis is None)  # fmt: skip
        inside = jax.shard_map(
            mean, mesh=mesh, in_specs=(PartitionSpec(), specs), out_specs=PartitionSpec(),
            check_vma=False,
        )  # fmt: skip
        return inside(params, batch)

    return split


def _spec(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, "batch")


def _require(axis: int | None, array: Array, devices: int) -> None:
    if axis is not None and array.shape[axis] % devices:
        raise ValueError(
            f"{devices} devices cannot share {array.shape[axis]} examples (axis {axis} of "
            f"{array.shape}) equally; take a multiple of {devices}"
        )
