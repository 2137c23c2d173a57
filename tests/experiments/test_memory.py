"""The two experiments on memory, at toy size, against the claims in their docstrings."""

from functools import partial

import numpy as np
import optax
import pytest
from killing import require_resumed

from experiments import harness, long_memory, temporal_order

# --- temporal order -------------------------------------------------------------------------------


def short(**changes):
    values = {"lengths": (10,), "seeds": 2, "updates": 60, "every": 20, "judged": 50, "n": 8}
    return temporal_order.Config(**values | changes)


@pytest.mark.long
def test_temporal_order_resumes_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr(temporal_order, "METHODS", ("SGD + clip",))
    result = require_resumed(lambda record: temporal_order.run(short(), record), tmp_path)
    assert result.errors.shape == (1, 1, 2, 3)
    assert np.isfinite(result.errors).all()


@pytest.mark.long
def test_methods_differ_by_their_term_alone(tmp_path):
    """Without its weight Omega changes nothing, nor does a clip that is never reached."""

    def errors(method, **changes):
        return temporal_order.fit(method, 10, short(**changes), harness.Record(tmp_path))[0]

    plain, clip, omega = temporal_order.METHODS
    descent = errors(plain)
    np.testing.assert_array_equal(errors(omega, alpha=0.0, clip=1e9), descent)
    assert (errors(omega, clip=1e9) != descent).any()
    assert (errors(clip, clip=0.01) != descent).any()


@pytest.mark.slow
def test_a_solved_task_ends_its_training(tmp_path, monkeypatch):
    monkeypatch.setattr(temporal_order, "ERRORS", 1.1)  # all answers may be wrong
    errors, solved, diverged = temporal_order.fit("SGD", 10, short(), harness.Record(tmp_path))
    assert solved.tolist() == [20, 20]
    assert diverged.tolist() == [-1, -1]
    assert np.isfinite(errors[:, 0]).all()
    assert np.isnan(errors[:, 1:]).all()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_the_longest_length_is_that_of_most_seeds():
    solved = np.full((3, 2, 5), -1)
    solved[1, 0, :3], solved[2, 0], solved[2, 1, :3] = 500, 500, 1000
    result = temporal_order.Result(
        np.array([16, 45]), np.array([500, 1000]), np.zeros((3, 2, 5, 2)), solved, solved
    )
    assert temporal_order.longest(result).tolist() == [0, 16, 45]
    assert temporal_order.table(result).rows[1] == ("SGD + clip", "0.6 (1.0)", "0.0 (1.0)", "16")
    temporal_order.plot(result)


@pytest.mark.optimised
@pytest.mark.long
def test_clipping_helps_and_omega_helps_more(tmp_path):
    """At this rate, high for T = 30, only Omega keeps the gradient where it can be followed."""
    config = short(lengths=(30,), learning_rate=0.3, updates=2500, every=500, judged=500, n=50)
    result = temporal_order.run(config, harness.Record(tmp_path))
    assert temporal_order.rates(result)[:, 0].tolist() == [0, 0, 1]


# --- long memory ----------------------------------------------------------------------------------


def tiny(**changes):
    values = {"T": 10, "length": 2, "n": 8, "updates": 40, "every": 20, "seeds": 2}
    return long_memory.Config(**values | changes)


def last(kind, task, tmp_path, **changes):
    """Last losses in units of the baseline, by draw: the best rate's median over seeds."""
    config = tiny(**changes)
    draws = long_memory.networks(config.T)[kind]
    task = dict(zip(long_memory.TASKS, long_memory.both(config), strict=True))[task]
    losses, _ = long_memory.fit("toy", task, draws, config, harness.Record(tmp_path))
    losses = np.nan_to_num(losses[..., -1], nan=np.inf) / task.baseline.loss  # (D, L, S)
    return dict(zip(draws, np.median(losses, axis=-1).min(axis=-1), strict=True))


