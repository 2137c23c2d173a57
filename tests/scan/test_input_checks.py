"""`run` at its door: what it refuses and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recur import Cell, Prior, analysis, cells, scan
from recur.compose import Bidirectional, Residual, Stacked

pytestmark = pytest.mark.quick

KEY = jax.random.key(0)
XS = jnp.zeros((5, 2))
LSTM = cells.lstm.cell
PARAMS = cells.lstm.Params(
    *(np.ones(shape, np.float32) for shape in ((7, 28), (5, 28), (28,)))
)  # d = 5, n = 7


@pytest.mark.parametrize(
    ("xs", "state", "message"),
    [
        (jnp.ones((4, 6)), None, r"take inputs with d = 5, got d = 6"),
        (jnp.ones((4, 2, 6)), None, r"take inputs with d = 5, got d = 6"),
        (jnp.ones((4, 5), int), None, r"int32.*embed symbols first"),
        (jnp.ones((0, 5)), None, r"T = 0"),
        (jnp.ones(5), None, r"must be inputs \(T, ..., d\), with time first"),
        ((), None, r"must hold an array"),
        ((jnp.ones((3, 5)), jnp.ones((4, 5))), None, r"share their first axis.*\(3, 5\), \(4, 5\)"),
        (jnp.ones((4, 5)), jnp.zeros(7), r"cell.start gives a state State\(h=float32\[7\], c="),
        (jnp.ones((4, 3, 5)), LSTM.start(PARAMS, (2,)), r"start gives a state .*float32\[3,7\]"),
        (jnp.ones((4, 3, 5)), LSTM.start(PARAMS), r"goes in and .*float32\[3,7\].*comes out"),
        (jnp.ones((4, 5), jnp.float16), None, r"does not accept .* an input float16\[5\]"),
    ],
)
def test_bad_input_is_refused_when_traced(xs, state, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda xs: scan.run(LSTM, PARAMS, xs, state), xs)


def test_nonfinite_inputs_are_found_and_located():
    xs, ones = np.ones((6, 2, 5), np.float32), np.ones((6, 2), np.float32)
    xs[3, 1, 4], xs[5] = np.nan, np.inf
    assert jax.jit(scan.first_nonfinite)(xs) == 3
    assert jax.jit(scan.first_nonfinite)(ones) == -1
    with pytest.raises(ValueError, match=r"xs must be finite. At step 3 of 6, entry \(1, 4\)"):
        scan.check_finite(xs)
    scan.check_finite(ones)


def test_untied_draws_at_every_step():
    """Fresh weights: the step at t is the cell's own with the parameters of key t."""
    cell, d, n = cells.gru.cell, 3, 4
    xs, prior = (
        np.random.default_rng(1).normal(size=(5, d)).astype(np.float32),
        Prior(1.5, 1, 0.3, 0.2),
    )

    @jax.jit
    def by_scan_and_by_hand(xs):
        keys, state = jax.random.split(KEY, 5), jnp.zeros(n)
        _, hs = jax.lax.scan(scan.untied(cell, prior, d, n), state, (keys, xs))

        def by_hand(state, t):
            return cell.step(cell.init(keys[t], prior, d, n), state, xs[t])

        return hs, jax.lax.scan(by_hand, state, np.arange(5))[1]

    hs, expected = by_scan_and_by_hand(xs)
    np.testing.assert_allclose(hs, expected, atol=1e-6)  # float32


def test_the_last_piece_of_a_truncated_pass_is_open_where_it_is_a_whole_one():
    params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))  # h = relu(h + x)

    def last(xs):
        return scan.truncated(cells.vanilla.relu, params, xs, truncate=2)[0][0]

    np.testing.assert_array_equal(jax.grad(last)(jnp.ones((4, 1)))[:, 0], [0, 0, 1, 1])


