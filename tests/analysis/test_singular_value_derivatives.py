"""Derivatives of spectra in both modes against central differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw, normal

from recur import analysis, cells, scan

KEY = jax.random.key(5)
STEP = 1e-5  # of central differences, which err by its square and by eps / STEP


def spectra(body, state, xs):
    return (
        analysis.log_singular_values(body, state, xs),
        analysis.input_output(body, state, xs, [2, 0, len(xs) - 1]),
    )


def gradients(body, state, xs):
    return (
        analysis.gradient_norms(lambda hs: jnp.sum(hs[-1] ** 2), body, state, xs),
        analysis.log_gain(KEY, body, state, xs),
        analysis.gradient_map(lambda hs: jnp.sin(hs).sum(-1), body, state, xs, 2)[2:],
    )


def check(function, point, reverse=True):
    """jvp along one direction, and the gradient of a weighted sum along it, against differences."""
    rng = np.random.default_rng(1)
    along = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=np.shape(leaf))), point)

    def both(t):
        here = jax.tree.map(lambda leaf, v: leaf + t * v, point, along)
        _, change = jax.jvp(function, (here,), (along,))

        def loss(here):
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(function(here)))

        g = jax.grad(loss)(here) if reverse else here
        rate = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (g, along)), strict=True))
        return function(here), change, rate

    low, here, high = (jax.device_get(jax.jit(both)(t)) for t in (-STEP, 0.0, STEP))
    values, change, rate = here
    expected = 0
    leaves = map(jax.tree.leaves, (low[0], values, high[0], change))
    for a, value, b, ours in zip(*leaves, strict=True):
        difference = (b - a) / (2 * STEP)
        np.testing.assert_allclose(ours, difference, rtol=1e-5, atol=1e-7)
        expected += np.sum(np.cos(value) * ours)
    if reverse:
        np.testing.assert_allclose(rate, expected, rtol=1e-8)  # the same derivative, transposed


def network(which, d, n, T):
    cell = cells.named(which)
    params = draw(cell, d, n, seed=3)
    return cell, (params, jax.jit(cell.start)(params), jnp.asarray(normal(T, d)))


@pytest.mark.long
def test_spectra_of_a_function_that_closes_over_its_parameters(x64):
    cell, point = network("gru", 2, 3, 5)

    def function(point):
        params, state, xs = point
        return spectra(lambda state, x: cell.step(params, state, x), state, xs)

    check(function, point)


@pytest.mark.long
@pytest.mark.parametrize(("which", "d", "n", "T"), [("lstm", 3, 2, 12), ("vanilla", 2, 4, 30)])
def test_spectra_of_cells(which, d, n, T, x64):
    cell, point = network(which, d, n, T)
    check(lambda point: spectra(scan.tied(cell, point[0]), *point[1:]), point)


@pytest.mark.slow
def test_gradients_and_gains(x64):
    cell, point = network("gru", 2, 3, 5)
    check(lambda point: gradients(scan.tied(cell, point[0]), *point[1:]), point)


@pytest.mark.long
def test_directions_in_forward_mode(x64):
    cell, point = network("gru", 3, 4, 5)

    def function(point):
        return analysis.input_directions(scan.tied(cell, point[0]), *point[1:], 2)

    check(function, point, reverse=False)


def test_a_long_product_and_values_that_coincide(x64):
    """Of A_t = Q_{t+1} exp(w_t rates) (1 + tilt K) Q_t' at tilt = 0: log s = W rates with W the sum
    of all w, so its derivatives are W and, by the tilt, 300 diag(K), though values span e^1800. Two
    equal ones have none; -inf is a constant for a loss that leaves it out."""
    n, steps = 4, 300
    rng = np.random.default_rng(0)
    K = rng.normal(size=(n, n))
    Q, w = np.linalg.qr(rng.normal(size=(steps + 1, n, n)))[0], rng.uniform(0.5, 1.5, steps)
    xs = Q[:-1], Q[1:], w

    def values(point, alive):
        rates, tilt = point

        def body(h, x):
            before, after, w = x
            tilted = (jnp.eye(n) + tilt * K) @ (before.T @ h)
            h = alive * (after @ (alive * jnp.exp(w * rates) * tilted))
            return h, h

        return analysis.log_singular_values(body, jnp.zeros(n), xs)

    def loss(point, alive):
        logs = values(point, alive)
        return jnp.sum(jnp.where(jnp.isfinite(logs), logs, 0)), logs

    slopes = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, logs), (apart, tilted) = slopes((jnp.array([3.0, 1.0, -1.0, -3.0]), 0.0), jnp.ones(n))
    np.testing.assert_allclose(logs, w.sum() * np.array([3, 1, -1, -3]), atol=1e-9)
    np.testing.assert_allclose(apart, w.sum(), rtol=1e-9)  # 300 steps of rounding
    np.testing.assert_allclose(tilted, steps * np.trace(K), rtol=1e-9)
    _, equal = slopes((jnp.array([3.0, 1.0, 1.0, -3.0]), 0.0), jnp.ones(n))
    assert np.isnan(equal[0]).all()
    alive = jnp.array([1.0, 1.0, 1.0, 0.0])
    (_, logs), dead = slopes((jnp.array([3.0, 1.0, -1.0, -3.0]), 0.0), alive)
    assert logs[-1] == -np.inf
    assert all(np.isfinite(leaf).all() for leaf in dead)
