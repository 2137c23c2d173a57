"""The experiments about dynamics, at toy size, against the claims in their docstrings."""

import jax
import numpy as np
import pytest

from experiments import chaos, error_surface, harness


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


@pytest.mark.slow
def test_chaos(record, tmp_path):
    config = chaos.Config(starts=300, steps=1000, measured=4000, circle=8, sigmas=(1.0,),
                          draws=3, n=8)  # fmt: skip
    result = chaos.run(config, record)
    largest, error = result.exponents[:, 0], result.errors[:, 0]
    assert (largest[:2] > 0.15).all()
    assert (abs(largest[:2] - 0.22) < 0.002 + 4 * error[:2]).all()  # .22 has two digits
    # a chaotic orbit is another one in another program: two samples of one mean
    assert (abs(result.checks - largest) < 1e-6 + 4 * np.sqrt(2) * error).all()
    rate = (result.growth[:, 40] - result.growth[:, 10]) / 30  # average over the attractor instead
    spread = 0.3 / np.sqrt(config.starts)  # .3: deviation, from orbit to orbit, of a mean of 30
    assert (abs(rate - largest[:2]) < 4 * (error[:2] + spread)).all()
    assert (result.ends.std(axis=1) > 0.1).all()  # started within 1e-7
    assert np.abs(result.circle[:2, :, -100:]).max(axis=(1, 2, 3)).min() > 0.1
    assert np.abs(result.circle[2:, :, -1]).max() < 1e-3  # held for Ei(10) = 2492 steps at most
    h = np.abs(result.circle[2])  # of the CFN, never behind h <- tanh(h)
    assert (h[:, 1:] <= np.tanh(h[:, :-1])).all()
    small = result.drawn[2:, 0, :, -1]
    np.testing.assert_allclose(small, chaos.REST, atol=0.01)  # 10 nats in 1000 steps
    figure, table = chaos.plot(result), chaos.table(result)
    harness.save(tmp_path, result, figure, table)


def test_the_chaotic_systems_are_those_of_the_paper(x64):
    """One step of each against the equations as printed, arXiv:1612.06212."""

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    u, c = np.array([0.3, -0.6]), np.array([0.2, 0.9])
    z = sigmoid(np.array([[0, 1], [1, 1]]) @ u)
    r = sigmoid(np.array([[0, 1], [1, 0]]) @ u)
    expected = (1 - z) * u + z * np.tanh(np.array([[-5, -8], [8, 5]]) @ (r * u))
    _, h = chaos.two_units("gru")(u, np.zeros(1))
    np.testing.assert_allclose(h, expected, rtol=1e-12)

    A = np.array([[-10, -10], [10, 10]])  # input and forget gate
    i, f, g = sigmoid(A @ u), sigmoid(A @ u), np.tanh(np.array([[10, -80], [80, -10]]) @ u)
    o = sigmoid(np.array([[10, -10], [10, -10]]) @ u)
    after = f * c + i * g
    body = chaos.two_units("lstm")
    state, h = body(chaos.cells.lstm.State(jax.numpy.array(u), jax.numpy.array(c)), np.zeros(1))
    np.testing.assert_allclose(state.c, after, rtol=1e-12)
    np.testing.assert_allclose(h, o * np.tanh(after), rtol=1e-12)


def test_a_held_unit_grows_by_a_few_nats_and_lets_go():
    """Why a short run of MinimalRNN reads a positive exponent at large sigma_w."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 16)
        history = np.asarray(chaos.largest("minimal", keys, jax.numpy.array(10.0), 32, 3000))
    assert history[:, 200].max() > 0  # too short
    assert history[:, -1].max() < -0.3
    growth = history * np.arange(1, 3001)
    assert growth.max() < 10  # bounded, though units were held for hundreds of steps
