"""Fixed points that are known in closed form, and eigenvalues against NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from conftest import draw, normal

from recur import Prior, analysis, cells, scan

points_of = jax.jit(analysis.fixed_points, static_argnums=(0, 3, 4))
stability = jax.jit(analysis.stability, static_argnums=0)


def vanilla(W, b=0.0, phi=jnp.tanh):
    n = len(W)
    params = W, np.zeros((1, n)), np.full(n, b)
    params = cells.vanilla.Params(*(jnp.asarray(p, float) for p in params))
    return scan.tied(cells.vanilla.elman(phi), params)


def test_two_wells_and_a_saddle_between_them(x64):
    """h = tanh(2 h) in each of two units: {-a, 0, a}^2, a = tanh(2a); nine points, four stable."""
    a = scipy.optimize.brentq(lambda a: np.tanh(2 * a) - a, 0.5, 1)
    body = vanilla(2 * np.eye(2))
    starts = np.random.default_rng(0).uniform(-1.2, 1.2, (300, 2))
    x = np.zeros(1)
    found = analysis.distinct(jax.device_get(points_of(body, starts, x)))
    expected = [(i * a, j * a) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    ours = sorted(map(tuple, np.round(found.states, 9)))
    np.testing.assert_allclose(ours, sorted(expected), atol=1e-8)
    assert found.speed.max() < 1e-25

    about = jax.device_get(stability(body, found.states, x))
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
    x = np.zeros(1)
    found = analysis.distinct(jax.device_get(points_of(body, 3 * np.asarray(normal(5, n)), x)))
    np.testing.assert_allclose(found.states, [np.linalg.solve(np.eye(n) - W.T, np.full(n, 0.7))])
    eigenvalues = np.linalg.eigvals(W)
    about = jax.device_get(stability(body, found.states, x))
    np.testing.assert_allclose(
        np.sort_complex(about.eigenvalues[0]), np.sort_complex(eigenvalues), atol=1e-12
    )
    assert np.all(np.diff(np.abs(about.eigenvalues[0])) <= 1e-12)


@pytest.mark.parametrize("which", ["gru", "lstm"])
def test_points_of_gated_cells_stand_still(which, x64):
    """Whatever was found, the cell itself stays there for 100 steps."""
    cell, rng = cells.named(which), np.random.default_rng(0)
    params = draw(cell, 2, 6, Prior(0.8, 1.0, 0.2, 0.3), seed=3)
    body, x = scan.tied(cell, params), np.array([0.3, -0.4])
    starts = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape),
        jax.eval_shape(lambda params: cell.start(params, (10,)), params),
    )
    found = analysis.distinct(jax.device_get(points_of(body, starts, x)))
    assert jax.tree.structure(found.states) == jax.tree.structure(starts)
    first = jax.tree.map(lambda leaf: leaf[:1], found.states)

    @jax.jit
    def there(first):
        point = jax.tree.map(lambda leaf: leaf[0], first)
        return (
            analysis.stability(body, first, x).stable[0],
            body(point, x)[0],
            scan.run(cell, params, jnp.tile(x, (100, 1)), point)[1],
        )

    stable, after, hs = jax.device_get(there(first))
    if stable:
        np.testing.assert_allclose(hs[-1], hs[0], atol=1e-9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], atol=1e-12), after, first)


def test_slow_points_are_reported_with_their_speed():
    """h + h^2 + c with c > 0 has no fixed point, and its slowest point is h = 0: q = c^2/2."""
    c = 1e-2

    def body(h, x):
        h = h + h**2 + x
        return h, h

    starts = np.linspace(-0.5, 0.3, 8, dtype="f")[:, None]
    points = jax.device_get(points_of(body, starts, np.full(1, c, "f"), 4000, 0))
    best = points.speed.argmin()
    np.testing.assert_allclose(points.speed[best], c**2 / 2, rtol=1e-2)  # approached, not reached
    assert analysis.distinct(points).speed.size == 0
    assert analysis.distinct(points, speed=1e-3).speed.size >= 1


def test_nan_is_no_fixed_point():
    found = analysis.distinct(
        analysis.Points(np.array([[1.0], [2.0], [1.0001]]), np.array([np.nan, 0.0, 1e-12])),
    )
    np.testing.assert_allclose(found.states, [[2.0], [1.0001]])


def test_bad_starts_are_refused():
    body = vanilla(np.eye(2))

    def array(*shape):
        return jax.ShapeDtypeStruct(shape, float)

    for function, states, x, message in (
        (points_of, array(), array(1), r"B starts on the leading axis.*\[\(\)\]"),
        (stability, (array(3, 2), array(4, 2)), array(1), r"\[\(3, 2\), \(4, 2\)\]"),
        (points_of, array(4, 2), array(3), r"take inputs with d = 1, got d = 3"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(partial(function, body), states, x)
    for numbers in ({"descent": 2.0}, {"newton": "3"}, {"newton": True}):
        with pytest.raises(TypeError, match="is an integer, got"):
            analysis.fixed_points(body, np.zeros((1, 2)), np.zeros(1), **numbers)
    for numbers in ({"descent": -1}, {"rate": 0.0}, {"rate": np.nan}):
        with pytest.raises(ValueError, match="numbers of steps, 0 or more, and rate > 0"):
            analysis.fixed_points(body, np.zeros((1, 2)), np.zeros(1), **numbers)
