"""The contract of a cell over compositions, and each composition against its formula."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from recur import Cell, Prior, Unitwise, analysis, cells, hidden, scan
from recur.compose import (
    Bidirectional,
    HighwaySkip,
    PerLayer,
    Residual,
    Stacked,
    layer_normed,
    learned_start,
    masked,
    recurrent_dropout,
    resetting,
    sequence_keep,
    zoneout,
    zoneout_keep,
)

KEY = jax.random.key(5)
T, N = 4, 3  # d == n throughout, which skips need
MINIMAL, LSTM, GRU = cells.minimal.cell, cells.lstm.cell, cells.gru.cell
BEFORE = cells.gru.reset_before  # a plain Cell


def flags(batch):
    return jax.random.bernoulli(jax.random.key(6), 0.5, (T, *batch))


def state_keep(cell, batch):
    state = cell.start(cell.init(KEY, Prior(), N, N), batch)
    return zoneout_keep(jax.random.key(7), 0.4, T, state)


def unit_keep(batch):
    return sequence_keep(jax.random.key(8), 0.4, T, jnp.zeros((*batch, N)))


COMPOSITIONS = {  # a builder of the cell, and what goes beside its input
    "stacked": (lambda: Stacked(LSTM, GRU), None),
    "residual GRU": (lambda: Residual(GRU), None),
    "stack of skips": (lambda: Stacked(Residual(LSTM), HighwaySkip(BEFORE)), None),
    "zoneout MinimalRNN": (lambda: zoneout(MINIMAL), lambda b: state_keep(MINIMAL, b)),
    "zoneout LSTM": (lambda: zoneout(LSTM), lambda b: state_keep(LSTM, b)),
    "zoneout of a stack": (
        lambda: zoneout(Stacked(LSTM, GRU)),
        lambda b: state_keep(Stacked(LSTM, GRU), b),
    ),
    "dropout LSTM": (lambda: recurrent_dropout(LSTM), unit_keep),
    "noise in each layer": (
        lambda: Stacked(zoneout(MINIMAL), GRU, recurrent_dropout(LSTM)),
        lambda b: (state_keep(MINIMAL, b), None, unit_keep(b)),
    ),
    "layer-normed LSTM": (lambda: layer_normed(LSTM), None),
    "learned start": (lambda: learned_start(LSTM), None),
    "learned start of a cell": (lambda: learned_start(BEFORE), None),
    "masked LSTM": (lambda: masked(LSTM), flags),
    "masked cell": (lambda: masked(BEFORE), flags),
    "resetting LSTM": (lambda: resetting(learned_start(LSTM)), flags),
    "resetting cell": (lambda: resetting(BEFORE), flags),
}


FAST = {"stack of skips", "noise in each layer", "resetting LSTM"}


@pytest.fixture(
    params=[n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in COMPOSITIONS]
)
def name(request):
    return request.param


@pytest.fixture
def cell(name):
    return COMPOSITIONS[name][0]()


def draw(name, *batch):
    """Parameters (learned starts too), a state and inputs, all drawn at random."""
    build, beside = COMPOSITIONS[name]
    cell = build()
    params = cell.init(KEY, Prior(1.3, 0.9, 0.4, 0.3), N, N)
    point, unravel = ravel_pytree((params, cell.start(params, batch), jnp.zeros((T, *batch, N))))
    noise = jax.random.normal(jax.random.key(9), point.shape, point.dtype)
    params, state, x = unravel(point + noise / 2)
    if beside is None:
        return params, state, x
    return (
        params,
        state,
        (PerLayer if name == "noise in each layer" else tuple_of)(beside(batch), x),
    )


def tuple_of(*parts):
    return parts


def at(t, xs):
    return jax.tree.map(lambda a: a[t], xs)


def close(ours, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, expected)


# --- the contract ---------------------------------------------------------------------------------


def test_running_equals_stepping_and_pieces_equal_one_pass(name, cell):
    params, state, xs = draw(name, 2)
    final, hs = scan.run(cell, params, xs, state)
    stepped = state
    for t in range(T):
        before, (stepped, h) = stepped, cell.step(params, stepped, at(t, xs))
        assert scan.describe(stepped) == scan.describe(before)
        np.testing.assert_allclose(hs[t], h, atol=1e-6)  # float32, order of additions
    close(final, stepped, atol=1e-6)
    middle, first = scan.run(cell, params, at(slice(0, 2), xs), state)
    end, second = scan.run(cell, params, at(slice(2, 4), xs), middle)
    close((end, jnp.concatenate([first, second])), (final, hs), atol=1e-6)


@pytest.mark.slow
def test_batch_axes_equal_vmap(name, cell):
    params, state, xs = draw(name, 2)
    one = jax.vmap(lambda state, xs: scan.run(cell, params, xs, state)[1], (0, 1), 1)
    np.testing.assert_allclose(scan.run(cell, params, xs, state)[1], one(state, xs), atol=1e-6)


def test_gradient_against_finite_differences(name, cell, x64):
    """Central differences along a random direction of all parameters, states and inputs."""
    params, state, xs = draw(name)
    leaves, structure = jax.tree.flatten(xs)
    point, unravel = ravel_pytree((params, state, leaves[-1]))
    weights = jax.random.normal(KEY, (T, N))

    @jax.jit
    def loss(point):
        params, state, x = unravel(point)
        xs = jax.tree.unflatten(structure, [*leaves[:-1], x])
        return jnp.sum(weights * scan.run(cell, params, xs, state)[1])

    direction = jax.random.normal(jax.random.key(10), point.shape)
    eps = 1e-5  # error about eps^2 + 1e-16/eps = 1e-10, relative to a derivative of order 1
    numeric = (loss(point + eps * direction) - loss(point - eps * direction)) / (2 * eps)
    np.testing.assert_allclose(jax.grad(loss)(point) @ direction, numeric, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        *((name, True) for name in ("zoneout MinimalRNN", "zoneout LSTM", "learned start")),
        *((name, True) for name in ("masked LSTM", "resetting LSTM")),
        *((name, False) for name in ("dropout LSTM", "layer-normed LSTM", "masked cell")),
    ],
)
def test_a_unitwise_cell_stays_one_where_it_can(name, stays, x64):
    cell = COMPOSITIONS[name][0]()
    assert type(cell) is (Unitwise if stays else Cell)
    if not stays:
        return
    params, state, xs = draw(name)
    for t in range(2):
        r, z = cell.mix(params, hidden(state)), cell.drive(params, at(t, xs))
        for jacobian in jax.tree.leaves(jax.jacfwd(cell.update, (1, 2, 3))(params, state, r, z)):
            assert jacobian.shape == (N, N)
            np.testing.assert_array_equal(jacobian, np.diag(np.diag(jacobian)))
    zs, z = cell.drive(params, xs), cell.drive(params, at(1, xs))
    close(at(1, zs), z, atol=1e-14)  # all T at once, as a fast pass drives it


def test_compositions_are_constants():
    """Built twice each is equal and compiles once; any two are unequal."""
    traces = []

    def call(cell):
        traces.append(1)
        return jnp.zeros(())

    compiled = jax.jit(call, static_argnums=0)
    for build, _ in COMPOSITIONS.values():
        assert build() == build()
        compiled(build())
        compiled(build())
    assert len(traces) == len(COMPOSITIONS)

    every = [build() for build, _ in COMPOSITIONS.values()]
    every += [kind(GRU) for kind in (Stacked, HighwaySkip, Bidirectional, masked, zoneout)]
    every += [Stacked(GRU, GRU), Bidirectional(GRU, LSTM), Residual(LSTM), GRU]
    for one, other in itertools.combinations(every, 2):
        assert one != other
    assert Bidirectional(GRU) == Bidirectional(GRU, GRU)


# --- analyses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["stack of skips", pytest.param("masked cell", marks=pytest.mark.slow)]
)
def test_analyses_take_compositions(name, x64):
    """Singular values of d state_T / d state_0 against the dense Jacobian of the run."""
    params, state, xs = draw(name)
    cell = COMPOSITIONS[name][0]()
    start, unravel = ravel_pytree(state)

    def last(start):
        return ravel_pytree(scan.run(cell, params, xs, unravel(start))[0])[0]

    expected = np.linalg.svd(jax.jacfwd(last)(start), compute_uv=False)
    logs = analysis.log_singular_values(scan.tied(cell, params), state, xs)
    kept = expected > 1e-10  # float64 rounding drowns the logs of the rest
    np.testing.assert_allclose(logs[kept], np.log(expected[kept]), atol=1e-5)


def test_gradient_norms_find_the_output_of_a_stack(x64):
    """Against the derivative with respect to numbers added to the highest layer's h."""
    params, state, xs = draw("stacked")
    cell = Stacked(LSTM, GRU)
    weights = jax.random.normal(KEY, (T, N))

    def loss(hs):
        return jnp.sum(weights * hs**2)

    def perturbed(added):
        s, hs = state, []
        for t in range(T):
            (low, _), h = cell.step(params, s, xs[t])
            h += added[t]
            s = (low, h)
            hs.append(h)
        return loss(jnp.stack(hs))

    expected = jnp.linalg.norm(jax.grad(perturbed)(jnp.zeros((T, N))), axis=-1)
    norms = analysis.gradient_norms(loss, scan.tied(cell, params), state, xs)
    np.testing.assert_allclose(norms, jnp.log(expected), atol=1e-10)
    norms = analysis.gradient_norms(
        loss, scan.tied(masked(cell), params), state, (jnp.ones(T, bool), xs)
    )
    np.testing.assert_allclose(norms, jnp.log(expected), atol=1e-10)


