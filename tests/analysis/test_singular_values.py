"""What the analyses say, against dense Jacobians and products that are known in closed form."""

from functools import partial

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import LONG_RUNS, MADE, draw, few_slow, normal, some_slow
from jax import lax
from jax.flatten_util import ravel_pytree

from recur import analysis, cells, scan
from recur.analysis.gradients import position_of_output
from recur.analysis.numerics import matrix_product as products

KEY = jax.random.key(3)
T = 5


def network(cell, d, n, steps=T):
    """A body, a state off the origin and inputs, in the precision now set."""
    params, rng = draw(cell, d, n, seed=3), np.random.default_rng(4)
    state = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), float),
        jax.eval_shape(cell.start, params),
    )
    return scan.tied(cell, params), state, normal(steps, d, seed=5)


def flax_lstm(d, n, steps=T):
    """Flax's LSTM, drawn by NumPy: its carry is (c, h)."""
    module = nnx.eval_shape(lambda: nnx.LSTMCell(d, n, rngs=nnx.Rngs(0)))
    (graph, shapes), rng = nnx.split(module), np.random.default_rng(0)
    weights = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(n), float), shapes
    )

    def body(state, x):
        return nnx.merge(graph, weights)(state, x)

    c, h = (jnp.asarray(0.3 * rng.normal(size=n), float) for _ in range(2))
    return body, (c, h), normal(steps, d, seed=5)


def plain_function(d, n, steps=T):
    """What an Equinox user has: arrays in a closure, weights on the left, a dict as state."""
    rng = np.random.default_rng(3)
    W = jnp.asarray(rng.normal(size=(n, n)) / np.sqrt(n), float)
    V = jnp.asarray(rng.normal(size=(n, d)), float)

    def body(state, x):
        h = jnp.tanh(W @ state["h"] + V @ x + 0.5 * state["trace"])
        return {"h": h, "trace": 0.9 * state["trace"] + h}, h

    state = {name: jnp.asarray(np.full(n, v), float) for name, v in (("h", 0.2), ("trace", -0.1))}
    return body, state, normal(steps, d, seed=5)


FOREIGN = [pytest.param(flax_lstm, marks=pytest.mark.slow), plain_function]


# --- against dense Jacobians ----------------------------------------------------------------------


def close_as_singular_values(logs, dense):
    """A dense SVD errs by 1e-16 of its largest value, so that is what may be compared."""
    expected = np.linalg.svd(dense, compute_uv=False)
    made_of_rounding = np.isnan(logs) & (expected <= 1e-14 * expected[0])  # dead units of relu
    logs = np.where(made_of_rounding, -np.inf, logs)
    np.testing.assert_allclose(np.exp(logs), expected, rtol=1e-8, atol=1e-14 * expected[0])
    assert np.all(logs[1:] <= logs[:-1])


def one_step_jacobians(body, state, xs):
    """By `jacfwd`, of each step: of the new state (m) and of h (n), by the state and by x."""
    start, unravel = ravel_pytree(state)

    def step(s, x):
        after, h = body(unravel(s), x)
        return ravel_pytree(after)[0], h

    def advance(s, x):
        after, h = step(s, x)
        return after, (h, jax.jacfwd(step, (0, 1))(s, x))

    return lax.scan(advance, start, xs)[1]


