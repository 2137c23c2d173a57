"""Checkpoints: what was saved comes back, from the newest that is whole."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recur import train
from recur.checkpoint import Checkpoints

OPTIMIZER = optax.adam(0.1)


def loss(params, batch):
    return jnp.sum((params["w"] - 2) ** 2 * (1 + batch**2))


def sample(key):
    return jax.random.normal(key, (3,))


def start(seed=0):
    return train.start(jax.random.key(seed), {"w": jnp.zeros(3)}, OPTIMIZER)


def advance(state, steps):
    return train.advance(loss, OPTIMIZER, sample, state, steps)


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_a_restored_state_goes_on_to_the_same_end(tmp_path):
    half, _ = advance(start(), 5)
    with Checkpoints(tmp_path) as saved:
        assert saved.restore(start())[0] == 0
        saved.save(5, half)
    with Checkpoints(tmp_path) as saved:
        step, restored = saved.restore(start(99))
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
