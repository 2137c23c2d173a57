"""The contract of a cell over compositions, and each composition against its formula."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from recur import Cell, Prior, Unitwise, analysis, cells, hidden, scan
from recur.compose import (
    Bidirectional,
    BothWays,
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
    steps_present,
    zoneout,
    zoneout_keep,
)
from recur.compose.layers import causal

KEY = jax.random.key(5)
T, N = 4, 3  # d == n throughout, which skips need
MINIMAL, LSTM, GRU = cells.minimal.cell, cells.lstm.cell, cells.gru.cell
BEFORE = cells.gru.reset_before  # a plain Cell


def rng(seed):
    return np.random.default_rng(seed)


def flags(batch):
    return rng(6).random((T, *batch)) < 0.5


def filled(shapes, seed, draw):
    """A tree of draw(rng, shape) in the shapes and dtypes that a function would return."""
    source = rng(seed)
    return jax.tree.map(lambda a: np.asarray(draw(source, a.shape), a.dtype), shapes)


def zeros_and_ones(source, shape):
    return source.random(shape) < 0.4


def state_keep(cell, batch):
    """Structured as `zoneout_keep` makes it; drawn without a program."""

    def keep():
        state = cell.start(cell.init(KEY, Prior(), N, N), batch)
        return zoneout_keep(KEY, 0.4, T, state)

    return filled(jax.eval_shape(keep), 7, zeros_and_ones)


def unit_keep(batch):
    shapes = jax.eval_shape(lambda: sequence_keep(KEY, 0.4, T, jnp.zeros((*batch, N))))
    keep = filled(shapes, 8, lambda source, shape: (source.random(shape) > 0.4) / 0.6)
    return np.broadcast_to(keep[0], keep.shape)


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


def random_params(cell):
    """Parameters of the sizes that a prior gives them, learned starts and gains too."""

    def matrix_or_bias(source, shape):
        draw = source.normal(size=shape)
        return 1.1 * draw / shape[0] ** 0.5 if len(shape) > 1 else 0.4 + 0.4 * draw

    return filled(jax.eval_shape(lambda: cell.init(KEY, Prior(), N, N)), 15, matrix_or_bias)


def random_inputs(*batch, seed=4):
    return np.asarray(rng(seed).normal(size=(T, *batch, N)), jax.dtypes.canonicalize_dtype(float))


def draw(name, *batch):
    """Parameters (learned starts too), a state and inputs, all drawn at random."""
    build, beside = COMPOSITIONS[name]
    cell = build()
    params = random_params(cell)
    states = jax.eval_shape(lambda: cell.start(params, batch))
    state = filled(states, 10, lambda source, shape: source.normal(size=shape) / 2)
    x = random_inputs(*batch)
    if beside is None:
        return params, state, x
    return (
        params,
        state,
        (PerLayer if name == "noise in each layer" else tuple_of)(beside(batch), x),
    )


def run(cell, *args, **how):
    """A run as one program; NumPy arrays."""
    return jax.device_get(jax.jit(lambda *a: scan.run(cell, *a, **how))(*args))


def tuple_of(*parts):
    return parts


def at(t, xs):
    return jax.tree.map(lambda a: a[t], xs)


def close(ours, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, expected)


# --- the contract ---------------------------------------------------------------------------------


def test_running_equals_stepping_and_pieces_equal_one_pass(name, cell):
    @jax.jit
    def all_ways(params, state, xs):
        stepped, outputs = state, []
        for t in range(T):
            before, (stepped, h) = stepped, cell.step(params, stepped, at(t, xs))
            assert scan.describe(stepped) == scan.describe(before)
            outputs.append(h)
        middle, first = scan.run(cell, params, at(slice(0, 2), xs), state)
        end, second = scan.run(cell, params, at(slice(2, 4), xs), middle)
        return (
            scan.run(cell, params, xs, state),
            (stepped, jnp.stack(outputs)),
            (end, jnp.concatenate([first, second])),
        )

    whole, stepped, pieces = all_ways(*draw(name, 2))
    close(whole, stepped, atol=1e-6)  # float32, order of additions
    close(pieces, whole, atol=1e-6)


@pytest.mark.slow
def test_batch_axes_equal_vmap(name, cell):
    @jax.jit
    def both(params, state, xs):
        one = jax.vmap(lambda state, xs: scan.run(cell, params, xs, state)[1], (0, 1), 1)
        return scan.run(cell, params, xs, state)[1], one(state, xs)

    close(*both(*draw(name, 2)), atol=1e-6)


def test_gradient_against_finite_differences(name, cell, x64):
    """Central differences along a random direction of all parameters, states and inputs."""
    params, state, xs = draw(name)
    leaves, structure = jax.tree.flatten(xs)
    point, weights = (params, state, leaves[-1]), rng(11).normal(size=(T, N))
    direction = filled(point, 12, lambda source, shape: source.normal(size=shape))
    eps = 1e-5  # error about eps^2 + 1e-16/eps = 1e-10, relative to a derivative of order 1

    def loss(params, state, x):
        xs = jax.tree.unflatten(structure, [*leaves[:-1], x])
        return jnp.sum(weights * scan.run(cell, params, xs, state)[1])

    @jax.jit
    def gradient_and_ends(point):
        ends = jax.vmap(lambda e: loss(*jax.tree.map(lambda a, v: a + e * v, point, direction)))
        return jax.grad(loss, (0, 1, 2))(*point), ends(np.array([eps, -eps]))

    gradient, (above, below) = jax.device_get(gradient_and_ends(point))
    along = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, direction)))
    np.testing.assert_allclose(along, (above - below) / (2 * eps), rtol=1e-6)


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

    @jax.jit
    def at_each(params, state, xs):
        jacobians, zs = [], cell.drive(params, xs)
        for t in range(2):
            r, z = cell.mix(params, hidden(state)), cell.drive(params, at(t, xs))
            jacobians.append(jax.jacfwd(cell.update, (1, 2, 3))(params, state, r, z))
        return jacobians, at(1, zs), z

    jacobians, z_of_all, z = at_each(*draw(name))
    for jacobian in map(np.asarray, jax.tree.leaves(jacobians)):
        assert jacobian.shape == (N, N)
        np.testing.assert_array_equal(jacobian, np.diag(np.diag(jacobian)))
    close(z_of_all, z, atol=1e-14)  # all T at once, as a fast pass drives it


def test_compositions_are_constants():
    """Built twice each is equal and compiles once; any two are unequal."""
    traces = []

    def call(cell):
        traces.append(1)
        return 0

    compiled = jax.jit(call, static_argnums=0)
    for build, _ in COMPOSITIONS.values():
        assert build() == build()
        compiled.trace(build())
        compiled.trace(build())
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

    @jax.jit
    def jacobian_and_logs(params, state, xs):
        start, unravel = ravel_pytree(state)

        def last(start):
            return ravel_pytree(scan.run(cell, params, xs, unravel(start))[0])[0]

        logs = analysis.log_singular_values(scan.tied(cell, params), state, xs)
        return jax.jacfwd(last)(start), logs

    jacobian, logs = jax.device_get(jacobian_and_logs(params, state, xs))
    expected = np.linalg.svd(jacobian, compute_uv=False)
    kept = expected > 1e-10  # float64 rounding drowns the logs of the rest
    np.testing.assert_allclose(logs[kept], np.log(expected[kept]), atol=1e-5)


def test_gradient_norms_find_the_output_of_a_stack(x64):
    """Against the derivative with respect to numbers added to the highest layer's h."""
    cell, weights = Stacked(LSTM, GRU), rng(11).normal(size=(T, N))

    def loss(hs):
        return jnp.sum(weights * hs**2)

    @jax.jit
    def gradient_and_norms(params, state, xs):
        def perturbed(added):
            s, hs = state, []
            for t in range(T):
                (low, _), h = cell.step(params, s, xs[t])
                h += added[t]
                s = (low, h)
                hs.append(h)
            return loss(jnp.stack(hs))

        there = np.ones(T, bool)
        return jax.grad(perturbed)(jnp.zeros((T, N))), [
            analysis.gradient_norms(loss, scan.tied(cell, params), state, xs),
            analysis.gradient_norms(loss, scan.tied(masked(cell), params), state, (there, xs)),
        ]

    gradient, both = jax.device_get(gradient_and_norms(*draw("stacked")))
    for norms in both:
        np.testing.assert_allclose(norms, np.log(np.linalg.norm(gradient, axis=-1)), atol=1e-10)


