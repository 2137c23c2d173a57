"""The experiments about dynamics, at toy size, against the claims in their docstrings."""

from functools import partial

import jax
import numpy as np
import pytest
from killing import require_resumed

from experiments import (
    chaos,
    error_surface,
    fixed_points,
    flossing,
    gradient_reach,
    harness,
    lyapunov_spectra,
)
from recur import Prior, cells


@pytest.fixture
def record(tmp_path):
    return harness.Record(tmp_path)


@pytest.mark.slow
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
    figure.set_size_inches(6.5, 4)  # a quarter of its pixels
    harness.save(tmp_path, result, figure, table)


@pytest.mark.slow
def test_a_bit_is_two_points_and_a_sum_is_a_line(record, tmp_path):
    config = fixed_points.Config(
        n=16,
        bits=1,
        T=20,
        updates=600,
        every=300,
        starts=20,
        forward=30,
        drift=10,
        learning_rate=5e-3,
    )
    result = fixed_points.run(config, record)
    assert (result.losses[:, -1] < 0.1 * result.baselines).all()  # both have learnt
    stable = fixed_points.memories(result)
    held = np.sort(result.answers[stable, 0])
    np.testing.assert_allclose(held, [-1, 1], atol=0.2)
    (saddle,) = np.flatnonzero(fixed_points.unstable(result) == 1)  # one direction, between the two
    (growing,) = np.flatnonzero(np.abs(result.eigenvalues[saddle]) > 1)
    apart = np.diff(result.points[stable], axis=0)[0]
    along = np.abs(result.right[saddle, growing].real @ apart) / np.linalg.norm(apart)
    assert along > 0.7  # 1 on a straight line; 0.25 for a direction drawn at random
    slow = np.abs(result.spectra)
    assert np.median(np.abs(slow[:, 0] - 1)) < 0.1
    error = np.abs(result.predicted - result.seen)
    assert np.median(error) < 0.5 * np.median(np.abs(result.seen))
    figure, table = fixed_points.plot(result), fixed_points.table(result)
    figure.set_size_inches(7, 5)
    harness.save(tmp_path, result, figure, table)


@pytest.mark.slow
def test_chaos(record, tmp_path):
    config = chaos.Config(
        starts=300, steps=1000, measured=4000, circle=8, sigmas=(1.0,), draws=3, n=8
    )
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
    _, h = jax.jit(lambda u: chaos.two_units("gru")(u, np.zeros(1)))(u)
    np.testing.assert_allclose(h, expected, rtol=1e-12)

    A = np.array([[-10, -10], [10, 10]])  # input and forget gate
    i, f, g = sigmoid(A @ u), sigmoid(A @ u), np.tanh(np.array([[10, -80], [80, -10]]) @ u)
    o = sigmoid(np.array([[10, -10], [10, -10]]) @ u)
    after = f * c + i * g
    step = jax.jit(lambda u, c: chaos.two_units("lstm")(cells.lstm.State(u, c), np.zeros(1)))
    state, h = step(u, c)
    np.testing.assert_allclose(state.c, after, rtol=1e-12)
    np.testing.assert_allclose(h, o * np.tanh(after), rtol=1e-12)