@pytest.mark.slow
def test_a_rotation_copies_and_an_identity_does_not(tmp_path):
    found = last("linear", "copy", tmp_path, n=24, updates=600, every=100, seeds=1)
    assert found["orthogonal"] < long_memory.SOLVED
    assert found["identity"] > 3 * found["orthogonal"]


@pytest.mark.long
def test_plain_descent_breaks_relu_and_not_sigmoid(tmp_path, monkeypatch):
    """Without clipping, at a rate of 1; sigmoid's slope is 1/4 at most, so nothing can explode."""
    plain = lambda rate: optax.inject_hyperparams(optax.sgd)(learning_rate=rate)  # noqa: E731
    monkeypatch.setattr(long_memory, "descent", plain)
    config = tiny(T=30, length=3, n=32, updates=20, every=10, rates=(1.0,))
    task = long_memory.both(config)[0]
    broken = {}
    for kind in ("sigmoid", "ReLU"):
        draws = long_memory.networks(config.T)[kind]
        del draws["orthogonal"]
        (tmp_path / kind).mkdir()
        record = harness.Record(tmp_path / kind)
        steps = long_memory.fit("copy", task, draws, config, record)[1]  # (draws, 1, seeds)
        broken[kind] = dict(zip(draws, steps >= 0, strict=True))
    assert not broken["sigmoid"]["Gaussian"].any()
    assert broken["ReLU"]["Gaussian"].all()
    assert broken["ReLU"]["identity"].all()


@pytest.mark.long
def test_a_short_memory_takes_a_slope_that_lasts(tmp_path):
    """Adding over ten steps: ReLU learns it from a Gaussian and from the identity, sigmoid only
    where its weights make up for its slope."""
    sizes = {"n": 32, "updates": 600, "every": 100, "seeds": 1, "rates": (1e-2,)}
    relu = last("ReLU", "adding", tmp_path, **sizes)
    sigmoid = last("sigmoid", "adding", tmp_path, **sizes)
    assert max(relu["Gaussian"], relu["identity"]) < long_memory.SOLVED
    assert sigmoid["orthogonal"] > long_memory.BEATEN


@pytest.mark.long
def test_long_memory_resumes_to_the_same_end(tmp_path):
    config = tiny(recurrences=("linear",))
    run = partial(long_memory.run, config)
    result = require_resumed(run, tmp_path, part="adding, linear")
    assert result.losses.shape == (2, 3, 2, 2, 2)
    assert np.isfinite(result.losses).all()
    names = ["linear, Gaussian", "linear, orthogonal", "linear, identity"]
    assert result.networks.tolist() == names
    long_memory.plot(result)


@pytest.mark.slow  # gates are found by running the cells
def test_every_recurrence_has_its_draws():
    assert tuple(long_memory.networks(10)) == long_memory.RECURRENCES


def test_flags_that_cannot_be_run_are_refused():
    with pytest.raises(ValueError, match=r"no recurrence 'RNN'; there are linear, sigmoid"):
        long_memory.Config(recurrences=("RNN",))
    with pytest.raises(ValueError, match=r"every \(7\) must divide updates"):
        long_memory.Config(every=7)


def test_the_best_rate_is_shown_and_a_divergence_is_the_worst():
    losses = np.ones((2, 1, 2, 3, 2))
    losses[0, 0, 1] = 0.04  # the second rate is better at the first task
    losses[1, 0, 0, :2] = np.nan  # most seeds of the first diverged at the second
    result = long_memory.Result(
        np.array(["LSTM, chrono"]),
        np.array([0.1, 0.2]),
        np.array([1, 2]),
        losses,
        np.full((2, 1, 2, 3), -1),
        np.array([0.5, 2.0]),
    )
    curves = long_memory.best(result)
    np.testing.assert_allclose(curves[0, 0], 0.08)
    np.testing.assert_allclose(curves[1, 0], 0.5)
    row = long_memory.table(result).rows[0]
    assert row == ["LSTM, chrono", "0.080", "0.08-0.08", "solved", "0.500", "0.50-0.50", "beaten"]
