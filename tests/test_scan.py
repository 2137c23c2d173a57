"""`run` at its door: what it refuses and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recur import Prior, cells, scan

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