# --- each composition against its formula ---------------------------------------------------------


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def test_skips_and_stacks_against_layers_run_by_hand():
    params, state, xs = draw("stack of skips", 2)
    _, hs = scan.run(COMPOSITIONS["stack of skips"][0](), params, xs, state)
    _, h = scan.run(LSTM, params[0], xs, state[0])
    x = xs + h
    _, h = scan.run(BEFORE, params[1].cell, x, state[1])
    g = sigmoid(np.asarray(x @ params[1].V + params[1].b))
    np.testing.assert_allclose(hs, g * h + (1 - g) * x, atol=1e-5)  # float32
    fresh = HighwaySkip(GRU).init(KEY, Prior(), N, N)
    np.testing.assert_array_equal(fresh.b, -np.ones(N, np.float32))


def test_bidirectional_is_two_runs_side_by_side():
    network = Stacked(Bidirectional(LSTM, GRU), BEFORE)
    params = network.init(KEY, Prior(), N, N)
    assert params[1].V.shape == (2 * N, 3 * N)
    xs = jax.random.normal(KEY, (T, 2, N))
    _, forward = scan.run(LSTM, params[0].forward, xs)
    _, backward = scan.run(GRU, params[0].backward, xs[::-1])
    both = jnp.concatenate([forward, backward[::-1]], -1)
    _, expected = scan.run(BEFORE, params[1], both)
    np.testing.assert_allclose(scan.run(network, params, xs)[1], expected, atol=1e-6)


