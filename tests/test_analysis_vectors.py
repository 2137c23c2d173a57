"""Singular vectors and one-step spectra against dense decompositions and known products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from recur import Prior, analysis, cells, scan

KEY = jax.random.key(3)
T = 5


@pytest.mark.parametrize(("which", "d", "n"), [("lstm", 3, 4), ("gru", 6, 4)])
def test_input_directions_against_a_dense_decomposition(which, d, n, x64):
    cell = cells.named(which)
    body = scan.tied(cell, cell.init(KEY, Prior(1.3, 0.9, 0.4, 0.3), d, n))
    state, xs = body.cell.start(body.params), jax.random.normal(KEY, (T, d))
    lags = (0, 1, 3)
    dense, found = jax.jit(
        lambda: (
            jax.jacrev(lambda xs: lax.scan(body, state, xs)[1][-1])(xs),
            [analysis.input_directions(body, state, xs, lag) for lag in lags],
        )
    )()
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

    logs, inputs = analysis.input_directions(body, jnp.zeros(n), jnp.zeros((lag + 3, n)), lag)
    np.testing.assert_allclose(logs, lag * np.log(scales), atol=1e-8)
    np.testing.assert_allclose(np.abs(inputs @ Q), np.eye(n), atol=1e-9)  # up to the sign


@pytest.mark.parametrize("which", ["gru.reset_before", "lstm"])
def test_one_step_spectra_against_dense_jacobians(which, x64):
    cell, d, n = cells.named(which), 3, 4
    body = scan.tied(cell, cell.init(KEY, Prior(1.3, 0.9, 0.4, 0.3), d, n))
    state, xs = cell.start(body.params), jax.random.normal(KEY, (T, d))
    spectra = jax.jit(lambda: analysis.one_step_spectra(body, state, xs))()
    for x, spectrum in zip(xs, spectra, strict=True):
        J = jax.jacfwd(lambda s, x=x: body(s, x)[0])(state)
        if which == "lstm":
            J = np.block([[J.h.h, J.h.c], [J.c.h, J.c.c]])
        np.testing.assert_allclose(spectrum, np.linalg.svd(J, compute_uv=False), atol=1e-12)
        state, _ = body(state, x)


def test_a_lag_outside_the_sequence_is_refused():
    cell = cells.gru.cell
    body, xs = scan.tied(cell, cell.init(KEY, Prior(), 2, 3)), jnp.ones((T, 2))
    for lag in (-1, T):
        with pytest.raises(ValueError, match=rf"within 0 .. T-1 = 4, got {lag}"):
            analysis.input_directions(body, jnp.zeros(3), xs, lag)
    with pytest.raises(ValueError, match="embed symbols first"):
        analysis.input_directions(body, jnp.zeros(3), jnp.ones((T, 2), int), 0)
