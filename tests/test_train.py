"""Training as one scan: members that diverge or finish, thinned losses, terms of a loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from recur import Prior, Unitwise, analysis, cells, compose, hidden, scan, train

KEY = jax.random.key(0)
OPTIMIZER = optax.adam(0.1)
TARGET = jnp.array([1.0, -2.0, 3.0])


def loss(params, batch):
    return jnp.sum((params["w"] - TARGET) ** 2 * (1 + batch**2))


def sample(key):
    return jax.random.normal(key, (3,))


def start(key=KEY):
    return train.start(key, {"w": jnp.zeros(3)}, OPTIMIZER)


def advance(state, steps, loss=loss):
    return train.advance(loss, OPTIMIZER, sample, state, steps)


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_training_finds_the_minimum():
    state, losses = advance(start(), 300)
    np.testing.assert_allclose(state.params["w"], TARGET, atol=1e-2)  # Adam's steps have shrunk
    assert losses[-1] < 1e-2 * losses[0]
    assert (state.step, state.diverged) == (300, -1)


def test_one_step_is_the_optimizers_own():
    state, losses = advance(start(), 1)
    batch = sample(jax.random.fold_in(KEY, 0))
    value, gradient = jax.value_and_grad(loss)({"w": jnp.zeros(3)}, batch)
    np.testing.assert_allclose(losses[0], value, rtol=1e-6)
    # Adam's first step is the learning rate against the gradient's sign
    np.testing.assert_allclose(state.params["w"], -0.1 * jnp.sign(gradient["w"]), rtol=1e-4)


def test_pieces_equal_one_piece():
    whole, losses = advance(start(), 10)
    half, first = advance(start(), 4)
    rest, second = advance(half, 6)
    same(whole, rest)
    same(losses, jnp.concatenate([first, second]))


def test_a_divergence_is_recorded_and_stops_only_its_member():
    def explodes(params, batch):  # NaN once the first weight has passed the member's limit
        return jnp.where(params["w"][0] > params["limit"], jnp.nan, loss(params, batch))

    def member(limit):
        params = {"w": jnp.zeros(3), "limit": limit}
        return advance(train.start(KEY, params, OPTIMIZER), 50, explodes)

    state, losses = jax.vmap(member)(jnp.array([0.45, 1e9]))
    step = int(state.diverged[0])
    assert 4 < step < 50  # Adam moves at most 0.1 a step
    assert state.diverged[1] == -1
    assert np.isfinite(losses[0, :step]).all()
    assert np.isnan(losses[0, step:]).all()
    assert np.isfinite(losses[1]).all()
    assert np.isfinite(state.params["w"]).all()


def test_steps_must_be_positive():
    with pytest.raises(ValueError, match="at least one step, got steps=0"):
        advance(start(), 0)


def test_a_divergence_has_its_value_and_the_first_one_stays():
    def explodes(params, batch):
        return jnp.where(params["w"][0] > 0.15, jnp.inf, jnp.sum((params["w"] - TARGET) ** 2))

    state, _ = advance(start(), 20, explodes)
    assert (state.diverged, state.value) == (2, jnp.inf)  # w is 0, .1, .2: Adam's steps of .1
    again, _ = advance(state, 5)  # even where the loss would be finite again
    assert (again.diverged, again.value) == (2, jnp.inf)
    same(state.params, again.params)
    assert jnp.isnan(advance(start(), 20)[0].value)


def test_a_finished_member_keeps_its_parameters_and_the_others_train_on():
    run = jax.jit(jax.vmap(lambda s: advance(s, 5)))
    half, _ = run(jax.vmap(start)(jax.random.split(KEY, 3)))
    stopped = train.finish(half, jnp.array([False, True, False]))
    assert stopped.finished.tolist() == [-1, 5, -1]
    assert train.training(stopped).tolist() == [True, False, True]
    (free, _), (after, losses) = run(half), run(stopped)
    np.testing.assert_array_equal(after.params["w"][1], half.params["w"][1])
    for member in (0, 2):
        np.testing.assert_array_equal(after.params["w"][member], free.params["w"][member])
    assert np.isfinite(losses).all()
    later = train.finish(after, jnp.array([True, True, False]))
    assert later.finished.tolist() == [10, 5, -1]  # told twice, the first time counts


def test_a_finished_member_can_not_diverge():
    state = train.finish(advance(start(), 3)[0], True)
    after, _ = advance(state, 3, lambda params, batch: jnp.sum(params["w"]) * jnp.inf)
    assert (after.finished, after.diverged) == (3, -1)


def test_losses_are_thinned_to_means():
    whole, losses = advance(start(), 12)
    thin, means = train.advance(loss, OPTIMIZER, sample, start(), 12, every=4)
    np.testing.assert_allclose(means, losses.reshape(3, 4).mean(1), rtol=1e-6)  # order of the sum
    same(whole, thin)
    with pytest.raises(ValueError, match="every=5 losses become one: it must divide steps=12"):
        train.advance(loss, OPTIMIZER, sample, start(), 12, every=5)


def test_clipping_bounds_what_descent_moves():
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1))
    begun = train.start(KEY, {"w": jnp.zeros(3)}, optimizer)
    state, _ = train.advance(loss, optimizer, sample, begun, 1)
    gradient = jax.grad(loss)({"w": jnp.zeros(3)}, sample(jax.random.fold_in(KEY, 0)))["w"]
    expected = -0.1 * 0.5 * gradient / jnp.linalg.norm(gradient)
    np.testing.assert_allclose(state.params["w"], expected, rtol=1e-5)  # rounding of float32


# --- terms of a loss ------------------------------------------------------------------------------


def error(hs):
    """Something that every h has a part in."""
    weight = jnp.arange(1.0, hs.size + 1).reshape(hs.shape) / hs.size
    return jnp.sum(weight * jnp.sin(hs + 1) ** 2)


def flat(tree):
    return ravel_pytree(tree)[0]


def held_constant(cell, params, xs):
    """h_k and dE/dh_{k+1} of one sequence, (T, m) each, by a nudge to every state."""
    start, unravel = ravel_pytree(cell.start(params))

    def total(nudges):
        s, before, hs = start, [], []
        for x, nudge in zip(xs, nudges, strict=True):
            before.append(s)
            s = flat(cell.step(params, unravel(s), x)[0]) + nudge
            hs.append(hidden(unravel(s)))
        return error(jnp.stack(hs)), jnp.stack(before)

    deltas, before = jax.grad(total, has_aux=True)(jnp.zeros((len(xs), start.size)))
    return before, deltas


def jacobian(cell, live, fixed, s, x):
    """dh_{k+1}/dh_k, dense; of a Unitwise cell A + B M, with A and B at `fixed` and M at `live`."""
    unravel = ravel_pytree(cell.start(fixed))[1]
    state = unravel(s)
    if not isinstance(cell, Unitwise):
        return jax.jacfwd(lambda s: flat(cell.step(live, unravel(s), x)[0]))(s)
    h = hidden(state)
    r, unravel_r = ravel_pytree(cell.mix(fixed, h))
    update = lambda s, r: flat(  # noqa: E731
        cell.update(fixed, unravel(s), unravel_r(r), cell.drive(fixed, x))
    )
    A, B = jax.jacfwd(update, argnums=(0, 1))(s, r)
    M = jax.jacfwd(lambda h: flat(cell.mix(live, h)))(h)
    return A.at[:, : h.size].add(B @ M)  # h comes first in a state


def definition(cell, live, fixed, xs, before, deltas):
    """The equation, term by term."""
    terms = [
        (jnp.linalg.norm(d @ jacobian(cell, live, fixed, s, x)) / jnp.linalg.norm(d) - 1) ** 2
        for s, d, x in zip(before, deltas, xs, strict=True)
    ]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("name", ["vanilla", "lstm", "gru.reset_before"])
def test_omega_against_finite_differences_with_the_rest_held_constant(name, x64):
    cell = cells.named(name)  # one array, two arrays, and a plain Cell
    params = cell.init(KEY, Prior(1.3, 0.9, 0.2, 0.3), 2, 3)
    xs = jax.random.normal(jax.random.key(1), (3, 2))
    direction = jax.tree.map(lambda a: jax.random.normal(KEY, a.shape), params)
    held = jax.jit(lambda p: held_constant(cell, p, xs))(params)
    omega = jax.jit(jax.value_and_grad(lambda p: train.omega(error, cell, p, xs)))
    value, gradient = omega(params)
    at = jax.jit(lambda size: definition(
        cell, jax.tree.map(lambda a, d: a + size * d, params, direction), params, xs, *held
    ))  # fmt: skip
    np.testing.assert_allclose(value, at(0.0), rtol=1e-12)
    difference = (at(1e-5) - at(-1e-5)) / 2e-5
    slope = flat(gradient) @ flat(direction)
    np.testing.assert_allclose(slope, difference, rtol=1e-8)  # curvature 1e-10, rounding 1e-11


def test_omega_of_a_tanh_network_is_the_papers(x64):
    cell = cells.vanilla.cell
    params = cell.init(KEY, Prior(1.3, 0.9, 0.2, 0.3), 2, 3)
    xs = jax.random.normal(jax.random.key(1), (4, 2))
    _, deltas = held_constant(cell, params, xs)
    slopes = 1 - scan.run(cell, params, xs)[1] ** 2

    def by_hand(W):  # delta diag(1 - h^2) W', the weights standing to the right of h here
        ratio = jnp.linalg.norm((deltas * slopes) @ W.T, axis=1) / jnp.linalg.norm(deltas, axis=1)
        return jnp.mean((ratio - 1) ** 2)

    gradient = jax.grad(lambda p: train.omega(error, cell, p, xs))(params)
    np.testing.assert_allclose(gradient.W, jax.grad(by_hand)(params.W), rtol=1e-11)
    assert not np.any(flat((gradient.V, gradient.b)))  # only the immediate W


def test_omega_of_a_batch_is_the_mean(x64):
    cell = cells.lstm.cell
    params = cell.init(KEY, Prior(), 2, 3)
    xs = jax.random.normal(jax.random.key(1), (6, 4, 2))
    last = lambda hs: jnp.sum(hs[-1] ** 2)  # noqa: E731  # a sum: each sequence has its own part
    omega = jax.jit(lambda xs: train.omega(last, cell, params, xs))
    each = [omega(x) for x in xs.swapaxes(0, 1)]
    np.testing.assert_allclose(omega(xs), np.mean(each), rtol=1e-12)


def test_omega_sees_gradients_too_small_for_float32():
    cell = cells.vanilla.cell
    params = cell.init(KEY, Prior(0.3, 0.1), 2, 8)
    xs = jax.random.normal(jax.random.key(1), (200, 2))  # the gradient shrinks by .3^200
    last = lambda hs: hs[-1].sum()  # noqa: E731

    @jax.jit
    def omega(params, xs):
        return jax.value_and_grad(lambda p: train.omega(last, cell, p, xs))(params)

    value, gradient = omega(params, xs)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        exact, exact_gradient = omega(double, jnp.asarray(xs, jnp.float64))
    np.testing.assert_allclose(value, exact, rtol=1e-4)  # float32 over 200 steps
    assert 0.1 < value < 1
    np.testing.assert_allclose(gradient.W, exact_gradient.W, rtol=1e-3, atol=1e-4)


def test_omega_without_a_gradient_is_zero():
    cell, xs = cells.vanilla.cell, jnp.ones((3, 2))
    params = cell.init(KEY, Prior(), 2, 3)
    omega = lambda p: train.omega(lambda hs: 0 * hs.sum(), cell, p, xs)  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(omega))(params)
    assert value == 0
    assert not np.any(flat(gradient))


def test_omega_refuses_an_output_that_is_not_the_state():
    cell = compose.Residual(cells.vanilla.cell)
    params = cell.init(KEY, Prior(), 3, 3)
    with pytest.raises(ValueError, match="must be the h of its state"):
        train.omega(error, cell, params, jnp.ones((2, 3)))


@pytest.mark.parametrize("term", ["omega", "flossing"])
def test_a_term_brings_gradients_to_keep_their_length(term):
    """Descent on the term alone: the gradient that vanished before reaches the first step."""
    cell = cells.vanilla.cell
    xs = jax.random.normal(jax.random.key(1), (20, 2))
    last = lambda hs: hs[-1].sum()  # noqa: E731

    def small(params, _):
        if term == "omega":
            return train.omega(last, cell, params, xs)
        body = scan.tied(cell, params)
        return analysis.flossing(KEY, body, cell.start(params), xs, k=2, discard=5)

    def decay(params):  # of |dE/dh_t| from the last step to the first, nats
        norms = analysis.gradient_norms(last, scan.tied(cell, params), cell.start(params), xs)
        return float(norms[-1] - norms[0])

    params = cell.init(KEY, Prior(0.5, 0.3), 2, 8)
    optimizer = optax.adam(0.02)
    begun = train.start(KEY, params, optimizer)
    descend = jax.jit(lambda s: train.advance(small, optimizer, lambda key: key, s, 100))
    state, _ = descend(begun)
    assert decay(params) > 8  # some .5 nats a step
    assert abs(decay(state.params)) < 3


def test_omega_takes_every_cell_and_its_batches(name, cell, sizes, params):
    d, _ = sizes
    xs = jax.random.normal(jax.random.key(1), (3, 2, d))
    omega = lambda p: train.omega(lambda hs: jnp.sum(hs**2), cell, p, xs)  # noqa: E731
    value, gradient = jax.eval_shape(jax.value_and_grad(omega), params)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)