# --- each composition against its formula ---------------------------------------------------------


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def test_skips_and_stacks_against_layers_run_by_hand():
    @jax.jit
    def both(params, state, xs):
        _, hs = scan.run(COMPOSITIONS["stack of skips"][0](), params, xs, state)
        _, h = scan.run(LSTM, params[0], xs, state[0])
        x = xs + h
        _, h = scan.run(BEFORE, params[1].cell, x, state[1])
        return hs, h, x

    params, state, xs = draw("stack of skips", 2)
    hs, h, x = jax.device_get(both(params, state, xs))
    g = sigmoid(x @ params[1].V + params[1].b)
    np.testing.assert_allclose(hs, g * h + (1 - g) * x, atol=1e-5)  # float32
    fresh = jax.jit(lambda: HighwaySkip(GRU).init(KEY, Prior(), N, N).b)()
    np.testing.assert_array_equal(fresh, -np.ones(N, np.float32))


def test_bidirectional_is_two_runs_side_by_side():
    network = Stacked(Bidirectional(LSTM, GRU), BEFORE)
    params = random_params(network)
    assert params[1].V.shape == (2 * N, 3 * N)

    @jax.jit
    def both(params, xs):
        _, forward = scan.run(LSTM, params[0].forward, xs)
        _, backward = scan.run(GRU, params[0].backward, xs[::-1])
        side_by_side = jnp.concatenate([forward, backward[::-1]], -1)
        return scan.run(network, params, xs)[1], scan.run(BEFORE, params[1], side_by_side)[1]

    close(*both(params, random_inputs(2)), atol=1e-6)


