"""Fixed points that are known in closed form, and eigenvalues against NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from conftest import draw, normal, some_slow

from recur import Prior, analysis, cells, scan

points_of = jax.jit(analysis.fixed_points, static_argnums=(0, 3, 4))
stability = jax.jit(analysis.stability, static_argnums=0)


def vanilla(W, b=0.0, phi=jnp.tanh):
    n = len(W)
    params = W, np.zeros((1, n)), np.full(n, b)
    params = cells.vanilla.Params(*(jnp.asarray(p, float) for p in params))
    return scan.tied(cells.vanilla.elman(phi), params)


def well():
    """The positive solution of a = tanh(2 a), by iteration: a turn leaves a sixth of the error."""
    a = 1.0
    for _ in range(40):
        a = np.tanh(2 * a)
    return a


def test_two_wells_and_a_saddle_between_them(x64):
    """h = tanh(2 h) in each of two units: {-a, 0, a}^2, a = tanh(2a); nine points, four stable."""
    a = well()
    body = vanilla(2 * np.eye(2))
    starts = np.random.default_rng(0).uniform(-1.2, 1.2, (300, 2))
    x = np.zeros(1)
    found = analysis.distinct(jax.device_get(points_of(body, starts, x)))
    expected = [(i * a, j * a) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    ours = sorted(map(tuple, np.round(found.states, 9)))
    np.testing.assert_allclose(ours, sorted(expected), atol=1e-8)
    assert found.speed.max() < 1e-25

    about = jax.device_get(stability(body, found.states, x))
    slope = 2 * (1 - np.asarray(found.states) ** 2)  # of each unit
    slope = -np.sort(-np.abs(slope), axis=1)
    np.testing.assert_allclose(about.eigenvalues, slope, atol=1e-7)
    np.testing.assert_array_equal(about.stable, (slope < 1).all(axis=1))
    assert about.stable.sum() == 4
    np.testing.assert_allclose(about.timescales, 1 / np.abs(np.log(slope)), rtol=1e-6)


def test_the_fixed_point_of_a_linear_network(x64):
    n = 7
    W = np.random.default_rng(0).normal(size=(n, n)) / np.sqrt(n)
    body = vanilla(W, 0.7, cells.vanilla.identity)
    x = np.zeros(1)
    found = analysis.distinct(jax.device_get(points_of(body, 3 * np.asarray(normal(5, n)), x)))
    np.testing.assert_allclose(found.states, [np.linalg.solve(np.eye(n) - W.T, np.full(n, 0.7))])
    eigenvalues = np.linalg.eigvals(W)
    about = jax.device_get(stability(body, found.states, x))
    np.testing.assert_allclose(
        np.sort_complex(about.eigenvalues[0]), np.sort_complex(eigenvalues), atol=1e-12
    )
    assert np.all(np.diff(np.abs(about.eigenvalues[0])) <= 1e-12)


@pytest.mark.parametrize("which", ["lstm", *some_slow({"gru"}, "")])
def test_points_of_gated_cells_stand_still(which, x64):
    """Whatever was found, the cell itself stays there for 100 steps."""
    cell, rng = cells.named(which), np.random.default_rng(0)
    params = draw(cell, 2, 6, Prior(0.8, 1.0, 0.2, 0.3), seed=3)
    body, x = scan.tied(cell, params), np.array([0.3, -0.4])
    starts = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape),
        jax.eval_shape(lambda params: cell.start(params, (10,)), params),
    )
    found = analysis.distinct(jax.device_get(points_of(body, starts, x)))
    assert jax.tree.structure(found.states) == jax.tree.structure(starts)
    first = jax.tree.map(lambda leaf: leaf[:1], found.states)

    @jax.jit
    def there(first):
        point = jax.tree.map(lambda leaf: leaf[0], first)
        return (
            analysis.stability(body, first, x).stable[0],
            body(point, x)[0],
            scan.run(cell, params, jnp.tile(x, (100, 1)), point)[1],
        )

    stable, after, hs = jax.device_get(there(first))
    if stable:
        np.testing.assert_allclose(hs[-1], hs[0], atol=1e-9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], atol=1e-12), after, first)


def test_slow_points_are_reported_with_their_speed():
    """h + h^2 + c with c > 0 has no fixed point, and its slowest point is h = 0: q = c^2/2."""
    c = 1e-2

    def body(h, x):
        h = h + h**2 + x
        return h, h

    starts = np.linspace(-0.5, 0.3, 8, dtype="f")[:, None]
    points = jax.device_get(points_of(body, starts, np.full(1, c, "f"), 4000, 0))
    best = points.speed.argmin()
    np.testing.assert_allclose(points.speed[best], c**2 / 2, rtol=1e-2)  # approached, not reached
    with pytest.warns(
        UserWarning, match=r"no point with q <= 1e-10: 8 starts: 8 moving.*0\.01"
    ) as said:
        assert analysis.distinct(points).speed.size == 0
    assert said[0].filename == __file__  # the line that called, and not the check above it
    assert analysis.distinct(points, speed=1e-3).speed.size >= 1


def test_slow_fixed_and_lost_are_told_apart(x64):
    """h + h^2 + c: a slow point at 0 for c > 0, fixed points at +-sqrt(-c) for c < 0.

    At 0 Newton's step is c / 0; where it first stops to help, |h| is below 1e-2."""

    def body(h, x):
        h = h + h**2 + x
        return h, h

    starts, c = np.append(np.linspace(-0.3, 0.2, 5), np.nan)[:, None], 1e-4
    slow, fixed = jax.device_get([points_of(body, starts, np.full(1, x)) for x in (c, -c)])
    assert [analysis.OUTCOMES[k] for k in slow.outcome] == ["slow"] * 5 + ["lost"]
    np.testing.assert_allclose(np.sqrt(2 * slow.speed[:5]), c, rtol=1e-2)
    assert not slow.fixed.any()
    assert (slow.distance[:5] > 10 * np.abs(slow.states[:5, 0])).all()
    assert [analysis.OUTCOMES[k] for k in fixed.outcome] == ["fixed"] * 5 + ["lost"]
    np.testing.assert_array_equal(fixed.fixed, [True] * 5 + [False])
    np.testing.assert_allclose(np.abs(fixed.states[:5]), np.sqrt(c), rtol=1e-9)
    assert fixed.distance[:5].max() < 1e-12  # a residual of 1e-16 over a slope of 2e-2
    with pytest.warns(UserWarning, match=r"no point.*5 slow, .* from 0\.0001 to 0\.0001.*; 1 lost"):
        none = analysis.distinct(slow)
    assert none.outcome.size == 0
    with pytest.warns(UserWarning, match="0 starts: nothing to search from"):
        assert analysis.distinct(none).states.shape == (0, 1)
    kept = analysis.distinct(fixed)
    np.testing.assert_allclose(np.sort(kept.states[:, 0]), [-np.sqrt(c), np.sqrt(c)])
    assert kept.fixed.all()


