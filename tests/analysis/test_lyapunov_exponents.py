"""Lyapunov exponents against maps whose exponents are known, and against finite perturbations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest
from conftest import MADE, draw, few_fast, few_slow, normal, some_slow
from jax import lax
from jax.flatten_util import ravel_pytree

from recur import Prior, analysis, cells, compose, scan
from recur.analysis.numerics import step_jacobian as push
from recur.analysis.numerics.flat_state import flatten
from recur.analysis.numerics.orthonormal_frame import directions, transport
from recur.analysis.numerics.qr import lq

KEY = jax.random.key(3)


def some(shapes):
    """Numbers of these shapes, mostly within -1 .. 1."""
    rng = np.random.default_rng(4)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), float), shapes)


def network(cell, d, n, steps, prior=None):
    params = draw(cell, d, n, prior, seed=3)
    state = some(jax.eval_shape(cell.start, params))
    return scan.tied(cell, params), state, normal(steps, d, seed=6)


def logistic(h, x):
    h = 4 * h * (1 - h) + x
    return h, h


# --- closed forms ---------------------------------------------------------------------------------


def test_logistic_map(x64):
    """log 2 at r = 4. The growth of T steps is log|dx_T/dx_0| = T log 2 + O(1), so the mean errs by
    about 1/T; the standard error is then smaller than for independent steps."""
    steps = 20_000

    @jax.jit
    def details(xs):
        return analysis.lyapunov_details(KEY, logistic, jnp.full(1, 0.3), xs, discard=100)

    found = jax.device_get(details(np.zeros((steps, 1))))
    np.testing.assert_allclose(found.exponents, np.log(2), atol=10 / steps)
    assert found.history.shape == (steps - 100, 1)
    np.testing.assert_allclose(found.history[-1], found.exponents)
    np.testing.assert_allclose(found.entropy, found.exponents[0])
    assert found.dimension == 1
    assert 0 < found.error[0] < 0.01


def test_random_linear_maps_give_the_moduli_of_the_eigenvalues(x64):
    n, steps = 6, 4000
    W = np.random.default_rng(0).normal(size=(n, n)) / np.sqrt(n)
    params = cells.vanilla.Params(*map(jnp.asarray, (W, np.ones((1, n)), np.zeros(n))))
    body = scan.tied(cells.vanilla.linear, params)
    expected = np.sort(np.log(np.abs(np.linalg.eigvals(W))))[::-1]

    @jax.jit
    def both(xs):
        h, discard = jnp.zeros(n), steps // 2
        return (
            analysis.lyapunov(KEY, body, h, xs, discard=discard),
            analysis.lyapunov(KEY, body, h, xs, k=2, discard=discard, every=4),
        )

    found, two = both(np.zeros((steps, 1)))
    # the frame turns within complex pairs, so the mean over S steps errs by O(1/S)
    np.testing.assert_allclose(found, expected, atol=5 / steps)
    np.testing.assert_allclose(two, expected[:2], atol=5 / steps)


@pytest.mark.parametrize("name", ["lstm"])
def test_the_sum_is_the_mean_of_log_det(cell, sizes, x64):
    check_sum(cell, sizes)


@pytest.mark.parametrize("name", few_slow([*cells.names(), *MADE]))
def test_the_sum_is_the_mean_of_log_det_for_every_cell(cell, sizes, x64):
    check_sum(cell, sizes)


def check_sum(cell, sizes):
    """Sum of exponents = mean log|det J|, however often the frame is made orthonormal."""
    steps = 40
    body, state, xs = network(cell, *sizes, steps)

    @jax.jit
    def everything(state, xs):
        step, start = flatten(body, state, xs)

        def advance(s, x):
            J = jax.jacfwd(lambda s: step(s, x)[0])(s)
            return step(s, x)[0], jnp.linalg.slogdet(J)[1]

        return (
            lax.scan(advance, start, xs)[1].mean(),
            analysis.lyapunov(KEY, body, state, xs, every=1),
            analysis.lyapunov(KEY, body, state, xs, every=3),
            analysis.lyapunov(KEY, body, state, xs),
        )

    logdet, one, three, measured = jax.device_get(everything(state, xs))
    if not np.isfinite(logdet) or logdet < -30:  # singular steps: a direction dies out
        assert not np.isfinite(one[-1])  # NaN where that is not exact
        assert not np.isnan(one[0])
        return
    np.testing.assert_allclose(one.sum(), logdet, rtol=1e-10)  # float64 rounding
    np.testing.assert_allclose(three.sum(), logdet, rtol=1e-6)
    np.testing.assert_allclose(
        measured, one, atol=1e-6
    )  # about two fifths of the digits: 4e-10, a step


@pytest.mark.slow
@pytest.mark.parametrize(("g", "expected"), [(2.0, 0.15472), (5.0, 0.53243)])
def test_random_network_against_mean_field(g, expected):
    """lambda_1 = log(g sqrt(E tanh'^2)) for n -> infinity.

    At n = 300 three draws at each g read from .0024 more to .0146 less, with standard errors of
    .0016 to .0044: a finite width lowers it by about .01, and one such error is granted beyond.
    """
    n, steps = 300, 1500
    W = g * jax.random.normal(KEY, (n, n)) / np.sqrt(n)

    def body(state, x):
        h = W @ jnp.tanh(state)
        return h, h

    start = jax.random.normal(jax.random.key(1), (n,))
    run = jax.jit(
        lambda: analysis.lyapunov_details(
            KEY, body, start, jnp.zeros((steps, 1)), k=2, discard=300, every=4
        )
    )
    found = run()
    assert -0.019 < found.exponents[0] - expected < 0.007


@pytest.mark.parametrize("which", ["minimal", *some_slow({"cfn"}, "")])
def test_cells_without_chaos(which):
    """MinimalRNN and CFN decay without input, whatever the weights (arXiv:1612.06212 for CFN).

    At sigma_w = 10 units of MinimalRNN can hold each other at u = 1 - 1e-5 for thousands of steps:
    there the exponent is 0 until they let go, so a transient of 10 nats is granted.
    """
    cell, d, n = cells.named(which), 2, 32

    def largest(key, sigma):
        params = cell.init(key, Prior(sigma, 1.0, 0.0, 0.5), d, n)
        # MinimalRNN's embedding has no bias here, so no input is z = 0
        start = jax.random.normal(key, (n,))
        xs = jnp.zeros((600, d))
        body = scan.tied(cell, params)
        return analysis.lyapunov(key, body, start, xs, k=1, discard=200, every=1)[0]

    @jax.jit
    def all_of_them(sigmas):
        return jax.vmap(largest)(jax.random.split(KEY, sigmas.size), sigmas)

    sigmas = np.tile(np.array([0.5, 1.0, 2.0, 10.0], "f"), 4)
    exponents = np.asarray(all_of_them(sigmas))
    assert (exponents[sigmas < 10] < 0).all(), exponents
    assert (exponents < 10 / 400).all(), exponents


# --- the gap between two QRs --------------------------------------------------------------------


def henon(s):
    x, y = s
    return 1 - 1.4 * x**2 + y, 0.3 * x


def ikeda(s):
    x, y = s
    t = 0.4 - 6 / (1 + x**2 + y**2)
    return 1 + 0.9 * (x * jnp.cos(t) - y * jnp.sin(t)), 0.9 * (x * jnp.sin(t) + y * jnp.cos(t))


def standard(s):
    p, x = s
    p = p + 0.971635 * jnp.sin(x)
    return p, x + p


def kaplan_yorke_map(s):
    x, y = s
    return 2 * x % 0.99999995, 0.2 * y + jnp.cos(4 * jnp.pi * x)


def tinkerbell(s):
    x, y = s
    return x**2 - y**2 + 0.9 * x - 0.6013 * y, 2 * x * y + 2 * x + 0.5 * y


MAPS = {
    henon: (1.217, 0.035),
    ikeda: (0.9, 0.555),
    standard: (0.1, 0.1),
    kaplan_yorke_map: (0.2, 0.2),
    tinkerbell: (0.137, -0.031),
}


def lorenz(s):
    x, y, z = s
    return 10 * (y - x), x * (28 - z) - y, x * y - 2.667 * z


def hindmarsh_rose(s):
    x, y, z = s
    cubic = 0.49 * x**3
    return (y - cubic + x**2 + z) / 0.03 - x, z - cubic, (0.0322 - x - z) / 0.8


def hastings_powell(s):
    x, y, z = s
    eaten, caught = 5 * x * y / (1 + 3 * x), 0.1 * y * z / (1 + 2 * y)
    return x * (1 - x) - eaten, eaten - caught - 0.4 * y, caught - 0.01 * z


def forced_van_der_pol(s):
    x, y, z = s
    return y, 8.53 * (1 - x**2) * y - x + 1.2 * jnp.sin(z), 0.63


def roessler(s):
    x, y, z = s
    return -y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)


FLOWS = {  # a state on the attractor, and a period
    lorenz: ((-9.787, -15.039, 20.534), 1.5008),
    hindmarsh_rose: ((0.0311, -0.0216, 0.0415), 1.752),
    hastings_powell: ((0.732, 0.1755, 9.9015), 135.19),
    forced_van_der_pol: ((-1.5205, 0.1964, 687.39), 14.476875),
    roessler: ((6.5134, 0.4772, 0.3416), 5.9086),
}


def runge_kutta(f, s, h):
    """One step of the classical method of fourth order."""
    f = partial(lambda f, s: jnp.stack([jnp.asarray(v, s.dtype) for v in f(s)]), f)
    a = f(s)
    b = f(s + h / 2 * a)
    c = f(s + h / 2 * b)
    return s + h / 6 * (a + 2 * b + 2 * c + f(s + h * c))


def jacobians(steps, systems, T):
    """Of each system's first T steps, (len(systems), T, m, m), by one program."""

    @jax.jit
    def along(which, start, h):
        def step(s):
            return lax.switch(which, steps, s, h)

        def advance(s, _):
            return step(s), jax.jacfwd(step)(s)

        return lax.scan(advance, start, length=T)[1]

    return np.stack([along(i, *system) for i, system in enumerate(systems)])


def of_maps(T):
    steps = [lambda s, h, f=f: jnp.stack(f(s)) for f in MAPS]
    return jacobians(steps, [(np.array(start), 0.0) for start in MAPS.values()], T)


def of_flows(T):
    """A three-hundredth of a period a step."""
    steps = [partial(runge_kutta, f) for f in FLOWS]
    return jacobians(steps, [(np.array(s), period / 300) for s, period in FLOWS.values()], T)


def multiply(h, A):
    h = A @ h
    return h, h


def along_matrices(matrices, **arguments):
    """The details of the exponents of a product of matrices (T, m, m)."""
    start = jnp.zeros(matrices.shape[-1], matrices.dtype)
    return analysis.lyapunov_details(KEY, multiply, start, matrices, **arguments)


details_along = jax.jit(along_matrices)  # of as many matrices: one program for several tests


def by_numpy(matrices):
    """Their exponents, by a QR at each step in float64, from the same frame."""
    m = matrices.shape[-1]
    Q = np.asarray(directions(KEY, jnp.zeros(m, matrices.dtype), m)).T.astype(float)
    growth = np.zeros(m)
    for J in matrices.astype(float):
        Q, R = np.linalg.qr(J @ Q)
        growth += np.log(np.abs(np.diagonal(R)))
    return np.sort(growth / len(matrices))[::-1]


def check_gap(matrices, details):
    """The rounding that the details tell bounds what the default loses, and is small itself."""
    eps = np.finfo(matrices.dtype).eps
    found, expected = jax.device_get(details(matrices)), by_numpy(matrices)
    off = np.abs(found.exponents - expected)
    # ten: one sample stands for the rounding; and T logs are summed in this precision
    summing = eps * np.sqrt(len(matrices)) * np.abs(expected).max()
    assert (off <= 10 * found.rounding + summing).all(), (found, expected)
    assert (found.rounding < np.sqrt(eps)).all(), found


@pytest.mark.parametrize(
    ("systems", "steps"),
    [
        pytest.param(of_flows, 1000, marks=pytest.mark.slow),
        pytest.param(of_maps, 1000, marks=pytest.mark.slow),
        pytest.param(of_flows, 3000, marks=pytest.mark.long),
        pytest.param(of_maps, 3000, marks=pytest.mark.long),
    ],
)
def test_the_default_gap_loses_no_exponent_of_published_systems(systems, steps):
    with jax.enable_x64(True):
        found = systems(steps)
    for precision in ("float64", "float32"):
        with jax.enable_x64(precision == "float64"):
            for matrices in found.astype(precision):
                check_gap(matrices, details_along)


def runge_kutta_in_time(f, h, s, t):
    a = f(s, t)
    b = f(s + h / 2 * a, t + h / 2)
    c = f(s + h / 2 * b, t + h / 2)
    return s + h / 6 * (a + 2 * b + 2 * c + f(s + h * c, t + h))


@partial(jax.jit, static_argnums=0)
def everything(step, start, times):
    """Exponents with a QR at each step, those of the default, and the mean of log |det J|.

    All of the same Jacobians: two programs would follow a chaotic trajectory to different places.
    """

    def advance(s, t):
        return step(s, t), jax.jacfwd(step)(s, t)

    _, matrices = lax.scan(advance, start, times)
    return (
        along_matrices(matrices, every=1).exponents,
        along_matrices(matrices).exponents,
        jnp.linalg.slogdet(matrices)[1].mean(),
    )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["maps", "flows"])
def test_every_published_system(kind, x64):
    """The default against a QR at each step, and its sum against the mean of log |det J|.

    Needs `pip install --no-deps dysts`. Flows by Runge and Kutta, a thousandth of a period a step.
    A stretch may lose eps^(3/5) = 4e-10 of a growth; all are relative to the largest exponent.
    """
    systems = published.maps() if kind == "maps" else published.flows()
    if not systems:
        pytest.skip("dysts is not installed")
    off = {}
    for system in systems:
        steps, h = (60_000, system.period / 1000) if kind == "flows" else (20_000, 1.0)
        step = partial(runge_kutta_in_time, system.rhs, h) if kind == "flows" else system.rhs
        one, found, volume = jax.device_get(everything(step, system.start, h * np.arange(steps)))
        size = np.abs(one).max() or 1  # a flow that depends on time alone has zeros
        off[system.name] = np.abs(found - one).max() / size, abs(found.sum() - volume) / size
        print(system.name, *off[system.name], flush=True)
    known = {name: values for name, values in off.items() if np.isfinite(values).all()}
    print(f"{len(known)} of {len(off)} {kind} stay finite; largest: {np.max([*known.values()], 0)}")
    assert len(known) >= 0.95 * len(off)
    assert all(max(values) < 1e-8 for values in known.values())


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_default_gap_follows_bursts(precision):
    """Steps of one matrix, hard or random, every so often, between stretches of the identity."""
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    hard = rotation @ np.diag([100, 1, 0.01]) @ rotation.T
    with jax.enable_x64(precision == "float64"):
        for period in (1, 2, 3, 5, 7, 8, 9, 50, 333):
            factors = np.tile(np.eye(3), (1000, 1, 1))
            factors[::period] = hard
            factors[period // 2 :: 2 * period] = np.linalg.inv(hard)
            factors[1::period] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            check_gap(factors.astype(precision), details_along)


def test_steady_networks_share_a_qr():
    """Where directions hardly part, a QR serves eight steps; where they part at once, one."""
    quiet, wild = np.tile(np.eye(3, dtype="f"), (2, 64, 1, 1))
    wild[:] = np.diag(np.array([1000, 1, 0.001], "f"))

    @jax.jit
    def closed(matrices):
        step, start = flatten(multiply, jnp.zeros(3), matrices)
        push_all = push.push_forward(multiply, start, step, 3)
        return transport(KEY, push_all, step, start, matrices, 3, 0, None).closed

    assert closed(quiet)[8:].sum() == 7
    assert closed(wild).all()


# --- rounding and overflow ------------------------------------------------------------------------


def saturated(precision, steps=200):
    """Details of a tanh network that a strong input drives far into saturation."""
    n, rng = 12, np.random.default_rng(0)
    params = cells.vanilla.Params(
        *(
            leaf.astype(precision)
            for leaf in (rng.normal(size=(n, n)), np.ones((1, n)), np.zeros(n))
        )
    )
    xs = 5 * rng.normal(size=(steps, 1)).astype(precision)
    with jax.enable_x64(precision == "float64"):

        @jax.jit
        def details(params, xs):
            body = scan.tied(cells.vanilla.cell, params)
            start = jnp.zeros(n, xs.dtype)
            return analysis.lyapunov_details(KEY, body, start, xs, discard=50)  # aligns the frame

        return jax.device_get(details(params, xs))


def test_what_rounding_swamps_is_nan_and_the_rest_is_right():
    """The state follows the input, so that float32 and float64 follow one trajectory.

    Where 1 - tanh^2 is 0 in float32, sech^2 is not: no exponent is -inf. The lower ones need more
    digits than there are: NaN. The others differ from float64's by what `rounding` tells.
    """
    found, exact = saturated("float32"), saturated("float64")
    known = np.isfinite(found.exponents)
    assert np.isfinite(exact.exponents).all()
    assert exact.exponents[-1] < -12
    assert 4 <= known.sum() < 12
    assert not np.isneginf(found.exponents).any()
    off = np.abs(found.exponents - exact.exponents)[known]
    # five: one sample a step stands for the rounding; eps sqrt(T) for the sum of logs
    assert (off < 5 * found.rounding[known] + 2e-6 * np.abs(exact.exponents)[known]).all()
    assert np.isnan(found.history[-1]).sum() == 12 - known.sum()


def test_a_matrix_of_rank_one_leaves_one_exponent():
    """What it does to other directions is rounding alone: NaN, not the log of the dust."""
    u, v = np.random.default_rng(0).normal(size=(2, 3)).astype("f")
    found = details_along(np.tile(np.outer(u, v), (1000, 1, 1)))
    np.testing.assert_allclose(found.exponents[0], np.log(abs(u @ v)), rtol=0.1)
    assert np.isnan(found.exponents[1:]).all()


def test_units_that_are_off_are_exact_zeros():
    """relu: one unit of three is off at one step. Two directions are left, the third is -inf."""
    factors = np.random.default_rng(0).normal(size=(2, 1000, 3, 3)).astype("f")
    factors[1, 40, 1] = 0
    on, off = map(details_along, factors)
    assert np.isfinite(on.exponents).all()
    assert np.isfinite(off.exponents[:2]).all()
    assert np.isneginf(off.exponents[2])


def test_an_overflow_is_not_stability():
    """h -> relu(W h) grows by 4 a step until float32 ends, where relu(NaN) has the slope 0."""
    body = scan.tied(
        cells.vanilla.elman(jax.nn.relu),
        cells.vanilla.Params(jnp.array([[3.0, -1], [-1, 3]]), jnp.zeros((1, 2)), jnp.zeros(2)),
    )

    @jax.jit
    def everything(xs):
        start = jnp.ones(2)
        return analysis.finite_growth(KEY, body, start, xs, k=2), [
            analysis.lyapunov_details(KEY, body, start, xs, every=every) for every in (None, 5)
        ]

    finite, details = jax.device_get(everything(np.zeros((140, 1), "f")))
    for found in details:
        # the sum is log det; each converges as 1/T
        np.testing.assert_allclose(found.history[99].sum(), np.log(8), rtol=1e-5)
        np.testing.assert_allclose(found.history[99], np.log([4, 2]), atol=3 / 100)
        for value in (found.exponents, found.error, found.dimension, found.entropy, finite):
            assert np.isnan(value).all()


def test_rates_are_per_second_where_dt_says_how_long_a_step_is(x64):
    """s -> (2, .4) s in steps of 20 ms; the Kaplan-Yorke dimension, 1 + log 2 / log 2.5, stays."""

    def body(s, x):
        s = jnp.array([2.0, 0.4]) * s + x
        return s, s

    @jax.jit
    def measure(xs):
        along = KEY, body, jnp.zeros(2), xs
        return (
            analysis.lyapunov_details(*along, discard=40, every=1, dt=0.02),
            analysis.finite_growth(*along, k=1, discard=40, dt=0.02),
        )

    found, finite = jax.device_get(measure(np.zeros((60, 2))))
    expected = np.log([2, 0.4]) / 0.02
    np.testing.assert_allclose(found.exponents, expected, rtol=1e-9)
    np.testing.assert_allclose(found.history[-1], expected, rtol=1e-9)
    np.testing.assert_allclose([found.entropy, finite[0]], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found.dimension, 1 + np.log(2) / np.log(2.5), rtol=1e-9)
    assert (found.rounding < 1e-12 / 0.02).all()  # some eps a step


def test_a_masked_step_takes_no_time():
    """12 steps of 20: exponents, their errors and history are those of the 12 alone."""
    cell = compose.masked(cells.gru.cell)
    params, xs = draw(cell, 2, 3), normal(12, 2)
    there = np.sort(np.random.default_rng(0).permutation(20)[:12])
    mask, padded = np.zeros(20, bool), np.full((20, 2), 7.0, xs.dtype)
    mask[there], padded[there] = True, xs

    @jax.jit
    def everything(mask, padded, xs):
        arguments = KEY, scan.tied(cell, params), jnp.zeros(3), (mask, padded)
        alone = analysis.lyapunov_details(KEY, scan.tied(cells.gru.cell, params), jnp.zeros(3), xs)
        return (
            analysis.lyapunov_details(*arguments),
            analysis.finite_growth(*arguments, k=3),
            alone,
        )

    found, finite, _ = jax.device_get(everything(np.zeros(20, bool), padded, xs))
    assert np.isnan([found.exponents, finite]).all()  # no step is there, and no time goes by
    found, finite, expected = jax.device_get(everything(mask, padded, xs))
    np.testing.assert_allclose(found.exponents, expected.exponents, rtol=1e-5)
    np.testing.assert_allclose(found.history[-1], expected.history[-1], rtol=1e-5)
    np.testing.assert_allclose(finite, expected.exponents, atol=1e-3)  # eps^(2/3) a step
    several = np.ones((20, 2), bool), np.ones((20, 2, 2), "f")
    start = np.zeros((2, 3), "f")
    with pytest.raises(ValueError, match=r"one sequence, \(T,\); got \(20, 2\)"):
        jax.eval_shape(
            lambda xs: analysis.lyapunov(KEY, scan.tied(cell, params), start, xs), several
        )


# --- independent checks ---------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["gru.reset_before", *some_slow(["lstm", "vanilla"], "")])
def test_finite_perturbations_grow_alike(which, x64):
    body, state, xs = network(cells.named(which), 3, 5, 60)
    both = jax.jit(
        lambda: (
            analysis.lyapunov(KEY, body, state, xs, k=3, discard=20, every=1),
            analysis.finite_growth(KEY, body, state, xs, k=3, discard=20),
        )
    )()
    np.testing.assert_allclose(*both, atol=1e-8)  # eps^(2/3) = 4e-11 a step, amplified by 1/|R|


@pytest.mark.parametrize("name", few_fast([*cells.names(), *MADE]))
def test_the_structured_push_equals_the_generic_one(cell, sizes, x64):
    """Few directions take a product a gate, many the sum over the gates; each against jvp."""
    if not hasattr(cell, "update"):
        pytest.skip("no structure")
    d, n = sizes
    params = some(jax.eval_shape(lambda: cell.init(KEY, Prior(), d, n)))
    state = some(jax.eval_shape(cell.start, params))
    Q, few = normal(push.WORTH, sum(leaf.size for leaf in jax.tree.leaves(state))), 3

    @jax.jit
    def everything(params, state, xs, Q):
        step, start = flatten(scan.tied(cell, params), state, xs)
        return push.generic(step)(start, Q, xs[0]), [
            push.unitwise(cell, params, state, k)(start, Q[:k], xs[0]) for k in (few, push.WORTH)
        ]

    (expected_s, expected_Q), ours = jax.device_get(
        everything(params, state, normal(1, d, seed=5), Q)
    )
    for k, (s, pushed) in zip((few, push.WORTH), ours, strict=True):
        assert len(pushed) == k
        np.testing.assert_allclose(s, expected_s, rtol=1e-12)
        np.testing.assert_allclose(pushed, expected_Q[:k], rtol=1e-9, atol=1e-12)


def test_flossing_gradient_against_finite_differences(x64):
    """The values, at two points beside that of the gradient, are of the same program."""
    cell = cells.gru.cell
    params, xs = draw(cell, 2, 5, Prior(1.5, 0.5, 0.3, 0.2), seed=3), normal(30, 2)
    point = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])

    @jax.jit
    @jax.value_and_grad
    def loss(point):
        body = scan.tied(cell, ravel_pytree(params)[1](point))
        return analysis.flossing(KEY, body, jnp.zeros(5), xs, k=3, discard=5, every=2)

    direction = np.random.default_rng(1).normal(size=point.shape)
    eps = 1e-6  # error eps^2 + 1e-16/eps
    above, below = (float(loss(point + e * direction)[0]) for e in (eps, -eps))
    exact = np.asarray(loss(point)[1]) @ direction
    np.testing.assert_allclose(exact, (above - below) / (2 * eps), rtol=1e-6)


