"""What state coordinates remember: the measures where the answer is known, and a toy run."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from killing import require_resumed

from experiments import data, harness, latent_states
from recur import cells

KEY = jax.random.key(0)


@pytest.fixture(scope="module", autouse=True)
def unoptimised():
    """Here compiling costs more than running, in the slow tests too."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def network(name, n=6, d=4):
    return jax.jit(latent_states.draw, static_argnums=(0, 1, 2))(name, n, d, KEY)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_disentanglement_of_known_matrices():
    """One feature a unit: 1; all alike: 0; k of n features alike: 1 - log k / log n."""
    three = np.zeros((8, 8), np.float32)
    three[:, :3] = 0.1
    found = jax.jit(latent_states.disentanglement)(
        np.stack([np.eye(8, dtype=np.float32), np.ones_like(three), three])
    )
    np.testing.assert_allclose(found, [1, 0, 1 - np.log(3) / np.log(8)], atol=1e-6)


def test_chance_of_gaussian_matrices_is_as_stated():
    """E[x^2 log x^2] = psi(3/2) + log 2 = 0.7297 of a Gaussian x: D -> 0.73 / log n."""
    n = 1000
    found = jax.jit(latent_states.disentanglement)(normal(200, n) ** 2)
    # psi(3/2) + log 2 = 2 - gamma - log 2; the spread of a mean of 200 rows of 1000 is 0.3 %
    np.testing.assert_allclose(found, (2 - np.euler_gamma - np.log(2)) / np.log(n), rtol=0.02)


def test_an_average_of_features_is_disentangled():
    """A MinimalRNN whose gate knows neither state nor features: dh_T,i/dz_t,j is zero off i = j."""
    net = network("minimal.bare")
    net = net._replace(own=jax.tree.map(np.zeros_like, net.own))  # u = 1/2: h = sum 2^-lag z / 2
    xs = normal(9, 7, 4)
    measure = jax.jit(partial(latent_states.measure, "minimal.bare", examples=7))
    measured = jax.tree.map(np.asarray, measure(net, KEY, xs=xs))
    np.testing.assert_allclose(measured.pooled[0], 1, rtol=1e-6)
    np.testing.assert_allclose(measured.lags[0], 1, rtol=1e-6)
    np.testing.assert_allclose(measured.shares, np.eye(6), atol=1e-6)
    shares = 0.25 ** np.arange(1, 10)
    np.testing.assert_allclose(measured.reach, shares / shares.sum(), rtol=1e-5)
    assert measured.pooled[1] < 0.6  # rotated: every unit remembers several features
    # dh/dx = (1 - z^2) E^T / 2, whose rows are no single pixel
    assert 0 < measured.pixels[0] < 0.7