def test_starts_run_forward_to_what_attracts_them(x64):
    """h = tanh(2 h): near 0, which repels, the network itself goes to a."""
    a = well()
    body, starts, x = vanilla(2 * np.eye(1)), np.array([[0.01], [-0.01]]), np.zeros(1)

    @jax.jit
    def search(starts, x):
        run = analysis.fixed_points(body, starts, x, descent=0, newton=3, forward=9)
        return run, analysis.fixed_points(body, starts, x, descent=0, newton=0)

    run, only = jax.device_get(search(starts, x))
    np.testing.assert_allclose(run.states, [[a], [-a]], atol=1e-12)
    np.testing.assert_array_equal(only.states, starts)  # nothing else was asked for
    assert np.isnan(only.distance).all()
    assert [analysis.OUTCOMES[k] for k in only.outcome] == ["moving"] * 2


def test_a_line_of_fixed_points_is_slow_unless_it_is_exact(x64):
    """Eigenvalues (1, 1/2): on the line F(s) = s exactly; beside it, Newton has no step to take.

    With (1 - 1e-6, 1/2) there is one fixed point, at 0, and Newton finds it from afar."""

    def body(s, x):
        s = jnp.array([1 - x[0], 0.5]) * s
        return s, s

    starts = np.array([[0.3, 0.0], [0.3, 0.1]])
    line = jax.device_get(points_of(body, starts, np.zeros(1)))
    point = jax.device_get(points_of(body, starts, np.full(1, 1e-6)))
    assert [analysis.OUTCOMES[k] for k in line.outcome] == ["fixed", "slow"]
    np.testing.assert_array_equal(line.states[:, 0], [0.3, 0.3])
    assert point.fixed.all()
    np.testing.assert_allclose(point.states, 0, atol=1e-9)


