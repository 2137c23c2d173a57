"""How long does a training step take, compared with other libraries?

    python -m benchmarks.train_step --shapes 64 256 256 64 --cells gru lstm

A step is the mean square of all outputs and its gradient with respect to the parameters: forward
and backward, without an optimiser. No package has MinimalRNN and CFN, so these race only the scan
by hand.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks import flops, harness, layers
from benchmarks.harness import Contestant, Work, compiled
from recur import cells, scan, train


def main(config: layers.Config, folder: Path) -> None:
    """Race all rows."""
    layers.race(config, folder, field, work)


def field(config: layers.Config, cell: str, params: Any, xs: Array) -> dict[str, Contestant]:
    """All contestants of a row, with losses that are equal."""
    ours = cells.named(cell)

    def loss(params: Any, xs: Array) -> Array:
        return jnp.mean(scan.run(ours, params, xs)[1] ** 2)

    contestants = {"recur": compiled(jax.value_and_grad(loss), params, xs)}
    expected = contestants["recur"].run()
    found = layers.installed(config, cell, params)
    for name, peer in found.items():

        def peers_loss(weights: Any, xs: Array, peer: Any = peer) -> Array:
            return jnp.mean(peer.forward(weights, xs) ** 2)

        given = jnp.swapaxes(xs, 0, 1) if peer.batch_first else xs
        contestants[name] = compiled(jax.value_and_grad(peers_loss), peer.weights, given)
        if peer.equal == ours:
            layers.require_equal(name, contestants[name].run()[0], expected[0])
        if name == "scan":
            layers.require_equal(name, contestants[name].run(), expected, 1e-3)  # sums over T
            by_hand = peers_loss
    if layers.spread_over_devices(xs):
        for name, one in (("recur, all", loss), ("scan, all", by_hand)):
            contestants[name] = compiled(train.value_and_grad(one), params, xs)
            layers.require_equal(name, contestants[name].run(), expected, 1e-3)
    if (layer := layers.torch(config, cell, params, xs)) is not None:
        layers.require_equal("torch", layer.step(), expected[0])
        contestants["torch"] = Contestant(layer.step)
    return contestants


def work(cell: str, params: Any, xs: Array) -> Work:
    """Products of a step of autodiff; inputs read twice, states written once and read once."""
    products = len(xs) * flops.step_flops(cell, params, xs)[1]
    return Work(products, 2.0 * xs.nbytes + 2.0 * layers.state_bytes(cell, params, xs))


if __name__ == "__main__":
    harness.main(layers.Config, main)
