"""What can be trained, and how fast: at toy size, against the claims in the docstrings."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data, harness, trainability


def bars():
    """100 images of 6 x 6 pixels, one row of them lit by the label: three classes, of ten."""
    labels = np.arange(100, dtype=np.int32) % 3
    images = np.random.default_rng(0).uniform(0, 0.2, (100, 6, 6)).astype(np.float32)
    images[np.arange(100), 2 * labels] += 0.8
    return images, labels


def small(**changes):
    values = {"sigma_w": (0.3, 1.1), "mu_b": (-3.0, 5.0), "T": (2, 12), "n": 16, "updates": 80,
              "every": 80, "batch": 20, "learning_rate": (5e-3, 1e-2)}  # fmt: skip
    return trainability.Config(**(values | changes))


def closed_forms(name, values, R, record):
    """Theory without its populations, which take half a minute to compile."""
    return np.stack([trainability.closed(name, values, R, Sigma) for Sigma in (0, 0, 1, 1)])


@pytest.mark.slow
def test_what_theory_forgets_is_not_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "digits", lambda _: data.Images(*bars(), *bars()))
    monkeypatch.setattr(trainability, "timescales", closed_forms)
    result = trainability.run(small(), harness.Record(tmp_path))
    for accuracies, xi in zip(result.accuracies[:, :, 0], result.xi, strict=True):
        assert (accuracies[:, 0] > 0.9).all()  # T = 2, either prior
        assert accuracies[0, 1] < 0.6  # T = 12: a third by chance, 5 standard errors above it
        assert accuracies[1, 1] > 0.8
        assert 20 * xi[0, 0] < xi[0, 1]
    assert trainability.reached(result)[:, 1].tolist() == [12, 12]
    assert np.allclose(trainability.rho(result)[:, 0], 1)
    harness.save(tmp_path, result, trainability.plot(result), trainability.table(result))


@pytest.mark.slow
def test_a_killed_sweep_resumes_to_the_same_end(tmp_path):
    class Killed(harness.Record):
        def metrics(self, **values):
            super().metrics(**values)
            if values["update"] == 60:
                raise KeyboardInterrupt

    images, labels = bars()
    digits = jnp.asarray(images.reshape(100, -1)[:, :16]), jnp.asarray(labels)

    def fit(record):
        config = small(updates=60, every=20)
        return trainability.fit("minimal", np.array([2.0, 4.0]), 8, digits, digits, config, record)

    whole = fit(harness.Record(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        fit(Killed(tmp_path))
    resumed = fit(harness.Record(tmp_path, resume=True))
    np.testing.assert_array_equal(whole, resumed)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [20, 40, 60]


@pytest.mark.slow
def test_three_theories_of_one_timescale(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["recur.theory.untied"], "UNITS", 1024)
    for name, value in (("UNITS", 512), ("STEPS", 128), ("LONGEST", 128)):
        monkeypatch.setattr(sys.modules["recur.theory.tied"], name, value)
    xi = trainability.timescales("minimal", np.array([3.0]), 0.005, harness.Record(tmp_path))
    # weak noise: what is tied, and which noise two copies see, matters by a few per cent
    assert np.allclose(xi, xi[0], rtol=0.1)


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
    with pytest.raises(ValueError, match=r"every \(7\) must divide updates \(600\)"):
        trainability.Config(every=7)
    assert len(trainability.PAPER.sigma_w) == len(trainability.PAPER.mu_b) == 32