@pytest.mark.slow
def test_flossing_brings_the_exponents_to_zero():
    cell = cells.vanilla.cell
    params, xs = draw(cell, 2, 8, Prior(0.5, 0.3), seed=3), normal(50, 2)

    def loss(params):
        return analysis.flossing(KEY, scan.tied(cell, params), jnp.zeros(8), xs, k=2, discard=10)

    def descend(params, _):
        value, gradient = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient), value

    descent = jax.jit(lambda params: lax.scan(descend, params, None, length=100)[1])
    losses = np.asarray(descent(params))
    assert losses[0] > 0.1
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.parametrize(("k", "m"), [(50, 50), (33, 70), (5, 40)])
def test_factors_by_halves_are_those_of_lapack(k, m, x64):
    """Three large directions in all rows, the rest smaller by up to 10^8, as a frame has after some
    steps: L up to rounding, and Q orthonormal up to rounding times 10^8.

    Sizes that are no power of two, and one small enough for a single piece.
    """
    rng = np.random.default_rng(0)
    size = 10.0 ** np.linspace(0, -8, k)[:, None]
    a = rng.normal(size=(k, 3)) @ rng.normal(size=(3, m)) + size * rng.normal(size=(k, m))
    L, Q = jax.device_get(jax.jit(lq)(a))
    np.testing.assert_allclose(L @ Q, a, atol=1e-13)
    np.testing.assert_array_equal(L, np.tril(L))
    growth, expected = np.diagonal(L), np.diagonal(np.linalg.qr(a.T)[1])
    np.testing.assert_allclose(np.abs(growth), np.abs(expected), rtol=1e-6)
    np.testing.assert_allclose(Q @ Q.T, np.eye(k), atol=1e-6)


