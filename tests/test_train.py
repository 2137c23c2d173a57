"""Training as one scan, and checkpoints that continue it exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recur import train
from recur.checkpoint import Checkpoints

KEY = jax.random.key(0)
OPTIMIZER = optax.adam(0.1)
TARGET = jnp.array([1.0, -2.0, 3.0])


def loss(params, batch):
    return jnp.sum((params["w"] - TARGET) ** 2 * (1 + batch**2))


def sample(key):
    return jax.random.normal(key, (3,))


def start(key=KEY):
    return train.start(key, {"w": jnp.zeros(3)}, OPTIMIZER)


def advance(state, steps, loss=loss):
    return train.advance(loss, OPTIMIZER, sample, state, steps)


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_training_finds_the_minimum():
    state, losses = advance(start(), 300)
    np.testing.assert_allclose(state.params["w"], TARGET, atol=1e-2)  # Adam's steps have shrunk
    assert losses[-1] < 1e-2 * losses[0]
    assert (state.step, state.diverged) == (300, -1)


def test_one_step_is_the_optimizers_own():
    state, losses = advance(start(), 1)
    batch = sample(jax.random.fold_in(KEY, 0))
    value, gradient = jax.value_and_grad(loss)({"w": jnp.zeros(3)}, batch)
    np.testing.assert_allclose(losses[0], value, rtol=1e-6)
    # Adam's first step is the learning rate against the gradient's sign
    np.testing.assert_allclose(state.params["w"], -0.1 * jnp.sign(gradient["w"]), rtol=1e-4)


def test_pieces_equal_one_piece():
    whole, losses = advance(start(), 10)
    half, first = advance(start(), 4)
    rest, second = advance(half, 6)
    same(whole, rest)
    same(losses, jnp.concatenate([first, second]))


def test_a_divergence_is_recorded_and_stops_only_its_member():
    def explodes(params, batch):  # NaN once the first weight has passed the member's limit
        return jnp.where(params["w"][0] > params["limit"], jnp.nan, loss(params, batch))

    def member(limit):
        params = {"w": jnp.zeros(3), "limit": limit}
        return advance(train.start(KEY, params, OPTIMIZER), 50, explodes)

    state, losses = jax.vmap(member)(jnp.array([0.45, 1e9]))
    step = int(state.diverged[0])
    assert 4 < step < 50  # Adam moves at most 0.1 a step
    assert state.diverged[1] == -1
    assert np.isfinite(losses[0, :step]).all()
    assert np.isnan(losses[0, step:]).all()
    assert np.isfinite(losses[1]).all()
    assert np.isfinite(state.params["w"]).all()


def test_steps_must_be_positive():
    with pytest.raises(ValueError, match="at least one step, got steps=0"):
        advance(start(), 0)


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_restored_state_goes_on_to_the_same_end(tmp_path):
    half, _ = advance(start(), 5)
    with Checkpoints(tmp_path) as saved:
        assert saved.restore(start())[0] == 0
        saved.save(5, half)
    with Checkpoints(tmp_path) as saved:
        step, restored = saved.restore(start(jax.random.key(99)))
    assert step == 5
    same(half, restored)
    same(advance(half, 5)[0], advance(restored, 5)[0])


def test_the_newest_are_kept_and_clear_forgets(tmp_path):
    with Checkpoints(tmp_path, keep=2) as saved:
        for step in (1, 2, 3):
            saved.save(step, {"x": jnp.full(2, step, jnp.float32)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]
    with Checkpoints(tmp_path) as saved:
        assert saved.restore({"x": jnp.zeros(2)})[0] == 3
        saved.clear()
        assert saved.restore({"x": jnp.zeros(2)})[0] == 0


def test_another_configuration_is_refused_with_the_differences(tmp_path):
    with Checkpoints(tmp_path) as saved:
        saved.save(7, {"w": jnp.zeros(3), "old": jnp.zeros(1)})
    with Checkpoints(tmp_path) as saved:
        with pytest.raises(ValueError, match="step 7") as caught:
            saved.restore({"w": jnp.zeros(4), "new": jnp.zeros(1)})
        lines = str(caught.value).splitlines()[1:]
    assert lines == [
        "  new: saved nothing, now float32[1]",
        "  old: saved float32[1], now nothing",
        "  w: saved float32[3], now float32[4]",
    ]
