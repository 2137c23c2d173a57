"""What the analyses say, against dense Jacobians and products that are known in closed form."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.flatten_util import ravel_pytree

from recur import Prior, analysis, cells, scan

KEY = jax.random.key(3)
T = 5


def network(cell, d, n, steps=T):
    """A body, a state off the origin and inputs, in the precision now set."""
    params = cell.init(KEY, Prior(1.3, 0.9, 0.4, 0.3), d, n)
    flat, unravel = ravel_pytree(cell.start(params))
    state = unravel(0.3 * jax.random.normal(jax.random.key(4), flat.shape))
    return scan.tied(cell, params), state, jax.random.normal(jax.random.key(5), (steps, d))


def flax_lstm(d, n, steps=T):
    """Flax's LSTM: its carry is (c, h)."""
    module = nnx.LSTMCell(d, n, param_dtype=jnp.result_type(float), rngs=nnx.Rngs(0))
    graph, weights = nnx.split(module)

    def body(state, x):
        return nnx.merge(graph, weights)(state, x)

    c, h = 0.3 * jax.random.normal(jax.random.key(4), (2, n))
    return body, (c, h), jax.random.normal(jax.random.key(5), (steps, d))


def plain_function(d, n, steps=T):
    """What an Equinox user has: arrays in a closure, weights on the left, a dict as state."""
    W = jax.random.normal(KEY, (n, n)) / np.sqrt(n)
    V = jax.random.normal(jax.random.key(4), (n, d))

    def body(state, x):
        h = jnp.tanh(W @ state["h"] + V @ x + 0.5 * state["trace"])
        return {"h": h, "trace": 0.9 * state["trace"] + h}, h

    state = {"h": jnp.full(n, 0.2), "trace": jnp.full(n, -0.1)}
    return body, state, jax.random.normal(jax.random.key(5), (steps, d))


FOREIGN = [flax_lstm, plain_function]


# --- against dense Jacobians ----------------------------------------------------------------------


def last_state(body, state, xs):
    """state_T as a vector, of the start as a vector and the inputs."""
    flat, unravel = ravel_pytree(state)
    return lambda s, xs: ravel_pytree(lax.scan(body, unravel(s), xs)[0])[0], flat


def close_as_singular_values(logs, dense):
    """A dense SVD errs by 1e-16 of its largest value, so that is what may be compared."""
    expected = np.linalg.svd(dense, compute_uv=False)
    np.testing.assert_allclose(np.exp(logs), expected, rtol=1e-8, atol=1e-14 * expected[0])
    assert np.all(np.diff(logs) <= 0)


def check_dense(body, state, xs):
    """Gains and spectra against `jacfwd` of the unrolled map, in float64."""
    lags = [3, 0, T - 1]

    @jax.jit
    def everything(state, xs):
        run, start = last_state(body, state, xs)
        return (
            jax.jacfwd(run)(start, xs),
            jax.jacrev(lambda xs: lax.scan(body, state, xs)[1][-1])(xs),  # (n, T, d)
            analysis.log_gain(KEY, body, state, xs),
            analysis.log_singular_values(body, state, xs),
            analysis.input_output(body, state, xs, lags),
        )

    J, dh_dx, gains, logs, rows = everything(state, xs)
    close_as_singular_values(logs, J)
    v = jax.random.normal(KEY, J.shape[1:])
    assert gains.shape == (T,)
    np.testing.assert_allclose(gains[-1], np.log(np.linalg.norm(J @ v) / np.linalg.norm(v)))
    assert rows.shape == (len(lags), min(dh_dx.shape[0], dh_dx.shape[2]))
    for lag, row in zip(lags, rows, strict=True):
        close_as_singular_values(row, dh_dx[:, T - 1 - lag])


def check_gradients(body, replace, state, xs):
    """`gradient_norms` against perturbations added to each h_t; replace(state, h) sets h."""
    n = jax.eval_shape(body, state, xs[0])[1].size
    target = jax.random.normal(jax.random.key(6), (T, n))

    def loss(hs):
        return jnp.sum((hs - target) ** 2 * jnp.arange(1.0, T + 1)[:, None])

    def perturbed(deltas):
        def step(state, now):
            x, delta = now
            state, h = body(state, x)
            return replace(state, h + delta), h + delta

        return loss(lax.scan(step, state, (xs, deltas))[1])

    gradient, logs = jax.jit(
        lambda: (
            jax.grad(perturbed)(jnp.zeros((T, n))),
            analysis.gradient_norms(loss, body, state, xs),
        )
    )()
    expected = np.log(np.linalg.norm(gradient, axis=1))
    np.testing.assert_allclose(logs, expected, atol=1e-10)  # float64 rounding


@pytest.mark.parametrize("name", ["gru.reset_before", "lstm", "minimal", "vanilla.relu"])
def test_some_cells_against_dense_jacobians(cell, sizes, x64):
    check_cell_against_dense(cell, sizes)


