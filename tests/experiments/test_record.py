"""What a run leaves as it goes, and what several networks say together."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from killing import require_resumed
from matplotlib.figure import Figure

from experiments.parts.discriminant import accuracy
from experiments.parts.dropout import drop, lose
from experiments.parts.seeds import band, broken, mean_error
from experiments.record import Record


def double(k, state, kept):
    """x -> 2 x, and what x was; nothing is left to do beyond 20."""
    if state > 20:
        return None
    kept["x"][k] = state
    return 2 * state, {"x": state}


def run(record):
    """Two parts, one after the other: their ends, and what was kept of each."""
    ends = []
    for part in ("one", "other"):
        state, kept = record.rounds(part, 30, 5, jnp.ones(()), {"x": np.zeros(6)}, double)
        ends += [float(state), kept["x"]]
    return tuple(ends)


@pytest.mark.parametrize(("rounds", "part"), [(1, None), (3, "other"), (5, "other")])
def test_rounds_end_the_same_when_killed(rounds, part, tmp_path):
    whole = require_resumed(run, tmp_path, rounds, part)
    for state, x in (whole[:2], whole[2:]):
        assert state == 32  # the first beyond 20
        assert x.tolist() == [1, 2, 4, 8, 16, 0]
    lines = [json.loads(line) for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert lines[5:] == [
        {"part": "other", "step": 5 * k, "x": 2 ** (k - 1)} for k in (1, 2, 3, 4, 5)
    ]


def test_a_line_that_a_kill_cut_off_is_written_again(tmp_path):
    run(Record(tmp_path))
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole.splitlines()[-1][:20])
    run(Record(tmp_path, resume=True))
    assert path.read_text() == whole


def test_rounds_that_do_not_fit_are_refused(tmp_path):
    start = jnp.ones(()), {"x": np.zeros(6)}
    with pytest.raises(ValueError, match="one: rounds of 7 steps do not lead from step 0 to 30"):
        Record(tmp_path).rounds("one", 30, 7, *start, double)
    Record(tmp_path).rounds("one", 15, 5, *start, double)
    with pytest.raises(ValueError, match="one: rounds of 2 steps do not lead from step 15 to 30"):
        Record(tmp_path, resume=True).rounds("one", 30, 2, *start, double)


def test_a_run_that_is_not_resumed_starts_anew(tmp_path):
    assert run(Record(tmp_path))[0] == run(Record(tmp_path))[0] == 32
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 10


def test_mean_and_standard_error():
    assert mean_error(np.array([1.0, 2.0, 3.0, 6.0])) == "3.0 +- 1.1"  # sqrt(14 / 3 / 4)
    assert mean_error(np.array([0.1234]), ".3f") == "0.123"


def test_who_diverged():
    assert broken(np.array([-1, -1])) == "none"
    assert broken(np.array([7, -1, 0]), "fold") == "fold 0 at 7, fold 2 at 0"


def test_a_band_is_median_and_range():
    ax = Figure().subplots()
    band(ax, np.arange(2), np.array([[1.0, 9.0], [2.0, 7.0], [6.0, 8.0]]), "C0")
    assert ax.lines[0].get_ydata().tolist() == [2, 8]
    box = ax.collections[0].get_datalim(ax.transData)
    assert (box.y0, box.y1) == (1, 9)


def test_dropout_keeps_the_mean():
    xs = jnp.full((100, 200), 3.0)
    seen = drop(jax.random.key(0), xs, 0.4)
    assert set(np.unique(seen).round(4).tolist()) == {0.0, 5.0}
    # 20,000 draws: 4 standard errors of the share are .014
    assert abs(float(jnp.mean(seen == 0)) - 0.4) < 0.014
    assert drop(None, xs, 0.4) is xs


def test_lost_words_are_unknown():
    words = jnp.arange(1, 20_001)
    seen = lose(jax.random.key(1), words, 0.1)
    assert abs(float(jnp.mean(seen == 0)) - 0.1) < 0.009  # 4 standard errors
    np.testing.assert_array_equal(seen, jnp.where(seen == 0, 0, words))


def test_the_discriminant_reaches_the_best_possible_accuracy():
    """Two Gaussians a distance 2 apart in a skewed metric, where the nearer mean is right for two
    thirds only: Phi(1) of all are told apart.
    """
    rng = np.random.default_rng(0)
    A = np.array([[1.0, 0.9], [0.0, 0.4]])
    y = rng.integers(0, 2, 40_000)
    x = rng.normal(size=(40_000, 2)) @ A + np.where(y[:, None], [0.0, 2.0], [0.0, 0.0]) @ A
    half = len(y) // 2
    found = accuracy(x[:half], y[:half], x[half:], y[half:])
    assert abs(found - 0.8413) < 0.011  # 4 standard errors of 20,000 answers
