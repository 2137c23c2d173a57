"""Gradient descent as one scan, pure in its state, so `vmap` trains many networks at once.

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.01))
    state = train.start(key, params, optimizer)
    state, losses = jax.jit(lambda s: train.advance(loss, optimizer, sample, s, steps=100))(state)

The state holds all that training is: advancing twice by 50 steps equals once by 100, and a state
that was saved and restored goes on to the same end. A sweep is `jax.vmap` over states; a network of
it that diverges or has reached its goal (`finish`) keeps its parameters, and the others train on.
`over_devices` shares a sweep among all devices, and `value_and_grad` one network's batch.

What else shall be small is a term of the loss:

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

from recur.train.batches import value_and_grad
from recur.train.descent import Loss, Sample, State, advance, finish, start, training
from recur.train.devices import over_devices
from recur.train.omega import omega

__all__ = [
    "State",
    "Loss",
    "Sample",
    "start",
    "advance",
    "finish",
    "training",
    "omega",
    "over_devices",
    "value_and_grad",
]
