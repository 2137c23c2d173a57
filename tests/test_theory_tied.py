"""Tied weights: the basis that stands for W, and both theories against simulated networks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recur import Prior, analysis, cells, scan, theory
from recur.theory.memory import Memory, recall
from recur.theory.tied import correlation_time

KEY = jax.random.key(0)
R = 0.46
CRITICAL = Prior(6.88, 1.39, 0.0, 0.0)


# --- a matrix that comes into being as it is used -------------------------------------------------


def recalled(scale, xs):
    """Products of xs (T, k, n), one after the other, and what is known of W in the end."""
    T, k, n = xs.shape
    memory = Memory(
        jnp.zeros((T * k, n)), jnp.zeros((T * k, scale.size * n)), jnp.zeros((), jnp.int32)
    )
    ys = []
    for x, key in zip(xs, jax.random.split(KEY, T), strict=True):
        y, memory = recall(memory, key, scale, x)
        ys.append(y)
    return jnp.stack(ys), memory


def test_all_products_are_those_of_one_matrix():
    """W = basis^T images, once n vectors are known: it gives every product, and its entries have
    the moments of a drawn one (5 standard errors)."""
    n, scale = 48, jnp.array([2.0, 0.5])
    xs = jax.random.normal(KEY, (n, 1, n))
    xs = jnp.concatenate([xs, 3 * xs[:2] - xs[2:4]])  # the last two lie in the span
    ys, memory = recalled(scale, xs)
    np.testing.assert_allclose(memory.basis[:n] @ memory.basis[:n].T, np.eye(n), atol=1e-4)
    W = memory.basis.T @ memory.images
    # float32, amplified by the condition of a square Gaussian matrix, about n
    np.testing.assert_allclose(xs @ W, ys, atol=2e-3)
    for gate in (0, 1):
        entries = W[:, gate * n : (gate + 1) * n] * np.sqrt(n) / scale[gate]
        assert abs(entries.mean()) < 5 / n
        assert abs(np.mean(entries**2) - 1) < 5 * np.sqrt(2) / n


def test_equal_copies_stay_equal_and_zero_gives_zero():
    x = jax.random.normal(KEY, (1, 20))
    ys, memory = recalled(jnp.ones(1), jnp.stack([jnp.zeros((2, 20)), jnp.concatenate([x, x])]))
    np.testing.assert_array_equal(ys[0], 0)
    np.testing.assert_array_equal(ys[1, 0], ys[1, 1])
    assert np.sum(np.any(memory.basis != 0, axis=1)) == 1  # one vector seen, one kept


def test_correlation_time():
    """Overlap exp(-lag / 5) above a static part: 1 + 2 sum exp(-lag/5) = 10.03."""
    lag = np.abs(np.subtract.outer(np.arange(200), np.arange(200)))
    exact = 1 + 2 * np.sum(np.exp(-np.arange(1, 500) / 5))
    np.testing.assert_allclose(correlation_time(0.3 + np.exp(-lag / 5)), exact, rtol=1e-3)
    assert correlation_time(np.ones((64, 64))) == 1


@pytest.mark.slow
def test_tied_corrects_the_critical_point():
    """A network of 1500 units measures q = 14.75-14.81 +- .09 where redrawn theory has 15.94."""
    found = theory.tied(cells.minimal.bare, CRITICAL, R)
    assert abs(found.q - 14.8) < 0.15
    assert found.chi > 1.02  # the redrawn theory has .99878
    assert found.C == found.c == 1
    assert found.path.C.shape == (found.path.Q.size, found.path.Q.size)
    np.testing.assert_allclose(found.path.C.diagonal(), 1, rtol=1e-5)


def test_tied_cannot_be_traced():
    with pytest.raises(ValueError, match=r"theory.tied measures how long it must run"):
        jax.jit(lambda s: theory.tied(cells.vanilla.cell, Prior(s), R).Q)(1.0)


# --- against networks -----------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(0, 3, 4, 5, 6))
def simulate(cell, prior, keys, n, d, burn, T):
    """Q and the largest Lyapunov exponent of one network with tied weights for each key."""

    def one(key):
        draw, noise, direction = jax.random.split(key, 3)
        params = cell.init(draw, prior, d, n)
        xs = np.sqrt(R) * jax.random.normal(noise, (burn + T, d))
        state, _ = scan.run(cell, params, xs[:burn])
        _, hs = scan.run(cell, params, xs[burn:], state)
        gain = analysis.log_gain(direction, scan.tied(cell, params), state, xs[burn:])
        return jnp.mean(hs**2), (gain[-1] - gain[T // 4]) / (T - 1 - T // 4)

    return jax.lax.map(one, keys)


def compare(name, prior, n, seeds, burn=300, T=400):
    """Theory and simulation: Q, exponents and their standard errors."""
    cell = cells.named(name)
    d = n if name == "minimal.bare" else 256
    Q, exponent = simulate(cell, prior, jax.random.split(KEY, seeds), n, d, burn, T)
    found = theory.tied(cell, prior, R)
    error = np.hypot(exponent.std(ddof=1) / np.sqrt(seeds), found.error.chi / 2 / found.chi)
    return Q.mean(), found.Q, exponent.mean(), jnp.log(found.chi) / 2, error


SIMULATED = [
    ("minimal.bare", CRITICAL),
    ("minimal.bare", CRITICAL._replace(mu_b=2.0)),
    ("gru", Prior(3.0, 1.0, 0.0, 0.0)),
    ("lstm", Prior(4.0, 1.0, 0.0, 0.0)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "prior"), SIMULATED)
def test_tied_theory_against_networks(name, prior):
    """Q within 3 %; exponents within 3 standard errors of both, and the 1/n that remains."""
    Q, Q_theory, exponent, exponent_theory, error = compare(name, prior, 512, 4)
    np.testing.assert_allclose(Q, Q_theory, rtol=0.03)
    assert abs(exponent - exponent_theory) < 3 * error + 1 / 512
