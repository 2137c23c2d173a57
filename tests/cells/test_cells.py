"""The contract that every cell keeps, and each cell against its formula or another library."""

import functools
import itertools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MADE, build, few_fast

from recur import Cell, Prior, Unitwise, cells, hidden, scan

pytestmark = pytest.mark.quick

KEY = jax.random.key(7)
T = 6
ALL = [*cells.names(), *MADE]


def inputs(d, *batch, steps=T):
    return np.asarray(np.random.default_rng(7).normal(size=(steps, *batch, d)), float_now())


def float_now():
    return jax.dtypes.canonicalize_dtype(float)


class Shapes(Prior):
    """A prior for those who ask for nothing but shapes: it has no random numbers to trace."""

    def draw(self, key, d, n, gates=1):
        return jnp.zeros((n, gates * n)), jnp.zeros((d, gates * n)), jnp.zeros(gates * n)


def drawn(cell, d, n, batch=()):
    """Parameters and a state of the sizes that a prior gives them, without a program to compile."""
    rng = np.random.default_rng(8)

    def begin():
        params = cell.init(KEY, Shapes(), d, n)
        return params, cell.start(params, batch)

    def matrix_or_bias(p):
        draw = rng.normal(size=p.shape)
        return np.asarray(1.1 * draw / len(p) ** 0.5 if p.ndim > 1 else 0.4 + 0.3 * draw, p.dtype)

    params, state = jax.eval_shape(begin)
    params = jax.tree.map(matrix_or_bias, params)
    return params, jax.tree.map(lambda s: np.asarray(rng.normal(size=s.shape) / 2, s.dtype), state)


@pytest.fixture(params=ALL, scope="module")
def name(request):
    """Every cell; one after the other takes all tests, so that they share what `runs` made."""
    return request.param


@pytest.fixture(scope="module")
def cell(name):
    return build(name)


@pytest.fixture(scope="module")
def sizes(name):
    if name.startswith("wave."):
        return 3, 9
    return (5, 5) if name == "minimal.bare" else (3, 5)


@pytest.fixture(scope="module")
def params(cell, sizes):
    return drawn(cell, *sizes)[0]


# --- the contract ---------------------------------------------------------------------------------


def test_shapes_and_state_type(cell, params, sizes):
    d, n = sizes
    for batch in [(), (4,), (2, 3)]:
        state = jax.eval_shape(lambda batch=batch: cell.start(params, batch))
        after, h = jax.eval_shape(cell.step, params, state, np.ones((*batch, d), np.float32))
        assert h.shape == (*batch, n)
        assert scan.describe(after) == scan.describe(state)
        after, hs = jax.eval_shape(lambda xs: scan.run(cell, params, xs), inputs(d, *batch))
        assert hs.shape == (T, *batch, n)
        assert scan.describe(after) == scan.describe(state)


def test_params_are_a_named_tuple_of_documented_shapes(name, cell, sizes):
    """W and V end on whole gates; not every cell has every gate in both, and some lack one."""
    d, n = sizes

    def init(key):
        params = cell.init(key, Prior(), d, n)
        assert isinstance(params, tuple)
        assert all(isinstance(p, jax.Array) for p in params)
        return params

    params = jax.eval_shape(init, KEY)
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


