"""Gradients by lag against dense derivatives of the unrolled map, and rates that are known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import LONG_RUNS, draw, normal
from jax import lax

from recur import analysis, cells, scan

KEY = jax.random.key(3)
T = 6


def setup(which, d=2, n=3):
    cell = cells.named(which)
    params = draw(cell, d, n, seed=3)
    zeros = jax.tree.map(
        lambda leaf: jnp.asarray(np.zeros(leaf.shape), float), jax.eval_shape(cell.start, params)
    )
    return cell, params, zeros, normal(T, d)


def losses(hs):
    return jnp.sum(jnp.sin(hs), axis=-1) * jnp.arange(1.0, hs.shape[0] + 1)


@pytest.mark.parametrize("which", [pytest.param("gru", marks=pytest.mark.slow), "lstm"])
def test_map_against_dense_derivatives(which, x64):
    """d loss_t / d h_s from perturbations added to each h_s, all at once by jacrev."""
    cell, params, state, xs = setup(which)
    body = scan.tied(cell, params)

    def perturbed(deltas):
        def step(state, now):
            x, delta = now
            state, h = body(state, x)
            state = state._replace(h=h + delta) if which == "lstm" else h + delta
            return state, h + delta

        return losses(lax.scan(step, state, (xs, deltas))[1])

    dense, logs, fewer = jax.jit(
        lambda: (
            jax.jacrev(perturbed)(jnp.zeros((T, 3))),
            analysis.gradient_map(losses, body, state, xs, T - 1),
            analysis.gradient_map(losses, body, state, xs, 2),
        )
    )()
    norms, logs = np.linalg.norm(dense, axis=-1), np.asarray(logs)
    np.testing.assert_allclose(fewer, logs[:, :3], rtol=1e-9)  # older losses are let go
    for t in range(T):
        for lag in range(T):
            if lag > t:
                assert np.isnan(logs[t, lag])
            else:
                np.testing.assert_allclose(logs[t, lag], np.log(norms[t, t - lag]), rtol=1e-9)


@pytest.mark.parametrize("which", ["gru", pytest.param("lstm", marks=pytest.mark.slow)])
def test_terms_by_lag_are_the_gradient_with_older_states_cut(which, x64):
    """The first k + 1 terms add up to the gradient of losses that see k steps back and no more."""
    cell, params, state, xs = setup(which)
    network = partial(scan.tied, cell)

    def whole(params):
        return losses(scan.run(cell, params, xs, state)[1]).sum()

    def cut(params, k):  # the parameters act on loss_t only at steps t-k .. t
        fixed, total = lax.stop_gradient(params), 0.0
        for t in range(T):
            s = state
            for j in range(t + 1):
                s, h = cell.step(params if j >= t - k else fixed, s, xs[j])
            total += losses(jnp.zeros((T, 3)).at[t].set(h))[t]
        return total

    terms, full, first = jax.jit(
        lambda params: (
            analysis.gradient_by_lag(losses, network, params, state, xs, T - 1),
            jax.grad(whole)(params),
            jax.grad(cut)(params, 1),
        )
    )(params)
    found = jax.device_get((terms, full, first))
    for term, g, g1 in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(term.sum(0), g, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(term[:2].sum(0), g1, rtol=1e-9, atol=1e-12)


@jax.jit
def map_of_a_rotation(rate, Q, xs):
    def body(h, x):
        h = rate * (Q @ h) + x
        return h, h

    return analysis.gradient_map(lambda hs: hs.sum(-1), body, jnp.zeros(4), xs, 20)


@pytest.mark.parametrize(
    ("rate", "word"), [(0.5, "vanish"), (1.0, "preserve"), (1.5, "explode"), (0.0, "vanish")]
)
def test_verdict_of_scaled_rotations(rate, word):
    """h = rate * (rotation) h: every gradient changes by log(rate) a step, exactly."""
    Q = np.linalg.qr(normal(4, 4))[0]
    logs = np.asarray(map_of_a_rotation(np.float32(rate), Q, normal(40, 4)))
    found = analysis.verdict(logs)
    assert found.word == word
    np.testing.assert_allclose(found.rate, np.log(rate) if rate else -np.inf, atol=1e-5)  # float32
    assert f"gradients {word}" in str(found)


@pytest.mark.parametrize(
    ("factor", "word"), [(9.5, "preserve"), (10.5, "explode"), (1 / 10.5, "vanish")]
)
def test_preserved_is_less_than_tenfold(factor, word):
    logs = np.float32(np.log(factor) * np.linspace(0, 1, 21)[None])
    assert analysis.verdict(logs).word == word


@pytest.mark.parametrize("steps", LONG_RUNS)
def test_long_sequences_stay_finite(steps):
    cell, params, state, _ = setup("gru")
    body = scan.tied(cell, params)

    @jax.jit
    def both(xs):
        return (
            analysis.gradient_map(losses, body, state, xs, 30),
            analysis.gradient_map(losses, body, state, xs[:1000], 500),
        )

    near, far = jax.device_get(both(normal(steps, 2)))
    assert np.isfinite(near[30:]).all()
    assert np.isfinite(far[500:]).all()
    assert far[500:, 500].min() < -90  # below the smallest float32


def test_quantiles_over_a_batch():
    logs = np.array([[0.0, -np.inf], [1.0, -np.inf], [2.0, 3.0], [np.nan, 4.0]], "f")
    low, middle, high = np.asarray(analysis.quantiles(logs, [0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(low, [0, -np.inf])
    assert middle[0] == 1
    np.testing.assert_array_equal(high, [2, 4])


def test_a_verdict_on_an_overflow_is_none():
    """A row of NaN, lag 0 too, is a step of a network that overflowed; t < lag alone is none."""
    logs = np.where(np.arange(9)[:, None] < np.arange(3), np.nan, -3 * np.arange(3.0)).astype("f")
    assert analysis.verdict(logs).word == "vanish"
    logs[8] = np.nan
    found = analysis.verdict(logs)
    assert found.word == "unknown"
    assert np.isnan(found.rate)
    assert np.isnan(analysis.quantiles(logs[:, 0])).all()
    np.testing.assert_array_equal(analysis.quantiles(logs[:8])[2], [0, -3, -6])


def test_bad_arguments_are_refused():
    cell, params, state, xs = setup("gru")
    body = scan.tied(cell, params)

    def traced(losses, body, lags):
        jax.eval_shape(lambda xs: analysis.gradient_map(losses, body, state, xs, lags), xs)

    for lags in (-1, T):
        with pytest.raises(
            ValueError, match=rf"furthest lag and must be within 0 .. T-1 = 5; got {lags}"
        ):
            traced(losses, body, lags)
    for lags in (1.5, True, "1", [1]):
        with pytest.raises(TypeError, match=r"lags must be an integer; got"):
            traced(losses, body, lags)
    traced(losses, body, np.int32(2))
    with pytest.raises(ValueError, match=r"within 0 .. 1; got \[50\]"):
        analysis.quantiles(np.zeros((T, 2)), [50])
    with pytest.raises(ValueError, match=r"one loss per step, \(6,\); it returned \(\)"):
        traced(jnp.sum, body, 2)
    with pytest.raises(ValueError, match=r"must be part of its new state"):
        traced(losses, lambda s, x: (s, 2 * s), 2)
    with pytest.raises(ValueError, match=r"rate needs at least two lags; got 1"):
        analysis.verdict(np.zeros((T, 1)))