def test_zoneout_lstm_against_its_paper():
    """c = d_c c + (1 - d_c) c', h = d_h h + (1 - d_h) o tanh(c'), arXiv:1606.01305, eq. 5-6."""
    params, state, (keep, xs) = draw("zoneout LSTM")
    P, (h, c) = jax.tree.map(np.asarray, (params, state))
    _, hs = scan.run(zoneout(LSTM), params, (keep, xs), state)
    for t in range(T):
        i, f, g, o = np.split(h @ P.W + np.asarray(xs[t]) @ P.V + P.b, 4)
        new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        d_h, d_c = np.asarray(keep.h[t]), np.asarray(keep.c[t])
        h = d_h * h + (1 - d_h) * sigmoid(o) * np.tanh(new)
        c = d_c * c + (1 - d_c) * new
        np.testing.assert_allclose(hs[t], h, atol=1e-5)  # float32


def test_dropout_hides_units_from_the_others():
    """keep = 0 for unit 0: the run is that of a W whose row 0 is zero; keep scales rows."""
    params, state, xs = draw("stacked")
    params, state = params[0], state[0]
    keep = jnp.array([0.0, 1.0, 2.0])
    _, hs = scan.run(recurrent_dropout(LSTM), params, (jnp.tile(keep, (T, 1)), xs), state)
    _, expected = scan.run(LSTM, params._replace(W=keep[:, None] * params.W), xs, state)
    np.testing.assert_allclose(hs, expected, atol=1e-6)