@pytest.mark.parametrize("name", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_gradients_are_differences(name, x64):
    """Of Q h_T by every feature and every pixel, mean square over digits, lag 0 first."""
    shapes = jax.eval_shape(partial(latent_states.draw, name, 3, 2), KEY)
    rng = np.random.default_rng(0)
    net = jax.tree.map(lambda a: rng.normal(size=a.shape) / 2, shapes)
    xs = rng.normal(size=(3, 2, 2))
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    step = 1e-6

    def differences(function, at):
        """All shifted inputs at once, as one batch."""
        T, N, d = at.shape
        shifts = step * np.eye(T * d).reshape(T * d, T, 1, d)
        both = jnp.concatenate([at + shifts, at - shifts]).swapaxes(0, 1)  # (T, 2 T d, N, d)
        up, down = jnp.split(function(both), 2)
        slopes = ((up - down) / (2 * step)).reshape(T, d, N, 3)
        return (slopes**2).mean(axis=2).swapaxes(1, 2)[::-1]  # lags, units, inputs

    def last(net, zs):
        return latent_states.last(name, net, zs) @ Q.T

    @jax.jit
    def everything(net, xs):
        zs = latent_states.features(net, xs)
        slopes = latent_states.gradients(name, net, Q[None], xs)
        of_pixels = differences(lambda xs: last(net, latent_states.features(net, xs)), xs)
        return slopes, differences(partial(last, net), zs), of_pixels

    slopes, by_features, by_pixels = everything(net, xs)
    of_features, of_pixels = (np.asarray(each)[0] for each in slopes)
    np.testing.assert_allclose(of_features, by_features, rtol=1e-6, atol=1e-12)  # step^2, eps
    np.testing.assert_allclose(of_pixels, by_pixels, rtol=1e-6, atol=1e-12)


def test_correlation_finds_the_copied_number():
    """Unit 0 copies feature 2 of step 1, unit 1 is noise; a feature that never changes is none."""
    zs = normal(3, 4000, 5)
    zs[:, :, 4] = 1.0
    noise = normal(4000, seed=1)
    hs = np.stack([-2 * zs[1, :, 2] + 3, noise], axis=1)
    best = jax.jit(latent_states.best_correlation)
    found = best(hs, zs)
    np.testing.assert_allclose(found, (1 + 0) / 2, atol=0.003)  # noise: r^2 of 12 about 6 / 4000
    half = np.stack([zs[0, :, 0] + zs[2, :, 1], zs[0, :, 0] + zs[2, :, 1]], axis=1)
    np.testing.assert_allclose(best(half, zs), 0.5, atol=0.05)


def test_logits_are_those_of_minimal_rnn():
    """With its features the bare cell is the MinimalRNN that embeds."""

    @jax.jit
    def both(net, xs):
        W, V, b = net.own
        params = cells.minimal.Params(W, V, b, net.E, net.a)
        h = cells.minimal.start(params, (3,))
        for x in xs:
            h, _ = cells.minimal.cell.step(params, h, x)
        return latent_states.logits("minimal.bare", net, xs), h @ net.R + net.c

    np.testing.assert_allclose(*both(network("minimal.bare"), normal(5, 3, 4)), atol=1e-6)


# --- the experiment -------------------------------------------------------------------------------


@pytest.fixture
def stripes(monkeypatch):
    """Images of 6 rows of 5 pixels in three classes, by the row that is bright."""

    def made():
        rng = np.random.default_rng(0)
        x, y = 0.3 * rng.random((360, 6, 5), np.float32), rng.integers(0, 3, 360, np.int32)
        x[np.arange(360), 2 * y] += 0.7
        return data.Images(x[:300], y[:300], x[300:], y[300:])

    monkeypatch.setattr(data, "digits", made)


def toy(**changes):
    config = latent_states.Config(
        cells=("minimal.bare", "gru"),
        n=8,
        seeds=2,
        updates=60,
        every=20,
        batch=20,
        examples=12,
        learning_rate=0.02,
    )
    return replace(config, **changes)


@pytest.mark.slow
def test_minimal_remembers_features_one_by_one(stripes, tmp_path):
    result = latent_states.run(toy(), harness.Record(tmp_path))
    assert (result.accuracies[..., -1] > 0.9).all()
    own, rotated = np.moveaxis(result.pooled, -1, 0)
    assert (own[0] > rotated[0] + 0.1).all()  # before and after training, every seed
    assert (own[0] > own[1]).all()  # and more than the GRU
    np.testing.assert_allclose(result.shares.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(result.reach.sum(axis=-1), 1, rtol=1e-5)
    assert (result.diverged == -1).all()
    harness.save(tmp_path, result, latent_states.plot(result), latent_states.table(result))


@pytest.mark.long
def test_killed_and_resumed_ends_the_same(stripes, tmp_path):
    config = toy(cells=("lstm",))
    require_resumed(lambda record: latent_states.run(config, record), tmp_path)


def test_flags_that_cannot_be_run_are_refused():
    with pytest.raises(ValueError, match="no cell is named"):
        toy(cells=("grru",))
    with pytest.raises(ValueError, match=r"every \(20\) must divide updates \(50\)"):
        toy(updates=50)
    with pytest.raises(ValueError, match="n must be 2 or more"):
        toy(n=1)
