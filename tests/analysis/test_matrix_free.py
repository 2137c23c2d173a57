"""Krylov methods on products of Jacobians, against the dense ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw, normal

from recur import Prior, analysis, cells, scan

KEY = jax.random.key(0)


def network(name, n, T, prior):
    cell = cells.named(name)
    params = draw(cell, 3, n, prior)
    return scan.tied(cell, params), jax.jit(cell.start)(params), normal(T, 3)


@pytest.mark.parametrize("name", [pytest.param("gru", marks=pytest.mark.slow), "lstm"])
def test_the_largest_values_are_those_of_the_dense_product(name, x64):
    body, state, xs = network(name, 20, 10, Prior(1.5, 1.0, 1.0))

    @jax.jit
    def both(xs):
        return (
            analysis.log_singular_values(body, state, xs),
            analysis.top_log_singular_values(KEY, body, state, xs, 3, products=18),
        )

    dense, top = jax.device_get(both(xs))
    # converged: what remains is rounding relative to the largest, e^(range) eps
    np.testing.assert_allclose(top, dense[:3], atol=1e-9)


@pytest.mark.slow
def test_a_long_product_stays_within_range_and_owns_what_it_loses(x64):
    body, state, xs = network("gru", 12, 2000, Prior(1.5, 1.0, 1.0))
    dense = analysis.log_singular_values(body, state, xs)
    assert dense[0] < -100
    assert dense[0] - dense[1] > 20  # beyond sqrt(eps) = e^-18
    top = analysis.top_log_singular_values(KEY, body, state, xs, 2)
    np.testing.assert_allclose(top[0], dense[0], atol=1e-9)  # 2000 steps of rounding
    assert np.isnan(top[1])


@pytest.mark.slow
def test_the_density_is_that_of_the_dense_spectrum(x64):
    body, state, xs = network("minimal", 100, 2, Prior(2.0))
    dense = analysis.log_singular_values(body, state, xs)
    density = analysis.singular_density(KEY, body, state, xs, products=30, probes=16)
    np.testing.assert_allclose(density.weights.sum(), 1, rtol=1e-12)
    for q in (0.25, 0.5, 0.75):
        level = np.quantile(dense, q)
        above = density.weights[density.logs > level].sum()
        # a fraction of 16 x 100 squared Gaussians: 4 standard errors of sqrt(2 p (1 - p) / 1600)
        assert abs(above - (1 - q)) < 4 * np.sqrt(2 * q * (1 - q) / 1600)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_two_starts_that_agree_on_dust_prove_nothing(dtype, x64):
    """Powers of a symmetric matrix with eigenvalues exp(-.2 k): after 300 steps two starts agree to
    .003 nats on a second value near eps of the first, where e^-60 is right. float32 runs in x64."""
    n, steps, rate = 60, 300, 0.2
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    A = jnp.asarray((Q * np.exp(-rate * np.arange(n))) @ Q.T, dtype)

    def body(h, x):
        h = A @ h + 0 * x
        return h, h

    @jax.jit
    def both(xs):
        return [
            analysis.top_log_singular_values(KEY, body, xs[0], along, 3, products)
            for along, products in ((xs, n), (xs[:60], 8))
        ]

    long, short = jax.device_get(both(np.zeros((steps, n), dtype)))
    rounding = 1e3 * np.finfo(dtype).eps  # 300 steps
    np.testing.assert_allclose(long, [0, np.nan, np.nan], atol=rounding)
    expected = [0, -12, -24] if dtype == "float64" else [0, np.nan, np.nan]  # e^12 eps is .02
    np.testing.assert_allclose(short, expected, atol=np.exp(24) * rounding)


def test_what_cannot_be_done_is_said():
    body, state, xs = network("vanilla", 6, 3, Prior())

    def traced(function, *arguments, **sizes):
        jax.eval_shape(lambda xs: function(KEY, body, state, xs, *arguments, **sizes), xs)

    with pytest.raises(ValueError, match=r"<= m = 6; got k = 4, products = 3"):
        traced(analysis.top_log_singular_values, 4, products=3)
    with pytest.raises(ValueError, match=r"1 <= products <= m = 6 .* got products = 7"):
        traced(analysis.singular_density, products=7)
    for wrong in (2.0, True, "2"):
        with pytest.raises(TypeError, match=rf"^k must be an integer; got {wrong!r}"):
            traced(analysis.top_log_singular_values, wrong)
        with pytest.raises(TypeError, match="products must be an integer"):
            traced(analysis.singular_density, products=wrong)


@pytest.mark.slow
def test_it_is_traced_once_under_jit():
    body, state, xs = network("vanilla", 6, 3, Prior())
    values = jax.jit(lambda xs: analysis.top_log_singular_values(KEY, body, state, xs, 2))(xs)
    dense = analysis.log_singular_values(body, state, xs)
    np.testing.assert_allclose(values, dense[:2], atol=1e-4)  # float32
    assert jnp.all(jnp.diff(values) <= 0)