def check_dense(body, replace, state, xs):
    """Gains, spectra and gradients by lag against products of dense Jacobians, in float64.

    `gradient_norms` are those of a perturbation added to h_t: replace(state, h) sets h.
    """
    lags = [3, 0, T - 1]
    n = jax.eval_shape(body, state, xs[0])[1].size
    target, weight = np.asarray(normal(T, n, seed=6)), np.arange(1.0, T + 1)[:, None]

    def loss(hs):
        return jnp.sum((hs - target) ** 2 * weight)

    @jax.jit
    def everything(state, xs):
        start, _ = ravel_pytree(state)
        return (
            one_step_jacobians(body, state, xs),
            ravel_pytree(replace(jax.tree.map(jnp.zeros_like, state), jnp.ones(n)))[0],
            jax.random.normal(KEY, start.shape, start.dtype),
            analysis.log_gain(KEY, body, state, xs),
            analysis.log_singular_values(body, state, xs),
            analysis.input_output(body, state, xs, lags),
            analysis.gradient_norms(loss, body, state, xs),
        )

    steps, position, v, gains, logs, rows, norms = jax.device_get(everything(state, xs))
    hs, ((A, B), (C, D)) = steps
    g, back, since = 2 * (hs - target) * weight, np.zeros(len(position)), np.eye(len(position))
    gradient, dh_dx, push = np.empty((T, n)), [D[-1]], C[-1]  # push is dh_T/ds_{T-lag-1}
    for t in reversed(range(T)):
        gradient[t] = g[t] + back[position == 1]
        back = back @ A[t] + g[t] @ C[t]
        since = since @ A[t]
        if t > 0:
            dh_dx.append(push @ B[t - 1])
            push = push @ A[t - 1]

    close_as_singular_values(logs, since)
    assert gains.shape == (T,)
    np.testing.assert_allclose(gains[-1], np.log(np.linalg.norm(since @ v) / np.linalg.norm(v)))
    assert rows.shape == (len(lags), min(dh_dx[0].shape))
    for lag, row in zip(lags, rows, strict=True):
        close_as_singular_values(row, dh_dx[lag])
    expected = np.log(np.linalg.norm(gradient, axis=1))
    np.testing.assert_allclose(norms, expected, atol=1e-10)  # float64 rounding


@pytest.mark.parametrize("name", ["gru.reset_before", *some_slow({"vanilla.relu"}, "")])
def test_some_cells_against_dense_jacobians(cell, sizes, x64):
    check_cell_against_dense(cell, sizes)


@pytest.mark.parametrize("name", few_slow([*cells.names(), *MADE]))
def test_every_cell_against_dense_jacobians(cell, sizes, x64):
    check_cell_against_dense(cell, sizes)


def check_cell_against_dense(cell, sizes):
    def replace(state, h):
        return state._replace(h=h) if isinstance(state, tuple) else h

    body, state, xs = network(cell, *sizes)
    check_dense(body, replace, state, xs)


@pytest.mark.parametrize("make", FOREIGN)
def test_foreign_bodies_against_dense_jacobians(make, x64):
    def replace(state, h):
        return {**state, "h": h} if isinstance(state, dict) else (state[0], h)

    body, state, xs = make(3, 5)
    check_dense(body, replace, state, xs)


@pytest.mark.parametrize("make", FOREIGN)
def test_foreign_exponents_maps_and_fixed_points(make, x64):
    body, state, xs = make(3, 4)
    start, unravel = ravel_pytree(state)

    def last_loss(hs):
        return jnp.sum(jnp.sin(hs[-1]))

    def losses(hs):
        return jnp.sum(jnp.sin(hs), axis=-1)

    def jacobian(s, x):
        return jax.jacfwd(lambda s: ravel_pytree(body(unravel(s), x)[0])[0])(s)

    def advance(s, x):
        return ravel_pytree(body(unravel(s), x)[0])[0], jnp.linalg.slogdet(jacobian(s, x))[1]

    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), state)

    @jax.jit
    def everything():
        points = analysis.fixed_points(body, starts, xs[0])
        return (
            lax.scan(advance, start, xs)[1].mean(),
            analysis.lyapunov(KEY, body, state, xs),
            analysis.gradient_map(losses, body, state, xs, T - 1),
            analysis.gradient_norms(last_loss, body, state, xs),
            points,
            jax.vmap(lambda state: body(state, xs[0])[0])(points.states),
            analysis.stability(body, points.states, xs[0]),
            jax.vmap(lambda state: jacobian(ravel_pytree(state)[0], xs[0]))(points.states),
        )

    logdet, exponents, logs, norms, points, after, about, J = jax.device_get(everything())
    np.testing.assert_allclose(exponents.sum(), logdet, rtol=1e-6)  # some digits are spent
    np.testing.assert_allclose(logs[-1], norms[::-1], atol=1e-10)  # float64 rounding
    assert points.speed.max() < 1e-25  # squares of rounding
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), after, points.states)
    product = np.abs(np.prod(about.eigenvalues, axis=1))
    np.testing.assert_allclose(product, np.abs(np.linalg.det(J)), rtol=1e-8)


