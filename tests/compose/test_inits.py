"""Initialisers: the law of what they draw, how they compose, and what they refuse."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import few_fast

from recur import Prior, cells, compose, scan
from recur.compose import gates

KEY = jax.random.key(5)
D, N = 4, 16
VARIANTS = {
    "orthogonal": lambda cell: compose.orthogonal(cell),
    "identity": lambda cell: compose.identity(cell),
    "glorot": lambda cell: compose.glorot(cell),
    "sparse": lambda cell: compose.sparse(cell, density=0.2, spectral_radius=0.9),
    "sparser": lambda cell: compose.sparse(cell, 0.1, 0.9),
    "forget_bias": lambda cell: compose.forget_bias(cell, value=1.0),
    "forget_bias 2": lambda cell: compose.forget_bias(cell, 2.0),
    "chrono": lambda cell: compose.chrono(cell, T_max=100),
    "chrono 50": lambda cell: compose.chrono(cell, 50),
    "both": lambda cell: compose.chrono(compose.orthogonal(cell), 100),
    "other order": lambda cell: compose.orthogonal(compose.chrono(cell, 100)),
}


def blocks(W):
    return np.split(np.asarray(W), W.shape[1] // W.shape[0], axis=1)


class Numbers(Prior):
    """A prior that draws by NumPy: quick to compile, where what an initialiser draws is tested."""

    def draw(self, key, d, n, gates=1):
        rng = np.random.default_rng(0)
        sigma_w, sigma_v, mu_b, sigma_b = (
            np.repeat(np.broadcast_to(value, gates), n) for value in self
        )
        W = sigma_w * rng.normal(size=(n, gates * n)) / np.sqrt(n)
        V = sigma_v * rng.normal(size=(d, gates * n)) / np.sqrt(d)
        b = mu_b + sigma_b * rng.normal(size=gates * n)
        return tuple(jnp.asarray(a, float) for a in (W, V, b))


def drawn(*cells_, prior=None, d=D, n=N):
    """NumPy parameters of each cell, of one key and prior, drawn by one program."""
    prior = Numbers() if prior is None else prior
    return jax.device_get(jax.jit(lambda: [cell.init(KEY, prior, d, n) for cell in cells_])())


def everything_else(cell, changed, new, old, params):
    """The recurrence is the cell's, and of the parameters only `changed` has another law."""
    assert new.start is cell.start
    assert type(new) is type(cell)
    assert scan.describe(params) == scan.describe(old)
    for name in set(old._fields) - set(changed):
        np.testing.assert_allclose(getattr(params, name).std(), getattr(old, name).std(), rtol=0.5)


def test_orthogonal_and_identity():
    sigma = np.array([0.5, 1.0, 2.0, 3.0], np.float32)
    cell = cells.lstm.cell
    new = compose.orthogonal(cell)
    old, rotated, same = drawn(
        cell, new, compose.identity(cell), prior=Numbers(sigma, 0.7, 0.1, 0.2)
    )
    everything_else(cell, "W", new, old, rotated)
    for s, Q in zip(sigma, blocks(rotated.W), strict=True):
        np.testing.assert_allclose(Q.T @ Q, s**2 * np.eye(N), atol=1e-5)  # float32, n products
    for s, W in zip(sigma, blocks(same.W), strict=True):
        np.testing.assert_array_equal(W, s * np.eye(N))
    one, other = blocks(rotated.W)[:2]
    assert np.abs(one / 0.5 - other).max() > 0.1  # each gate has its own


def test_orthogonal_is_uniform(x64):
    """Haar: E[Q_ij^2] = 1/n, E[Q_ij^4] = 3 / (n (n + 2)), and the determinant has either sign."""
    n, draws = 4, 2000
    init = compose.orthogonal(cells.vanilla.cell).init

    @jax.jit
    def many(key):
        return jax.vmap(lambda k: init(k, Numbers(), 1, n).W)(jax.random.split(key, draws))

    Q = np.asarray(many(KEY))
    error = 5 / np.sqrt(draws)  # of five standard errors, the entries bounded by 1
    np.testing.assert_allclose((Q**2).mean(0), 1 / n, atol=error * 0.3)
    np.testing.assert_allclose((Q**4).mean(0), 3 / (n * (n + 2)), atol=error * 0.25)
    np.testing.assert_allclose(np.linalg.det(Q).mean(), 0, atol=error)


