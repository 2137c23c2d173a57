"""Slopes of tanh and sigmoid where they saturate, against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recur import Prior, cells, scan
from recur.analysis.numerics.flat_state import flatten
from recur.analysis.numerics.saturation import accurate

X = np.linspace(-40, 40, 81)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_slopes_keep_their_tails(precision):
    """To eps times |x|, the condition of exp. The second derivative, too, and within jit."""

    def function(x):
        return jnp.tanh(x), jax.jit(jax.nn.sigmoid)(x), jnp.sin(x), jax.nn.relu(x)

    exact = accurate(function)

    def each(x):
        slopes = jax.jacfwd(exact)
        return exact(x), function(x), slopes(x), jax.jacrev(exact)(x), jax.jacfwd(slopes)(x)

    with jax.enable_x64(precision == "float64"):
        values, expected, slopes, back, second = jax.device_get(
            jax.jit(jax.vmap(each))(X.astype(precision))
        )
    rtol = 50 * 40 * np.finfo(precision).eps
    for found, same in zip(values, expected, strict=True):
        np.testing.assert_array_equal(found, same)
    tanh, sigmoid = 1 / np.cosh(X) ** 2, 1 / (2 + 2 * np.cosh(X))
    for found in (slopes, back):
        for leaf, right in zip(found, (tanh, sigmoid, np.cos(X), X > 0), strict=True):
            np.testing.assert_allclose(leaf, right, rtol=rtol, atol=np.finfo(precision).tiny)
    np.testing.assert_allclose(second[0], -2 * np.tanh(X) * tanh, rtol=rtol, atol=1e-37)
    np.testing.assert_allclose(second[1], -np.tanh(X / 2) * sigmoid, rtol=rtol, atol=1e-37)


def test_every_analysis_enters_by_them():
    """A GRU far in saturation: the Jacobian in float32 is that in float64, entry by entry."""
    cell, n = cells.gru.cell, 3
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), Prior(), 1, n))
    draws = np.random.default_rng(0)
    params = jax.tree.map(lambda p: 8 * draws.normal(size=p.shape), params)

    def jacobian(params, x):
        start = jnp.full(n, 0.5, x.dtype)
        step, start = flatten(scan.tied(cell, params), start, x[None])
        return jax.jacfwd(lambda s: step(s, x)[0])(start)

    found = []
    for precision in ("float32", "float64"):
        with jax.enable_x64(precision == "float64"):
            cast = jax.tree.map(lambda p, to=precision: p.astype(to), params)
            found.append(np.asarray(jax.jit(jacobian)(cast, np.ones(1, precision))))
    np.testing.assert_allclose(*found, rtol=1e-3)
