"""The experiments about dynamics, at toy size, against the claims in their docstrings."""

import numpy as np
import pytest

from experiments import error_surface, harness


@pytest.fixture
def record(tmp_path):
    return harness.Record(tmp_path)


def test_error_surface(record, tmp_path):
    result = error_surface.run(error_surface.Config(points=60), record)
    assert result.slopes.max() > 30 * np.median(result.slopes)  # flat but for the wall
    wall = result.b[result.slopes.argmax(axis=0)]  # the steepest b at each w
    line = 0.5 - result.w / (1 + np.exp(-0.5))
    seen = (result.w > 4.6) & (line > result.b[0])  # steep enough, and inside the grid
    off = np.abs(wall - line)[seen]
    assert off.max() < 0.021  # one spacing of the grid
    steps = np.linalg.norm(np.diff(result.paths, axis=1), axis=-1).max(axis=1)
    assert steps[0] > 2  # farther than the picture is wide
    assert steps[1] < 0.0101  # learning rate times clip
    assert result.losses[1].min() < 1e-3 < 0.01 < result.losses[0, -1]
    both = result.biases[np.abs(result.settled[1] - result.settled[0]) > 0.1]
    s = (1 + np.array([1, -1]) / np.sqrt(5)) / 2  # 5 s (1 - s) = 1: a fixed point is lost
    folds = np.log(s / (1 - s)) - 5 * s
    assert np.allclose(both[[0, -1]], folds, atol=0.004)  # two spacings of the biases
    powers = [np.exp(np.interp(w, result.weights, np.log(result.powers))) for w in (0.99, 1.01)]
    assert np.allclose(powers, [4.36e-5, 2.07e4], rtol=0.02)  # interpolated
    figure, table = error_surface.plot(result), error_surface.table(result)
    harness.save(tmp_path, result, figure, table)
