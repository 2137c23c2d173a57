"""What training in bfloat16 keeps in float32: sums over time, and what the optimizer moves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import normal

from recur import cells, scan, train

T, BATCH, D, N = 1024, 8, 2, 3
# A state is rounded at each step, by 2^-9, and so are the terms of a gradient and its last value:
# 4e-3 is what these leave. A sum of T terms of one sign that is itself rounded stops near 256 of
# them, and is wrong by two thirds; one of 128 chunks by .07, one of 32 segments or pieces by .01.
ROUNDING = 5e-3


def in_bfloat16(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), tree)


def last(state, hs):
    """A loss with every output in it: the gradient has a term a step, all of them of one sign."""
    return jnp.mean(hs.astype(jnp.float32))


WAYS = {
    "plain scan": lambda p, xs: last(*scan.run(CELL, p, xs, engine="scan")),
    "chunked": lambda p, xs: last(*scan.run(CELL, p, xs, engine="chunked")),
    "segments": lambda p, xs: last(*scan.run(CELL, p, xs, memory="sqrt")),
    "truncated": lambda p, xs: last(*scan.truncated(CELL, p, xs, truncate=16)),
    "total": lambda p, xs: scan.total(read, CELL, p, xs, xs)[1] / (T * BATCH * N),
}
CELL = cells.vanilla.cell


def read(hs, targets):
    return jnp.sum(hs.astype(jnp.float32))


@pytest.fixture(scope="module")
def gradients():
    """Of every way in bfloat16, and of the first in float32 from the same numbers."""
    params = in_bfloat16(cells.vanilla.Params(normal(N, N) / 4, normal(D, N) / 2, normal(N) / 2))
    xs = in_bfloat16(normal(T, BATCH, D, seed=1))
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), (params, xs))

    @jax.jit
    def everything(half, wide):
        found = {way: jax.grad(loss)(*half) for way, loss in WAYS.items()}
        expected = {"truncated": jax.grad(WAYS["truncated"])(*wide)}
        return found, {**dict.fromkeys(WAYS, jax.grad(WAYS["plain scan"])(*wide)), **expected}

    return everything((params, xs), wide)


@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_over_many_steps_is_summed_in_float32(way, gradients):
    found, expected = (each[way] for each in gradients)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == jnp.bfloat16  # that of the parameters, rounded once
        error = np.linalg.norm(a.astype(np.float32) - b) / np.linalg.norm(b)
        assert error < ROUNDING


def test_states_and_outputs_have_the_dtype_of_the_parameters():
    """And so a memory in bfloat16 that one is added to at each step stops at 256."""
    n = 1
    params = in_bfloat16(cells.lstm.Params(np.zeros((n, 4)), np.zeros((D, 4)), np.full(4, 20.0)))
    xs = in_bfloat16(np.zeros((400, 1, D)))
    state, hs = jax.jit(lambda p, xs: scan.run(cells.lstm.cell, p, xs))(params, xs)
    assert {a.dtype for a in (*state, hs)} == {jnp.dtype(jnp.bfloat16)}
    assert state.c == 256  # i = f = g = 1; of 257, eight bits hold the first


def test_parameters_in_float32_learn_what_they_would_lose_in_bfloat16():
    """The recipe of recur.train: float32 in the state of training, bfloat16 within the loss."""
    seen = []

    def loss(params, batch):
        half = in_bfloat16(params)
        hs = scan.run(CELL, half, batch)[1]
        seen.append(hs.dtype)
        return jnp.mean(hs.astype(jnp.float32)) / 50

    def sample(key):
        return in_bfloat16(jax.random.normal(key, (5, 2, D)))

    adam, few = optax.adam(1e-3), 20
    params = cells.vanilla.Params(normal(N, N), normal(D, N), np.ones(N, np.float32))
    starts = {"float32": params, "bfloat16": in_bfloat16(params)}

    @jax.jit
    def learn(starts):
        return {
            name: train.advance(loss, adam, sample, train.start(jax.random.key(0), p, adam), few)[0]
            for name, p in starts.items()
        }

    ends = learn(starts)
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    floats = [a for a in jax.tree.leaves((ends["float32"].params, ends["float32"].opt)) if a.ndim]
    assert {a.dtype for a in floats} == {jnp.dtype(jnp.float32)}
    # Adam moves by its rate where a gradient keeps its sign, as that of the bias does
    np.testing.assert_allclose(ends["float32"].params.b, 1 - few * 1e-3, rtol=2e-3)
    assert (ends["bfloat16"].params.b == 1).all()  # .999 is 1 in eight bits, each time anew


def test_adams_second_moment_stops_growing_in_bfloat16():
    """So no state of the optimizer is kept in it: with gradients of 1 it stops half-way to 1."""
    adam = optax.adam(1e-3)

    @jax.jit
    def moments(gradients):
        def update(opt, _):
            return adam.update(gradients, opt)[1], None

        with jax.numpy_dtype_promotion("standard"):
            opt = jax.lax.scan(update, adam.init(gradients), length=3000)[0]
        return opt[0].nu

    nu = moments({"float32": jnp.ones(1), "bfloat16": jnp.ones(1, jnp.bfloat16)})
    np.testing.assert_allclose(nu["float32"], 1 - 0.999**3000, rtol=1e-3)
    assert nu["bfloat16"] <= 0.5