@pytest.mark.parametrize(("d", "n"), [(7, 2), pytest.param(1, 1, marks=pytest.mark.slow)])
def test_the_output_may_be_narrower_than_the_input(d, n, x64):
    """Against dh_T/dx_{T-lag} = D_T W' ... D_{T-lag} V' with D_t = diag(1 - h_t^2), by NumPy."""
    body, h, xs = network(cells.vanilla.cell, d, n)
    rows = jax.jit(lambda xs: analysis.input_output(body, h, xs, [2, 0]))(xs)
    (W, V, b), h, into = map(np.asarray, body.params), np.asarray(h), []  # dh_t/dx_s, s <= t
    for x in np.asarray(xs):
        h = np.tanh(h @ W + x @ V + b)
        slope = (1 - h**2)[:, None]
        into = [slope * (W.T @ J) for J in into] + [slope * V.T]
    for lag, row in zip([2, 0], np.asarray(rows), strict=True):
        close_as_singular_values(row, into[T - 1 - lag])


def test_spectra_of_a_batch_of_batches():
    """Close spectra and wide ones in one batch, one argument without a batch."""
    matrices = normal(2, 3, 4, 4).astype("f")
    logs = np.array([[0, 0, 0, 0], [0, -20, -40, -60], [3, 0, -1, -90]], "f")

    def values(log, matrix):
        rows = products.graded(matrix).rows
        return products.log_singular_values(products.Graded(log, rows))

    both = jax.jit(jax.vmap(jax.vmap(values), (None, 0)))
    alone = jax.jit(values)
    found = both(logs, matrices)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(
            found[i, j], alone(logs[j], matrices[i, j]), rtol=1e-5, atol=1e-5
        )


@pytest.mark.long
def test_vmap_equals_one_by_one(x64):
    body, state, xs = network(cells.lstm.cell, 3, 4)
    many = jax.tree.map(lambda s: jnp.stack([s, -s, 2 * s]), state)
    inputs = jnp.stack([xs, xs[::-1], 0 * xs])

    def everything(state, xs):
        return (
            analysis.log_gain(KEY, body, state, xs),
            analysis.log_singular_values(body, state, xs),
            analysis.input_output(body, state, xs, [0, 3]),
            analysis.gradient_norms(lambda hs: jnp.sum(jnp.sin(hs)), body, state, xs),
        )

    together = jax.jit(jax.vmap(everything))(many, inputs)
    one_by_one = jax.jit(lambda *a: lax.map(lambda a: everything(*a), a))(many, inputs)
    for ours, expected in zip(together, one_by_one, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-10)  # float64 rounding


# --- products that are known ----------------------------------------------------------------------


def product(state, A):
    """A linear body whose input is its Jacobian."""
    h = A @ state
    return h, h


def known(scales, steps):
    """A_t = Q_{t+1} diag(scales) Q_t^T: the singular values of their product are scales^steps."""
    rng = np.random.default_rng(0)
    n = len(scales)
    Q = [np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(steps + 1)]
    factors = [Q[t + 1] @ np.diag(scales) @ Q[t].T for t in range(steps)]
    return jnp.asarray(np.stack(factors), float), steps * np.sort(np.log(scales))[::-1]


