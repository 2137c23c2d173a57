"""The members of a sweep, trained one after another and as one program, for `sweep`.

MinimalRNNs on the adding problem, from a grid of priors mu_b and learning rates. A member is the
same network on the same batches however it is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import Array, lax

from benchmarks import harness
from recur import Prior, cells, scan, train


@dataclass(frozen=True)
class Config(harness.Config):
    """The flags of the sweep."""

    rounds: int = 2
    """Rounds, in each of which every contestant compiles and trains again."""
    members: int = 32
    """Networks."""
    steps: int = 200
    """Updates of each."""
    n: int = 32
    """Units."""
    T: int = 50
    """Steps of a sequence."""
    batch: int = 20
    """Sequences per update."""


def grid(members: int) -> tuple[np.ndarray, np.ndarray]:
    """mu_b and learning rate of each member."""
    return np.linspace(-2.0, 6.0, members, dtype=np.float32), np.geomspace(
        1e-4, 1e-2, members, dtype=np.float32
    )


def draw(config: Config, mu_b: Array) -> tuple[cells.minimal.Params, Array]:
    """A member before its first update: the parameters of the cell and a readout (n,)."""
    rnn, readout = jax.random.split(jax.random.key(config.seed))
    params = cells.minimal.init(rnn, Prior(mu_b=mu_b), 2, config.n)
    return params, jax.random.normal(readout, (config.n,)) * config.n**-0.5


def sample(config: Config, key: Array) -> tuple[Array, Array]:
    """The adding problem: xs (T, batch, 2) of numbers and marks, ys the sum of two marked ones."""
    T, batch = config.T, config.batch
    numbers, first, second = jax.random.split(key, 3)
    x = jax.random.uniform(numbers, (T, batch))
    marked = (
        jax.random.randint(first, (batch,), 0, T // 2),
        jax.random.randint(second, (batch,), T // 2, T),
    )
    marks = sum(jax.nn.one_hot(m, T, axis=0) for m in marked)
    return jnp.stack([x, marks], axis=-1), jnp.sum(x * marks, axis=0)


class Plain(nn.Module):
    """MinimalRNN and readout, in Flax."""

    n: int

    @nn.compact
    def __call__(self, xs: Array) -> Array:
        """xs (T, B, 2) -> (B,)."""
        normal = nn.initializers.normal(self.n**-0.5)
        W, V = (self.param(name, normal, (self.n, self.n)) for name in "WV")
        b = self.param("b", nn.initializers.zeros, (self.n,))
        zs = jnp.tanh(nn.Dense(self.n, name="embedding")(xs))

        def step(h: Array, z: Array) -> tuple[Array, None]:
            u = nn.sigmoid(h @ W + z @ V + b)
            return u * h + (1 - u) * z, None

        h, _ = lax.scan(step, jnp.zeros_like(zs[0]), zs)
        return nn.Dense(1, use_bias=False, name="readout")(h)[:, 0]


def as_flax(rnn: cells.minimal.Params, readout: Array) -> dict:
    """The parameters with which `Plain` is this member."""
    embedding = {"kernel": rnn.E, "bias": rnn.a}
    weights = {"W": rnn.W, "V": rnn.V, "b": rnn.b}
    return {"params": {**weights, "embedding": embedding, "readout": {"kernel": readout[:, None]}}}


def plain_loop(config: Config) -> np.ndarray:
    """Losses (members, steps) of members trained one after another."""
    optimizer = optax.inject_hyperparams(optax.adam)(1e-3)
    model, key = Plain(config.n), jax.random.key(config.seed)

    @jax.jit
    def update(params: dict, opt: Any, t: int) -> tuple[dict, Any, Array]:
        xs, ys = sample(config, jax.random.fold_in(key, t))

        def loss(params: dict) -> Array:
            return jnp.mean((jnp.asarray(model.apply(params, xs)) - ys) ** 2)

        value, gradient = jax.value_and_grad(loss)(params)
        change, opt = optimizer.update(gradient, opt, params)
        return optax.apply_updates(params, change), opt, value

    begin = jax.jit(lambda mu_b: as_flax(*draw(config, mu_b)))
    losses = []
    for mu_b, rate in zip(*grid(config.members), strict=True):
        params = begin(mu_b)
        opt = optimizer.init(params)
        opt.hyperparams["learning_rate"] = jnp.asarray(rate)
        for t in range(config.steps):
            params, opt, value = update(params, opt, t)
            losses.append(value)
    return np.reshape(jax.device_get(losses), (config.members, config.steps))


def one_program(
    config: Config, over: Callable[[Callable], Callable] = lambda function: function
) -> np.ndarray:
    """Losses (members, steps) of the same members as one scan."""
    optimizer = optax.inject_hyperparams(optax.adam)(1e-3)

    def loss(params: tuple[cells.minimal.Params, Array], batch: tuple[Array, Array]) -> Array:
        (rnn, readout), (xs, ys) = params, batch
        return jnp.mean((scan.run(cells.minimal.cell, rnn, xs)[0] @ readout - ys) ** 2)

    def member(mu_b: Array, rate: Array) -> Array:
        state = train.start(jax.random.key(config.seed), draw(config, mu_b), optimizer)
        state.opt.hyperparams["learning_rate"] = rate
        return train.advance(loss, optimizer, partial(sample, config), state, config.steps)[1]

    return np.asarray(jax.jit(over(jax.vmap(member)))(*grid(config.members)))