def test_one_value_of_sigma_where_a_matrix_is_shared():
    """The gated antisymmetric cell has two gates and one W, drawn with the first sigma_w."""
    cell = compose.identity(cells.antisymmetric.gated)
    (params,) = drawn(cell, prior=Numbers(np.array([2.0, 3.0], np.float32)))
    np.testing.assert_array_equal(params.W, 2 * np.eye(N))


def test_an_irnn_is_a_rectified_network_with_identity():
    ours = compose.identity(cells.vanilla.relu)
    assert ours.update is cells.irnn.cell.update
    one, other = drawn(ours, cells.irnn.cell, prior=Numbers(0.5))
    np.testing.assert_array_equal(one.W, other.W)


def test_glorot():
    """Uniform: bounds and variance, each matrix with its own fans and sigma."""
    d, n = 300, 100
    prior = Numbers(np.array([1.0, 2.0, 3.0], np.float32), 0.5, 0.1, 0.2)
    (params,) = drawn(compose.glorot(cells.gru.cell), prior=prior, d=d, n=n)
    for sigma, W in zip((1, 2, 3), blocks(params.W), strict=True):
        bound = sigma * np.sqrt(6 / (n + n))
        assert 0.999 * bound < np.abs(W).max() <= bound * (1 + 1e-6)
        np.testing.assert_allclose(W.std(), sigma * np.sqrt(1 / n), rtol=5 / np.sqrt(2 * W.size))
    np.testing.assert_allclose(params.V.std(), 0.5 * np.sqrt(2 / (d + n)), rtol=0.02)
    np.testing.assert_allclose(params.b.mean(), 0.1, atol=5 * 0.2 / np.sqrt(3 * n))
    without_W = jax.eval_shape(lambda: compose.glorot(cells.mingru.cell).init(KEY, Prior(), D, N))
    assert without_W.V.shape == (D, 2 * N)


@pytest.mark.parametrize(
    ("n", "density"), [(50, 0.1), (7, 0.01), pytest.param(20, 1.0, marks=pytest.mark.slow)]
)
def test_sparse(n, density):
    (params,) = drawn(compose.sparse(cells.gru.cell, density, 0.8), prior=Numbers(17.0), n=n)
    for W in blocks(params.W):
        np.testing.assert_array_equal((W != 0).sum(0), max(1, round(density * n)))
        radius = np.abs(np.linalg.eigvals(W.astype(np.float64))).max()
        np.testing.assert_allclose(radius, 0.8, rtol=1e-3)  # float32 eigenvalues, ill-conditioned


def test_each_unit_of_a_sparse_network_hears_others():
    (params,) = drawn(compose.sparse(cells.vanilla.cell, 0.5, 1.0), n=40)
    assert len({tuple(column) for column in (params.W != 0).T}) == 40  # not the same units for all


# which gate keeps, with which sign, and which writes besides: from the equations, by hand
ROLES = {
    "lstm": (1, 1, (0, 1)),
    "lstm.peephole": (1, 1, (0, 1)),
    "lstm.peephole_full": (1, 1, (0, 1)),
    "lstm.projected": (1, 1, (0, 1)),
    "lstm.coupled": (0, 1, None),
    "gru": (0, 1, None),
    "gru.cudnn": (0, 1, None),
    "gru.reset_before": (0, 1, None),
    "minimal": (0, 1, None),
    "minimal.bare": (0, 1, None),
    "cfn": (0, 1, (1, 1)),
    "ugrnn": (0, 1, None),
    "mgu": (0, -1, None),
    "mgu.reset_before": (0, -1, None),
    "highway": (1, -1, None),
    "mingru": (0, -1, None),
    "minlstm": (1, -1, None),  # f / (f + i): only i = 0 keeps all
}