@pytest.mark.parametrize(
    "cut", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 3, 5, 9))]
)
def test_truncated_gradients_against_stop_gradient_by_hand(cut, x64):
    """Values are those of run; gradients those of a loop that stops them before steps k, 2k, ..."""
    cell, steps = Stacked(cells.gru.cell, cells.gru.reset_before), 5
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: cell.init(KEY, Prior(), 3, 4))
    params = jax.tree.map(lambda a: rng.normal(size=a.shape) / 2, shapes)
    xs, start = rng.normal(size=(steps, 2, 3)), (rng.normal(size=(2, 4)), rng.normal(size=(2, 4)))
    mask = np.ones((steps, 2), bool)
    mask[2, 0] = False

    def loss(state, hs):
        return jnp.sum(jnp.cos(hs)) + sum(jnp.sum(s**3) for s in state)

    def ours(params, start, xs):
        return loss(*scan.truncated(cell, params, xs, start, truncate=cut, mask=mask))

    def by_hand(params, start, xs):
        state, hs = start, []
        for t in range(steps):
            if t % cut == 0 and t > 0:
                state = jax.lax.stop_gradient(state)
            after, h = cell.step(params, state, xs[t])
            keep = mask[t][:, None]
            state = jax.tree.map(lambda a, b: jnp.where(keep, a, b), after, state)  # noqa: B023
            hs.append(jnp.where(keep, h, 0))
        return loss(state, jnp.stack(hs))

    @jax.jit
    def all_of(*point):
        graded = [jax.value_and_grad(f, (0, 1, 2))(*point) for f in (ours, by_hand)]
        tangent = jax.jvp(ours, point, point)[1]  # forward mode stops too
        return *graded, tangent, loss(*scan.run(cell, params, xs, start, mask=mask))

    point = (params, start, xs)
    (value, gradient), (expected, by_loop), tangent, whole = jax.device_get(all_of(*point))
    np.testing.assert_allclose(value, expected, rtol=1e-12)  # float64 rounding
    np.testing.assert_allclose(value, whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), gradient, by_loop)
    along = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, point)))
    np.testing.assert_allclose(tangent, along, rtol=1e-10)


@pytest.mark.parametrize(
    ("cell", "cut", "message"),
    [
        (LSTM, 0, r"truncate must be a number of steps, 1 or more; got 0"),
        (Stacked(Bidirectional(LSTM), LSTM), 2, r"Bidirectional layer needs the whole sequence"),
        (Residual(Bidirectional(LSTM)), 2, r"Bidirectional layer needs the whole sequence"),
    ],
)
def test_what_cannot_be_truncated(cell, cut, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            lambda xs: scan.truncated(cell, cell.init(KEY, Prior(), 14, 7), xs, truncate=cut),
            np.ones((4, 14), np.float32),
        )


def test_a_step_returns_two_things():
    with pytest.raises(ValueError, match=r"must return \(state, h\), .*; it returned float32\[3\]"):
        scan.check(lambda h, x: h, jnp.zeros(3), XS)
    with pytest.raises(ValueError, match=r"must return \(state, h\), .*; it returned State\(h="):
        scan.check(lambda state, x: state, LSTM.start(PARAMS), XS)
    scan.check(lambda h, x: [h, h], jnp.zeros(3), XS)
    with pytest.raises(ValueError, match="return h, h if the output is the state itself"):
        scan.run(Cell(LSTM.init, lambda params, batch=(): jnp.zeros(3), lambda p, h, x: h), (), XS)


def test_an_analysis_of_a_batch_is_sent_to_batched():
    """To a state with batch axes it would be one joint system, which nobody meant."""
    starts, xs = jnp.zeros(3), jnp.zeros((5, 4, 3))
    for body in (lambda h, x: (h + x, h), lambda h, x: (jnp.eye(3) @ h + jnp.eye(3) @ x, h)):
        with pytest.raises(ValueError, match=r"one trajectory, .* use analysis.batched"):
            analysis.log_singular_values(body, starts, xs)