KNOWN = {
    "10^-200 to 10^200": (10 ** np.linspace(2, -2, 8), 100),
    "clusters at both ends": (np.array([100, 100, 100, 1, 1, 0.01, 0.01, 0.01 + 1e-15]), 100),
    "all equal": (np.full(8, 3.0), 100),
    "equal to nine digits": (1 + 1e-9 * np.arange(8), 100),
    "one value": (np.array([0.5]), 600),
    "n = 63": (10 ** np.linspace(1, -1, 63), 200),
}
singular_values = jax.jit(analysis.log_singular_values, static_argnums=0)


@pytest.mark.parametrize("case", [*sorted(KNOWN.keys() - {"n = 63"}), *some_slow({"n = 63"}, "")])
def test_products_of_known_singular_values(case, x64):
    """Every value within 1e-6 nats, not the largest alone. The rounding of 200 factors of condition
    1e4 is 200 * 1e-16 * 1e4 = 2e-10."""
    factors, expected = known(*KNOWN[case])
    logs = singular_values(product, jnp.asarray(np.zeros(len(expected)), float), factors)
    np.testing.assert_allclose(logs, expected, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_products_of_known_singular_values_large(x64):
    factors, expected = known(10 ** np.linspace(1, -1, 256), 100)
    logs = jax.jit(analysis.log_singular_values, static_argnums=0)(product, jnp.zeros(256), factors)
    np.testing.assert_allclose(logs, expected, rtol=0, atol=1e-9)


def test_float32_reaches_as_far():
    """10^-50 to 10^50: 50 factors of condition 100, so a rounding of 50 * 6e-8 * 100 nats."""
    factors, expected = known(10 ** np.linspace(1, -1, 16), 50)
    logs = singular_values(product, jnp.asarray(np.zeros(16), float), factors)
    assert logs.dtype == jnp.float32
    np.testing.assert_allclose(logs, expected, rtol=0, atol=3e-4)


@pytest.mark.slow
def test_input_output_of_known_products(x64):
    """h = A h + x, so dh_T/dx_{T-lag} is the product of the last `lag` factors."""
    steps = 100
    factors, expected = known(10 ** np.linspace(2, -2, 8), steps)

    def body(h, x):
        A, x = x
        h = A @ h + x
        return h, h

    lags = [0, 1, 50, steps - 1]

    @jax.jit
    def found(factors):
        return analysis.input_output(body, jnp.zeros(8), (factors, jnp.ones((steps, 8))), lags)

    rows = found(factors)
    np.testing.assert_allclose(rows, np.outer(lags, expected / steps), rtol=0, atol=1e-9)


def test_a_narrow_input_sees_what_its_own_matrix_lets_through(x64):
    """h = Q diag(s) Q^T h + Q[:, :2] x: the two largest of n = 8, through d = 2 inputs."""
    scales, steps = 10 ** np.linspace(2, -2, 8), 100
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    A, B = jnp.asarray(Q @ np.diag(scales) @ Q.T), jnp.asarray(Q[:, :2])

    def body(h, x):
        h = A @ h + B @ x
        return h, h

    @jax.jit
    def found():
        return analysis.input_output(body, jnp.zeros(8), jnp.ones((steps, 2)), [99])

    np.testing.assert_allclose(found()[0], 99 * np.log(scales[:2]), rtol=0, atol=1e-9)


def test_exact_zeros_give_minus_infinity():
    ones, start = np.ones((6, 3, 3), "f"), np.ones(3, "f")
    factors = ones * (np.arange(6) != 4)[:, None, None].astype("f")

    def forgetful(h, x):
        h = x + 0 * h
        return h, h

    @jax.jit
    def everything(factors, start):
        return (
            analysis.log_gain(KEY, product, start, factors),
            analysis.gradient_norms(lambda hs: hs[2].sum(), product, start, factors),
            analysis.input_output(forgetful, start, jnp.ones((4, 3)), [0, 1, 3]),
            analysis.log_singular_values(product, start, factors),
        )

    gains, norms, rows, none = jax.device_get(everything(factors, start))
    assert np.isfinite(gains[:4]).all()
    np.testing.assert_array_equal(gains[4:], -np.inf)
    assert np.isfinite(norms[:3]).all()
    np.testing.assert_array_equal(norms[3:], -np.inf)
    np.testing.assert_allclose(rows[0], 0, atol=1e-6)  # float32
    np.testing.assert_array_equal(rows[1:], -np.inf)

    np.testing.assert_array_equal(none, -np.inf)
    # rank one: the other values are zero, or made of rounding, which says nothing of them
    *_, logs = jax.device_get(everything(ones, start))
    np.testing.assert_allclose(logs[0], 6 * np.log(3), rtol=1e-5)  # float32
    assert not np.isfinite(logs[1:]).any()


def test_a_slope_that_cancels_shows_the_rounding_of_the_state():
    """s -> s - s^3/3 near 1 - g: one rounding of s moves the log of its slope, 2g, by eps/g."""
    g = np.array([1e-4, 1e-3, 1e-2], "f")
    body = jax.vmap(lambda s, x: (s - s**3 / 3 + x, s))
    details = jax.jit(partial(analysis.singular_value_details, body))
    rounding = details(1 - g, np.zeros((1, 3), "f")).rounding
    expected = np.finfo("f").eps / g[::-1]
    assert (np.abs(np.log10(rounding / expected)) < 1).all(), rounding


def test_what_rounding_swamps_is_nan():
    """Transposed factors I + 30 * superdiagonal, condition 2e7, 60 steps in float32: every value
    was off by up to 17 nats. Beside them, random factors of one dead row, and all of rank one."""
    n, steps, rng = 5, 61, np.random.default_rng(0)
    jordan = np.tile(np.eye(n) + 30 * np.diag(np.ones(n - 1), -1), (steps, 1, 1))
    random = rng.normal(size=(steps, n, n)) * (np.arange(n) > 0)[:, None]
    u, v = rng.normal(size=(2, n))
    single = np.tile(np.outer(u, v), (steps, 1, 1))

    def body(h, x):
        A, x = x
        h = A @ h + x
        return h, h

    @jax.jit
    def everything(A):
        start = jnp.zeros(n, A.dtype)
        return (
            analysis.singular_value_details(product, start, A),
            analysis.input_output(body, start, (A, jnp.ones((steps, n))), [0, steps - 1]),
        )

    found = [jax.device_get(everything(A.astype("f"))) for A in (jordan, random, single)]
    (hard, hard_rows), (fair, fair_rows), (one, one_rows) = found
    assert np.isnan(hard.logs).all()
    assert (hard.rounding > 0.5).all()
    np.testing.assert_allclose(hard_rows[0], 0, atol=1e-6)  # float32
    assert np.isnan(hard_rows[1]).all()

    # of rank 4: the volume is that of the lower blocks, and of the first factor's four rows
    first = np.linalg.slogdet(random[0, 1:] @ random[0, 1:].T)[1] / 2
    volume = sum(np.linalg.slogdet(A[1:, 1:])[1] for A in random[1:]) + first
    # 61 factors of condition 1e2, each rounded by 6e-8
    np.testing.assert_allclose(fair.logs[:-1].sum(), volume, atol=4e-3)
    assert fair.logs[-1] == -np.inf
    assert (fair.rounding < 1e-3).all()
    assert np.isfinite(fair_rows[1, :-1]).all()
    assert not np.isfinite(fair_rows[1, -1])

    growth = np.log(abs(u @ v)) * (steps - 1) + np.log(np.linalg.norm(u) * np.linalg.norm(v))
    np.testing.assert_allclose(one.logs[0], growth, rtol=1e-5)  # float32
    for logs in (one.logs, one_rows[1]):
        assert not np.isfinite(logs[1:]).any()


# --- long sequences -------------------------------------------------------------------------------


@jax.jit
def of_a_rotation(rate, xs):
    """Gains, singular values and gradient norms of h = rate * (rotation by 0.3) h."""
    A = jnp.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]], float)

    def body(h, x):
        h = rate * (A @ h) + 0 * x  # stays at zero, so no state overflows
        return h, h

    return (
        analysis.log_gain(KEY, body, jnp.zeros(2), xs),
        analysis.log_singular_values(body, jnp.zeros(2), xs),
        analysis.gradient_norms(lambda hs: hs[-1].sum(), body, jnp.zeros(2), xs),
    )


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_a_hundred_thousand_steps(rate):
    """Powers 2^(+-1e5) of a rotation, in float32: exact up to the rounding of 1e5 additions."""
    steps = 100_000
    expected = steps * np.log(rate)
    tolerance = {"rtol": 1e-3}  # 1e5 additions, each rounded by 6e-8 of a total of 7e4
    gains, logs, norms = jax.device_get(of_a_rotation(np.float32(rate), np.zeros((steps, 2), "f")))
    np.testing.assert_allclose(gains[-1], expected, **tolerance)
    np.testing.assert_allclose(logs, expected, **tolerance)
    np.testing.assert_allclose(norms[0] - norms[-1], expected, **tolerance)


