"""What stands at the edge of what functions take: nothing, no inputs, lists, NumPy, NaN."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import normal

from recur import Prior, analysis, cells, scan, train

VANILLA, GRU = cells.vanilla, cells.gru
N = 3


def vanilla(d):
    return VANILLA.Params(normal(N, N), normal(d, N), normal(N, seed=1))


def test_no_points_and_no_inputs_are_fine_and_a_single_number_is_told():
    """Of no start there is no fixed point; what is found of one has the same program."""
    body, x = scan.tied(VANILLA.cell, vanilla(1)), np.zeros(1, np.float32)
    none = jnp.zeros((0, N))
    about = jax.eval_shape(partial(analysis.stability, body), none, x)
    assert (about.eigenvalues.shape, about.stable.shape) == ((0, N), (0,))
    points = jax.eval_shape(partial(analysis.fixed_points, body), none, x)
    assert (points.states.shape, points.speed.shape) == ((0, N), (0,))
    empty = analysis.Points(np.zeros((0, N)), np.zeros(0))
    with pytest.warns(UserWarning, match="no point .*: 0 points"):
        assert analysis.distinct(empty).states.shape == (0, N)
    for function in (analysis.fixed_points, analysis.stability):
        with pytest.raises(ValueError, match=r"array \(\.\.\., d\), of d features; .* single num"):
            function(body, jnp.zeros((2, N)), 0.0)


def test_a_body_may_take_a_single_number():
    """h <- x h has its fixed point at 0, and there the eigenvalue x."""

    def body(h, x):
        return x * h, x * h

    about = jax.jit(lambda x: analysis.stability(body, jnp.zeros((1, 1)), x))(0.5)
    np.testing.assert_allclose(about.eigenvalues, [[0.5]])


@pytest.mark.parametrize("module", [cells.mingru, cells.minlstm])
def test_parallel_refuses_what_run_refuses(module):
    gates, other = len(module.GATES), {cells.mingru: cells.minlstm, cells.minlstm: cells.mingru}
    params = module.Params(normal(2, gates * N), normal(gates * N))
    xs = normal(4, 5, 2)
    for wrong, message in [
        (xs[:0], r"T >= 1 steps.*d = 2, .* got float32 \(0, 5, 2\)"),
        (xs[..., :1], r"got float32 \(4, 5, 1\)"),
        (xs[0, 0], r"got float32 \(2,\)"),
        (xs.astype(int), "inputs are floating point.*got int32"),
    ]:
        with pytest.raises(ValueError, match=message):
            module.parallel(params, wrong)
    theirs = other[module].Params(*params)
    with pytest.raises(ValueError, match="which another cell takes; this one takes min"):
        module.parallel(theirs, xs)
    with pytest.raises(ValueError, match=r"state has shape \(4, 3\); .* it is \(5, 3\)"):
        module.parallel(params, xs, np.zeros((4, N), np.float32))
    assert jax.eval_shape(module.parallel, params, xs)[1].shape == (4, 5, N)


@pytest.mark.slow
def test_a_network_without_inputs_is_one_whose_inputs_are_zero():
    """d = 0, by passes and analyses; of its inputs there are no derivatives to ask for."""

    def numbers(params, xs):
        params = VANILLA.Params(*params)
        body, state = scan.tied(VANILLA.cell, params), jnp.full(N, 0.3)
        loss = jax.grad(lambda p: (scan.run(VANILLA.cell, p, xs, state)[1] ** 2).sum())
        return (
            loss(params)._replace(V=0.0),
            analysis.lyapunov(jax.random.key(0), body, state, xs[:9]),
            analysis.stability(body, state[None], xs[0]),
        )

    one, none = vanilla(1), vanilla(0)
    assert jax.eval_shape(lambda: GRU.cell.init(jax.random.key(0), Prior(), 0, N)).V.shape == (
        0,
        3 * N,
    )
    ours = jax.jit(numbers)(none, np.zeros((40, 0), np.float32))
    expected = jax.jit(numbers)(one._replace(V=one.V * 0), np.ones((40, 1), np.float32))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), ours, expected)
    body, xs = scan.tied(VANILLA.cell, none), jnp.zeros((4, 0))
    for function, lag in ((analysis.input_output, [1]), (analysis.input_directions, 1)):
        with pytest.raises(ValueError, match=r"\(4, 0\) has d = 0, so no output"):
            function(body, jnp.zeros(N), xs, lag)
    with pytest.raises(ValueError, match="d >= 0 inputs and n >= 1 units, got d=-1, n=3"):
        VANILLA.init(jax.random.key(0), Prior(), -1, N)


def test_numpy_goes_where_arrays_go_and_lists_are_told():
    """A list of lists is a tree of numbers to JAX."""
    params, state, xs = vanilla(2), np.zeros(N, np.float32), normal(6, 2)
    body, key = scan.tied(VANILLA.cell, params), jax.random.key(0)
    for function in (
        lambda xs: scan.run(VANILLA.cell, params, xs, state)[1],
        lambda xs: scan.states(VANILLA.cell, params, xs),
        lambda xs: analysis.input_output(body, state, xs, [0, 1]),
        lambda xs: analysis.log_singular_values(body, state, xs),
        lambda xs: analysis.lyapunov(key, body, state, xs, k=1),
    ):
        traced = jax.eval_shape(function, xs)
        assert jax.eval_shape(lambda f=function: f(xs)) == traced  # not even traced
        with pytest.raises(ValueError, match=r"it holds Python numbers.*pass jnp\.asarray\(xs\)"):
            function(xs.tolist())


def test_training_starts_where_nan_is_not_allowed():
    """Nothing of a state is NaN before a divergence, or jax.debug_nans would stop there."""
    optimizer = optax.sgd(0.1)

    def loss(params, batch):
        return jnp.sum((params - batch) ** 2)

    def sample(key):
        return jnp.ones(())

    with jax.debug_nans(True):
        state = train.start(jax.random.key(0), jnp.zeros(()), optimizer)
        advance = jax.jit(lambda s: train.advance(loss, optimizer, sample, s, 2))
        state, losses = advance(state)
    assert (int(state.diverged), float(state.value)) == (-1, 0.0)
    np.testing.assert_allclose(losses, [1.0, 0.64], rtol=1e-6)  # each step takes a fifth off


def test_a_batch_axis_that_an_array_lacks_is_told():
    step = train.value_and_grad(lambda p, batch: p * batch[0].mean(), (0, 1))
    with pytest.raises(ValueError, match=r"axis 1 of an array \(4,\) counts examples"):
        step(1.0, (jnp.ones(4), jnp.ones(4)))
    with pytest.raises(ValueError, match=r"axis 1 of an array \(\) counts examples"):
        train.value_and_grad(lambda p, batch: p * batch)(1.0, jnp.ones(()))