def test_modes_take_the_jacobian_apart(x64):
    """J = R diag(e) L of known eigenvalues: one grows, two are a pair; slowest first.

    L is only known up to scale, R up to phase, so both are checked by what they do."""
    blocks = np.diag([1.3, 0.99, 0, 0, 0.2])
    blocks[2:4, 2:4] = [[0.6, -0.5], [0.5, 0.6]]
    basis = np.random.default_rng(0).normal(size=(5, 5))
    J = basis @ blocks @ np.linalg.inv(basis)
    body, zero, x = vanilla(J.T, 0.0, cells.vanilla.identity), np.zeros((1, 5)), np.zeros(1)

    def scaled(size):
        body = vanilla(size * J.T, 0.0, cells.vanilla.identity)
        return jnp.abs(analysis.stability(body, zero, x).eigenvalues[0])

    @jax.jit
    def everything():
        about = analysis.stability(body, zero, x, dt=0.02)
        one = jnp.ones(())
        return analysis.modes(body, zero, x, dt=0.02), about, jax.jvp(scaled, (one,), (one,))

    about, plain, (moduli, slopes) = jax.device_get(everything())
    (e,), (right,), (left,) = about.eigenvalues, about.right, about.left
    expected = np.array([0.99, 0.6 + 0.5j, 0.6 - 0.5j, 1.3, 0.2])
    np.testing.assert_allclose(np.abs(e), np.abs(expected), rtol=1e-12)  # 100, 4, 4, 3.8, 0.6 steps
    np.testing.assert_allclose(e[[0, 3, 4]], expected[[0, 3, 4]], atol=1e-12)
    times = 0.02 / np.abs(np.log(np.abs(expected)))
    np.testing.assert_allclose(about.timescales[0], times, rtol=1e-9)
    np.testing.assert_allclose(np.sort(plain.timescales[0]), np.sort(times), rtol=1e-9)
    assert not about.stable[0]
    for e_i, r, w in zip(e, right, left, strict=True):
        np.testing.assert_allclose(J @ r, e_i * r, atol=1e-12)
        np.testing.assert_allclose(w @ J, e_i * w, atol=1e-11)  # left vectors are longer than 1
    np.testing.assert_allclose(left @ right.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(right, axis=1), 1)
    largest = right[np.arange(5), np.abs(right).argmax(axis=1)]
    assert (largest.real > 0).all()
    np.testing.assert_allclose(largest.imag, 0, atol=1e-15)
    np.testing.assert_allclose(slopes, moduli, rtol=1e-9)  # an eigenvalue grows as its matrix does


def test_modes_that_coincide_have_no_left_vector(x64):
    """[[1/2, 1], [0, 1/2]] has one mode; 1/2 apart in the third it has its own."""
    J = np.array([[0.5, 1, 0], [0, 0.5, 0], [0, 0, 0.9]])
    body = vanilla(J.T, 0.0, cells.vanilla.identity)
    about = jax.device_get(jax.jit(partial(analysis.modes, body))(np.zeros((1, 3)), np.zeros(1)))
    np.testing.assert_allclose(about.left[0, 0], [0, 0, 1])
    assert np.isnan(about.left[0, 1:]).all()
    np.testing.assert_allclose(np.abs(about.right[0, 1:]), [[1, 0, 0]] * 2, atol=1e-15)


