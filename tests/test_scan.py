"""`run` at its door: what it refuses and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recur import Prior, cells, scan
from recur.compose import Bidirectional, Residual, Stacked

KEY = jax.random.key(0)
LSTM = cells.lstm.cell
PARAMS = LSTM.init(KEY, Prior(), 5, 7)


@pytest.mark.parametrize(
    ("xs", "state", "message"),
    [
        (jnp.ones((4, 6)), None, r"take inputs with d = 5, got d = 6"),
        (jnp.ones((4, 2, 6)), None, r"take inputs with d = 5, got d = 6"),
        (jnp.ones((4, 5), int), None, r"int32.*embed symbols first"),
        (jnp.ones((0, 5)), None, r"T = 0"),
        (jnp.ones(5), None, r"inputs are \(T, ..., d\), time first"),
        ((), None, r"no array"),
        ((jnp.ones((3, 5)), jnp.ones((4, 5))), None, r"share their first axis.*\(3, 5\), \(4, 5\)"),
        (jnp.ones((4, 5)), jnp.zeros(7), r"cell.start gives a state State\(h=float32\[7\], c="),
        (jnp.ones((4, 3, 5)), LSTM.start(PARAMS, (2,)), r"start gives a state .*float32\[3,7\]"),
        (jnp.ones((4, 3, 5)), LSTM.start(PARAMS), r"goes in and .*float32\[3,7\].*comes out"),
        (jnp.ones((4, 5), jnp.float16), None, r"does not take .* an input float16\[5\]"),
    ],
)
def test_bad_input_is_refused_when_traced(xs, state, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda xs: scan.run(LSTM, PARAMS, xs, state), xs)


def test_nonfinite_inputs_are_found_and_located():
    xs = jnp.ones((6, 2, 5)).at[3, 1, 4].set(jnp.nan).at[5].set(jnp.inf)
    assert jax.jit(scan.first_nonfinite)(xs) == 3
    assert scan.first_nonfinite(jnp.ones((6, 2))) == -1
    with pytest.raises(ValueError, match=r"xs is first not finite at step 3 of 6: entry \(1, 4\)"):
        scan.check_finite(xs)
    scan.check_finite(jnp.ones((6, 2)))


def test_untied_draws_at_every_step():
    """Fresh weights: the step at t is the cell's own with the parameters of key t."""
    cell, d, n = cells.gru.cell, 3, 4
    keys, xs = jax.random.split(KEY, 5), jax.random.normal(KEY, (5, d))
    prior = Prior(1.5, 1.0, 0.3, 0.2)
    body = scan.untied(cell, prior, d, n)
    state = start = jnp.zeros(n)
    _, hs = jax.lax.scan(body, start, (keys, xs))
    for t in range(5):
        state, h = cell.step(cell.init(keys[t], prior, d, n), state, xs[t])
        np.testing.assert_allclose(hs[t], h, atol=1e-6)  # float32


@pytest.mark.parametrize(
    "cut", [2, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 3, 5, 9))]
)
def test_truncated_gradients_against_stop_gradient_by_hand(cut, x64):
    """Values are those of run; gradients those of a loop that stops them before steps k, 2k, ..."""
    cell, steps = Stacked(cells.gru.cell, cells.gru.reset_before), 5
    params = cell.init(KEY, Prior(), 3, 4)
    xs = jax.random.normal(KEY, (steps, 2, 3))
    mask = jnp.ones((steps, 2), bool).at[2, 0].set(False)
    start = jax.tree.map(lambda s: s + 0.1, cell.start(params, (2,)))

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

    (value, gradient), (expected, by_loop) = (
        jax.jit(jax.value_and_grad(f, (0, 1, 2)))(params, start, xs) for f in (ours, by_hand)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-12)  # float64 rounding
    np.testing.assert_allclose(value, loss(*scan.run(cell, params, xs, start, mask=mask)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), gradient, by_loop)
    point = (params, start, xs)
    tangent = jax.jit(lambda p: jax.jvp(ours, p, p)[1])(point)  # forward mode stops too
    both = zip(jax.tree.leaves(gradient), jax.tree.leaves(point), strict=True)
    np.testing.assert_allclose(tangent, sum(jnp.vdot(a, b) for a, b in both), rtol=1e-10)


@pytest.mark.parametrize(
    ("cell", "cut", "message"),
    [
        (LSTM, 0, r"truncate is a number of steps, 1 or more; got 0"),
        (Stacked(Bidirectional(LSTM), LSTM), 2, r"Bidirectional layer needs the whole sequence"),
        (Residual(Bidirectional(LSTM)), 2, r"Bidirectional layer needs the whole sequence"),
    ],
)
def test_what_cannot_be_truncated(cell, cut, message):
    params = cell.init(KEY, Prior(), 14, 7)
    with pytest.raises(ValueError, match=message):
        scan.truncated(cell, params, jnp.ones((4, 14)), truncate=cut)
