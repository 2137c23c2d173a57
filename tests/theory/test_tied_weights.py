"""Tied weights: the basis that stands for W, and both theories against simulated networks."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import normal

from experiments import tied_weights
from recur import Prior, cells, theory
from recur.theory.revealed_weights import Memory, Network, complete, recall
from recur.theory.tied_weights import _spread, correlation_time

KEY = jax.random.key(0)
R = 0.46
CRITICAL = Prior(6.88, 1.39, 0.0, 0.0)


# --- a matrix that comes into being as it is used -------------------------------------------------


@jax.jit
def recalled(scale, xs):
    """Products of xs (T, k, n), one after the other, and what is known of W in the end."""
    T, k, n = xs.shape
    memory = Memory(
        jnp.zeros((T * k, n)), jnp.zeros((T * k, scale.size * n)), jnp.zeros((), jnp.int32)
    )

    def one(memory, now):
        y, memory = recall(memory, now[0], scale, now[1])
        return memory, y

    memory, ys = jax.lax.scan(one, memory, (jax.random.split(KEY, T), xs))
    return ys, memory


def test_all_products_are_those_of_one_matrix():
    """W = basis^T images, once n vectors are known: it gives every product, and its entries have
    the moments of a drawn one (5 standard errors)."""
    n, scale = 48, np.array([2.0, 0.5], "f")
    xs = np.asarray(normal(n, 1, n))
    xs = np.concatenate([xs, 3 * xs[:2] - xs[2:4]])  # the last two lie in the span
    ys, memory = jax.device_get(recalled(scale, xs))
    np.testing.assert_allclose(memory.basis[:n] @ memory.basis[:n].T, np.eye(n), atol=1e-4)
    assert memory.used == n
    network = Network(None, None, [], [jax.tree.map(lambda a: a[None], memory)])
    (W,) = jax.device_get(complete(network).memories[0])
    # float32, amplified by the condition of a square Gaussian matrix, about n
    np.testing.assert_allclose(xs @ W, ys, atol=2e-3)
    for gate in (0, 1):
        entries = W[:, gate * n : (gate + 1) * n] * np.sqrt(n) / scale[gate]
        assert abs(entries.mean()) < 5 / n
        assert abs(np.mean(entries**2) - 1) < 5 * np.sqrt(2) / n


def test_equal_copies_stay_equal_and_zero_gives_zero():
    x = np.asarray(normal(20))
    ys, memory = jax.device_get(recalled(np.ones(1, "f"), np.stack([[0 * x, 0 * x], [x, x]])))
    np.testing.assert_array_equal(ys[0], 0)
    np.testing.assert_array_equal(ys[1, 0], ys[1, 1])
    assert np.sum(np.any(memory.basis != 0, axis=1)) == 1  # one vector seen, one kept


def test_correlation_time():
    """Overlap exp(-lag / 5) above a static part: 1 + 2 sum exp(-lag/5) = 10.03."""
    lag = np.abs(np.subtract.outer(np.arange(200), np.arange(200)))
    exact = 1 + 2 * np.sum(np.exp(-np.arange(1, 500) / 5))
    np.testing.assert_allclose(correlation_time(0.3 + np.exp(-lag / 5)), exact, rtol=1e-3)
    assert correlation_time(np.ones((64, 64))) == 1


@pytest.mark.optimised
@pytest.mark.slow
def test_tied_corrects_the_critical_point():
    """A network of 1500 units measures q = 14.75-14.81 +- .09 where redrawn theory has 15.94."""
    found = theory.tied(cells.minimal.bare, CRITICAL, R, n=1500)
    assert abs(found.q - 14.8) < 0.15
    assert found.chi > 1.02  # the redrawn theory has .99878
    assert found.C == found.c == 1
    assert found.path.C.shape == (found.path.Q.size, found.path.Q.size)
    np.testing.assert_allclose(found.path.C.diagonal(), 1, rtol=1e-5)


def test_tied_cannot_be_traced():
    with pytest.raises(ValueError, match=r"theory.tied measures how long it must run"):
        jax.jit(lambda s: theory.tied(cells.vanilla.cell, Prior(s), R).Q)(1.0)


SLOW = CRITICAL._replace(mu_b=7.0)  # gates that are closed but for .001: it forgets in 350 steps


@pytest.mark.slow
def test_what_has_not_converged_says_so(monkeypatch):
    for name, value in (("STEPS", 32), ("ENOUGH", 32), ("LONGEST", 32)):
        monkeypatch.setattr(sys.modules["recur.theory.tied_weights"], name, value)
    with pytest.warns(
        RuntimeWarning, match=r"not converged in 32 steps: as these doubled, Q went"
    ) as said:
        assert not theory.tied(cells.minimal.bare, SLOW, R, n=64).converged
    assert said[0].filename == __file__


@pytest.mark.optimised
@pytest.mark.long
def test_what_drifts_goes_on_and_minimal_bare_has_another_term(monkeypatch):
    """After 1024 steps Q is .00072, and in the end .00081: networks in NumPy, with V_ii = 0, from
    their own sixth relaxation time on. With V_ii they have sigma_v^2 R^2/n more, ten times as much
    at n = 64. Four standard errors of both; the term is of first order in 1/n and in the gate."""
    monkeypatch.setattr(sys.modules["recur.theory.tied_weights"], "STEPS", 1024)  # few programs
    n, networks, T = 64, 16, 4096
    found = theory.tied(cells.minimal.bare, SLOW, R, n=256)
    assert found.converged
    assert found.path.Q.size > 512
    rng = np.random.default_rng(0)
    W = (SLOW.sigma_w / np.sqrt(n) * rng.normal(size=(networks, n, n))).astype("f")
    whole = (SLOW.sigma_v / np.sqrt(n) * rng.normal(size=(networks, n, n))).astype("f")
    seen = []
    for V in (whole * (1 - np.eye(n, dtype="f")), whole):
        h, Q = np.zeros((networks, 1, n), "f"), np.zeros(networks)
        for t in range(T):
            x = np.sqrt(R, dtype="f") * rng.standard_normal((networks, 1, n), dtype="f")
            u = 1 / (1 + np.exp(-(h @ W + x @ V + SLOW.mu_b)))
            h = u * h + (1 - u) * x
            Q += (t >= T // 2) * 2 / T * np.mean(h**2, (1, 2))
        seen.append((Q.mean(), Q.std(ddof=1) / np.sqrt(networks)))
    (bare, error), (full, error_full) = seen
    assert abs(found.Q - bare) < 4 * np.hypot(found.error.Q, error)
    term = SLOW.sigma_v**2 * R**2 / n
    assert abs(full - found.Q - term) < 4 * np.hypot(found.error.Q, error_full)


@pytest.mark.optimised
@pytest.mark.long
def test_tied_theory_leaves_an_unstable_standstill(monkeypatch):
    """tanh(W h) from h = 0: networks in NumPy that start from noise, n = 256; four standard errors
    of both."""
    n, networks = 256, 8
    found = theory.tied(cells.vanilla.cell, Prior(3.0, 0.0, 0.0, 0.0), R, n=n)
    rng = np.random.default_rng(0)
    W = (3 / np.sqrt(n) * rng.normal(size=(networks, n, n))).astype("f")
    h, Q = rng.normal(size=(networks, 1, n)).astype("f"), np.zeros(networks)
    for t in range(300):
        h = np.tanh(h @ W)
        Q += (t >= 100) / 200 * np.mean(h**2, (1, 2))
    error = np.hypot(found.error.Q, Q.std(ddof=1) / np.sqrt(networks))
    assert abs(found.Q - Q.mean()) < 4 * error
    assert found.chi < 1.1 * np.exp(2 * 0.31)  # and 9 at the standstill


# --- against networks of the same width -----------------------------------------------------------

N = 512
NETWORKS = tied_weights.Config(networks=8, d=128, burn=300, T=300)
# networks have E[h^2] = .075 at LSTM (4, 1), and the published theory, for redrawn weights, .039;
# exponents of .011 and .078 at GRU (3, 1) and LSTM (4, 1), and that theory -.028 and -.025
SIMULATED = {
    "minimal.bare": [CRITICAL._replace(mu_b=mu_b) for mu_b in (0.0, 2.0, 3.5)],
    "gru": [Prior(3.0, 1.0, 0.0, 0.0), Prior(4.0, 1.0, 0.0, 0.0)],
    "lstm": [Prior(4.0, 1.0, 0.0, 0.0), Prior(5.0, 1.0, 0.0, 0.0)],
}


@pytest.mark.optimised
@pytest.mark.long
@pytest.mark.parametrize("name", SIMULATED)
def test_tied_theory_against_networks(name, monkeypatch):
    """Q and exponents within 3 standard errors: eight networks of N units, and the theory of this
    width. At mu_b 3.5 networks forget in a hundred steps; the others sooner. Q scatters by 3 % from
    network to network, and the theory averages over four: 3 standard errors of the difference are
    at least 3 * 3 % * sqrt(1/4 + 1/8) = 5.5 %, whatever so few say of their own spread."""
    monkeypatch.setattr(
        sys.modules["recur.theory.tied_weights"], "STEPS", 512
    )  # one program the less
    cell = cells.named(name)
    for prior in SIMULATED[name]:
        keys = jax.random.split(KEY, NETWORKS.networks)
        seen = np.stack([tied_weights.simulate(cell, prior, key, N, NETWORKS) for key in keys])
        error = seen.std(0, ddof=1) / np.sqrt(len(seen))
        found = theory.tied(cell, prior, R, n=N)
        expected = np.array([found.Q, np.log(found.chi) / 2])
        allowed = 3 * np.hypot(error, [found.error.Q, found.error.chi / found.chi / 2])
        allowed[0] = max(allowed[0], 0.055 * found.Q)
        assert np.all(np.abs(seen.mean(0) - expected) < allowed)


def test_the_spread_of_networks_is_the_standard_error_of_their_mean():
    """1, 3 and 5 scatter by 2, so their mean by 2 / sqrt(3); equal numbers do not scatter."""
    each = np.array([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]])
    np.testing.assert_allclose(_spread(each), [2 / np.sqrt(3), 0], rtol=1e-12)