# --- dimension, entropy, error --------------------------------------------------------------------


@jax.jit
def dimension_and_entropy(exponents):
    return analysis.kaplan_yorke(exponents), analysis.entropy_rate(exponents)


@pytest.mark.parametrize(
    ("exponents", "dimension", "entropy"),
    [
        ([0.906, 0.0, -14.572], 2 + 0.906 / 14.572, 0.906),  # Lorenz 1963, per unit of time
        ([0.4, 0.1, -0.2, -0.6], 3.5, 0.5),
        ([-0.1, -0.2], 0, 0),
        ([0.3, 0.1], 2, 0.4),
        ([0.3, -np.inf], 1, 0.3),
        ([0.0], 1, 0),
        ([np.nan, np.nan], np.nan, np.nan),
        ([0.3, np.nan], np.nan, np.nan),
        ([0.3, -0.5, np.nan], 1.6, 0.3),  # the last is not used
    ],
)
def test_dimension_and_entropy(exponents, dimension, entropy):
    found = dimension_and_entropy(np.array(exponents, "f"))
    np.testing.assert_allclose(found[0], dimension, rtol=1e-5)
    np.testing.assert_allclose(found[1], entropy, rtol=1e-5)


def test_too_few_exponents_do_not_tell_the_dimension():
    @jax.jit
    def details(W, xs):
        params = cells.vanilla.Params(W, jnp.ones((1, 3)), jnp.zeros(3))
        body = scan.tied(cells.vanilla.linear, params)
        return [
            analysis.lyapunov_details(KEY, body, jnp.zeros(3), xs, k=k, discard=discard)
            for k, discard in ((1, 19), (2, 10))
        ]

    W = np.diag(np.array([2.0, 0.5, 0.1], "f"))
    one, two = jax.device_get(details(W, np.zeros((20, 1), "f")))
    assert np.isnan([one.dimension, one.entropy, two.dimension]).all()
    np.testing.assert_allclose(two.entropy, np.log(2), atol=1e-4)
    assert np.isnan(one.error).all()  # of a single step


