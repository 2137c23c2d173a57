"""What can be trained, and how fast: at toy size, against the claims in the docstrings."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from killing import require_resumed

from experiments import data, harness, learning_speed, trainability
from experiments.parts import timescales
from recur import theory


@pytest.fixture(autouse=True)
def bars(monkeypatch):
    """100 images of 6 x 6 pixels, one row of them lit by the label: three classes, of ten."""
    labels = np.arange(100, dtype=np.int32) % 3
    images = np.random.default_rng(0).uniform(0, 0.2, (100, 6, 6)).astype(np.float32)
    images[np.arange(100), 2 * labels] += 0.8
    monkeypatch.setattr(data, "digits", lambda _: data.Images(images, labels, images, labels))


# --- trainability ---------------------------------------------------------------------------------


def small(**changes):
    values = {
        "sigma_w": (0.3, 1.1),
        "mu_b": (-3.0, 5.0),
        "T": (2, 12),
        "n": 16,
        "seeds": 1,
        "updates": 80,
        "every": 80,
        "batch": 20,
    }
    return trainability.Config(**(values | changes))


@pytest.mark.slow
def test_what_theory_forgets_is_not_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(timescales, "redrawn", timescales.closed)  # half a minute to compile
    monkeypatch.setattr(timescales, "tied", timescales.closed)
    result = trainability.run(small(), harness.Record(tmp_path))
    for accuracies, xi in zip(result.accuracies[:, :, 0], result.xi, strict=True):
        assert (accuracies[:, 0] > 0.9).all()  # T = 2, either prior
        assert accuracies[0, 1] < 0.6  # T = 12: a third by chance, 17 standard errors above it
        assert accuracies[1, 1] > 0.8
        assert 20 * xi[0, 0] < xi[0, 1]
    assert trainability.reached(result)[:, 1].tolist() == [12, 12]
    assert np.allclose(trainability.rho(result), 1)
    harness.save(tmp_path, result, trainability.plot(result), trainability.table(result))


def test_the_longest_T_is_read_between_the_grid():
    T = np.array([4, 16, 64])
    accuracies = np.array([
        [1.0, 0.95, 0.85],  # falls through .9 half way, in log T, from 16 to 64
        [0.5, 0.5, 0.5],  # never trained
        [0.8, 1.0, 0.9],  # to the end of the grid; a dip on the way is no end
    ])  # fmt: skip
    assert np.allclose(trainability.longest(accuracies, T), [32, 1, 64])


def test_bad_flags_are_refused_before_any_work():
    with pytest.raises(ValueError, match="as many sigma_w as mu_b, got 2 and 1"):
        trainability.Config(sigma_w=(0.9, 1.0), mu_b=(1.0,))
    with pytest.raises(ValueError, match=r"T must rise, .*got \(4, 2\)"):
        trainability.Config(T=(4, 2))
    with pytest.raises(ValueError, match=r"every \(7\) must divide updates \(300\)"):
        trainability.Config(every=7)
    assert len(trainability.PAPER.sigma_w) == len(trainability.PAPER.mu_b) == 32


# --- theory ---------------------------------------------------------------------------------------


@pytest.mark.optimised
@pytest.mark.long
def test_three_theories_of_one_timescale():
    """Where weights act once on what is remembered, tied and redrawn ones forget alike."""
    closed, redrawn, tied = timescales.timescales(
        "minimal", trainability.line_of("minimal", np.array([2.0, 4.0])), 0.005
    )
    # an overlap of a tenth is known to .16 from 4096 units, xi to .16 / log(10): three such errors
    assert np.allclose(redrawn, closed, rtol=0.21)
    assert np.allclose(tied, closed, rtol=0.21)


def test_the_timescale_of_an_overlap_that_decays(monkeypatch):
    """exp(-t / 20), then exp(-t / 1000): one reaches a tenth and the other does not."""

    def signal(cell, prior, R, Sigmas):
        t = jnp.cumsum(1 - Sigmas)  # steps of different noise so far
        return theory.Signal(jnp.full_like(t, 0.3), jnp.exp(-t / prior.mu_b))

    monkeypatch.setattr(theory, "signal_tied", signal)
    priors = trainability.line_of("minimal", np.array([20.0, 1000.0]))
    assert np.allclose(timescales.tied("minimal", priors, 0.1), [20, 1000], rtol=1e-3)  # float32


# --- learning speed -------------------------------------------------------------------------------


def slow_and_fast(**changes):
    values = {
        "pixels": 6,
        "n": 16,
        "seeds": 1,
        "updates": 80,
        "every": 20,
        "batch": 20,
        "rates": (0.03,),
    }
    return learning_speed.Config(**(values | changes))


@pytest.mark.long
def test_learning_speed_resumes_to_the_same_end(tmp_path, monkeypatch):
    config = slow_and_fast()
    members = learning_speed.start("vanilla", learning_speed.read(config)[0], config)
    monkeypatch.setattr(learning_speed, "CELLS", {"vanilla": timescales.CELLS["vanilla"]})
    monkeypatch.setattr(learning_speed, "start", lambda *_: members)  # compiled once
    result = require_resumed(partial(learning_speed.run, config), tmp_path)
    assert result.accuracies.shape == (1, 1, 4, 1, 4)
    lines = [json.loads(line) for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert [(line["part"], line["step"]) for line in lines[:4]] == [
        ("vanilla, rate 0.03", update) for update in (20, 40, 60, 80)
    ]
    learning_speed.plot(result)


@pytest.mark.slow
def test_starts_are_what_they_are_called():
    config = slow_and_fast(off=0.25)
    task, _ = learning_speed.read(config)
    members = learning_speed.start("vanilla", task, config)
    orthogonal, gaussian, *off = members.networks.recurrence.W
    assert np.allclose(orthogonal @ orthogonal.T, np.eye(16), atol=1e-5)  # float32
    assert abs(np.std(gaussian) * 4 - 1) < 0.2  # 256 entries: 3 standard errors
    for critical, other in zip((orthogonal, gaussian), off, strict=True):
        assert np.allclose(other, 0.25 * critical, rtol=1e-5)
    xs = task.sample(jax.random.key(0), 1000).xs
    assert xs.shape == (6, 1000, 16)
    assert np.isclose(np.mean(xs**2), config.R, rtol=0.3)  # a projection of 6 x 16 numbers


def test_each_start_is_shown_at_its_best_rate():
    accuracies = np.zeros((1, 2, 4, 2, 3))
    accuracies[0, 1, 0] = [[0.2, 0.4, 0.9], [0.4, 0.6, 0.1]]  # means .3, .5, .5
    accuracies[0, 0, 0] = 0.4
    accuracies[0, 0, 1] = 0.6
    result = learning_speed.Result(
        np.array(["vanilla"]),
        np.array([0.03, 0.1]),
        np.array([10, 20, 30]),
        accuracies,
        np.full((1, 2, 4, 2), -1),
    )
    assert learning_speed.updates_to(result, 0.5).tolist() == [[20, 10, np.inf, np.inf]]
    rows = learning_speed.table(result).rows
    assert rows[0][2:6] == ("0.1", "50.0%", "10.0%-90.0%", "20")
    assert rows[1][2:6] == ("0.03", "60.0%", "60.0%-60.0%", "10")