@pytest.mark.parametrize("name", few_fast(cells.names()))
def test_the_gate_that_keeps_is_found(name):
    cell = cells.named(name)
    if name not in ROLES:
        keeps = cell.gates.keeps or cell.gates.overwrites
        assert keeps is None, f"{name} declares a gate that keeps its state: add it to ROLES"
        with pytest.raises(
            ValueError, match=r"declares no gate that keeps its state.* Prior\(mu_b=one value"
        ):
            compose.forget_bias(cell)
        return
    index, sign, write = ROLES[name]
    assert gates.keeping(cell) == (index, sign)
    assert gates.writing(cell) == write


@pytest.mark.parametrize("name", few_fast(ROLES))
def test_the_forget_bias_decides_what_is_kept(name):
    """What is left, after one step without input, of 0.1 in each memory."""
    d = N if name == "minimal.bare" else D

    def kept(value):
        cell = compose.forget_bias(cells.named(name), value)
        params = cell.init(KEY, Numbers(0.005), d, N)  # units hardly hear one another
        rest = cell.start(params)
        memory = rest._replace(c=rest.c + 0.1) if isinstance(rest, tuple) else rest + 0.1
        state, _ = cell.step(params, memory, jnp.zeros(d))
        return (state.c if isinstance(state, tuple) else state) / 0.1

    high, middle, low = jax.device_get(jax.jit(lambda: [kept(b) for b in (8.0, 0.0, -8.0)])())
    # sigmoid(8) = 1 - 3e-4, and CFN's tanh(0.1) = 0.1 - 3e-4
    np.testing.assert_allclose(high, 1, atol=0.01)
    assert middle.max() < 0.9
    assert low.max() < middle.min()


def test_forget_bias_sets_one_gate():
    lstm = compose.forget_bias(cells.lstm.cell, 1.5)
    (params,) = drawn(lstm, prior=Numbers(1, 1, 0.2, 0.0))
    np.testing.assert_array_equal(params.b.reshape(4, N)[:, 0], np.float32([0.2, 1.5, 0.2, 0.2]))
    (params,) = drawn(compose.forget_bias(cells.mgu.cell))
    np.testing.assert_array_equal(params.b.reshape(2, N)[:, 0], [-1, 0])


@pytest.mark.parametrize(
    ("name", "rows", "signs"),
    [("lstm", (0, 1), (-1, 1)), ("gru", (0,), (1,)), ("minimal", (0,), (1,)), ("mgu", (0,), (-1,))],
)
def test_chrono_biases_follow_their_law(name, rows, signs, x64):
    """Kolmogorov-Smirnov against P(log U <= b) = (e^b - 1) / (T_max - 2)."""
    n, T_max = 20_000, 300.0

    @jax.jit
    def biases(key):  # jitted, so that W, n x n, is never drawn
        return compose.chrono(cells.named(name), T_max).init(key, Prior(), 1, n).b

    b = np.asarray(biases(KEY)).reshape(-1, n)
    for row, sign in zip(rows, signs, strict=True):
        ordered = np.sort(sign * b[row])
        law = (np.exp(ordered) - 1) / (T_max - 2)
        distance = np.abs(law - (np.arange(n) + 0.5) / n).max()
        assert distance < 1.95 / np.sqrt(n)  # exceeded by one law in a thousand
        assert 0 <= ordered[0] < ordered[-1] <= np.log(T_max - 1)
    if len(rows) == 2:
        np.testing.assert_array_equal(b[0], -b[1])
    assert not np.delete(b, rows, axis=0).any()


def test_they_compose_in_any_order():
    two = [VARIANTS[name](cells.gru.cell) for name in ("both", "other order")]
    for params in drawn(*two, prior=Numbers(1.5)):
        for Q in blocks(params.W):
            np.testing.assert_allclose(Q.T @ Q, 2.25 * np.eye(N), atol=1e-5)
        assert (params.b[:N] > 0).all()
        assert not params.b[N:].any()


