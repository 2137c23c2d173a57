"""Dropout of inputs and weights, and parameters that obey a constraint."""

import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import normal

from recur import Unitwise, cells, compose, scan
from recur.compose import PerLayer, Stacked, constrained, input_dropout

KEY = jax.random.key(3)
T, B, D, N = 5, 2, 3, 4
CELLS = (cells.gru.cell, cells.gru.reset_before)
SIGNS = np.float32([1, -1, 1, 1])
CONNECTED = np.arange(12 * N).reshape(N, 3 * N) % 5 > 0


def dale(params):
    """Unit i excites all that hear it, or inhibits them."""
    return params._replace(W=SIGNS[:, None].astype(params.W.dtype) * jnp.abs(params.W))


def sparse(params):
    return params._replace(W=jnp.where(CONNECTED, params.W, 0))


def numbers(cell, d=D):
    shapes = (N, 3 * N), (d, 3 * N), (3 * N,)
    return cell.takes(*(normal(*shape, seed=i) for i, shape in enumerate(shapes)))


def test_dropped_inputs_are_inputs_times_keep():
    """A Unitwise cell, a Cell, and a stack of both, one above the other."""
    keep, between, xs = normal(T, B, D), normal(T, B, N), normal(T, B, D, seed=3)
    stack = Stacked(*map(input_dropout, CELLS))

    @jax.jit
    def both():
        ours, plain = [], []
        for cell in CELLS:
            ours.append(scan.run(input_dropout(cell), numbers(cell), (keep, xs))[1])
            plain.append(scan.run(cell, numbers(cell), keep * xs)[1])
        lower, upper = numbers(CELLS[0]), numbers(CELLS[1], N)
        ours.append(scan.run(stack, (lower, upper), PerLayer((keep, between), xs))[1])
        plain.append(scan.run(CELLS[1], upper, between * plain[0])[1])
        return ours, plain

    for ours, plain in zip(*both(), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-6, atol=1e-7)
    assert isinstance(input_dropout(CELLS[0]), Unitwise)


def test_a_keep_of_another_shape_is_refused():
    for cell in CELLS:
        params = numbers(cell)
        with pytest.raises(ValueError, match=r"keep has shape \(1,\) .* it multiplies \(3,\)"):
            input_dropout(cell).step(params, cell.start(params), (jnp.ones(1), jnp.ones(D)))


def test_the_law_of_what_is_dropped():
    """The share of zeros within five standard errors, and the mean of what is left."""
    rate, steps = 0.3, 400

    @jax.jit
    def draw():
        keep = compose.step_keep(KEY, rate, steps, jnp.zeros(50))
        W = compose.weight_drop(KEY, rate, {"W": jnp.full((steps, 50), 2.0)})["W"]
        return keep, W / 2

    for kept in map(np.asarray, draw()):
        assert kept.shape == (steps, 50)
        error = np.sqrt(rate * (1 - rate) / kept.size)
        assert abs((kept == 0).mean() - rate) < 5 * error
        np.testing.assert_allclose(kept[kept != 0], 1 / (1 - rate), rtol=1e-6)
    assert not (draw()[0][0] == draw()[0][1]).all()  # a mask of its own for each step


@pytest.mark.parametrize("rate", [-0.1, 1.0, np.nan])
def test_a_rate_that_is_none_is_refused_or_nan(rate):
    for function in (partial(compose.step_keep, steps=2), compose.weight_drop):
        with pytest.raises(ValueError, match=r"0 <= rate < 1; got"):
            function(KEY, rate, **{"x" if "keep" in str(function) else "weights": jnp.ones(3)})
    assert np.isnan(jax.jit(lambda r: compose.weight_drop(KEY, r, jnp.ones(3)))(rate)).all()


def test_weights_that_are_integers_are_refused():
    """1 - rate would be 0 in them, and what is kept infinite."""
    for weights in (np.ones(3, int), {"W": np.ones(3, np.float32), "n": np.ones(2, int)}):
        with pytest.raises(TypeError, match=r"weights are floating-point arrays; got .*int"):
            compose.weight_drop(KEY, 0.5, weights)


def test_masks_of_bfloat16_are_of_that_dtype():
    h = jnp.ones(4, jnp.bfloat16)
    for keep in (compose.step_keep(KEY, 0.5, 2, h), compose.sequence_keep(KEY, 0.5, 2, h)):
        assert keep.dtype == jnp.bfloat16
        assert set(np.asarray(keep, float).ravel()) <= {0.0, 2.0}


def test_a_constraint_is_applied_before_every_use(x64):
    """Outputs and gradients are those of the plain cell at constraint(params)."""
    xs = np.asarray(normal(T, B, D), float)

    def loss(run, params):
        return jnp.sum(jnp.sin(run(params)[1]))

    @jax.jit
    def both(params):
        pairs = []
        for cell in CELLS:
            for constraint in (dale, sparse):
                own = cell.takes(*params)
                ours = partial(scan.run, constrained(cell, constraint), xs=xs)
                plain = lambda p, cell=cell, f=constraint: scan.run(cell, f(p), xs)  # noqa: E731
                pairs.append([jax.value_and_grad(partial(loss, run))(own) for run in (ours, plain)])
        return pairs

    params = [np.asarray(a, float) for a in numbers(CELLS[0])]
    for ours, plain in both(params):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), ours, plain)
    masked_gradient = both(params)[1][0][1].W
    assert (masked_gradient[~CONNECTED] == 0).all()
    assert (masked_gradient[CONNECTED] != 0).all()


def test_a_constrained_cell_is_a_constant():
    cell = constrained(CELLS[0], dale)
    assert cell == constrained(CELLS[0], dale) != constrained(CELLS[0], sparse)
    assert pickle.loads(pickle.dumps(cell)) == cell
    assert compose.forget_bias(cell).gates.keeps == "update"
    assert "gru.cell" in repr(constrained(CELLS[1], dale)) or "dale" in repr(cell)