@functools.cache
def priors(init, d, n):
    """Of one program: a draw from a prior with every field, and one of a mean for each gate.

    Standard normal numbers are NumPy's, but for the LSTM, and cost no program.
    """
    rng = np.random.default_rng(5)

    def normal(key, shape=(), dtype=float):
        return jnp.asarray(rng.normal(size=shape), dtype)

    def both(key):
        params = init(key, Prior(2.0, 3.0, 0.5, 0.7), d, n)
        if not hasattr(params, "b"):
            return params, ()
        mu = np.arange(1, params.b.size // n + 1, dtype=np.float32)
        return params, init(key, Prior(0.0, 0.0, mu, 0.0), d, n)

    with pytest.MonkeyPatch.context() as patch:
        if init is not cells.lstm.cell.init:
            patch.setattr(jax.random, "normal", normal)
        return jax.device_get(jax.jit(both)(KEY))


def draws(name, cell):
    return priors(cell.init, *((3, 9) if name in NO_V else (200, 200)))


def test_prior_sets_the_moments(name, cell):
    """Empirical moments of 200 x 200 draws; 5 standard errors of the worst (the n biases)."""
    d, n = (3, 9) if name in NO_V else (200, 200)
    p, _ = draws(name, cell)
    if name not in NO_W:
        m = p.W.shape[0]
        assert np.isclose(p.W.std() * np.sqrt(m), 2.0, rtol=5 / np.sqrt(2 * m * n))
    if name not in NO_V:
        assert np.isclose(p.V.std() * np.sqrt(p.V.shape[0]), 3.0, rtol=5 / np.sqrt(2 * d * n))
    b = p.rho if name in NO_V else p.b
    assert np.isclose(b.mean(), 0.5, atol=5 * 0.7 / np.sqrt(n))
    assert np.isclose(b.std(), 0.7, rtol=5 / np.sqrt(2 * n))


def test_prior_per_gate(name, cell, sizes):
    if name in NO_V:
        pytest.skip("a medium has no gates")
    _, p = draws(name, cell)
    n = 200
    gates = p.b.size // n
    np.testing.assert_array_equal(
        p.b.reshape(gates, n), np.tile(np.arange(1.0, gates + 1)[:, None], n)
    )
    assert name in NO_W or not p.W.any()
    assert not p.V.any()
    if gates > 1:
        too_many = Prior(np.ones(gates + 1, np.float32))
        with pytest.raises(ValueError, match=rf"Prior.sigma_w .* one value per gate.*\({gates},\)"):
            jax.eval_shape(lambda: cell.init(KEY, too_many, *sizes))


@pytest.fixture(scope="module")
def runs(cell, params, sizes):
    """One program of all passes over six sequences, (2, 3); [:, 1] are those of [:, 0] backward."""

    @jax.jit
    def program(params, xs):
        def alone(xs):
            state, hs = scan.run(cell, params, xs)
            return hidden(state), hs

        step, half = jax.jit(cell.step), jax.jit(lambda *a: scan.run(cell, params, *a))

        def looped(xs):
            state, hs = cell.start(params), []
            for x in xs:
                state, h = step(params, state, x)
                hs.append(h)
            return hidden(state), jnp.stack(hs)

        def each(f):
            return jax.vmap(jax.vmap(f, 1, (0, 1)), 1, (0, 1))

        middle, first = half(xs[:3], cell.start(params, (2, 3)))
        end, second = half(xs[3:], middle)
        return {
            "run": alone(xs),
            "each alone": each(alone)(xs),
            "each looped": each(looped)(xs),
            "pieces": (hidden(end), jnp.concatenate([first, second])),
            "reverse": scan.run(cell, params, xs, reverse=True, unroll=2)[1],
        }

    xs = inputs(sizes[0], 2, 3)
    xs[:, 1] = xs[::-1, 0]
    return jax.device_get(program(params, xs))


def test_scanning_equals_iterating(runs):
    """Without batch axes."""
    (last, hs), (looped, steps) = runs["each alone"], runs["each looped"]
    np.testing.assert_array_equal(last, hs[-1])
    np.testing.assert_allclose(hs, steps, atol=1e-6)  # float32, order of additions
    np.testing.assert_allclose(last, looped, atol=1e-6)


def test_pieces_equal_one_pass_and_reverse_equals_flipping(runs):
    (last, hs), (end, pieces), backward = runs["run"], runs["pieces"], runs["reverse"]
    # float32 at each of six steps; the linear network's states grow to 30, hence relative too
    close = {"rtol": 2e-6, "atol": 1e-6}
    np.testing.assert_allclose(pieces, hs, **close)
    np.testing.assert_allclose(end, last, **close)
    np.testing.assert_allclose(backward[::-1, 0], hs[:, 1], **close)


def test_batch_axes_equal_vmap(runs):
    for ours, each in zip(runs["run"], runs["each alone"], strict=True):
        np.testing.assert_allclose(ours, each, atol=1e-6)  # float32, order of additions


@pytest.mark.parametrize(
    "name", [c for c in ALL if type(build(c)) is Unitwise], indirect=True, scope="module"
)
def test_update_is_unitwise_and_mix_is_linear(cell, sizes, x64):
    d, n = sizes
    params, state = drawn(cell, d, n)
    a, b = np.random.default_rng(9).normal(size=(2, n))

    @jax.jit
    def jacobians_and_mixes(params, state, x, *hs):
        r, z = cell.mix(params, hidden(state)), cell.drive(params, x)
        jacobians = jax.jacfwd(cell.update, (1, 2, 3))(params, state, r, z)
        return jacobians, [cell.mix(params, h) for h in hs]

    jacobians, (both, of_a, of_b) = jax.device_get(
        jacobians_and_mixes(params, state, inputs(d)[0], 2 * a - 3 * b, a, b)
    )
    for jacobian in jax.tree.leaves(jacobians):
        assert jacobian.shape == (n, n)
        np.testing.assert_array_equal(jacobian, np.diag(np.diag(jacobian)))
    apart = jax.tree.map(lambda p, q: 2 * p - 3 * q, of_a, of_b)
    for x, y in zip(jax.tree.leaves(both), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-12)  # float64 rounding of n products


@pytest.mark.parametrize("name", few_fast(ALL), indirect=True, scope="module")
def test_gradient_against_finite_differences(cell, sizes, x64):
    """Central differences along a random direction of all parameters, inputs and states."""
    rng = np.random.default_rng(10)
    point = (*drawn(cell, *sizes, (2,)), inputs(sizes[0], 2))
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), point)
    weights = rng.normal(size=(T, 2, sizes[1]))
    eps = 1e-5  # error about eps^2 + 1e-16/eps = 1e-10, relative to a derivative of order 1

    def loss(point):
        params, state, xs = point
        return jnp.sum(weights * scan.run(cell, params, xs, state)[1])

    points = jax.tree.map(lambda a, v: np.stack([a, a + eps * v, a - eps * v]), point, direction)
    values, gradients = jax.device_get(jax.jit(jax.vmap(jax.value_and_grad(loss)))(points))
    _, above, below = values
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, v: np.vdot(g[0], v), gradients, direction)))
    np.testing.assert_allclose(along, (above - below) / (2 * eps), rtol=1e-6)


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


