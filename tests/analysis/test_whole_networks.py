"""dh_t/dx_s of whole networks, against products of matrices written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import normal
from flax import nnx

from recur import analysis, cells, compose, scan

T, D, N = 6, 2, 3
BOTH = compose.Bidirectional(cells.vanilla.cell)
DEEP = compose.Stacked(BOTH, cells.vanilla.cell)  # reads both ways, then forward


def weights(d, seed):
    rng = np.random.default_rng(seed)
    W, V = 0.8 * rng.normal(size=(N, N)), rng.normal(size=(d, N))
    return cells.vanilla.Params(W, V, 0.3 * rng.normal(size=N))


def deep_params():
    return compose.BothWays(weights(D, 0), weights(D, 1)), weights(2 * N, 2)


def dense(params, xs):
    """h_t = tanh(W' h_{t-1} + V' x_t + b) and dh_t/dx_s, (T, n, T, d), in a plain loop."""
    W, V, b = params
    h, hs = np.zeros(N), []
    J = np.zeros((len(xs), N, *xs.shape))
    for t, x in enumerate(xs):
        h = np.tanh(h @ W + x @ V + b)
        hs.append(h)
        slope = (1 - h**2)[:, None]
        if t:
            J[t] = np.einsum("ij,jsd->isd", slope * W.T, J[t - 1])
        J[t, :, t] = slope * V.T
    return np.stack(hs), J


def reference(params, xs):
    """The same of DEEP, by the chain rule between its layers."""
    (forward, backward), above = params
    hs, J = dense(forward, xs)
    hs_back, J_back = dense(backward, xs[::-1])
    below = np.concatenate([hs, hs_back[::-1]], axis=1)
    J_below = np.concatenate([J, J_back[::-1, :, ::-1]], axis=1)
    hs, J_above = dense(above, below)
    return hs, np.einsum("tnsk,skrd->tnrd", J_above, J_below)


def test_jacobians_of_a_stack_that_reads_both_ways(x64):
    """Every dh_t/dx_s, singular values by signed lag, gradients: against the chain rule."""
    xs, params, lags = normal(T, D), deep_params(), [-4, -1, 0, 2]
    c = np.random.default_rng(3).normal(size=(T, N))

    @jax.jit
    def measure(params, xs):
        def network(xs):
            return scan.run(DEEP, params, xs, engine="scan")[1]

        def at(t):
            return (
                analysis.network_jacobian(network, xs, t),
                analysis.network_input_output(network, xs, t, lags),
            )

        norms = analysis.network_gradient_norms(lambda hs: jnp.sum(c * hs), network, xs)
        return network(xs), jax.vmap(at)(jnp.arange(T + 1)), norms

    hs, (J, logs), norms = jax.device_get(measure(params, xs))
    expected_hs, expected = reference(params, xs)
    np.testing.assert_allclose(hs, expected_hs, atol=1e-14)
    np.testing.assert_allclose(J[:T], np.moveaxis(expected, 2, 1), atol=1e-13)
    assert np.isnan(J[T]).all()  # t = T is no output
    for t in range(T):
        for lag, row in zip(lags, logs[t], strict=True):
            if 0 <= t - lag < T:
                values = np.linalg.svd(expected[t, :, t - lag], compute_uv=False)
                np.testing.assert_allclose(row, np.log(values), atol=1e-9)
            else:
                assert np.isnan(row).all()
    gradient = np.einsum("tn,tnsd->sd", c, expected)
    np.testing.assert_allclose(norms, np.log(np.linalg.norm(gradient, axis=1)), atol=1e-12)


@pytest.mark.slow
def test_a_singular_value_of_a_whole_network_has_its_derivative(x64):
    """By a weight of the backward pass, against finite differences of the plain loop."""
    xs, params, turn = normal(T, D), deep_params()[0], np.eye(N)[:, ::-1]

    @jax.jit
    @jax.grad
    def slope(params):
        def network(xs):
            return scan.run(BOTH, params, xs, engine="scan")[1]

        return analysis.network_input_output(network, xs, 3, [-1])[0, 0]

    def largest(step):
        W = params.backward.W + step * turn
        _, J = dense(params.backward._replace(W=W), xs[::-1])
        return np.log(np.linalg.svd(J[T - 4, :, T - 5], compute_uv=False)[0])

    difference = (largest(1e-5) - largest(-1e-5)) / 2e-5
    found = np.sum(np.asarray(slope(params).backward.W) * turn)
    np.testing.assert_allclose(found, difference, rtol=1e-7)  # of order 1, error (1e-5)^2


def test_zeros_are_exact_where_no_path_leads_and_unknown_where_floats_end():
    """A network that halves its state 200 times: 2^-200 is no float32; the future has no path."""
    steps = 201

    def halving(xs):
        def step(h, x):
            h = h / 2 + x
            return h, h

        return jax.lax.scan(step, jnp.zeros(1), xs)[1]

    xs = normal(steps, 1)

    @jax.jit
    def measure(xs):
        lags = [-1, 0, 100, 200]
        last = analysis.network_input_output(halving, xs, 200, lags)[:, 0]
        middle = analysis.network_input_output(halving, xs, 100, lags)[:, 0]
        norms = analysis.network_gradient_norms(lambda hs: hs[150].sum(), halving, xs)
        return last, middle, norms

    last, middle, norms = jax.device_get(measure(xs))
    np.testing.assert_allclose(last, [np.nan, 0, -100 * np.log(2), np.nan], rtol=1e-5)
    np.testing.assert_allclose(middle, [-np.inf, 0, -100 * np.log(2), np.nan], rtol=1e-5)
    t = np.arange(steps)
    expected = np.where(t > 150, -np.inf, np.where(t > 30, (t - 150) * np.log(2), np.nan))
    known = (t < 20) | (t > 30)  # 2^-126 ends the range, and XLA may take 2^-149
    np.testing.assert_allclose(norms[known], expected[known], rtol=1e-5)


def test_a_value_that_rounding_swamps_is_not_known():
    """[[1, 1], [1, 1 + gap]]: the small singular value is gap / 4 of the large one."""
    xs = np.zeros((3, 2), "f")

    @jax.jit
    def measure(xs, gap):
        B = jnp.ones((2, 2), xs.dtype).at[1, 1].add(gap)
        return analysis.network_input_output(lambda xs: jnp.tanh(xs) @ B, xs, 1, [0])[0]

    near, far = jax.device_get((measure(xs, np.float32(3e-7)), measure(xs, np.float32(0.1))))
    np.testing.assert_allclose(near, [np.log(2), np.nan], rtol=1e-6)
    exact = np.linalg.svd([[1, 1], [1, 1.1]], compute_uv=False)
    np.testing.assert_allclose(far, np.log(exact), rtol=1e-5)  # eps over gap / 4


@pytest.mark.slow
def test_an_nnx_model_is_taken_whole():
    """nnx.Bidirectional, batch first: the singular values of its Jacobian by jacrev."""
    rngs = nnx.Rngs(0)
    ways = [nnx.RNN(nnx.GRUCell(D, N, rngs=rngs)) for _ in range(2)]
    model, xs = nnx.Bidirectional(*ways), normal(T, D)

    def network(xs):
        return nnx.clone(model)(xs[None])[0]

    @jax.jit
    def measure(xs):
        logs = analysis.network_input_output(network, xs, 2, [-3, 1])
        return logs, jax.jacrev(network)(xs)[2]

    logs, J = jax.device_get(measure(xs))
    values = np.linalg.svd(np.moveaxis(J, 1, 0)[[5, 1]], compute_uv=False)
    np.testing.assert_allclose(logs, np.log(values), atol=1e-4)  # float32


def test_a_network_without_steps_has_no_exponents():
    params = deep_params()
    with pytest.raises(ValueError, match=r"no state is carried forward.*Lyapunov.*network_input"):
        scan.tied(DEEP, params)
    with pytest.raises(ValueError, match="no state is carried forward"):
        scan.tied(BOTH, params[0])


@pytest.mark.parametrize(
    ("network", "xs", "t", "lags", "message"),
    [
        (lambda xs: xs[:3], np.ones((T, D), "f"), 2, [0], "3 outputs for 6 inputs"),
        (lambda xs: xs, np.ones((T, D), "f"), T, [0], r"0 \.\. 5; got 6"),
        (lambda xs: xs, np.ones((T, D), "f"), 0, [T], r"\+-5; got \[6\]"),
        (lambda xs: (xs, xs), np.ones((T, D), "f"), 0, [0], r"one floating-point array.*\[1\]"),
        (lambda xs: xs @ xs, np.ones((T, D), "f"), 0, [0], "does not accept xs"),
        (lambda xs: xs, jnp.ones((T, D), jnp.bfloat16), 0, [0], "float64; xs holds bfloat16"),
        (lambda xs: xs, (np.ones((T, D), "f"),) * 2, 0, [0], "one array of inputs"),
    ],
)
def test_what_is_no_map_of_sequences_is_refused(network, xs, t, lags, message):
    with pytest.raises(ValueError, match=message):
        analysis.network_input_output(network, xs, t, lags)
