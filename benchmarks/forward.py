"""How long does a forward pass take, compared with other libraries?

    python -m benchmarks.forward --shapes 64 256 256 64 --cells gru lstm

It computes all outputs of one layer, and checks that they equal those of every peer with the same
cell.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import AxisType, PartitionSpec

from benchmarks import flops, harness, layers
from benchmarks.harness import Contestant, Work, compiled
from recur import cells, scan


def main(config: layers.Config, folder: Path) -> None:
    """Race all rows."""
    layers.race(config, folder, field, work)


def field(config: layers.Config, cell: str, params: Any, xs: Array) -> dict[str, Contestant]:
    """All contestants of a row, with outputs that are equal."""
    ours = cells.named(cell)

    def forward(params: Any, xs: Array) -> Array:
        return scan.run(ours, params, xs)[1]

    contestants = {"recur": compiled(forward, params, xs)}
    expected = contestants["recur"].run()
    found = layers.installed(config, cell, params)
    for name, peer in found.items():
        given = jnp.swapaxes(xs, 0, 1) if peer.batch_first else xs
        contestants[name] = compiled(peer.forward, peer.weights, given)
        if peer.equal == ours:
            hs = contestants[name].run()
            layers.require_equal(name, jnp.swapaxes(hs, 0, 1) if peer.batch_first else hs, expected)
    if layers.spread_over_devices(xs):
        for name, one in (("recur, all", forward), ("scan, all", found["scan"].forward)):
            contestants[name] = compiled(over_devices(one), params, xs)
            layers.require_equal(name, contestants[name].run(), expected)
    if (layer := layers.torch(config, cell, params, xs)) is not None:
        layers.require_equal("torch", layer.forward().cpu(), expected)
        contestants["torch"] = Contestant(layer.forward)
    return contestants


def over_devices(forward: Any) -> Any:
    """The same outputs, where each device computes its part of the batch."""
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("batch",), (AxisType.Auto,), devices=devices)
    split = PartitionSpec(None, "batch")
    return jax.shard_map(
        forward, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False
    )


def work(cell: str, params: Any, xs: Array) -> Work:
    """Products of a step; inputs read and states written."""
    products = len(xs) * flops.step_flops(cell, params, xs)[0]
    return Work(products, float(xs.nbytes + layers.state_bytes(cell, params, xs)))


if __name__ == "__main__":
    harness.main(layers.Config, main)