def test_any_two_cells_are_unequal():
    for one, other in itertools.combinations(ALL, 2):
        assert build(one) != build(other)


# --- each cell against its formula or another library ---------------------------------------------


def numpy_sigmoid(a):
    return 1 / (1 + np.exp(-a))


def run_both(cell, d, n, step):
    """hs of a cell and of a NumPy step (params, h, x) -> h, in float64 for the latter."""
    params, xs = drawn(cell, d, n)[0], inputs(d, 2)
    P = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    h, expected = np.zeros((2, n)), []
    for x in np.asarray(xs, np.float64):
        h = step(P, h, x)
        expected.append(h)
    _, hs = jax.jit(functools.partial(scan.run, cell))(params, xs)
    np.testing.assert_allclose(hs, expected, atol=2e-6)  # float32


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


@pytest.mark.parametrize(
    "make", [cells.vanilla.elman, cells.lstm.long_short, cells.gru.with_candidate]
)
def test_a_phi_that_is_not_unitwise_is_refused(make):
    """A softmax, a norm, a sort, a unit that vanishes; what has a number for each unit passes."""
    for phi in (jax.nn.softmax, lambda a: a - a.mean(), lambda a: a[..., ::-1], jnp.sort):
        with pytest.raises(ValueError, match=r"unit \d reads unit \d. .* interact only through W"):
            make(phi)
    with pytest.raises(ValueError, match=r"one number per unit; glu turns \(4,\) into \(2,\)"):
        make(jax.nn.glu)
    with pytest.raises(TypeError, match="got 'tanh'"):
        make("tanh")
    gains = np.arange(7, dtype=np.float32)
    for phi in (jnp.sin, np.abs, lambda a: a * gains):
        assert make(phi) == make(phi)


def test_vanilla_variants_against_numpy():
    for cell, phi in [
        (cells.vanilla.relu, lambda a: np.maximum(a, 0)),
        (cells.vanilla.linear, lambda a: a),
    ]:
        run_both(cell, 3, 5, lambda P, h, x, phi=phi: phi(h @ P.W + x @ P.V + P.b))