def test_nan_is_no_fixed_point():
    found = analysis.distinct(
        analysis.Points(np.array([[1.0], [2.0], [1.0001]]), np.array([np.nan, 0.0, 1e-12])),
    )
    np.testing.assert_allclose(found.states, [[2.0], [1.0001]])


def test_bad_starts_are_refused():
    body = vanilla(np.eye(2))

    def array(*shape):
        return jax.ShapeDtypeStruct(shape, np.float32)

    for function, states, x, message in (
        (points_of, array(), array(1), r"B starts on its first axis.*\[\(\)\]"),
        (stability, (array(3, 2), array(4, 2)), array(1), r"\[\(3, 2\), \(4, 2\)\]"),
        (points_of, array(4, 2), array(3), r"take inputs with d = 1, got d = 3"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(partial(function, body), states, x)
    for numbers in ({"descent": 2.0}, {"newton": "3"}, {"newton": True}):
        with pytest.raises(TypeError, match="must be an integer; got"):
            analysis.fixed_points(body, np.zeros((1, 2)), np.zeros(1), **numbers)
    for numbers in ({"descent": -1}, {"forward": -1}, {"rate": 0.0}, {"rate": np.nan}):
        with pytest.raises(
            ValueError, match="numbers of steps, 0 or more, and rate must be above 0"
        ):
            analysis.fixed_points(body, np.zeros((1, 2)), np.zeros(1), **numbers)
    for dt in (0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="dt must be the length of a step"):
            analysis.stability(body, np.zeros((1, 2)), np.zeros(1), dt)
    with pytest.raises(ValueError, match=r"no distance: use points from analysis\.fixed_points"):
        _ = analysis.Points(np.zeros((1, 2)), np.zeros(1)).fixed


# --- derivatives, and inputs of their own ---------------------------------------------------------


def wells(W, b):
    """h = tanh(W h + b + x): with closed-over parameters, as a function of a user has."""

    def body(h, x):
        h = jnp.tanh(W @ h + b + x)
        return h, h

    return body


def by_newton(W, b, x, h):
    """The same fixed point by Newton's method in NumPy."""
    for _ in range(50):
        F = np.tanh(W @ h + b + x)
        J = (1 - F**2)[:, None] * W
        h = h + np.linalg.solve(np.eye(len(h)) - J, F - h)
    return h


def test_a_fixed_point_moves_as_the_implicit_function_theorem_says(x64):
    """First and second derivatives by weights and input, against finite differences of Newton's."""
    rng = np.random.default_rng(1)
    W, b, x = 2.5 * np.eye(3) + 0.2 * rng.normal(size=(3, 3)), 0.1 * rng.normal(size=3), np.zeros(3)
    starts, c = np.array([[0.9, 0.9, 0.9], [-0.9, 0.9, -0.9]]), rng.normal(size=(2, 3))
    dW, dx = rng.normal(size=(3, 3)), rng.normal(size=3)

    @jax.jit
    def measure(W, x):
        def value(t):
            body = wells(W + t * dW, b)
            return jnp.sum(c * analysis.fixed_points(body, starts, x + t * dx, 0, 9).states)

        return value(0.0), jax.grad(value)(0.0), jax.jvp(jax.grad(value), (0.0,), (1.0,))[1]

    def exact(t):
        return sum(c[i] @ by_newton(W + t * dW, b, x + t * dx, starts[i]) for i in range(2))

    h = 1e-3  # fourth-order differences: h^4, and eps / h^2 of rounding
    steps = [exact(k * h) for k in (-2, -1, 0, 1, 2)]
    first = np.dot([1, -8, 0, 8, -1], steps) / (12 * h)
    second = np.dot([-1, 16, -30, 16, -1], steps) / (12 * h**2)
    found = jax.device_get(measure(W, x))
    np.testing.assert_allclose(found[0], steps[2], rtol=1e-12)
    np.testing.assert_allclose(found[1], first, rtol=1e-8)
    np.testing.assert_allclose(found[2], second, rtol=1e-6)


@pytest.mark.slow
def test_a_point_that_is_not_fixed_has_no_derivative_and_may_be_left_out(x64):
    """h + h^2 + x: fixed at -sqrt(-x), slope 1 / (2 sqrt(-x)); for x > 0 a slow point alone."""

    def body(h, x):
        h = h + h**2 + x
        return h, h

    starts, xs = np.full((2, 1), -0.2), np.array([[-1e-2], [1e-2]])

    @jax.jit
    def measure(xs):
        def points(xs):
            return analysis.fixed_points(body, starts, xs, x_per_state=True)

        def left_out(xs):
            found = points(xs)
            return jnp.where(found.fixed[:, None], found.states, 0).sum(), found

        slope, found = jax.grad(left_out, has_aux=True)(xs)
        every = jax.grad(lambda xs: points(xs).states.sum())(xs)
        speeds = jax.grad(lambda xs: points(xs).speed.sum())(xs)
        return found, slope, every, speeds, jax.jvp(points, (xs,), (xs,))[1].states

    found, slope, every, speeds, forward = jax.device_get(measure(xs))
    assert [analysis.OUTCOMES[k] for k in found.outcome] == ["fixed", "slow"]
    np.testing.assert_allclose(found.states[0], -0.1, rtol=1e-9)
    np.testing.assert_allclose(slope, [[5], [0]], rtol=1e-9)
    np.testing.assert_allclose(every, [[5], [np.nan]], rtol=1e-9)
    np.testing.assert_allclose(forward, [[-0.05], [np.nan]], rtol=1e-9)
    np.testing.assert_allclose(speeds, [[0], [1e-2]], atol=1e-5)  # q = x^2 / 2 at h = 0, nearly


def test_each_start_may_have_its_own_input(x64):
    """h = tanh(2 h + x) for three x; points alike under different inputs are different points."""
    body, a = vanilla(2 * np.eye(1)), 0.5
    params = body.params._replace(V=jnp.ones((1, 1)))
    body, xs = scan.tied(body.cell, params), np.array([[-0.1], [0.0], [0.0], [0.2]])
    starts = np.full((4, 1), 0.9)

    @jax.jit
    def measure(xs):
        points = analysis.fixed_points(body, starts, xs, x_per_state=True)
        about = analysis.modes(body, points.states, xs, x_per_state=True)
        plain = analysis.stability(body, points.states, xs, x_per_state=True)
        return points, about, plain

    points, about, plain = jax.device_get(measure(xs))
    expected = [
        scipy.optimize.brentq(lambda h, x=x: np.tanh(2 * h + x) - h, a, 1.1) for x in xs[:, 0]
    ]
    np.testing.assert_allclose(points.states[:, 0], expected, rtol=1e-12)
    slopes = 2 * (1 - np.square(expected))
    np.testing.assert_allclose(about.eigenvalues[:, 0].real, slopes, rtol=1e-10)
    np.testing.assert_allclose(plain.eigenvalues[:, 0].real, slopes, rtol=1e-10)
    np.testing.assert_array_equal(np.sort(analysis.distinct(points).inputs[:, 0]), [-0.1, 0, 0.2])
    same = points._replace(states=np.ones((4, 1)))
    assert len(analysis.distinct(same).speed) == 3
    assert len(analysis.distinct(same._replace(inputs=None)).speed) == 1
    with pytest.raises(ValueError, match=r"one input for each of the 4 states.*got float64\[3,1\]"):
        analysis.fixed_points(body, starts, xs[:3], x_per_state=True)


def test_a_network_without_inputs_takes_none(x64):
    def alone(h, x):
        assert x.shape == (0,)
        h = jnp.cos(h)
        return h, h

    points = jax.jit(lambda s: analysis.fixed_points(alone, s, None, 0, 9))(np.full((2, 1), 0.5))
    np.testing.assert_allclose(points.states, 0.7390851332151607, rtol=1e-14)
    about = jax.eval_shape(lambda: analysis.modes(alone, np.ones((2, 1)), None, x_per_state=True))
    assert about.eigenvalues.shape == (2, 1)