def test_the_prior_stays_traced_and_variants_compile_once():
    """Built anew each time, with arguments named or not, and swept over the prior."""
    traces = []

    def total(cell, prior):
        traces.append(1)
        return jnp.abs(cell.init(KEY, prior, D, N).W).sum()

    compiled = jax.jit(total, static_argnums=0)
    lstm = cells.lstm.cell
    for variant in VARIANTS.values():
        traces.clear()
        compiled.trace(variant(lstm), Prior(1.0))
        compiled.trace(variant(lstm), Prior(2.0))
        assert len(traces) == 1
    assert compose.forget_bias(lstm) == compose.forget_bias(lstm, value=1.0)
    sweep = jax.jit(jax.vmap(lambda s: total(compose.orthogonal(lstm), Prior(s))))
    swept = np.asarray(sweep(np.array([1.0, 2.0], np.float32)))
    np.testing.assert_allclose(swept[1], 2 * swept[0], rtol=1e-5)


def test_any_two_variants_are_unequal():
    built = {
        (name, base): variant(cell)
        for name, variant in VARIANTS.items()
        for base, cell in (("lstm", cells.lstm.cell), ("gru", cells.gru.cell))
    }
    for one, other in itertools.combinations(built.values(), 2):
        assert one != other


def test_chrono_can_be_built_inside_a_trace():
    b = jax.jit(lambda: compose.chrono(cells.ugrnn.cell, 20).init(KEY, Prior(), D, N).b)()
    assert (np.asarray(b)[:N] > 0).all()


SQUARE = cells.wave.Medium((4, 4), (), border=0)


def shapes(cell, d, n):
    return jax.eval_shape(lambda: cell.init(KEY, Prior(), d, n))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compose.chrono(cells.lstm.cell, 2), r"T_max > 2, in steps; got 2"),
        (lambda: compose.chrono(cells.lstm.cell, np.inf), r"T_max > 2, in steps; got inf"),
        (lambda: compose.chrono(cells.lstm.cell, np.nan), r"T_max > 2, in steps; got nan"),
        (
            lambda: shapes(compose.chrono(cells.lstm.cell, 1e39), D, N),
            r"T_max = 1e\+39 exceeds the largest number in float32, 3.4e\+38",
        ),
        (lambda: compose.forget_bias(cells.lstm.cell, np.nan), r"takes a finite bias, got nan"),
        (lambda: compose.sparse(cells.lstm.cell, 0.5, np.inf), r"got .*spectral_radius=inf"),
        (lambda: compose.sparse(cells.lstm.cell, 0.0, 1.0), r"0 < density <= 1 .*density=0.0"),
        (lambda: compose.sparse(cells.lstm.cell, 0.1, -1.0), r"got .*spectral_radius=-1.0"),
        (
            lambda: compose.orthogonal(compose.Stacked(cells.gru.cell)),
            "a Cell or a Unitwise; got Stacked",
        ),
        (lambda: compose.orthogonal(cells.lstm), r"Did you mean recur\.cells\.lstm\.cell"),
        (
            lambda: shapes(compose.orthogonal(cells.mingru.cell), D, N),
            r"recurrent W \(n, gates\*n\) for n = 16; .*\(Params\) have none",
        ),
        (
            lambda: shapes(compose.identity(cells.jordan.outputs(cells.jordan.cell, 4)), D, N),
            r"\(Params\) have W \(4, 16\)",
        ),
        (
            lambda: shapes(compose.glorot(cells.wave.linear(SQUARE)), 0, 16),
            r"glorot draws W and V; the parameters have only \('rho',\)",
        ),
        (
            lambda: compose.chrono(cells.wave.linear(SQUARE), 9),
            r"declares no gate that keeps its state",
        ),
        (lambda: compose.chrono(compose.layer_normed(cells.gru.cell), 9), "declares no gate"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
