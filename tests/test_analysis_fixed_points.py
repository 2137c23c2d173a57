"""Fixed points that are known in closed form, and eigenvalues against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from recur import Prior, analysis, cells, scan

KEY = jax.random.key(3)


def vanilla(W, b=0.0, phi=jnp.tanh):
    n = len(W)
    params = cells.vanilla.Params(jnp.asarray(W), jnp.zeros((1, n)), jnp.full(n, b))
    return scan.tied(cells.vanilla.elman(phi), params)


def test_two_wells_and_a_saddle_between_them(x64):
    """h = tanh(2 h) in each of two units: {-a, 0, a}^2, a = tanh(2a); nine points, four stable."""
    a = scipy.optimize.brentq(lambda a: np.tanh(2 * a) - a, 0.5, 1)
    body = vanilla(2 * np.eye(2))
    starts = jax.random.uniform(KEY, (300, 2), minval=-1.2, maxval=1.2)
    x = jnp.zeros(1)
    points = jax.jit(lambda starts: analysis.fixed_points(body, starts, x))(starts)
    found = analysis.distinct(points)
    expected = [(i * a, j * a) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    ours = sorted(map(tuple, np.round(found.states, 9)))
    np.testing.assert_allclose(ours, sorted(expected), atol=1e-8)
    assert found.speed.max() < 1e-25

    about = analysis.stability(body, found.states, x)
    slope = 2 * (1 - np.asarray(found.states) ** 2)  # of each unit
    slope = -np.sort(-np.abs(slope), axis=1)
    np.testing.assert_allclose(about.eigenvalues, slope, atol=1e-7)
    np.testing.assert_array_equal(about.stable, (slope < 1).all(axis=1))
    assert about.stable.sum() == 4
    np.testing.assert_allclose(about.timescales, 1 / np.abs(np.log(slope)), rtol=1e-6)


def test_the_fixed_point_of_a_linear_network(x64):
    n = 7
    W = np.random.default_rng(0).normal(size=(n, n)) / np.sqrt(n)
    body = vanilla(W, 0.7, cells.vanilla.identity)
    starts = 3 * jax.random.normal(KEY, (5, n))
    found = analysis.distinct(analysis.fixed_points(body, starts, jnp.zeros(1)))
    np.testing.assert_allclose(found.states, [np.linalg.solve(np.eye(n) - W.T, np.full(n, 0.7))])
    eigenvalues = np.linalg.eigvals(W)
    about = analysis.stability(body, found.states, jnp.zeros(1))
    np.testing.assert_allclose(
        np.sort_complex(about.eigenvalues[0]), np.sort_complex(eigenvalues), atol=1e-12
    )
    assert np.all(np.diff(np.abs(about.eigenvalues[0])) <= 1e-12)


@pytest.mark.parametrize("which", ["gru", "lstm"])
def test_points_of_gated_cells_stand_still(which, x64):
    """Whatever was found, the cell itself stays there for 100 steps."""
    cell = cells.named(which)
    params = cell.init(KEY, Prior(0.8, 1.0, 0.2, 0.3), 2, 6)
    body, x = scan.tied(cell, params), jnp.array([0.3, -0.4])
    starts = jax.tree.map(
        lambda leaf: leaf + jax.random.normal(KEY, leaf.shape), cell.start(params, (10,))
    )
    found = analysis.distinct(jax.jit(lambda s: analysis.fixed_points(body, s, x))(starts))
    assert jax.tree.structure(found.states) == jax.tree.structure(starts)
    point = jax.tree.map(lambda leaf: leaf[0], found.states)
    if analysis.stability(body, found.states, x).stable[0]:
        _, hs = scan.run(cell, params, jnp.tile(x, (100, 1)), point)
        np.testing.assert_allclose(hs[-1], hs[0], atol=1e-9)
    after, _ = body(point, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), after, point)


def test_slow_points_are_reported_with_their_speed():
    """h + h^2 + c with c > 0 has no fixed point, and its slowest point is h = 0: q = c^2/2."""
    c = 1e-2

    def body(h, x):
        h = h + h**2 + x
        return h, h

    starts = jnp.linspace(-0.5, 0.3, 8)[:, None]
    points = analysis.fixed_points(body, starts, jnp.full(1, c), descent=4000, newton=0)
    best = points.speed.argmin()
    np.testing.assert_allclose(points.speed[best], c**2 / 2, rtol=1e-2)  # approached, not reached
    assert analysis.distinct(points).speed.size == 0
    assert analysis.distinct(points, speed=1e-3).speed.size >= 1


def test_nan_is_no_fixed_point():
    found = analysis.distinct(
        analysis.Points(jnp.array([[1.0], [2.0], [1.0001]]), jnp.array([jnp.nan, 0.0, 1e-12])),
    )
    np.testing.assert_allclose(found.states, [[2.0], [1.0001]])


def test_bad_starts_are_refused():
    body = vanilla(np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match=r"B starts on the leading axis.*\[\(\)\]"):
        analysis.fixed_points(body, jnp.ones(()), jnp.zeros(1))
    with pytest.raises(ValueError, match=r"\[\(3, 2\), \(4, 2\)\]"):
        analysis.stability(body, (jnp.ones((3, 2)), jnp.ones((4, 2))), jnp.zeros(1))
    with pytest.raises(ValueError, match=r"take inputs with d = 1, got d = 3"):
        analysis.fixed_points(body, jnp.ones((4, 2)), jnp.zeros(3))