def test_the_error_is_that_of_independent_steps():
    """Growth exp(a_t), a_t ~ N(.1, 1): the error of T = 4000 steps is 1/sqrt(T), itself known from
    20 blocks to 1/sqrt(38) = 16 % (four of them here); the estimate lies within four errors."""
    steps = 4000
    a = np.float32(0.1) + np.asarray(normal(steps, 1))

    def body(h, x):
        h = jnp.exp(x) * h
        return h, h

    @jax.jit
    def details(a):
        return [
            analysis.lyapunov_details(KEY, body, jnp.zeros(1), a, every=every)
            for every in (7, None)
        ]

    for found in jax.device_get(details(a)):
        np.testing.assert_allclose(found.exponents[0], a.mean(), rtol=1e-3)  # float32 sums
        assert 0.3 < found.error[0] * np.sqrt(steps) < 1.75
        assert abs(found.exponents[0] - 0.1) < 4 * found.error[0]


@pytest.mark.parametrize(
    "every", [None, 5, *[pytest.param(n, marks=pytest.mark.slow) for n in (1, 7)]]
)
def test_steady_growth_has_no_error(every):
    """x -> .9 x: what a block of time without a QR holds is not taken for no growth."""
    factors = np.full((23, 1, 1), 0.9, "f")
    found = jax.jit(partial(along_matrices, every=every))(factors)
    np.testing.assert_allclose(found.exponents, np.log(0.9), rtol=1e-6)
    np.testing.assert_allclose(found.error, 0, atol=1e-7)


