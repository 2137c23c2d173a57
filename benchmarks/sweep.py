"""Is a sweep faster as one program than as members trained one after another?

    python benchmarks/sweep.py [members] [steps] [n]

MinimalRNNs on the adding problem, from a grid of priors mu_b and learning rates. The plain loop is
what one writes with Flax and Optax: one jitted update, compiled once for all members, called from
Python. Ours trains all members in one scan, shared among all devices. Both draw their batches on
the device, and both times are from the first trace to the last loss, compilation included.
"""

import os
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from recur import Prior, cells, scan, train

jax.config.update("jax_num_cpu_devices", os.cpu_count())  # before JAX starts; not for a GPU

KEY = jax.random.key(0)
BATCH, T = 20, 50


def sample(key):
    """The adding problem: xs (T, BATCH, 2) of numbers and marks, ys the sum of two marked ones."""
    numbers, first, second = jax.random.split(key, 3)
    x = jax.random.uniform(numbers, (T, BATCH))
    marked = (jax.random.randint(first, (BATCH,), 0, T // 2),
              jax.random.randint(second, (BATCH,), T // 2, T))  # fmt: skip
    marks = sum(jax.nn.one_hot(m, T, axis=0) for m in marked)
    return jnp.stack([x, marks], axis=-1), jnp.sum(x * marks, axis=0)


def grid(members):
    """mu_b and learning rate of each member."""
    return np.linspace(-2.0, 6.0, members, dtype=np.float32), np.geomspace(
        1e-4, 1e-2, members, dtype=np.float32
    )


class Plain(nn.Module):
    """MinimalRNN and readout, in Flax."""

    n: int
    mu_b: float

    @nn.compact
    def __call__(self, xs):
        """xs (T, B, 2) -> (B,)."""
        W = self.param("W", nn.initializers.normal(self.n**-0.5), (self.n, self.n))
        V = self.param("V", nn.initializers.normal(self.n**-0.5), (self.n, self.n))
        b = self.param("b", nn.initializers.constant(self.mu_b), (self.n,))
        zs = jnp.tanh(nn.Dense(self.n)(xs))

        def step(h, z):
            u = nn.sigmoid(h @ W + z @ V + b)
            return u * h + (1 - u) * z, None

        return nn.Dense(1)(jax.lax.scan(step, jnp.zeros_like(zs[0]), zs)[0])[:, 0]


def plain_loop(members, steps, n):
    """Last losses of members trained one after another."""
    optimizer = optax.inject_hyperparams(optax.adam)(1e-3)
    model = Plain(n, 0.0)

    @jax.jit
    def update(params, opt, key, t):
        xs, ys = sample(jax.random.fold_in(key, t))
        value, gradient = jax.value_and_grad(lambda p: jnp.mean((model.apply(p, xs) - ys) ** 2))(
            params
        )
        change, opt = optimizer.update(gradient, opt, params)
        return optax.apply_updates(params, change), opt, value

    begin = jax.jit(lambda key: model.init(key, sample(key)[0]))
    last = []
    for mu_b, rate in zip(*grid(members), strict=True):
        params = begin(KEY)
        params["params"]["b"] = jnp.full(n, mu_b)
        opt = optimizer.init(params)
        opt.hyperparams["learning_rate"] = jnp.asarray(rate)
        for t in range(steps):
            params, opt, value = update(params, opt, KEY, t)
        last.append(value)
    return np.array(last)


def one_program(members, steps, n, over=train.over_devices):
    """Last losses of the same members as one scan."""
    cell = cells.minimal.cell
    optimizer = optax.inject_hyperparams(optax.adam)(1e-3)

    def loss(params, batch):
        (rnn, readout), (xs, ys) = params, batch
        return jnp.mean((scan.run(cell, rnn, xs)[0] @ readout - ys) ** 2)

    def member(mu_b, rate):
        rnn = cell.init(KEY, Prior(mu_b=mu_b), 2, n)
        readout = jax.random.normal(KEY, (n,)) / np.sqrt(n)
        state = train.start(KEY, (rnn, readout), optimizer)
        state.opt.hyperparams["learning_rate"] = rate
        return train.advance(loss, optimizer, sample, state, steps)[1][-1]

    return np.asarray(jax.jit(over(jax.vmap(member)))(*grid(members)))


def main(members=32, steps=200, n=32):
    """Print one table."""
    members, steps, n = int(members), int(steps), int(n)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores"
    print(f"{members} members, {steps} updates, n = {n}, batch {BATCH}, T = {T}; {device}")
    contestants = {
        "plain loop, one after another": plain_loop,
        "one program, one device": partial(one_program, over=lambda function: function),
        "one program, all devices": one_program,
    }
    slow = None
    for name, train_all in contestants.items():
        began = time.perf_counter()
        last = train_all(members, steps, n)
        seconds = time.perf_counter() - began
        slow = slow or seconds
        times = f"{seconds:8.2f} s  {slow / seconds:5.1f}x"
        print(f"{name:<30} {times}  median last loss {np.median(last):.3f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