@pytest.mark.parametrize("steps", LONG_RUNS)
def test_many_steps_of_a_network(steps):
    body, state, xs = network(cells.lstm.cell, 2, 2, steps)

    @jax.jit
    def everything(xs):
        return (
            analysis.log_gain(KEY, body, state, xs),
            analysis.log_singular_values(body, state, xs),
            analysis.gradient_norms(lambda hs: jnp.sum(hs[-1] ** 2), body, state, xs),
            analysis.input_output(body, state, xs, [steps - 1]),
        )

    for values in jax.device_get(everything(xs)):
        assert np.isfinite(values).all()
        print(values.min())
        assert values.min() < -1000  # far beyond float32, so the logs are at work


# --- overflow -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "few"),
    [
        ("cell", True),
        pytest.param("cell", False, marks=pytest.mark.slow),
        pytest.param("function", False, marks=pytest.mark.slow),
    ],
)
def test_an_overflow_is_not_perfect_stability(kind, few):
    """W = [[3, -1], [-1, 3]] doubles (1, 1): from 1e-30 the state fits into float32, from 1 not.

    The derivatives of relu are zero at NaN, so every result was -inf or 0."""
    W, steps, one = np.array([[3, -1], [-1, 3]], "f"), 140, np.ones(2, "f")
    xs = np.zeros((steps, 2), "f")
    body = scan.tied(cells.vanilla.relu, cells.vanilla.Params(W, np.eye(2, dtype="f"), 0 * one))

    def function(h, x):
        h = jnp.maximum(jnp.asarray(W) @ h + x, 0)
        return h, h

    body = function if kind == "function" else body

    def losses(hs):
        return jax.nn.relu(hs).sum(-1)

    def network(V):
        return lambda h, x: function(h, x @ V)

    def everything(state):
        return {
            "values": analysis.log_singular_values(body, state, xs),
            "gain": analysis.log_gain(KEY, body, state, xs)[-1],
            "norms": analysis.gradient_norms(lambda hs: losses(hs)[-1], body, state, xs),
            "map": analysis.gradient_map(losses, body, state, xs, 3)[-1],
            "steps": analysis.one_step_spectra(body, state, xs)[-1],
            "eigenvalues": analysis.stability(body, state[None], xs[0]).eigenvalues,
        } | ({} if few else others(state))

    def others(state):  # dear to compile
        return {
            "largest": analysis.top_log_singular_values(KEY, body, state, xs, 1),
            "density": analysis.singular_density(KEY, body, state, xs, 1),
            "inputs": analysis.input_output(body, state, xs, [0, 1, steps - 1]),
            "directions": analysis.input_directions(body, state, xs, 3),
            "terms": analysis.gradient_by_lag(losses, network, jnp.eye(2), state, xs, 1),
        }

    everything = jax.jit(everything)
    right, over = jax.device_get((everything(1e-30 * one), everything(one)))
    np.testing.assert_allclose(right["values"], steps * np.log([4, 2]), rtol=1e-5)  # float32
    for name, value in over.items():
        if name != "eigenvalues":  # of the first step, from ones
            assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(value)), name
    np.testing.assert_allclose(over["eigenvalues"], [[4, 2]], rtol=1e-6)