@pytest.mark.slow
def test_a_held_unit_grows_by_a_few_nats_and_lets_go():
    """Why a short run of MinimalRNN reads a positive exponent at large sigma_w."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 16)
        history = np.asarray(chaos.largest("minimal", keys, jax.numpy.array(10.0), 32, 3000))
    assert history[:, 200].max() > 0  # too short
    assert history[:, -1].max() < -0.3
    growth = history * np.arange(1, 3001)
    assert growth.max() < 10  # bounded, though units were held for hundreds of steps


# --- spectra before and after training ------------------------------------------------------------


def digits(**changes):
    values = {
        "cells": ("vanilla", "minimal"),
        "parameters": 600,
        "seeds": 2,
        "steps": 60,
        "every": 20,
        "batch": 20,
        "learning_rate": 0.01,
        "stream": 8,
        "discard": 2,
    }
    return lyapunov_spectra.Config(**(values | changes))


@pytest.mark.slow
def test_the_exponents_sum_to_the_mean_log_determinant():
    """Along the stream, without its first digits: NumPy, from the equation of the cell."""
    keys = jax.random.split(jax.random.key(1), 2)
    draw = jax.jit(lambda keys: gradient_reach.draw(cells.vanilla.cell, 7, 9, keys, Prior(1.5)))
    models = draw(keys)
    stream = np.random.default_rng(0).normal(size=(60, 7))
    test = np.zeros((4, 3, 7), np.float32), np.zeros(3, int)
    found = lyapunov_spectra.measure(models, test, stream, 20)
    for s in range(2):
        W, V, b = (np.asarray(a, float)[s] for a in models.rnn.values)
        h, logs = np.zeros(9), []
        for x in stream:
            h = np.tanh(h @ W + x @ V + b)
            logs.append(np.log(1 - h**2).sum() + np.linalg.slogdet(W)[1])
        # by choosing when to factorise, a frame loses up to half of its digits
        np.testing.assert_allclose(found.exponents[s].sum(), np.mean(logs[20:]), rtol=1e-7)


@pytest.mark.slow
def test_lyapunov_spectra_of_a_few_units(record, tmp_path):
    """sigma_w = 1 and 3, of a vanilla network alone: what training does takes more of them."""
    result = lyapunov_spectra.run(digits(cells=("vanilla",), sigmas=(1.0, 3.0), seeds=1), record)
    stable, chaotic = result.exponents[0, :, 0, 0, 0]
    assert stable < 0 < chaotic
    assert result.dimensions[0, 1, 0, 0] > 1
    assert (result.accuracies[1] > result.accuracies[0]).all()
    figure, table = lyapunov_spectra.plot(result), lyapunov_spectra.table(result)
    harness.save(tmp_path, result, figure, table)


@pytest.mark.optimised
@pytest.mark.long
def test_lyapunov_spectra(record, tmp_path):
    config = digits(parameters=2500, steps=300, every=100, batch=50, learning_rate=5e-3)
    result = lyapunov_spectra.run(config, record)
    top = result.exponents[..., 0]
    assert (top[:, 0] < 0).all()  # sigma_w = 1: stable
    rise, fall = (
        np.diff(end[:, 0].mean(-1), axis=0) for end in (top, np.nanmin(result.exponents, axis=-1))
    )
    assert (rise > 0.05).all()  # training slows the slowest direction
    assert (fall < -0.05).all()  # and stretches the spectrum
    assert (top[0, 1, 0] > 0).all()  # sigma_w = 3: the vanilla network is chaotic
    assert (result.dimensions[0, 1, 0] > 1).all()
    assert (result.dimensions[:, :, 1] == 0).all()
    assert (result.accuracies[1] > result.accuracies[0]).all()
    figure, table = lyapunov_spectra.plot(result), lyapunov_spectra.table(result)
    harness.save(tmp_path, result, figure, table)


@pytest.mark.long
def test_spectra_resume_to_the_same_end(tmp_path):
    config = digits(cells=("minimal",), sigmas=(2.0,))
    require_resumed(partial(lyapunov_spectra.run, config), tmp_path)


# --- gradient flossing ----------------------------------------------------------------------------


def xor(**changes):
    values = {"delays": (4,), "n": 12, "k": 3, "flossings": 100, "seeds": 2, "learning_rate": 3e-3}
    return flossing.Config(**(values | changes))


def test_delayed_xor_asks_what_it_says():
    for delay in (2, 7):
        task = flossing.delayed_xor(delay)
        sample = jax.jit(task.sample, static_argnums=1)
        batch = jax.tree.map(np.asarray, sample(jax.random.key(3), 5))
        bits = batch.xs[..., 0] > 0
        assert len(bits) == 3 * delay
        assert set(np.unique(batch.xs)) == {-1, 1}
        for t in range(delay, len(bits)):
            answer = bits[t - delay] != bits[t - delay // 2]
            np.testing.assert_array_equal(batch.targets[t - delay], answer)


@pytest.mark.slow
def test_flossing_brings_the_first_exponents_to_zero_and_starts_training_anew():
    config = xor()
    states = jax.jit(lambda: flossing.begin("drawn", config))()
    key = jax.random.key(9)
    before = flossing.exponents(config, 4, states.params, key)
    after = flossing.flossed(config, 4, states)
    found = flossing.exponents(config, 4, after.params, key)
    before, found = np.asarray(before), np.asarray(found)
    assert (before < -0.2).all()
    assert (np.abs(found).max(axis=1) < 0.5 * np.abs(before).max(axis=1)).all()
    assert (np.asarray(after.step) == 0).all()
    # the batches of the training are those of the others
    np.testing.assert_array_equal(*map(jax.random.key_data, (after.key, states.key)))


@pytest.mark.optimised
@pytest.mark.long
def test_flossing(record, tmp_path):
    result = flossing.run(flossing.Config(delays=(20,), seeds=2, updates=600), record)
    drawn, orthogonal, flossed = result.accuracies[0, :, :, -1]
    assert flossed.min() > 0.9
    assert max(drawn.max(), orthogonal.max()) < 0.53  # of 10,240 answers: six deviations
    start = np.abs(result.exponents[0, :, 1]).max(axis=(1, 2))
    assert start[2] < 0.3 * start[0]
    assert (flossing.solved(result)[0] < np.inf).sum(axis=1).tolist() == [0, 0, 2]
    figure, table = flossing.plot(result), flossing.table(result)
    harness.save(tmp_path, result, figure, table)


@pytest.mark.long
def test_flossing_resumes_to_the_same_end(tmp_path):
    config = xor(updates=30, every=10, flossings=10)
    require_resumed(partial(flossing.run, config), tmp_path, part="flossed-4")