@pytest.mark.slow
def test_every_cell_against_dense_jacobians(cell, sizes, x64):
    check_cell_against_dense(cell, sizes)


def check_cell_against_dense(cell, sizes):
    body, state, xs = network(cell, *sizes)
    check_dense(body, state, xs)

    def replace(state, h):
        return state._replace(h=h) if isinstance(state, tuple) else h

    check_gradients(body, replace, state, xs)


@pytest.mark.parametrize("make", FOREIGN)
def test_foreign_bodies_against_dense_jacobians(make, x64):
    body, state, xs = make(3, 5)
    check_dense(body, state, xs)

    def replace(state, h):
        return {**state, "h": h} if isinstance(state, dict) else (state[0], h)

    check_gradients(body, replace, state, xs)


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

    logdet, exponents, logs, norms, points, after, about, J = everything()
    np.testing.assert_allclose(exponents.sum(), logdet, rtol=1e-6)  # some digits are spent
    np.testing.assert_allclose(logs[-1], norms[::-1], atol=1e-10)  # float64 rounding
    assert points.speed.max() < 1e-25  # squares of rounding
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), after, points.states)
    product = np.abs(np.prod(about.eigenvalues, axis=1))
    np.testing.assert_allclose(product, np.abs(np.linalg.det(J)), rtol=1e-8)


@pytest.mark.parametrize(("d", "n"), [(7, 2), (2, 7), (1, 1)])
def test_the_output_may_be_wider_or_narrower_than_the_input(d, n, x64):
    body, state, xs = network(cells.vanilla.cell, d, n)
    dh_dx, rows = jax.jit(
        lambda xs: (
            jax.jacrev(lambda xs: lax.scan(body, state, xs)[1][-1])(xs),
            analysis.input_output(body, state, xs, [2, 0]),
        )
    )(xs)
    for lag, row in zip([2, 0], rows, strict=True):
        close_as_singular_values(row, dh_dx[:, T - 1 - lag])


@pytest.mark.slow
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


@pytest.mark.parametrize("case", KNOWN)
def test_products_of_known_singular_values(case, x64):
    """Every value within 1e-6 nats, not the largest alone. The rounding of 200 factors of condition
    1e4 is 200 * 1e-16 * 1e4 = 2e-10."""
    factors, expected = known(*KNOWN[case])
    logs = singular_values(product, jnp.zeros(len(expected)), factors)
    np.testing.assert_allclose(logs, expected, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_products_of_known_singular_values_large(x64):
    factors, expected = known(10 ** np.linspace(1, -1, 256), 100)
    logs = jax.jit(analysis.log_singular_values, static_argnums=0)(product, jnp.zeros(256), factors)
    np.testing.assert_allclose(logs, expected, rtol=0, atol=1e-9)


def test_float32_reaches_as_far():
    """10^-50 to 10^50: 50 factors of condition 100, so a rounding of 50 * 6e-8 * 100 nats."""
    factors, expected = known(10 ** np.linspace(1, -1, 16), 50)
    logs = singular_values(product, jnp.zeros(16), factors)
    assert logs.dtype == jnp.float32
    np.testing.assert_allclose(logs, expected, rtol=0, atol=3e-4)


def test_input_output_of_known_products(x64):
    """h = A h + x, so dh_T/dx_{T-lag} is the product of the last `lag` factors."""
    steps = 100
    factors, expected = known(10 ** np.linspace(2, -2, 8), steps)

    def body(h, x):
        A, x = x
        h = A @ h + x
        return h, h

    xs = (factors, jnp.ones((steps, 8)))
    lags = [0, 1, 50, steps - 1]
    rows = jax.jit(lambda: analysis.input_output(body, jnp.zeros(8), xs, lags))()
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

    rows = analysis.input_output(body, jnp.zeros(8), jnp.ones((steps, 2)), [99])
    np.testing.assert_allclose(rows[0], 99 * np.log(scales[:2]), rtol=0, atol=1e-9)


def test_exact_zeros_give_minus_infinity():
    factors = jnp.ones((6, 3, 3)).at[4].set(0)
    start = jnp.ones(3)
    gains = analysis.log_gain(KEY, product, start, factors)
    assert np.isfinite(gains[:4]).all()
    np.testing.assert_array_equal(gains[4:], -np.inf)
    np.testing.assert_array_equal(singular_values(product, start, factors), -np.inf)
    # rank one: the other values are zero up to the rounding of each step, and no NaN
    logs = singular_values(product, start, jnp.ones((4, 3, 3)))
    np.testing.assert_allclose(logs[0], 4 * np.log(3), rtol=1e-5)  # float32
    assert (logs[1:] < logs[0] - 40).all()

    norms = analysis.gradient_norms(lambda hs: hs[2].sum(), product, start, factors)
    assert np.isfinite(norms[:3]).all()
    np.testing.assert_array_equal(norms[3:], -np.inf)

    def forgetful(h, x):
        h = x + 0 * h
        return h, h

    rows = analysis.input_output(forgetful, start, jnp.ones((4, 3)), [0, 1, 3])
    np.testing.assert_allclose(rows[0], 0, atol=1e-6)  # float32
    np.testing.assert_array_equal(rows[1:], -np.inf)


# --- long sequences -------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_a_hundred_thousand_steps(rate):
    """Powers 2^(+-1e5) of a rotation, in float32: exact up to the rounding of 1e5 additions."""
    steps = 100_000
    angle = 0.3
    A = jnp.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], float)

    def body(h, x):
        h = rate * (A @ h) + 0 * x  # stays at zero, so no state overflows
        return h, h

    xs, start = jnp.zeros((steps, 2)), jnp.zeros(2)
    expected = steps * np.log(rate)
    tolerance = {"rtol": 1e-3}  # 1e5 additions, each rounded by 6e-8 of a total of 7e4
    gains = jax.jit(lambda: analysis.log_gain(KEY, body, start, xs))()
    np.testing.assert_allclose(gains[-1], expected, **tolerance)
    logs = jax.jit(lambda: analysis.log_singular_values(body, start, xs))()
    np.testing.assert_allclose(logs, expected, **tolerance)
    norms = jax.jit(lambda: analysis.gradient_norms(lambda hs: hs[-1].sum(), body, start, xs))()
    np.testing.assert_allclose(norms[0] - norms[-1], expected, **tolerance)


