"""Trains many networks as one program to name the digit they have read from their last state."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments import harness
from experiments.parts.placing import placed
from recur import hidden, scan, tasks, train
from recur.core import Prior, Recurrence, Tree

ASKED = 1000  # test digits per measurement, drawn anew; the standard error is 1 %
# Axes of the stacked states. All members share key and step, and so get the same batches.
SHARED: Any = {field: None if field in ("key", "step") else 0 for field in train.State._fields}


@dataclass(frozen=True)
class Config(harness.Sized):
    """How the networks are trained. Each experiment adds the flags of its own networks."""

    n: int = 64
    """Units of each network."""
    seeds: int = 2
    """Networks of each kind."""
    updates: int = 300
    """Updates of each network: gradient descent, momentum .9, gradients clipped to norm 1."""
    every: int = 100
    """Updates between two measurements; a checkpoint follows each."""
    batch: int = 32
    """Digits per update, the same for all networks."""
    data_dir: Path | None = None
    """Folder of IDX files (MNIST, Fashion-MNIST), instead of the 5,000 digits that pip fetches."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        if self.every < 1 or self.updates % self.every:
            raise ValueError(f"every ({self.every}) must divide updates ({self.updates})")


class Network(NamedTuple):
    """The parameters of a recurrence and of the readout of its last state."""

    recurrence: Tree
    readout: Array  # (n, 10)


class Members(NamedTuple):
    """M networks before training."""

    networks: Network
    sizes: Array  # (M,) root mean square of the last states; states are divided by it


def draw(key: Array, cell: Recurrence, prior: Prior, n: int, xs: Array) -> Members:
    """Draw one network. `xs` (T, B, d) are typical inputs."""
    recurrence, readout = jax.random.split(key)
    params = cell.init(recurrence, prior, xs.shape[-1], n)
    last = hidden(scan.run(cell, params, xs)[0])
    R = jax.random.normal(readout, (n, 10)) / jnp.sqrt(n).astype(last.dtype)
    return Members(Network(params, R), jnp.sqrt(jnp.mean(last**2)))


def logits(cell: Recurrence, network: Network, size: Array, xs: Array) -> Array:
    """Logits after the last step, (1, B, 10)."""
    return hidden(scan.run(cell, network.recurrence, xs)[0])[None] / size @ network.readout


def fit(
    label: str,
    cell: Recurrence,
    members: Members,
    task: tasks.Task,
    asked: tasks.Task,
    rate: float,
    config: Config,
    record: harness.Record,
) -> tuple[np.ndarray, np.ndarray]:
    """Train all networks; returns accuracies (M, updates / every) and updates of divergence (M,).

    `rate` is the initial learning rate. It falls to 0 along a cosine.
    """
    falling = optax.cosine_decay_schedule(rate, config.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(falling, momentum=0.9))
    batches = jax.random.key(config.seed + 1)

    def one(state: train.State, size: Array) -> tuple[train.State, Array, Array]:
        def loss(network: Network, batch: tasks.Batch) -> Array:
            return tasks.loss(logits(cell, network, size, batch.xs), batch.targets)

        def sample(key: Array) -> tasks.Batch:
            return task.sample(key, config.batch)

        state, losses = train.advance(loss, optimizer, sample, state, config.every, config.every)
        # no update has this key, see train.State
        after_all = jax.random.fold_in(state.key, config.updates)
        batch = asked.sample(after_all, ASKED)
        right = tasks.accuracy(logits(cell, state.params, size, batch.xs), batch.targets)
        return state, losses[0], right

    def advance(states: train.State, sizes: Array) -> tuple[train.State, Array, Array]:
        axes = train.State(**SHARED)
        one_key = states._replace(key=states.key[0], step=states.step[0])
        after, losses, right = jax.vmap(one, (axes, 0), (axes, 0, 0))(one_key, sizes)
        return after._replace(key=states.key, step=states.step + config.every), losses, right

    begin = jax.vmap(lambda network: train.start(batches, network, optimizer))
    state = placed(begin(members.networks))
    accuracies = np.full((len(members.sizes), config.updates // config.every), np.nan)
    advance_all: Any = jax.jit(train.over_devices(advance))

    def measured(k: int, state: train.State, accuracies: np.ndarray) -> tuple[train.State, dict]:
        state, losses, accuracies[:, k] = advance_all(state, members.sizes)
        return state, {"loss": losses, "accuracy": accuracies[:, k]}

    state, accuracies = record.rounds(
        label, config.updates, config.every, state, accuracies, measured
    )
    return accuracies, np.asarray(state.diverged)