def equals_flax(cell, module, kernels_of):
    """Outputs are those of a Flax linen cell, whose parameters `kernels_of` names."""

    @jax.jit
    def both(params, xs):
        carry = module.initialize_carry(KEY, xs.shape[1:])
        variables, hs = {"params": kernels_of(params)}, []
        for x in xs:
            carry, h = module.apply(variables, carry, x)
            hs.append(h)
        return scan.run(cell, params, xs)[1], jnp.stack(hs)

    ours, expected = both(drawn(cell, 3, 5)[0], inputs(3, 2))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_vanilla_equals_flax():
    def kernels(p):
        return {"i": {"kernel": p.V, "bias": p.b}, "h": {"kernel": p.W}}

    equals_flax(cells.vanilla.cell, nn.SimpleCell(5), kernels)


def test_lstm_equals_flax():
    def kernels(p):
        W, V, b = (jnp.split(a, 4, axis=-1) for a in p)
        named = {}
        for gate, letter in enumerate("ifgo"):
            named["i" + letter] = {"kernel": V[gate]}
            named["h" + letter] = {"kernel": W[gate], "bias": b[gate]}
        return named

    equals_flax(cells.lstm.cell, nn.LSTMCell(5), kernels)


def test_gru_equals_flax():
    def kernels(p):
        W, V, b = (jnp.split(a, 3, axis=-1) for a in p)
        named = {}
        for gate, letter in enumerate("zrn"):  # Flax's z keeps the old state, as our u does
            named["i" + letter] = {"kernel": V[gate], "bias": b[gate]}
            named["h" + letter] = {"kernel": W[gate]}
        named["hn"]["bias"] = jnp.zeros(5)
        return named

    equals_flax(cells.gru.cell, nn.GRUCell(5), kernels)


# --- what theory says of them ---------------------------------------------------------------------


@jax.jit
def minimal_states(sigma, xs):
    cell, n = cells.minimal.bare, xs.shape[-1]
    return scan.run(cell, cell.init(KEY, Prior(sigma, sigma), n, n), xs)[1]


@pytest.mark.parametrize("sigma", [1.0, 10.0])
def test_minimal_states_stay_within_the_embedded_inputs(sigma):
    xs = inputs(8, 3, steps=40)
    so_far = np.maximum.accumulate(np.abs(xs))
    hs = np.asarray(minimal_states(sigma, xs))
    assert np.all(np.abs(hs) <= so_far * (1 + 1e-6))  # a convex combination, up to rounding


@jax.jit
def cfn_states(sigma, quiet, loud):
    cell, n = cells.cfn.cell, 16
    params = cell.init(KEY, Prior(sigma, 1.0, 2.0), loud.shape[-1], n)
    _, alone = scan.run(cell, params, quiet, jnp.full(n, 2.0))
    return alone[-1], scan.run(cell, params, loud)[1]


@pytest.mark.parametrize("sigma", [1.0, 10.0])
def test_cfn_forgets_without_input_and_is_bounded(sigma):
    # |h| shrinks at least as the map h <- tanh(h), whose t-th iterate is below sqrt(3 / 2t)
    steps, d = 2000, 4
    quiet = np.zeros((steps, d), np.float32)
    last, hs = jax.device_get(cfn_states(sigma, quiet, 100 * inputs(d, steps=50)))
    assert np.abs(last).max() < np.sqrt(3 / (2 * steps))
    assert np.abs(hs).max() <= 2


# --- worked examples ------------------------------------------------------------------------------


def test_memory_and_order_worked_by_hand():
    """All weights 1, two linear units, output the sum of both: order matters through the memory."""
    ones = np.ones((2, 2), np.float32)
    params = cells.vanilla.Params(ones, ones, ones[0] * 0)
    run = jax.jit(functools.partial(scan.run, cells.vanilla.linear, params))

    def outputs(*xs):
        return (np.asarray(run(np.array(xs, np.float32))[1]) @ ones).tolist()

    assert outputs((1, 1), (1, 1), (2, 2)) == [[4, 4], [12, 12], [32, 32]]
    assert outputs((2, 2), (1, 1), (1, 1)) == [[8, 8], [20, 20], [44, 44]]
    assert outputs((1, 1), (2, 2), (1, 1)) == [[4, 4], [16, 16], [36, 36]]


@jax.jit
@jax.value_and_grad
def last_of_a_thousand(w):
    params = cells.vanilla.Params(w.reshape(1, 1), np.ones((1, 1)), np.zeros(1))
    xs = np.zeros((1000, 1))
    xs[0] = 1
    return scan.run(cells.vanilla.linear, params, xs)[1][-1, 0]


