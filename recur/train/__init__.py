"""Gradient descent as one scan, pure in its state, so `vmap` trains many networks at once.

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.01))
    state = train.start(key, params, optimizer)
    state, losses = jax.jit(lambda s: train.advance(loss, optimizer, sample, s, steps=100))(state)

The state holds everything that training depends on: advancing twice by 50 steps equals advancing
once by 100, and a saved and restored state continues to the same result. A sweep is `jax.vmap` over
states. A network that diverges or has reached its goal (`finish`) keeps its parameters, while the
others continue to train.
`over_devices` shares a sweep among all devices, and `value_and_grad` one network's batch.

To compute in bfloat16, keep the parameters of the state in float32, and cast within the loss:

    def loss(params, batch):
        half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
        hs = scan.run(cell, half, batch.xs.astype(jnp.bfloat16))[1]
        return error(hs.astype(jnp.float32))

The gradient, the state of the optimizer and the update are then in float32. In bfloat16
they would be lost: 1 - .001 is 1 in eight bits, and Adam's second moment stops half-way. `scan`
itself sums the gradient over time in float32. States and outputs are in bfloat16.

Penalties are terms of the loss:

    def loss(params, batch):
        xs, labels = batch
        hs = scan.run(cell, params, xs)[1]
        body, state = scan.tied(cell, params), cell.start(params)
        return (
            error(hs)
            + alpha * train.omega(error, cell, params, xs)
            + beta * analysis.flossing(flossing_key, body, state, xs[:, 0], k=8)
        )
"""

from recur.train.data_parallel import value_and_grad
from recur.train.descent import (
    Loss,
    Sample,
    State,
    advance,
    advance_stateful,
    finish,
    start,
    training,
)
from recur.train.gradient_norm_penalty import omega
from recur.train.parallel_sweep import over_devices

__all__ = [
    "State",
    "Loss",
    "Sample",
    "start",
    "advance",
    "advance_stateful",
    "finish",
    "training",
    "omega",
    "over_devices",
    "value_and_grad",
]