def test_zoneout_lstm_against_its_paper():
    """c = d_c c + (1 - d_c) c', h = d_h h + (1 - d_h) o tanh(c'), arXiv:1606.01305, eq. 5-6."""
    P, state, (keep, xs) = draw("zoneout LSTM")
    _, hs = run(zoneout(LSTM), P, (keep, xs), state)
    h, c = state
    for t in range(T):
        i, f, g, o = np.split(h @ P.W + xs[t] @ P.V + P.b, 4)
        new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        d_h, d_c = keep.h[t], keep.c[t]
        h = d_h * h + (1 - d_h) * sigmoid(o) * np.tanh(new)
        c = d_c * c + (1 - d_c) * new
        np.testing.assert_allclose(hs[t], h, atol=1e-5)  # float32


def test_dropout_hides_units_from_the_others():
    """keep = 0 for unit 0: the run is that of a W whose row 0 is zero; keep scales rows."""
    params, state, xs = draw("stacked")
    params, state = params[0], state[0]
    keep = np.array([0.0, 1.0, 2.0], np.float32)
    beside = np.tile(keep, (T, 1))
    scaled = params._replace(W=keep[:, None] * params.W)

    @jax.jit
    def both():
        _, hs = scan.run(recurrent_dropout(LSTM), params, (beside, xs), state)
        return hs, scan.run(LSTM, scaled, xs, state)[1]

    close(*both(), atol=1e-6)


def test_layer_normed_lstm_against_numpy():
    P, state, xs = draw("layer-normed LSTM")
    h, c = state

    def normal(a):
        return (a - a.mean()) / np.sqrt(a.var() + 1e-5)

    _, hs = run(layer_normed(LSTM), P, xs, state)
    for t in range(T):
        r = np.split(h @ P.cell.W, 4)
        z = np.split(xs[t] @ P.cell.V + P.cell.b, 4)
        i, f, g, o = (
            P.gain_r[k] * normal(r[k]) + P.gain_z[k] * normal(z[k]) + P.shift[k] for k in range(4)
        )
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(hs[t], h, atol=1e-4)  # float32, divided by small variances


def test_layer_norm_keeps_a_bias_of_the_prior():
    mu_b = np.array([0.0, 3.0, 0.0, 0.0], np.float32)
    init = jax.jit(lambda: layer_normed(LSTM).init(KEY, Prior(1.0, 1.0, mu_b, 0.0), N, N).shift)
    np.testing.assert_allclose([np.mean(s) for s in init()], mu_b, atol=1e-6)


def test_a_learned_start_is_learned():
    """At first it is the cell's; then gradients reach it, through a reset too."""
    cell, given = learned_start(LSTM), np.zeros((2, N), np.float32)
    reset = np.zeros((T, 2), bool)
    reset[2] = True

    @jax.jit
    def all_of(xs):
        params = cell.init(KEY, Prior(), N, N)

        def late(params):
            state = cells.lstm.State(given, given)
            return scan.run(cell, params, xs, state, reset=reset)[1][2:].sum()

        first = scan.run(cell, params, xs)[1], scan.run(LSTM, params.cell, xs)[1]
        return first, jax.grad(late)(params)

    (ours, theirs), gradient = all_of(random_inputs(2))
    np.testing.assert_array_equal(ours, theirs)
    assert all(np.abs(g).min() > 0 for g in gradient.start)


def test_a_masked_cell_carries_its_output():
    """The h of a masked step is the last one; the output of a skip, no part of the state, zero."""
    xs, mask = random_inputs()[:2], np.array([True, False])
    found = (LSTM, BEFORE, Stacked(LSTM, GRU), Residual(GRU))
    every = [random_params(cell) for cell in found]

    @jax.jit
    def outputs(every):
        return [
            scan.run(masked(cell), params, (mask, xs))[1]
            for cell, params in zip(found, every, strict=True)
        ]

    *carried, skip = jax.device_get(outputs(every))
    for hs in carried:
        np.testing.assert_array_equal(hs[0], hs[1])
    assert (skip[0] != 0).all()
    assert not skip[1].any()