@pytest.mark.parametrize("w", [0.99, 1.0, 1.01])
def test_one_linear_unit_gives_w_to_the_999(w, x64):
    value, slope = last_of_a_thousand(np.array(w))
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
        _, hs = scan.run(cells.vanilla.cell, params, xs)
        logs = jax.nn.log_softmax(hs @ V.T + c)
        return -sum(logs[t, label] for t, label in enumerate(labels))

    gradient = jax.jit(jax.grad(loss, (0, 1, 2, 3, 4)))(U, W, V, b, c)

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


def test_parameters_of_another_cell_are_refused():
    """`gru.cell` took those of `gru.cudnn` and dropped b_h; of 600 pairs of cells 137 ran.

    Elman's networks share a type, and so do all cells that one function makes: what differs is a
    constant of the cell, such as phi.
    """
    given = {}
    for name in ALL:
        cell = build(name)
        d, n = (3, 9) if name.startswith("wave.") else (6, 6)  # alike, so that shapes do not tell
        given[name] = jax.eval_shape(lambda cell=cell, d=d, n=n: cell.init(KEY, Shapes(), d, n))
        assert type(given[name]) is cell.takes
    shared = {
        ("vanilla", "vanilla.relu", "vanilla.linear", "irnn"),
        ("highway", "highway.deep"),
        ("jordan.squashed", "jordan.outputs"),
    }
    xs = np.zeros((3, 6), np.float32)
    for one, other in itertools.permutations(ALL, 2):
        if not any(one in group and other in group for group in shared):
            with pytest.raises(ValueError, match="which another cell takes; this one takes"):
                scan.run(build(one), given[other], xs)
    cell, cudnn = cells.gru.cell, given["gru.cudnn"]
    for door in (
        lambda: scan.states(cell, cudnn, xs),
        lambda: scan.truncated(cell, cudnn, xs, truncate=2),
        lambda: scan.total(lambda hs, _: hs.sum(), cell, cudnn, xs, xs),
        lambda: scan.run(cell, cudnn, xs, np.zeros(6, np.float32)),
        lambda: scan.tied(cell, cudnn),
    ):
        with pytest.raises(ValueError, match=r"are gru.Cudnn, .* this one takes gru.Params"):
            door()


def test_parameters_of_a_type_that_no_cell_takes_pass():
    """A tree of one's own, one that was restored as another type, and a cell of one's own."""

    class Mine(NamedTuple):
        W: jax.Array
        V: jax.Array
        b: jax.Array

    def run(cell, params, xs):
        return jax.eval_shape(lambda: scan.run(cell, params, xs)[1]).shape

    gru, xs = cells.gru.cell, np.zeros((3, 4), np.float32)
    params = jax.tree.map(np.asarray, drawn(gru, 4, 5)[0])
    assert run(gru, Mine(*params), xs) == (3, 5)
    own = Cell(gru.init, gru.start, lambda p, s, x: gru.step(Mine(*p), s, x))
    assert run(own, params, xs) == (3, 5)
    lists = Cell(
        gru.init,
        lambda p, batch=(): jnp.zeros((*batch, 5)),
        lambda p, s, x: gru.step(Mine(*p), s, x),
        tuple,
    )
    assert run(lists, tuple(params), xs) == (3, 5)  # a type of Python's own belongs to nobody
    for fieldless in (tuple(params), params._asdict()):
        with pytest.raises(
            ValueError, match=r"have no W, V, b; this cell takes gru.Params\(W, V, b"
        ):
            run(gru, fieldless, xs)


def test_bad_sizes_and_names():
    with pytest.raises(ValueError, match=r"d must equal n; got d=3, n=5. Use minimal.cell"):
        cells.minimal.bare.init(KEY, Prior(), 3, 5)
    with pytest.raises(ValueError, match=r"n >= 1 units, got d=3, n=0"):
        cells.gru.cell.init(KEY, Prior(), 3, 0)
    with pytest.raises(ValueError, match=r"no cell is named 'lsmt'; did you mean 'lstm'\?"):
        cells.named("lsmt")
    with pytest.raises(ValueError, match=r"no cell is named 'qqq'; The cells are .*minimal.bare"):
        cells.named("qqq")