def test_a_hundred_thousand_steps_of_a_network():
    body, state, xs = network(cells.lstm.cell, 2, 2, steps=100_000)

    @jax.jit
    def everything():
        return (
            analysis.log_gain(KEY, body, state, xs),
            analysis.log_singular_values(body, state, xs),
            analysis.gradient_norms(lambda hs: jnp.sum(hs[-1] ** 2), body, state, xs),
            analysis.input_output(body, state, xs, [99_999]),
        )

    for values in everything():
        assert np.isfinite(values).all()
        assert values.min() < -1000  # far beyond float32, so the logs are at work


# --- bad input ------------------------------------------------------------------------------------

FUNCTIONS = {
    "log_gain": lambda body, s, xs: analysis.log_gain(KEY, body, s, xs),
    "log_singular_values": analysis.log_singular_values,
    "input_output": lambda body, s, xs: analysis.input_output(body, s, xs, [0]),
    "gradient_norms": lambda body, s, xs: analysis.gradient_norms(jnp.sum, body, s, xs),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_bad_states_and_inputs_are_refused_when_traced(function):
    body, state, xs = network(cells.gru.cell, 3, 4)
    for state_, xs_, message in [
        (state, xs[:, :2], r"take inputs with d = 3, got d = 2"),
        (state, xs[:0], r"T = 0"),
        (state[:2], xs, r"cell.start gives a state float32\[4\]"),
        (jnp.zeros(4, int), xs, r"floating point and of one dtype; got int32\[4\]"),
        (state.astype(jnp.bfloat16), xs, r"takes float32 or float64.*got bfloat16\[4\]"),
        ((state, state.astype(jnp.float16)), xs, r"of one dtype; got \(float32\[4\], float16"),
    ]:
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda s, xs: function(body, s, xs), state_, xs_)


@pytest.mark.parametrize("lags", [[], [-1], [0, T]])
def test_lags_must_lie_within_the_sequence(lags):
    body, state, xs = network(cells.gru.cell, 3, 4)
    with pytest.raises(ValueError, match=r"within 0 .. T-1 = 4, got \["):
        analysis.input_output(body, state, xs, lags)


def test_inputs_that_have_no_derivative_are_refused():
    body, state, _ = network(cells.gru.cell, 3, 4)
    with pytest.raises(ValueError, match="embed symbols first"):
        analysis.input_output(body, state, jnp.ones((4, 3), int), [0])


def test_gradients_need_an_output_that_is_part_of_the_state():
    body, state, xs = network(cells.gru.cell, 3, 4)

    def readout(state, x):
        state, h = body(state, x)
        return state, 2 * h

    with pytest.raises(
        ValueError, match=r"no part of its new state.*put the readout into the loss"
    ):
        analysis.gradient_norms(jnp.sum, readout, state, xs)


def test_the_hidden_state_is_found_wherever_it_stands():
    body, state, xs = flax_lstm(3, 4)
    logs = analysis.gradient_norms(lambda hs: hs[-1].sum(), body, state, xs)
    np.testing.assert_allclose(logs[-1], np.log(2.0), rtol=1e-6)  # |(1,1,1,1)| = 2, float32