@pytest.mark.parametrize("every", [None, 1, 5])
@pytest.mark.long
def test_two_errors_hold_the_truth_as_often_as_they_say(every):
    """1000 products of 400 random 3 x 3 matrices of independent normal entries.

    Newman 1986, Commun. Math. Phys. 103:121: lambda_i = (log 2 + digamma((4 - i) / 2)) / 2. Of
    normal errors with twenty blocks two hold the truth in 94 %; the share then has the error .75 %,
    of which four are granted.
    """
    digamma = np.array([0.03648997397857652, -0.5772156649015329, -1.9635100260214235])
    expected = (np.log(2) + digamma) / 2
    details = jax.jit(jax.vmap(partial(along_matrices, every=every)))
    found = jax.device_get(details(normal(1000, 400, 3, 3)))
    held = (np.abs(found.exponents - expected) < 2 * found.error).mean(axis=0)
    print(held)
    assert ((held > 0.91) & (held < 0.97)).all(), held


def test_exact_zeros_and_long_runs():
    def forgetful(h, x):
        h = x + 0 * h
        return h, h

    details = jax.jit(analysis.lyapunov_details, static_argnums=1)
    found = details(KEY, forgetful, np.ones(2, "f"), np.ones((5, 2), "f"))
    np.testing.assert_array_equal(found.exponents, -np.inf)
    assert found.dimension == 0
    body, state, xs = network(cells.gru.cell, 2, 3, 20_000)
    found = jax.device_get(details(KEY, body, state, xs))
    assert np.isfinite(found.exponents).all()
    assert np.isfinite(found.history).all()


