"""Singular vectors and one-step spectra against dense decompositions and known products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw, normal
from jax import lax

from recur import analysis, cells, scan

pytestmark = pytest.mark.quick

T = 5


def network(which, d, n):
    """A body and its start, drawn with every field of the prior at work."""
    body = scan.tied(cells.named(which), draw(cells.named(which), d, n, seed=3))
    return body, jax.jit(body.cell.start)(body.params)


@pytest.mark.parametrize(
    ("which", "d", "n"), [pytest.param("lstm", 3, 4, marks=pytest.mark.slow), ("gru", 6, 4)]
)
def test_input_directions_against_a_dense_decomposition(which, d, n, x64):
    body, state = network(which, d, n)
    lags = (0, 3)

    @jax.jit
    def everything(xs):
        return (
            jax.jacrev(lambda xs: lax.scan(body, state, xs)[1][-1])(xs),
            [analysis.input_directions(body, state, xs, lag) for lag in lags],
        )

    dense, found = jax.device_get(everything(normal(T, d)))
    for lag, (logs, inputs) in zip(lags, found, strict=True):
        _, values, Vt = np.linalg.svd(dense[:, T - 1 - lag], full_matrices=False)
        np.testing.assert_allclose(np.exp(logs), values, rtol=1e-8)
        signs = np.sign(np.sum(inputs * Vt, axis=1, keepdims=True))
        np.testing.assert_allclose(signs * inputs, Vt, atol=1e-8)


def test_directions_of_a_known_product(x64):
    """h = Q diag(s) Q' h + x: the directions are the columns of Q, though values span 10^400."""
    n, lag, scales = 6, 100, 10 ** np.linspace(2, -2, 6)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    A = jnp.asarray(Q @ np.diag(scales) @ Q.T)

    def body(h, x):
        h = A @ h + x
        return h, h

    @jax.jit
    def found():
        return analysis.input_directions(body, jnp.zeros(n), jnp.zeros((lag + 3, n)), lag)

    logs, inputs = jax.device_get(found())
    np.testing.assert_allclose(logs, lag * np.log(scales), atol=1e-8)
    np.testing.assert_allclose(np.abs(inputs @ Q), np.eye(n), atol=1e-9)  # up to the sign


def test_directions_that_rounding_swamps_are_nan():
    """h = A h + B x of rank two, in float32: two values are known, two are rounding."""
    rng = np.random.default_rng(0)
    A, (B,) = rng.normal(size=(4, 4)).astype("f") / 2, rng.normal(size=(1, 4, 2)).astype("f")
    low = (B @ rng.normal(size=(2, 4))).astype("f")

    def body(h, x):
        h = A @ h + low @ x
        return h, h

    @jax.jit
    def found():
        args = body, jnp.zeros(4), jnp.zeros((5, 4))
        return [analysis.input_directions(*args, lag) for lag in (0, 3)]

    for lag, (logs, inputs) in zip((0, 3), jax.device_get(found()), strict=True):
        dense = np.linalg.matrix_power(A.astype(float), lag) @ low
        expected = np.log(np.linalg.svd(dense, compute_uv=False))[:2]
        np.testing.assert_allclose(logs[:2], expected, atol=1e-4)  # roundings of 3 steps
        assert (np.isnan(logs) == [False, False, True, True]).all()
        assert (np.isnan(inputs) == np.isnan(logs)[:, None]).all()


@pytest.mark.parametrize("which", ["gru.reset_before", "lstm"])
def test_one_step_spectra_against_dense_jacobians(which, x64):
    body, start = network(which, 3, 4)

    @jax.jit
    def both(xs):
        def one(state, x):
            return body(state, x)[0], jax.jacfwd(lambda s: body(s, x)[0])(state)

        return lax.scan(one, start, xs)[1], analysis.one_step_spectra(body, start, xs)

    J, spectra = jax.device_get(both(normal(T, 3)))
    if which == "lstm":
        J = np.block([[J.h.h, J.h.c], [J.c.h, J.c.c]])
    np.testing.assert_allclose(spectra, np.linalg.svd(J, compute_uv=False), atol=1e-12)


def test_a_lag_outside_the_sequence_is_refused():
    body, state = network("gru", 2, 3)

    def traced(xs, lag):
        jax.eval_shape(lambda xs: analysis.input_directions(body, state, xs, lag), xs)

    for lag in (-1, T):
        with pytest.raises(ValueError, match=rf"within 0 .. T-1 = 4; got {lag}"):
            traced(jax.ShapeDtypeStruct((T, 2), np.float32), lag)
    for lag in (1.5, True, "1", None):
        with pytest.raises(TypeError, match=rf"lag must be an integer; got {lag!r}"):
            traced(jax.ShapeDtypeStruct((T, 2), np.float32), lag)
    traced(jax.ShapeDtypeStruct((T, 2), np.float32), np.int64(1))
    with pytest.raises(ValueError, match="embed symbols first"):
        traced(jax.ShapeDtypeStruct((T, 2), np.int32), 0)