@pytest.mark.parametrize("wrap", [masked, resetting, zoneout, recurrent_dropout])
@pytest.mark.parametrize("network", [LSTM, BEFORE])
def test_a_sequence_whose_mask_was_forgotten_is_refused(wrap, network):
    """Two sequences, or two features, came apart into a mask and an input."""
    if wrap is recurrent_dropout and network is BEFORE:
        return  # takes Unitwise cells alone
    cell, params = wrap(network), random_params(network)

    def refused(message, xs):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda: scan.run(cell, params, xs))

    xs = random_inputs(2)
    refused(r"takes x = \(\w+, x\) at every step.*of shapes \[\(2, 3\)\]", xs)
    refused(r"takes x = \(\w+, x\) at every step.*of shapes \[\(2,\)\]", xs[:, 0, :2])
    refused(r"takes x = \(\w+, x\) at every step.*PerLayer", PerLayer((flags((2,)),), xs))
    if wrap in (masked, resetting):
        refused(
            r"(mask|reset) holds \['float32'\]; pass .* booleans",
            (flags((2,)).astype(xs.dtype), xs),
        )
        for shape, batch in (((1,), (2,)), ((N,), ())):  # a body is stepped without a scan too
            x = np.zeros(shape, bool), np.zeros((*batch, N), np.float32)
            with pytest.raises(ValueError, match=rf"{re.escape(str(shape))} at .*axes .* one flag"):
                jax.eval_shape(lambda x=x: cell.step(params, cell.start(params, x[0].shape), x))


def test_a_mask_goes_around_a_norm():
    with pytest.raises(ValueError, match=r"this cell takes x = \(mask, x\)"):
        jax.eval_shape(lambda: layer_normed(masked(LSTM)).init(KEY, Prior(), 2, N))


def test_resetting_a_masked_cell_resets_where_no_step_is():
    cell = resetting(masked(LSTM))
    params, state, xs = draw("stacked")
    params, state = params[0], state[0]
    off = np.zeros(T, bool)
    program = jax.jit(lambda reset: scan.run(cell, params, (reset, (off, xs)), state)[0])
    assert not np.any(program(np.arange(T) == 1).h)
    np.testing.assert_array_equal(program(off).c, state.c)


def test_a_body_tells_which_of_its_steps_happen():
    """Under other combinators, in jit and in a closure; a stack steps where any layer does."""
    xs, other = random_inputs(), np.array([False, False, True, True])
    there = np.array([True, False, True, False])
    both, either = there & other, there | other
    off, cell = np.zeros(T, bool), masked(GRU)

    def closure(cell, params):
        return lambda state, x: cell.step(params, state, x)

    every = [  # network, inputs, what makes the body, the steps that happen
        (GRU, xs, scan.tied, None),
        (resetting(GRU), (other, xs), scan.tied, None),
        (cell, (there, xs), scan.tied, there),
        (masked(BEFORE), (there, xs), scan.tied, there),
        (masked(cell), (there, (other, xs)), scan.tied, both),
        (resetting(learned_start(cell)), (off, (there, xs)), closure, there),
        (Residual(cell), (there, xs), lambda *network: jax.jit(scan.tied(*network)), there),
        (cell, (there, xs), lambda *network: jax.checkpoint(scan.tied(*network)), there),
        (masked(Stacked(GRU, BEFORE)), (there, xs), scan.tied, there),
        (Stacked(GRU, cell), PerLayer((None, there), xs), scan.tied, None),
        (Stacked(cell, cell), PerLayer((there, other), xs), closure, either),
    ]

    def found(made):
        each = []
        for (cell, xs, body, _), params in zip(every, made, strict=True):
            each.append(steps_present(body(cell, params), cell.start(params), xs))
        return each

    made = [random_params(cell) for cell, *_ in every]
    assert [a is None for a in jax.eval_shape(found, made)] == [e[-1] is None for e in every]
    for ours, (*_, expected) in zip(jax.jit(found)(made), every, strict=True):
        np.testing.assert_equal(None if ours is None else np.asarray(ours), expected)


def test_the_masks_of_a_scan_within_a_step_are_no_steps_of_the_body():
    def step(state, x):  # three steps of its own, the last of them masked
        mask, xs = np.array([True, True, False]), jnp.stack([x, x, x])
        return scan.run(GRU, params, xs, state, mask=mask)

    params = random_params(GRU)
    assert steps_present(step, GRU.start(params), random_inputs()) is None