# --- bad input ------------------------------------------------------------------------------------

FUNCTIONS = {
    "log_gain": lambda body, s, xs: analysis.log_gain(KEY, body, s, xs),
    "log_singular_values": analysis.log_singular_values,
    "input_output": lambda body, s, xs: analysis.input_output(body, s, xs, [0]),
    "gradient_norms": lambda body, s, xs: analysis.gradient_norms(jnp.sum, body, s, xs),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_bad_states_and_inputs_are_refused_when_traced(function):
    body, _, _ = network(cells.gru.cell, 3, 4)

    def array(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype)

    for state, xs, message in [
        (array(4), array(T, 2), r"take inputs with d = 3, got d = 2"),
        (array(4), array(0, 3), r"T = 0"),
        (array(2), array(T, 3), r"cell.start gives a state float32\[4\]"),
        (array(4, dtype=int), array(T, 3), r"floating point and of one dtype; got int32\[4\]"),
        (
            array(4, dtype=jnp.bfloat16),
            array(T, 3),
            r"must be float32 or float64; got bfloat16\[4\]",
        ),
        (
            (array(4), array(4, dtype=jnp.float16)),
            array(T, 3),
            r"of one dtype; got \(float32\[4\], float16",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda s, xs: function(body, s, xs), state, xs)


@pytest.mark.parametrize("lags", [[], [-1], [0, T]])
def test_lags_must_lie_within_the_sequence(lags):
    body, state, xs = network(cells.gru.cell, 3, 4)
    with pytest.raises(ValueError, match=r"within 0 .. T-1 = 4; got \["):
        analysis.input_output(body, state, xs, lags)


def test_lags_are_integers():
    """1.5 was taken for 1, and "12" for 1 and 2."""
    body, state, xs = network(cells.gru.cell, 3, 4)

    def traced(lags):
        return jax.eval_shape(lambda xs: analysis.input_output(body, state, xs, lags), xs)

    for lags in ([1.5], "12", 2, [True], np.array([0.0, 2.0]), ["1"], None):
        with pytest.raises(
            TypeError, match=r"lags must be an integer|lags must be a list of integers"
        ):
            traced(lags)
    for lags in (range(2), np.array([0, 3]), (np.int64(1), 2)):
        assert traced(lags).shape == (2, 3)


def test_inputs_that_have_no_derivative_are_refused():
    body, state, _ = network(cells.gru.cell, 3, 4)
    with pytest.raises(ValueError, match="embed symbols first"):
        analysis.input_output(body, state, np.ones((4, 3), "i"), [0])


def test_gradients_need_an_output_that_is_part_of_the_state():
    body, state, xs = network(cells.gru.cell, 3, 4)

    def readout(state, x):
        state, h = body(state, x)
        return state, 2 * h

    with pytest.raises(
        ValueError, match=r"must be part of its new state.*put the readout into the loss"
    ):
        analysis.gradient_norms(jnp.sum, readout, state, xs)


def test_the_hidden_state_is_found_wherever_it_stands():
    """Flax's LSTM has it behind c; that gradients are then right, the dense Jacobians say above."""
    assert position_of_output(*flax_lstm(3, 4)) == slice(4, 8)