@pytest.mark.slow
def test_growth_that_returns_after_a_quiet_stretch():
    """B has the eigenvalues 3, 1, 1/3: bursts of it between long stretches where nothing moves.

    float32: 50 steps of growth, each rounded by 6e-8 times the condition of B, 9.
    """
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    B, still = Q @ np.diag([3, 1, 1 / 3]) @ Q.T, np.eye(3)
    factors = np.stack([B] * 25 + [still] * 260 + [B] * 5 + [still] * 90 + [B] * 20)
    expected = np.array([50, 0, -50]) * np.log(3)

    @jax.jit
    def everything(factors):
        def add(h, x):
            h = x[0] @ h + x[1]
            return h, h

        steps, n = len(factors), 3
        xs = factors, jnp.zeros((steps, n), factors.dtype)
        start = jnp.zeros(n, factors.dtype)
        return (
            # the first burst aligns the frame, the other two have half of all growth
            analysis.lyapunov(KEY, multiply, start, factors, discard=25) * (steps - 25) * 2,
            analysis.log_singular_values(multiply, start, factors),
            analysis.input_output(add, start, xs, [steps - 1])[0] * 50 / 49,  # all but the first
        )

    for found in everything(factors.astype("f")):
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("every", [None, 2])
def test_batches_by_vmap(every, x64):
    body, state, xs = network(cells.gru.cell, 3, 3, 12)
    many = np.stack([xs, xs[::-1]])

    def exponents(xs):
        return analysis.lyapunov(KEY, body, state, xs, discard=2, every=every)

    together = jax.jit(jax.vmap(exponents))(many)
    one_by_one = [*map(jax.jit(exponents), many)]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-9)  # float64 rounding


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"within 1 .. 4, the size m of the state; got k = 0"),
        ({"k": 5}, r"the size m of the state; got k = 5"),
        ({"discard": 6}, r"discard must be within 0 .. 5, to leave some of the T = 6 steps; got 6"),
        ({"discard": -1}, r"0 .. 5, .*; got -1"),
        ({"every": 0}, r"every must be a number of steps, 1 or more; got 0"),
    ],
)
def test_sizes_out_of_range_are_refused(arguments, message):
    body, state, xs = network(cells.gru.cell, 3, 4, 6)

    def traced(xs, **arguments):
        jax.eval_shape(lambda xs: analysis.lyapunov(KEY, body, state, xs, **arguments), xs)

    with pytest.raises(ValueError, match=message):
        traced(xs, **arguments)
    with pytest.raises(ValueError, match=r"take inputs with d = 3, got d = 2"):
        traced(jax.ShapeDtypeStruct((6, 2), xs.dtype))