def test_a_traced_rate_out_of_range_is_nan():
    @jax.jit
    def draws(rate):
        h = np.zeros(2, np.float32)
        return sequence_keep(KEY, rate, 3, h), zoneout_keep(KEY, rate, 3, h)

    for rate, refused in ((0.5, False), (1.0, True), (-0.1, True), (np.nan, True)):
        assert all((np.isnan(keep) == refused).all() for keep in draws(rate)), rate


def test_draws_of_noise():
    """5 standard errors of 20,000 draws."""

    @jax.jit
    def draws():
        h = jnp.zeros((100, 200))
        return sequence_keep(KEY, 0.2, 3, h), zoneout_keep(KEY, 0.2, 3, cells.lstm.State(h, h))

    drop, keep = jax.device_get(draws())
    size = 100 * 200
    np.testing.assert_array_equal(drop[0], drop[2])
    np.testing.assert_allclose(np.unique(drop), [0, 1.25])
    assert np.isclose(drop[0].mean(), 1, atol=5 * 0.5 / np.sqrt(size))
    for drawn in keep:
        assert drawn.shape == (3, 100, 200)
        assert np.isclose(drawn[1].mean(), 0.2, atol=5 * 0.4 / np.sqrt(size))
    agree = (keep.h == keep.c).mean()  # .68 if h and c, and times, draw for themselves
    assert np.isclose(agree, 0.68, atol=0.01)
    assert np.isclose((keep.h[0] == keep.h[1]).mean(), 0.68, atol=5 * 0.47 / np.sqrt(size))


# --- bad input ------------------------------------------------------------------------------------


X = jnp.ones((T, N))
PARAMS = random_params(Stacked(GRU, GRU))


def of_two_inputs(params):
    return params._replace(V=params.V[:2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Stacked(), r"one or more cells, Stacked\(gru.cell"),
        (lambda: Stacked([GRU, GRU]), r"functions init, start and step"),
        (lambda: Residual(GRU).init(KEY, Prior(), 2, N), r"Residual combines .* d = 2 and n = 3"),
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
        (lambda: scan.run(Residual(GRU), of_two_inputs(PARAMS[0]), X[:, :2]), r"d = 2 and n"),
        (lambda: scan.run(Bidirectional(GRU), BothWays(*PARAMS), X, X[0]), r"from states BothWays"),
        (
            lambda: scan.tied(Bidirectional(GRU), BothWays(*PARAMS))(X[0], X[0]),
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
    params, xs = random_params(network), np.ones((steps, N, N), np.float32)  # as many as units

    def outputs(keep):
        return scan.run(network, params, (keep, xs))[1]

    for shape in ((steps,), (steps, 1, 1), (steps, N)):
        with pytest.raises(ValueError, match=r"jnp.broadcast_to|share their first axis"):
            jax.eval_shape(outputs, np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=r"jnp.broadcast_to|share their first axis"):
        jax.eval_shape(lambda: outputs(0.5))
    assert jax.eval_shape(outputs, xs).shape == (steps, N, N)


def test_the_state_of_one_layer_is_not_that_of_two():
    lstm = cells.lstm.cell
    stack = Stacked(cells.vanilla.cell, cells.vanilla.cell)
    params = random_params(stack)
    alone = lstm.start(random_params(lstm))
    with pytest.raises(
        ValueError, match="takes state as a tuple with one entry per layer; got State"
    ):
        scan.run(stack, params, X, alone)


@pytest.mark.parametrize(
    "compose",
    [
        Residual,
        HighwaySkip,
        Bidirectional,
        masked,
        resetting,
        zoneout,
        recurrent_dropout,
        layer_normed,
        learned_start,
        lambda cell: Stacked(LSTM, learned_start(cell)),
        lambda cell: Stacked(Bidirectional(LSTM, Residual(zoneout(cell)))),
        lambda cell: masked(Stacked(LSTM, cell)),
    ],
)
def test_parameters_of_another_cell_are_refused_within(compose):
    cell = compose(GRU)
    own, cudnn = (
        jax.eval_shape(lambda c=c: compose(c).init(KEY, Prior(), N, N))
        for c in (GRU, cells.gru.cudnn)
    )
    for door in (scan.tied, lambda cell, params: scan.run(cell, params, X)):
        with pytest.raises(ValueError, match=r"are gru.Cudnn, .* this one takes gru.Params"):
            door(cell, cudnn)
    if causal(cell):  # others have no step
        scan.tied(cell, own)
