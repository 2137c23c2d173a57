"""Many trajectories, of different lengths and with gaps, and networks that run by themselves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import draw, normal

from recur import analysis, cells, compose, scan
from recur.analysis.singular_values import places

B, T, D, N = 3, 9, 2, 3
LAGS = [0, 2, 4, 8]
RNG = np.random.default_rng(0)
W, V = 0.9 * RNG.normal(size=(N, N)), RNG.normal(size=(D, N))
C = RNG.normal(size=(T, N))
THERE = (range(9), (0, 3, 4, 6, 7), (5, 6, 7, 8))  # all; gaps and padding; a late start
MASK = np.array([np.isin(np.arange(T), list(there)) for there in THERE])


def body(h, x):
    h = jnp.tanh(h @ W + x @ V)
    return h, h


def losses(hs):
    return hs[..., 0] ** 2


def loss(hs):
    return jnp.sum(C * hs)


def network(W, V):
    def body(h, x):
        h = jnp.tanh(h @ W + x @ V)
        return h, h

    return scan.masked(body)


def dense(h, xs):
    """States, dh_t/dh_{t-1}, dh_t/dx_t and dh_t/dh_s, s <= t, in a plain loop."""
    hs, steps, by_input = [], [], []
    for x in xs:
        h = np.tanh(h @ W + x @ V)
        hs.append(h)
        steps.append((1 - h**2)[:, None] * W.T)
        by_input.append((1 - h**2)[:, None] * V.T)
    S = len(xs)
    J = np.zeros((S, S, N, N))
    for s in range(S):
        J[s, s] = np.eye(N)
        for t in range(s + 1, S):
            J[t, s] = steps[t] @ J[t - 1, s]
    return np.stack(hs), np.stack(steps), np.stack(by_input), J


def log(values):
    with np.errstate(divide="ignore"):
        return np.log(values)


def test_gradients_and_steps_of_ragged_trajectories_are_those_of_the_steps_that_are_there(x64):
    """Against Jacobians of each sequence without its gaps; nothing of a step left out is read."""
    starts, xs = 0.5 * normal(B, N), normal(B, T, D, seed=1)
    xs[~MASK] = np.nan
    many = analysis.batched

    @jax.jit
    def measure(starts, xs, mask):
        along = scan.masked(body), starts, (mask, xs)
        return (
            many(analysis.gradient_map)(losses, *along, 3),
            many(analysis.gradient_norms)(loss, *along),
            many(analysis.one_step_spectra)(*along),
        )

    found = jax.device_get(measure(starts, xs, MASK))
    for b in range(B):
        by_lag, norms, spectra = (leaf[b] for leaf in found)
        there = np.array(THERE[b])
        hs, steps, _, J = dense(starts[b], xs[b, there])
        g = np.zeros((len(there), N))
        g[:, 0] = 2 * hs[:, 0]
        expected = np.full((T, 4), np.nan)
        for t in range(len(there)):
            for lag in range(min(t, 3) + 1):
                expected[there[t], lag] = np.log(np.linalg.norm(g[t] @ J[t, t - lag]))
        np.testing.assert_allclose(by_lag, expected, atol=1e-9)

        # where a step is left out, the output is that of the last step before it
        weight = np.zeros((len(there), N))
        for t in range(T):
            if there[0] <= t:
                weight[np.searchsorted(there, t, "right") - 1] += C[t]
        expected = np.full(T, np.nan)
        expected[there] = np.log(np.linalg.norm(np.einsum("ti,tsij->sj", weight, J), axis=1))
        np.testing.assert_allclose(norms, expected, atol=1e-9)

        expected = np.full((T, N), np.nan)
        expected[there] = np.linalg.svd(steps, compute_uv=False)
        np.testing.assert_allclose(spectra, expected, atol=1e-12)


def test_lags_are_found_in_steps_back_from_the_last_that_is_there():
    for there, back, rest in zip(THERE, ([0, 2, 4, 8], [0, 3, 7], [0, 2]), (0, 1, 0), strict=True):
        where = places(LAGS, jnp.asarray(np.isin(np.arange(T), list(there))))
        known = np.asarray(where.known)
        np.testing.assert_array_equal(known, np.array(LAGS) < len(there))
        np.testing.assert_array_equal(where.back[known], back)
        assert (where.reach, where.rest) == (T - 1, rest)
    assert not places(LAGS, jnp.zeros(T, bool)).known.any()


@pytest.mark.slow
def test_derivatives_and_parameters_by_lag_leave_out_what_is_not_there(x64):
    """Against the same of the sequence without gaps, by the code for those."""
    b, start, xs = 1, 0.5 * normal(N), normal(T, D, seed=1)
    there = np.flatnonzero(MASK[b])
    mask = MASK[b]

    @jax.jit
    def measure(mask, xs, short, params):
        def terms(mask, xs):
            return analysis.gradient_by_lag(
                losses, lambda p: network(*p), params, start, (mask, xs), len(xs) - 1
            )

        def slopes(mask, xs):
            def value(params):
                return analysis.input_output(network(*params), start, (mask, xs), [0, 2])[
                    :, 0
                ].sum()

            return jax.grad(value)(params)

        def total(params):
            hs = jax.lax.scan(network(*params), start, (mask, xs))[1]
            return jnp.sum(jnp.where(mask, losses(hs), 0))

        every = jnp.ones(len(short), bool)
        return (
            (terms(mask, xs), slopes(mask, xs)),
            (terms(every, short), slopes(every, short)),
            jax.grad(total)(params),
        )

    (terms, slopes), (terms_short, slopes_short), whole = jax.device_get(
        measure(mask, xs, xs[there], (W, V))
    )
    for a, b in zip(slopes, slopes_short, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    for a, b, sum in zip(terms, terms_short, whole, strict=True):
        np.testing.assert_allclose(a[: len(there)], b, atol=1e-12)
        np.testing.assert_allclose(a.sum(axis=0), sum, atol=1e-12)
        assert (a[len(there) :] == 0).all()


@pytest.mark.slow
def test_singular_values_by_lag_of_ragged_trajectories_count_the_steps_that_are_there(x64):
    """Against Jacobians of each sequence without its gaps; a lag before its begin is unknown."""
    starts, xs = 0.5 * normal(B, N), normal(B, T, D, seed=1)
    xs[~MASK] = np.nan

    @jax.jit
    def measure(starts, xs, mask):
        along = scan.masked(body), starts, (mask, xs)
        return (
            analysis.batched(analysis.input_directions)(*along, 2),
            analysis.batched(analysis.input_directions)(*along, 4),
            analysis.batched(analysis.input_output)(*along, LAGS),
            analysis.batched(analysis.log_singular_values)(*along),
        )

    *found, values, total = jax.device_get(measure(starts, xs, MASK))
    for b in range(B):
        there = np.array(THERE[b])
        _, steps, by_input, J = dense(starts[b], xs[b, there])
        last = len(there) - 1
        for lag, row in zip(LAGS, values[b], strict=True):
            if lag > last:
                assert np.isnan(row).all()
                continue
            exact = np.linalg.svd(J[last, last - lag] @ by_input[last - lag], compute_uv=False)
            np.testing.assert_allclose(row, np.log(exact), atol=1e-9)
        for lag, (logs, vectors) in zip((2, 4), found, strict=True):
            if lag > last:
                assert np.isnan(logs[b]).all()
                continue
            _, exact, right = np.linalg.svd(J[last, last - lag] @ by_input[last - lag])
            np.testing.assert_allclose(logs[b], np.log(exact), atol=1e-9)
            np.testing.assert_allclose(np.abs(np.sum(vectors[b] * right, axis=1)), 1, atol=1e-9)
        exact = np.linalg.svd(J[last, 0] @ steps[0], compute_uv=False)
        np.testing.assert_allclose(total[b], np.log(exact), atol=1e-9)


@pytest.mark.slow
def test_lags_hold_where_a_step_left_out_resets_or_part_of_the_state_goes_on(x64):
    """A reset at a step left out cuts; a clock beside a masked cell ticks, and is no lag."""
    params, xs = draw(cells.vanilla.cell, D, N), normal(T, D)
    reset = np.zeros(T, bool)
    reset[[2, 8]] = True  # both left out by the mask; 2 lies between, 8 after the end
    cell = compose.resetting(compose.masked(cells.vanilla.cell))
    inner = compose.masked(cells.vanilla.cell)

    def clocked(state, x):
        clock, h = state
        mask, x = x
        h, out = inner.step(params, h, (mask, jnp.sin(clock) + x))
        return (clock + 1, h), out

    @jax.jit
    def measure(mask, reset, xs):
        start = cell.start(params)
        ticking = jnp.zeros(1, xs.dtype), start
        ticks = jax.vmap(lambda t, x: jnp.sin(t) + x)(jnp.arange(float(T)), xs)
        return (
            analysis.input_output(scan.tied(cell, params), start, (reset, (mask, xs)), LAGS[:3]),
            analysis.input_output(clocked, ticking, (mask, xs), LAGS[:3]),
            analysis.input_output(scan.tied(inner, params), start, (mask, ticks), LAGS[:3]),
        )

    cut, found, expected = jax.device_get(measure(MASK[1], reset, xs))
    assert np.isfinite(cut[:2]).all()  # of 5 steps, 4 come after the reset
    assert np.isneginf(cut[2]).all()
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_gates_of_a_step_left_out_are_unknown():
    cell = compose.masked(cells.gru.cell)
    params, xs = draw(cell, D, N), normal(T, D)

    @jax.jit
    def measure(mask, xs):
        return analysis.openness(scan.tied(cell, params), cell.start(params), (mask, xs))

    for gate in jax.device_get(measure(MASK[1], xs)):
        np.testing.assert_array_equal(np.isnan(gate).all(axis=1), ~MASK[1])
        assert np.isfinite(gate[MASK[1]]).all()


# --- networks that run by themselves --------------------------------------------------------------


def test_a_number_of_steps_stands_for_the_inputs_of_a_network_that_has_none(x64):
    """s -> A s: singular values of A, gradients (A')^(T-t) c; x is an array (0,)."""
    A, c = 0.9 * RNG.normal(size=(N, N)), RNG.normal(size=N)

    def alone(s, x):
        assert x.shape == (0,)
        s = A @ s
        return s, s

    @jax.jit
    def measure(start):
        return (
            analysis.batched(analysis.one_step_spectra)(alone, jnp.stack([start, -start]), 4),
            analysis.gradient_norms(lambda hs: hs[-1] @ c, alone, start, 5),
        )

    spectra, norms = jax.device_get(measure(normal(N)))
    expected = np.linalg.svd(A, compute_uv=False) + np.zeros((2, 4, 1))
    np.testing.assert_allclose(spectra, expected, atol=1e-12)
    back = [np.linalg.matrix_power(A.T, 4 - t) @ c for t in range(5)]
    np.testing.assert_allclose(norms, np.log(np.linalg.norm(back, axis=1)), atol=1e-12)


@pytest.mark.slow
def test_every_analysis_takes_a_number_of_steps():
    """Its program is that for inputs (T, 0)."""
    params = cells.gru.Params(normal(N, 3 * N), normal(0, 3 * N), normal(3 * N))
    key, state, family = np.array([0, 1], np.uint32), normal(N), partial(scan.tied, cells.gru.cell)
    along = family(params), state
    calls = (
        partial(analysis.log_gain, key, *along),
        partial(analysis.log_singular_values, *along),
        partial(analysis.gradient_map, losses, *along, lags=2),
        partial(analysis.gradient_by_lag, losses, family, params, state, lags=2),
        partial(analysis.lyapunov, key, *along, k=2),
        partial(analysis.finite_growth, key, *along),
        partial(analysis.flossing, key, *along, k=1),
        partial(analysis.top_log_singular_values, key, *along, k=1, products=2),
        partial(analysis.singular_density, key, *along, products=2, probes=1),
        partial(analysis.openness, *along),
    )
    for call in calls:
        by_number, by_inputs = (
            jax.make_jaxpr(lambda call=call, xs=xs: call(xs=xs))()
            for xs in (T, np.zeros((T, 0), "f"))
        )
        assert str(by_number) == str(by_inputs)


@pytest.mark.parametrize(
    ("xs", "message"),
    [
        (0, "a number of steps, 1 or more.*got 0"),
        (-2, "got -2"),
        (3, "d = 2, got d = 0"),
        (True, "xs"),
        (2.0, "it holds Python numbers"),
    ],
)
def test_what_is_no_number_of_steps_is_refused(xs, message):
    params = draw(cells.vanilla.cell, D, N)
    with pytest.raises(ValueError, match=message):
        analysis.log_singular_values(scan.tied(cells.vanilla.cell, params), normal(N), xs)


# --- batches --------------------------------------------------------------------------------------


def test_a_batch_has_directions_of_its_own_and_is_traced_once():
    key, starts, xs, traces = np.array([0, 1], np.uint32), normal(B, N), normal(B, T, D), []

    def counted():
        def linear(h, x):
            traces.append(0)
            h = jnp.array([0.5, 0.2, 0.1], h.dtype) * h + x[0]
            return h, h

        return linear

    jax.eval_shape(lambda: analysis.log_gain(key, counted(), starts[0], xs[0]))
    once = len(traces)
    gains = jax.jit(
        lambda key, starts, xs: analysis.batched(analysis.log_gain)(key, counted(), starts, xs)
    )(key, starts, xs)
    assert len(traces) == 2 * once  # whatever B is
    assert gains.shape == (B, T)
    assert len(np.unique(gains[:, 0])) == B  # the same Jacobian, other directions


def test_a_batch_may_be_of_numpy_within_a_program():
    """Constants of a program, through an analysis that has derivatives of its own."""
    starts, xs = normal(B, N), normal(B, T, D)

    def by_lag(body, state, xs):  # a function of a user's own
        return analysis.input_output(body, state, xs, [0])

    def linear(h, x):
        h = h / 2 + x[0]
        return h, h

    found = jax.eval_shape(lambda: analysis.batched(by_lag)(linear, starts, xs))
    assert found.shape == (B, 1, min(D, N))


@pytest.mark.slow
def test_exponents_of_a_batch_are_those_of_each(x64):
    keys = jax.random.split(jax.random.key(0), B)
    starts, xs = normal(B, N), normal(B, 50, D)
    found = jax.jit(
        lambda: analysis.batched(analysis.lyapunov)(jax.random.key(0), body, starts, xs, k=2)
    )()
    each = jax.jit(lambda key, start, xs: analysis.lyapunov(key, body, start, xs, k=2))
    for b in range(B):
        np.testing.assert_allclose(found[b], each(keys[b], starts[b], xs[b]), rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: analysis.batched(analysis.fixed_points),
            "an analysis that follows one trajectory",
        ),
        (
            lambda: analysis.batched(analysis.log_gain)(
                jax.random.key(0), body, np.zeros((B, N)), np.zeros((T, B, D))
            ),
            r"moveaxis.*got \{'state': \[\(3, 3\)\], 'xs': \[\(9, 3, 2\)\]\}",
        ),
        (
            lambda: analysis.batched(analysis.log_gain)(jax.random.key(0), body, 0.5, T),
            r"cell.start\(params, \(B,\)\)",
        ),
    ],
)
def test_what_is_no_batch_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
