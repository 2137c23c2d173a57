"""The contract that every cell keeps, and each cell against its formula or another library."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MADE, build
from jax.flatten_util import ravel_pytree

from recur import Prior, Unitwise, cells, hidden, scan

KEY = jax.random.key(7)
T = 6
ALL = [*cells.names(), *MADE]


def inputs(d, *batch, steps=T):
    return jax.random.normal(KEY, (steps, *batch, d))


def random_state(cell, params, batch=()):
    flat, unravel = ravel_pytree(cell.start(params, batch))
    return unravel(jax.random.normal(jax.random.key(8), flat.shape, flat.dtype) / 2)


# --- the contract ---------------------------------------------------------------------------------


def test_shapes_and_state_type(cell, params, sizes):
    d, n = sizes
    for batch in [(), (4,), (2, 3)]:
        state = jax.eval_shape(lambda batch=batch: cell.start(params, batch))
        after, h = jax.eval_shape(cell.step, params, state, jnp.ones((*batch, d)))
        assert h.shape == (*batch, n)
        assert scan.describe(after) == scan.describe(state)
        after, hs = jax.eval_shape(lambda xs: scan.run(cell, params, xs), inputs(d, *batch))
        assert hs.shape == (T, *batch, n)
        assert scan.describe(after) == scan.describe(state)


def test_params_are_a_named_tuple_of_documented_shapes(name, params, sizes):
    """W and V end on whole gates; not every cell has every gate in both, and some lack one."""
    d, n = sizes
    assert isinstance(params, tuple)
    assert all(isinstance(p, jax.Array) for p in params)
    fields = params._asdict()
    if "b" in fields:
        assert params.b.ndim == 1
        assert params.b.shape[0] % n == 0
    if "V" in fields:  # MinimalRNN's V takes the embedded input
        assert params.V.shape[0] in (d, n)
        assert params.V.shape[1] % n == 0
    if "W" in fields:  # Jordan's W takes the outputs
        assert params.W.shape[0] == (2 if name == "jordan.outputs" else n)
        assert params.W.shape[1] % n == 0


# what the prior does not set: minGRU and minLSTM have no W, a wave has its material alone
NO_W = ("mingru", "minlstm", "wave.saturable")
NO_V = ("wave.saturable",)


def test_prior_sets_the_moments(name, cell):
    """Empirical moments of 200 x 200 draws; 5 standard errors of the worst (the n biases)."""
    d, n = (3, 9) if name in NO_V else (200, 200)
    prior = Prior(2.0, 3.0, 0.5, 0.7)
    p = cell.init(KEY, prior, d, n)
    if name not in NO_W:
        m = p.W.shape[0]
        assert np.isclose(p.W.std() * np.sqrt(m), 2.0, rtol=5 / np.sqrt(2 * m * n))
    if name not in NO_V:
        assert np.isclose(p.V.std() * np.sqrt(p.V.shape[0]), 3.0, rtol=5 / np.sqrt(2 * d * n))
    b = p.rho if name in NO_V else p.b
    assert np.isclose(b.mean(), 0.5, atol=5 * 0.7 / np.sqrt(n))
    assert np.isclose(b.std(), 0.7, rtol=5 / np.sqrt(2 * n))


def test_prior_per_gate(name, cell, sizes):
    d, n = sizes
    if name in NO_V:
        pytest.skip("a medium has no gates")
    gates = cell.init(KEY, Prior(), d, n).b.size // n
    mu = jnp.arange(1.0, gates + 1)
    p = cell.init(KEY, Prior(0.0, 0.0, mu, 0.0), d, n)
    np.testing.assert_array_equal(p.b.reshape(gates, n), np.tile(mu[:, None], n))
    assert name in NO_W or not p.W.any()
    assert not p.V.any()
    if gates > 1:
        with pytest.raises(ValueError, match=rf"Prior.sigma_w .* one value per gate.*\({gates},\)"):
            cell.init(KEY, Prior(jnp.ones(gates + 1)), d, n)


def test_scanning_equals_iterating(cell, params, sizes):
    xs = inputs(sizes[0])
    state, hs = jax.jit(lambda: scan.run(cell, params, xs))()
    np.testing.assert_array_equal(hidden(state), hs[-1])
    looped, step = cell.start(params), jax.jit(cell.step)
    for t in range(T):
        looped, h = step(params, looped, xs[t])
        np.testing.assert_allclose(hs[t], h, atol=1e-6)  # float32, order of additions
    np.testing.assert_allclose(hidden(state), hidden(looped), atol=1e-6)


def test_pieces_equal_one_pass_and_reverse_equals_flipping(cell, params, sizes):
    @jax.jit
    def both_ways(xs):
        middle, first = scan.run(cell, params, xs[:2])
        end, second = scan.run(cell, params, xs[2:], middle)
        pieces = end, jnp.concatenate([first, second])
        _, backward = scan.run(cell, params, xs, reverse=True, unroll=2)
        _, flipped = scan.run(cell, params, xs[::-1])
        return scan.run(cell, params, xs), pieces, backward[::-1], flipped

    (state, hs), (end, pieces), backward, flipped = both_ways(inputs(sizes[0], 2))
    # float32 at each of six steps; the linear network's states grow to 30, hence relative too
    close = {"rtol": 2e-6, "atol": 1e-6}
    np.testing.assert_allclose(pieces, hs, **close)
    np.testing.assert_allclose(hidden(end), hidden(state), **close)
    np.testing.assert_allclose(backward, flipped, **close)


def test_batch_axes_equal_vmap(cell, params, sizes):
    xs = inputs(sizes[0], 2, 3)
    _, hs = jax.jit(lambda xs: scan.run(cell, params, xs))(xs)
    one = jax.vmap(jax.vmap(lambda xs: scan.run(cell, params, xs)[1], 1, 1), 2, 2)
    np.testing.assert_allclose(hs, jax.jit(one)(xs), atol=1e-6)  # float32, order of additions


@pytest.mark.parametrize("name", [c for c in ALL if type(build(c)) is Unitwise])
def test_update_is_unitwise_and_mix_is_linear(cell, sizes, x64):
    d, n = sizes
    params = cell.init(KEY, Prior(1.3, 0.9, 0.4, 0.3), d, n)
    state = random_state(cell, params)
    r, z = jax.jit(cell.mix)(params, hidden(state)), jax.jit(cell.drive)(params, inputs(d)[0])
    for jacobian in jax.tree.leaves(
        jax.jit(jax.jacfwd(cell.update, (1, 2, 3)))(params, state, r, z)
    ):
        assert jacobian.shape == (n, n)
        np.testing.assert_array_equal(jacobian, np.diag(np.diag(jacobian)))
    a, b = jax.random.normal(KEY, (2, n))
    mix = jax.jit(cell.mix)
    both = mix(params, 2 * a - 3 * b)
    apart = jax.tree.map(lambda p, q: 2 * p - 3 * q, mix(params, a), mix(params, b))
    for x, y in zip(jax.tree.leaves(both), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-12)  # float64 rounding of n products


def test_gradient_against_finite_differences(cell, sizes, x64):
    """Central differences along a random direction of all parameters, inputs and states."""
    params = cell.init(KEY, Prior(1.3, 0.9, 0.4, 0.3), *sizes)
    xs = inputs(sizes[0], 2)
    point, unravel = ravel_pytree((params, random_state(cell, params, (2,)), xs))
    weights = jax.random.normal(jax.random.key(9), (T, 2, sizes[1]))

    @jax.jit
    @jax.value_and_grad
    def loss(point):
        params, state, xs = unravel(point)
        return jnp.sum(weights * scan.run(cell, params, xs, state)[1])

    direction = jax.random.normal(jax.random.key(10), point.shape)
    eps = 1e-5  # error about eps^2 + 1e-16/eps = 1e-10, relative to a derivative of order 1
    numeric = (loss(point + eps * direction)[0] - loss(point - eps * direction)[0]) / (2 * eps)
    np.testing.assert_allclose(loss(point)[1] @ direction, numeric, rtol=1e-6)


def test_two_priors_compile_once(cell, sizes):
    traces = []

    @jax.jit
    def total(prior):
        traces.append(1)
        return scan.run(cell, cell.init(KEY, prior, *sizes), inputs(sizes[0]))[1].sum()

    total.trace(Prior(1.0, 1.0, 0.0, 0.0))
    total.trace(Prior(2.0, 0.5, 1.0, 0.1))
    assert len(traces) == 1


def test_a_variant_is_a_constant(name, sizes):
    """Built twice it is equal and compiles once; any two variants are unequal."""
    traces = []

    def init(cell, key):
        traces.append(1)
        return cell.init(key, Prior(), *sizes)

    compiled = jax.jit(init, static_argnums=0)
    compiled.trace(build(name), KEY)
    compiled.trace(build(name), KEY)
    assert len(traces) == 1
    assert cells.vanilla.elman(jnp.tanh) is cells.vanilla.cell


def test_any_two_cells_are_unequal():
    for one, other in itertools.combinations(ALL, 2):
        assert build(one) != build(other)


# --- each cell against its formula or another library ---------------------------------------------


def numpy_sigmoid(a):
    return 1 / (1 + np.exp(-a))


def run_both(cell, d, n, step):
    """hs of a cell and of a NumPy step (params, h, x) -> h, in float64 for the latter."""
    params = cell.init(KEY, Prior(1.3, 0.9, 0.4, 0.3), d, n)
    xs = inputs(d, 2)
    P = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    h, expected = np.zeros((2, n)), []
    for x in np.asarray(xs, np.float64):
        h = step(P, h, x)
        expected.append(h)
    np.testing.assert_allclose(scan.run(cell, params, xs)[1], expected, atol=2e-6)  # float32


def test_minimal_against_numpy():
    def step(P, h, x):
        z = np.tanh(x @ P.E + P.a)
        u = numpy_sigmoid(h @ P.W + z @ P.V + P.b)
        return u * h + (1 - u) * z

    run_both(cells.minimal.cell, 3, 5, step)


def test_minimal_bare_against_numpy():
    def step(P, h, x):
        u = numpy_sigmoid(h @ P.W + x @ P.V + P.b)
        return u * h + (1 - u) * x

    run_both(cells.minimal.bare, 5, 5, step)


def test_cfn_against_numpy():
    def step(P, h, x):
        n = h.shape[-1]
        gates = h @ P.W + x @ P.V + P.b
        theta, eta = numpy_sigmoid(gates[..., :n]), numpy_sigmoid(gates[..., n:])
        return theta * np.tanh(h) + eta * np.tanh(x @ P.E)

    run_both(cells.cfn.cell, 3, 5, step)


def test_gru_reset_before_against_numpy():
    def step(P, h, x):
        z = np.split(x @ P.V + P.b, 3, axis=-1)
        W = np.split(P.W, 3, axis=1)
        u, r = numpy_sigmoid(h @ W[0] + z[0]), numpy_sigmoid(h @ W[1] + z[1])
        return u * h + (1 - u) * np.tanh((r * h) @ W[2] + z[2])

    run_both(cells.gru.reset_before, 3, 5, step)


def test_vanilla_variants_against_numpy():
    for cell, phi in [
        (cells.vanilla.relu, lambda a: np.maximum(a, 0)),
        (cells.vanilla.linear, lambda a: a),
    ]:
        run_both(cell, 3, 5, lambda P, h, x, phi=phi: phi(h @ P.W + x @ P.V + P.b))


def flax_outputs(module, kernels, xs):
    """Outputs of a Flax linen cell whose parameters are given by name."""
    carry = module.initialize_carry(KEY, xs.shape[1:])
    variables, hs = {"params": kernels}, []
    for x in xs:
        carry, h = module.apply(variables, carry, x)
        hs.append(h)
    return jnp.stack(hs)


def test_vanilla_equals_flax():
    cell, d, n = cells.vanilla.cell, 3, 5
    p, xs = cell.init(KEY, Prior(1, 1, 0, 0.5), d, n), inputs(d, 2)
    kernels = {"i": {"kernel": p.V, "bias": p.b}, "h": {"kernel": p.W}}
    expected = flax_outputs(nn.SimpleCell(n), kernels, xs)
    np.testing.assert_allclose(scan.run(cell, p, xs)[1], expected, atol=1e-5)


def test_lstm_equals_flax():
    cell, d, n = cells.lstm.cell, 3, 5
    p, xs = cell.init(KEY, Prior(1, 1, 0, 0.5), d, n), inputs(d, 2)
    W, V, b = (np.split(a, 4, axis=-1) for a in p)
    kernels = {}
    for gate, letter in enumerate("ifgo"):
        kernels["i" + letter] = {"kernel": V[gate]}
        kernels["h" + letter] = {"kernel": W[gate], "bias": b[gate]}
    expected = flax_outputs(nn.LSTMCell(n), kernels, xs)
    np.testing.assert_allclose(scan.run(cell, p, xs)[1], expected, atol=1e-5)


def test_gru_equals_flax():
    cell, d, n = cells.gru.cell, 3, 5
    p, xs = cell.init(KEY, Prior(1, 1, 0, 0.5), d, n), inputs(d, 2)
    W, V, b = (np.split(a, 3, axis=-1) for a in p)
    kernels = {}
    for gate, letter in enumerate("zrn"):  # Flax's z keeps the old state, as our u does
        kernels["i" + letter] = {"kernel": V[gate], "bias": b[gate]}
        kernels["h" + letter] = {"kernel": W[gate]}
    kernels["hn"]["bias"] = jnp.zeros(n)
    expected = flax_outputs(nn.GRUCell(n), kernels, xs)
    np.testing.assert_allclose(scan.run(cell, p, xs)[1], expected, atol=1e-5)


# --- what theory says of them ---------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [1.0, 10.0])
def test_minimal_states_stay_within_the_embedded_inputs(sigma):
    cell, d, n = cells.minimal.bare, 8, 8
    params = cell.init(KEY, Prior(sigma, sigma), d, n)
    xs = inputs(d, 3, steps=40)
    _, hs = scan.run(cell, params, xs)
    so_far = jax.lax.cummax(jnp.abs(xs))
    assert jnp.all(jnp.abs(hs) <= so_far * (1 + 1e-6))  # a convex combination, up to rounding


@pytest.mark.parametrize("sigma", [1.0, 10.0])
def test_cfn_forgets_without_input_and_is_bounded(sigma):
    cell, d, n = cells.cfn.cell, 4, 16
    params = cell.init(KEY, Prior(sigma, 1.0, 2.0), d, n)
    # |h| shrinks at least as the map h <- tanh(h), whose t-th iterate is below sqrt(3 / 2t)
    steps = 2000
    _, hs = scan.run(cell, params, jnp.zeros((steps, d)), jnp.full(n, 2.0))
    assert jnp.abs(hs[-1]).max() < np.sqrt(3 / (2 * steps))
    _, hs = scan.run(cell, params, 100 * inputs(d, steps=50))
    assert jnp.abs(hs).max() <= 2


# --- worked examples ------------------------------------------------------------------------------


def test_memory_and_order_worked_by_hand():
    """All weights 1, two linear units, output the sum of both: order matters through the memory."""
    params = cells.vanilla.Params(jnp.ones((2, 2)), jnp.ones((2, 2)), jnp.zeros(2))

    def outputs(*xs):
        _, hs = scan.run(cells.vanilla.linear, params, jnp.array(xs, jnp.float32))
        return (hs @ jnp.ones((2, 2))).tolist()

    assert outputs((1, 1), (1, 1), (2, 2)) == [[4, 4], [12, 12], [32, 32]]
    assert outputs((2, 2), (1, 1), (1, 1)) == [[8, 8], [20, 20], [44, 44]]
    assert outputs((1, 1), (2, 2), (1, 1)) == [[4, 4], [16, 16], [36, 36]]


@pytest.mark.parametrize("w", [0.99, 1.0, 1.01])
def test_one_linear_unit_gives_w_to_the_999(w, x64):
    def last(w):
        params = cells.vanilla.Params(w.reshape(1, 1), jnp.ones((1, 1)), jnp.zeros(1))
        xs = jnp.zeros((1000, 1)).at[0].set(1)
        return scan.run(cells.vanilla.linear, params, xs)[1][-1, 0]

    value, slope = jax.value_and_grad(last)(jnp.array(w))
    # 1000 multiplications in float64: 1000 eps = 2e-13
    np.testing.assert_allclose(value, w**999, rtol=1e-12)
    np.testing.assert_allclose(slope, 999 * w**998, rtol=1e-12)


def test_gradient_of_a_classifier_equals_the_sum_over_paths(x64):
    """Backpropagation through time written out for T = 4.

    h = tanh(U x + W h + b) and p = softmax(V h + c), so that
    dE/dh_t = sum over s >= t of (prod_{t < k <= s} W^T D_k) V^T (p_s - y_s), D_k = diag(1 - h_k^2);
    every parameter then collects its own immediate derivative at each t.
    """
    rng = np.random.default_rng(0)
    d, n, m, steps = 3, 4, 2, 4
    U, W, V = rng.normal(size=(n, d)), rng.normal(size=(n, n)), rng.normal(size=(m, n))
    b, c = rng.normal(size=n), rng.normal(size=m)
    xs, labels = rng.normal(size=(steps, d)), [0, 1, 1, 0]

    def loss(U, W, V, b, c):
        params = cells.vanilla.Params(W.T, U.T, b)
        _, hs = scan.run(cells.vanilla.cell, params, jnp.asarray(xs))
        logs = jax.nn.log_softmax(hs @ V.T + c)
        return -sum(logs[t, label] for t, label in enumerate(labels))

    gradient = jax.grad(loss, (0, 1, 2, 3, 4))(*map(jnp.asarray, (U, W, V, b, c)))

    hs = [np.zeros(n)]
    for x in xs:
        hs.append(np.tanh(U @ x + W @ hs[-1] + b))
    errors = []
    for h, label in zip(hs[1:], labels, strict=True):
        p = np.exp(V @ h + c)
        errors.append(p / p.sum() - np.eye(m)[label])
    by_hand = [np.zeros_like(a) for a in (U, W, V, b, c)]
    for s in range(1, steps + 1):  # the error at s ...
        by_hand[2] += np.outer(errors[s - 1], hs[s])
        by_hand[4] += errors[s - 1]
        for t in range(1, s + 1):  # ... through the parameters as they acted at t
            path = V.T @ errors[s - 1]
            for k in range(s, t, -1):
                path = W.T @ ((1 - hs[k] ** 2) * path)
            path = (1 - hs[t] ** 2) * path
            by_hand[0] += np.outer(path, xs[t - 1])
            by_hand[1] += np.outer(path, hs[t - 1])
            by_hand[3] += path
    for ours, theirs in zip(gradient, by_hand, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)  # float64 rounding


# --- bad input ------------------------------------------------------------------------------------


def test_bad_sizes_and_names():
    with pytest.raises(ValueError, match=r"d must equal n; got d=3, n=5. Use minimal.cell"):
        cells.minimal.bare.init(KEY, Prior(), 3, 5)
    with pytest.raises(ValueError, match=r"n >= 1 units, got d=3, n=0"):
        cells.gru.cell.init(KEY, Prior(), 3, 0)
    with pytest.raises(ValueError, match=r"no cell is named 'lsmt'; did you mean 'lstm'\?"):
        cells.named("lsmt")
    with pytest.raises(ValueError, match=r"no cell is named 'qqq'; There are: .*minimal.bare"):
        cells.named("qqq")