def test_layer_normed_lstm_against_numpy():
    params, state, xs = draw("layer-normed LSTM")
    P, (h, c) = jax.tree.map(np.asarray, (params, state))

    def normal(a):
        return (a - a.mean()) / np.sqrt(a.var() + 1e-5)

    _, hs = scan.run(layer_normed(LSTM), params, xs, state)
    for t in range(T):
        r = np.split(h @ P.cell.W, 4)
        z = np.split(np.asarray(xs[t]) @ P.cell.V + P.cell.b, 4)
        i, f, g, o = (
            P.gain_r[k] * normal(r[k]) + P.gain_z[k] * normal(z[k]) + P.shift[k] for k in range(4)
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(hs[t], h, atol=1e-4)  # float32, divided by small variances


def test_layer_norm_keeps_a_bias_of_the_prior():
    mu_b = jnp.array([0.0, 3.0, 0.0, 0.0])
    params = layer_normed(LSTM).init(KEY, Prior(1.0, 1.0, mu_b, 0.0), N, N)
    np.testing.assert_allclose(jnp.array([s.mean() for s in params.shift]), mu_b, atol=1e-6)


def test_a_learned_start_is_learned():
    """At first it is the cell's; then gradients reach it, through a reset too."""
    cell = learned_start(LSTM)
    params = cell.init(KEY, Prior(), N, N)
    xs = jax.random.normal(KEY, (T, 2, N))
    np.testing.assert_array_equal(scan.run(cell, params, xs)[1], scan.run(LSTM, params.cell, xs)[1])
    reset = jnp.zeros((T, 2), bool).at[2].set(True)
    given = LSTM.start(params.cell, (2,))

    def late(params):
        return scan.run(cell, params, xs, given, reset=reset)[1][2:].sum()

    gradient = jax.grad(late)(params)
    assert all(jnp.abs(g).min() > 0 for g in gradient.start)


def test_a_masked_cell_carries_its_output():
    """The h of a masked step is the last one; the output of a skip, no part of the state, zero."""
    xs = jax.random.normal(KEY, (2, N))
    mask = jnp.array([True, False])
    for cell in (LSTM, BEFORE, Stacked(LSTM, GRU)):
        params = cell.init(KEY, Prior(), N, N)
        _, hs = scan.run(masked(cell), params, (mask, xs))
        np.testing.assert_array_equal(hs[0], hs[1])
    params = GRU.init(KEY, Prior(), N, N)
    _, hs = scan.run(masked(Residual(GRU)), params, (mask, xs))
    assert (hs[0] != 0).all()
    assert not hs[1].any()


def test_resetting_a_masked_cell_resets_where_no_step_is():
    cell = resetting(masked(LSTM))
    params, state, xs = draw("stacked")
    params, state = params[0], state[0]
    off = jnp.zeros(T, bool)
    final, _ = scan.run(cell, params, (off.at[1].set(True), (off, xs)), state)
    assert not final.h.any()
    final, _ = scan.run(cell, params, (off, (off, xs)), state)
    np.testing.assert_array_equal(final.c, state.c)


def test_draws_of_noise():
    """5 standard errors of 20,000 draws."""
    h = jnp.zeros((100, 200))
    keep = sequence_keep(KEY, 0.2, 3, h)
    np.testing.assert_array_equal(keep[0], keep[2])
    np.testing.assert_allclose(np.unique(keep), [0, 1.25])
    assert np.isclose(keep[0].mean(), 1, atol=5 * 0.5 / np.sqrt(h.size))
    keep = zoneout_keep(KEY, 0.2, 3, cells.lstm.State(h, h))
    for drawn in keep:
        assert drawn.shape == (3, 100, 200)
        assert np.isclose(drawn[1].mean(), 0.2, atol=5 * 0.4 / np.sqrt(h.size))
    agree = (keep.h == keep.c).mean()  # .68 if h and c, and times, draw for themselves
    assert np.isclose(agree, 0.68, atol=0.01)
    assert np.isclose((keep.h[0] == keep.h[1]).mean(), 0.68, atol=5 * 0.47 / np.sqrt(h.size))


# --- bad input ------------------------------------------------------------------------------------


X = jnp.ones((T, N))
PARAMS = Stacked(GRU, GRU).init(KEY, Prior(), N, N)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Stacked(), r"one or more cells, Stacked\(gru.cell"),
        (lambda: Stacked([GRU, GRU]), r"functions init, start and step"),
        (lambda: Residual(GRU).init(KEY, Prior(), 2, N), r"Residual joins .* d = 2 and n = 3"),
        (lambda: HighwaySkip(Bidirectional(GRU)).init(KEY, Prior(), 3, 3), r"d = 3 and n = 6"),
        (lambda: layer_normed(BEFORE), r"layer_normed takes a Unitwise cell.* got Cell"),
        (lambda: recurrent_dropout(Stacked(GRU)), r"takes a Unitwise cell.* got Stacked"),
        (lambda: sequence_keep(KEY, 1.0, T, X), r"0 <= rate < 1; got 1.0"),
        (lambda: zoneout_keep(KEY, -0.1, T, X), r"0 <= rate < 1; got -0.1"),
        (lambda: scan.run(zoneout(GRU), PARAMS[0], ((X, X), X)), r"keep has the structure of the"),
        (lambda: scan.run(zoneout(Residual(GRU)), PARAMS[0], (X, X)), r"Residual\(zoneout\(cell"),
        (lambda: scan.run(Stacked(GRU), PARAMS, X), r"stack of 1 layers takes params .* of 2"),
        (lambda: scan.run(Stacked(GRU, GRU), PARAMS, X, X[0]), r"takes state as a tuple"),
        (lambda: scan.run(Stacked(GRU, GRU), PARAMS, PerLayer((X,), X)), r"takes noise .* of 1"),
        (lambda: scan.run(Residual(GRU), GRU.init(KEY, Prior(), 2, N), X[:, :2]), r"d = 2 and n"),
        (lambda: scan.run(Bidirectional(GRU), PARAMS, X, X[0]), r"starts from BothWays"),
        (
            lambda: scan.tied(Bidirectional(GRU), PARAMS)(X[0], X[0]),
            r"maps whole sequences and has no single step.*run it by scan.run",
        ),
        (
            lambda: analysis.log_gain(KEY, scan.tied(Residual(GRU), PARAMS[0]), X[0], X[:, :2]),
            r"inputs with d = 3, got d = 2",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "network", [zoneout(GRU), recurrent_dropout(GRU)], ids=["zoneout", "dropout"]
)
@pytest.mark.parametrize("steps", [5, 40])
def test_noise_has_a_number_for_each_unit_of_each_sequence(network, steps):
    params, xs = network.init(KEY, Prior(), N, N), jnp.ones((steps, N, N))  # as many as units
    for keep in (jnp.ones(steps), jnp.ones((steps, 1, 1)), jnp.ones((steps, N)), 0.5):
        with pytest.raises(ValueError, match=r"jnp.broadcast_to|share their first axis"):
            scan.run(network, params, (keep, xs))
    expected = scan.run(network, params, (jnp.ones((steps, N, N)), xs))[1]
    assert expected.shape == (steps, N, N)


def test_the_state_of_one_layer_is_not_that_of_two():
    lstm = cells.lstm.cell
    stack = Stacked(cells.vanilla.cell, cells.vanilla.cell)
    params = stack.init(KEY, Prior(), N, N)
    alone = lstm.start(lstm.init(KEY, Prior(), N, N))
    with pytest.raises(
        ValueError, match="takes state as a tuple with one entry a layer; got State"
    ):
        scan.run(stack, params, X, alone)
