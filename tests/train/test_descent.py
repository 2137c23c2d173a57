"""Training as one scan: members that diverge or finish, thinned losses, terms of a loss."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import MADE, few_fast, some_slow
from jax.flatten_util import ravel_pytree

from recur import Prior, Unitwise, analysis, cells, compose, hidden, scan, train

KEY = jax.random.key(0)
OPTIMIZER = optax.adam(0.1)
TARGET = np.array([1.0, -2.0, 3.0], np.float32)


def loss(params, batch):
    return jnp.sum((params["w"] - TARGET) ** 2 * (1 + batch**2))


def sample(key):
    return jax.random.normal(key, (3,))


@jax.jit
def start(key=KEY):
    return train.start(key, {"w": jnp.zeros(3)}, OPTIMIZER)


@partial(jax.jit, static_argnames=("steps", "loss", "every"))
def advance(state, steps, loss=loss, every=1):
    """Tests that take as many steps share a program."""
    return train.advance(loss, OPTIMIZER, sample, state, steps, every)


finish = jax.jit(train.finish)


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_training_finds_the_minimum():
    state, losses = advance(start(), 300)
    np.testing.assert_allclose(state.params["w"], TARGET, atol=1e-2)  # Adam's steps have shrunk
    losses = np.asarray(losses)
    assert losses[-1] < 1e-2 * losses[0]
    assert (int(state.step), int(state.diverged)) == (300, -1)


def test_a_start_has_the_types_of_what_advance_returns():
    """Else a program that takes its own results is compiled at the first call and at the second."""
    begin = partial(train.start, params={"w": jnp.zeros(3)}, optimizer=OPTIMIZER)
    before = jax.eval_shape(begin, KEY)
    after, _ = jax.eval_shape(
        lambda state: train.advance(loss, OPTIMIZER, sample, state, 2), before
    )
    kinds = [
        [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]
        for state in (before, after)
    ]
    assert kinds[0] == kinds[1]
    assert not any(weak for _, _, weak in kinds[0])


def test_one_step_is_the_optimizers_own():
    @jax.jit
    def everything():
        batch = sample(jax.random.fold_in(KEY, 0))
        own = jax.value_and_grad(loss)({"w": jnp.zeros(3)}, batch)
        return *advance(start(), 1), own

    state, losses, (value, gradient) = everything()
    np.testing.assert_allclose(losses, [value], rtol=1e-6)
    # Adam's first step is the learning rate against the gradient's sign
    np.testing.assert_allclose(state.params["w"], -0.1 * np.sign(gradient["w"]), rtol=1e-4)


def test_pieces_equal_one_piece():
    whole, losses = advance(start(), 12)
    half, first = advance(start(), 6)
    rest, second = advance(half, 6)
    same(whole, rest)
    np.testing.assert_array_equal(losses, np.concatenate([first, second]))


def test_a_divergence_is_recorded_and_stops_only_its_member():
    def explodes(params, batch):  # NaN once the first weight has passed the member's limit
        return jnp.where(params["w"][0] > params["limit"], jnp.nan, loss(params, batch))

    @jax.jit
    @jax.vmap
    def member(limit):
        params = {"w": jnp.zeros(3), "limit": limit}
        return advance(train.start(KEY, params, OPTIMIZER), 50, explodes)

    state, losses = member(np.array([0.45, 1e9], np.float32))
    losses = np.asarray(losses)
    step, never = np.asarray(state.diverged)
    assert 4 < step < 50  # Adam moves at most 0.1 a step
    assert never == -1
    assert np.isfinite(losses[0, :step]).all()
    assert np.isnan(losses[0, step:]).all()
    assert np.isfinite(losses[1]).all()
    assert np.isfinite(state.params["w"]).all()


def test_an_update_that_is_not_finite_is_a_divergence():
    """A relu of NaN is 0: without this, parameters that are NaN went on with a finite loss."""

    def learn(rate):
        return train.advance(
            lambda params, _: jnp.sum(jax.nn.relu(params)),
            optax.sgd(rate),
            lambda key: None,
            train.start(KEY, np.ones(2, np.float32), optax.sgd(rate)),
            3,
        )

    state, losses = jax.jit(jax.vmap(learn))(np.array([np.nan, np.inf, 0.1], np.float32))
    assert state.diverged.tolist() == [0, 0, -1]
    np.testing.assert_array_equal(state.params[:2], 1)
    assert np.isnan(losses[:2]).all()
    np.testing.assert_allclose(losses[2], [2, 1.8, 1.6], rtol=1e-6)


def test_the_state_is_carried_from_piece_to_piece():
    """Three pieces of a text, twice: sums by hand; no gradient passes from piece to piece."""
    text = np.arange(6.0, dtype=np.float32)
    summed = optax.chain(optax.trace(1.0), optax.scale(0.0))  # adds up gradients, moves nothing

    def piece(key, step):
        return step % 3 == 0, jax.lax.dynamic_slice_in_dim(text, 2 * (step % 3), 2)

    def loss(w, total, batch):
        begins, xs = batch
        total = jnp.where(begins, 0, total) + w * xs.sum()
        return total, total

    @jax.jit
    def learn(state):
        return train.advance_stateful(loss, summed, piece, state, np.float32(7), 6, every=3)

    state, total, losses = learn(train.start(jax.random.key(0), np.float32(1), summed))
    np.testing.assert_allclose(losses, [(1 + 6 + 15) / 3] * 2)
    assert (total, state.step) == (15, 6)
    assert state.opt[0].trace == 2 * (1 + 5 + 9)  # of each piece its own sum alone


def test_what_is_carried_stays_where_training_diverged():
    still = optax.sgd(0.0)

    def loss(w, total, step):
        return jnp.where(step == 2, jnp.inf, w), total + 1

    @jax.jit
    def learn(state):
        return train.advance_stateful(loss, still, lambda key, step: step, state, 0.0, 5)

    state, total, losses = learn(train.start(jax.random.key(0), np.float32(1), still))
    assert (total, state.diverged) == (2, 2)
    np.testing.assert_array_equal(np.isnan(losses), [False, False, True, True, True])


def test_what_is_carried_keeps_its_shapes():
    still = optax.sgd(0.0)
    state = train.start(jax.random.key(0), np.float32(1), still)
    for loss, message in (
        (
            lambda w, h, batch: (w, jnp.stack([h, h])),
            r"float32\[\]; it returned float32\[2",
        ),
        (lambda w, h, batch: w, r"takes it, .*; it returned"),
        (lambda w, h, batch: (jnp.ones(2) * w, h), r"one number, .*; it returned \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            train.advance_stateful(loss, still, lambda *_: 0, state, np.float32(0), 1)


def test_counts_of_steps_are_integers():
    for steps, every in ((3, 1.5), (3.0, 1), (4, 2.0)):
        with pytest.raises(
            ValueError, match=r"(steps|every) must be a whole number, an int; got \d\.\d"
        ):
            advance(start(), steps, every=every)


def test_steps_must_be_positive():
    with pytest.raises(ValueError, match="steps must be 1 or more; got steps=0"):
        advance(start(), 0)


def test_a_divergence_has_its_value_and_the_first_one_stays():
    def explodes(params, batch):
        return jnp.where(params["w"][0] > 0.15, jnp.inf, jnp.sum((params["w"] - TARGET) ** 2))

    state, _ = advance(start(), 6, explodes)
    # w is 0, .1, .2: Adam's steps of .1
    assert (int(state.diverged), float(state.value)) == (2, np.inf)
    again, _ = advance(state, 6)  # even where the loss would be finite again
    assert (int(again.diverged), float(again.value)) == (2, np.inf)
    same(state.params, again.params)
    assert advance(start(), 6)[0].value == 0


def test_a_finished_member_keeps_its_parameters_and_the_others_train_on():
    begun = jax.jit(lambda key: jax.vmap(start)(jax.random.split(key, 3)))(KEY)
    run = jax.jit(jax.vmap(lambda s: advance(s, 5)))
    half, _ = run(begun)
    stopped = finish(half, np.array([False, True, False]))
    assert stopped.finished.tolist() == [-1, 5, -1]
    assert jax.jit(train.training)(stopped).tolist() == [True, False, True]
    (free, _), (after, losses) = run(half), run(stopped)
    before, alone, stayed = (np.asarray(state.params["w"]) for state in (half, free, after))
    np.testing.assert_array_equal(stayed[1], before[1])
    for member in (0, 2):
        np.testing.assert_array_equal(stayed[member], alone[member])
    assert np.isfinite(losses).all()
    later = finish(after, np.array([True, True, False]))
    assert later.finished.tolist() == [10, 5, -1]  # told twice, the first time counts


def test_a_finished_member_can_not_diverge():
    state = finish(advance(start(), 6)[0], True)
    after, _ = advance(state, 3, lambda params, batch: jnp.sum(params["w"]) * jnp.inf)
    assert (int(after.finished), int(after.diverged)) == (6, -1)


def test_losses_are_thinned_to_means():
    whole, losses = advance(start(), 12)
    thin, means = advance(start(), 12, every=4)
    # order of the sum
    np.testing.assert_allclose(means, np.asarray(losses).reshape(3, 4).mean(1), rtol=1e-6)
    same(whole, thin)
    with pytest.raises(ValueError, match="every=5 must divide steps=12"):
        advance(start(), 12, every=5)


def test_clipping_bounds_what_descent_moves():
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1))

    @jax.jit
    def everything():
        begun = train.start(KEY, {"w": jnp.zeros(3)}, optimizer)
        batch = sample(jax.random.fold_in(KEY, 0))
        state, _ = train.advance(loss, optimizer, sample, begun, 1)
        return state.params["w"], jax.grad(loss)({"w": jnp.zeros(3)}, batch)["w"]

    moved, gradient = map(np.asarray, everything())
    expected = -0.1 * 0.5 * gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)  # rounding of float32


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


def like(cell, d, n, seed=0):
    """Parameters with numbers from NumPy in place of a draw, which would be compiled."""
    numbers = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: cell.init(key, Prior(), d, n), KEY)
    return jax.tree.map(lambda a: 0.5 * numbers.normal(size=a.shape).astype(a.dtype), shapes)


def plain(sigma_w, sigma_v, n, seed=0):
    """Parameters of a vanilla network of two inputs, with no bias."""
    numbers = np.random.default_rng(seed)
    W = sigma_w * numbers.normal(size=(n, n)) / np.sqrt(n)
    V = sigma_v * numbers.normal(size=(2, n)) / np.sqrt(2)
    arrays = (a.astype(np.float32) for a in (W, V, np.zeros(n)))
    return cells.vanilla.Params(*arrays)


@pytest.mark.parametrize("name", ["lstm", "gru.reset_before", *some_slow({"vanilla"}, "")])
def test_omega_against_finite_differences_with_the_rest_held_constant(name, x64):
    cell = cells.named(name)  # one array, two arrays, and a plain Cell
    xs = np.random.default_rng(1).normal(size=(3, 2))

    @jax.jit
    def everything(params, direction, sizes):
        held = held_constant(cell, params, xs)
        value, gradient = jax.value_and_grad(lambda p: train.omega(error, cell, p, xs))(params)

        def at(size):
            moved = jax.tree.map(lambda a, d: a + size * d, params, direction)
            return definition(cell, moved, params, xs, *held)

        return value, flat(gradient) @ flat(direction), jax.vmap(at)(sizes)

    sizes = np.array([0, 1e-5, -1e-5])
    value, slope, (here, up, down) = map(
        np.asarray, everything(like(cell, 2, 3), like(cell, 2, 3, seed=1), sizes)
    )
    np.testing.assert_allclose(value, here, rtol=1e-12)
    difference = (up - down) / 2e-5
    np.testing.assert_allclose(slope, difference, rtol=1e-8)  # curvature 1e-10, rounding 1e-11


def test_omega_of_a_tanh_network_is_the_papers(x64):
    cell = cells.vanilla.cell
    xs = np.random.default_rng(1).normal(size=(4, 2))

    @jax.jit
    def everything(params):
        _, deltas = held_constant(cell, params, xs)
        slopes = 1 - scan.run(cell, params, xs)[1] ** 2

        def by_hand(W):  # delta diag(1 - h^2) W', the weights standing to the right of h here
            after = jnp.linalg.norm((deltas * slopes) @ W.T, axis=1)
            return jnp.mean((after / jnp.linalg.norm(deltas, axis=1) - 1) ** 2)

        gradient = jax.grad(lambda p: train.omega(error, cell, p, xs))(params)
        return gradient, jax.grad(by_hand)(params.W)

    gradient, expected = jax.tree.map(np.asarray, everything(like(cell, 2, 3)))
    np.testing.assert_allclose(gradient.W, expected, rtol=1e-11)
    assert not np.any(gradient.V)  # only the immediate W
    assert not np.any(gradient.b)


def test_omega_of_a_batch_is_the_mean(x64):
    cell = cells.lstm.cell
    xs = np.random.default_rng(1).normal(size=(6, 4, 2))
    last = lambda hs: jnp.sum(hs[-1] ** 2)  # noqa: E731  # a sum: each sequence has its own part

    @jax.jit
    def everything(params, xs):
        omega = lambda xs: train.omega(last, cell, params, xs)  # noqa: E731
        return omega(xs), jax.vmap(omega, 1)(xs)  # of sequences without a batch axis

    together, each = map(np.asarray, everything(like(cell, 2, 3), xs))
    assert np.ptp(each) > 1e-3
    np.testing.assert_allclose(together, np.mean(each), rtol=1e-12)


def test_omega_sees_gradients_too_small_for_float32():
    cell = cells.vanilla.cell
    params = plain(0.3, 0.1, 8)
    # the gradient shrinks by .3^200
    xs = np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)
    last = lambda hs: hs[-1].sum()  # noqa: E731

    @jax.jit
    def omega(params, xs):
        return jax.value_and_grad(lambda p: train.omega(last, cell, p, xs))(params)

    value, gradient = jax.tree.map(np.asarray, omega(params, xs))
    with jax.enable_x64(True):
        exact, exact_gradient = jax.tree.map(
            np.asarray, omega(*jax.tree.map(np.float64, (params, xs)))
        )
    np.testing.assert_allclose(value, exact, rtol=1e-4)  # float32 over 200 steps
    assert 0.1 < value < 1
    np.testing.assert_allclose(gradient.W, exact_gradient.W, rtol=1e-3, atol=1e-4)


def test_omega_without_a_gradient_is_zero():
    cell, xs = cells.vanilla.cell, np.ones((3, 2), np.float32)
    omega = lambda p: train.omega(lambda hs: 0 * hs.sum(), cell, p, xs)  # noqa: E731
    value, gradient = jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(omega))(like(cell, 2, 3)))
    assert value == 0
    assert not any(np.any(leaf) for leaf in gradient)


def test_omega_of_nan_is_nan():
    """Of parameters, of states that overflow, of an error; under relu, which makes 0 of NaN."""
    cell, V = cells.vanilla.relu, np.ones((2, 2), np.float32)
    grows = 9 * np.array([[3, -1], [-1, 3]], np.float32)  # past float32 after 28 of 40 steps

    @jax.jit
    def omega(W, V, factor):
        params, xs = cells.vanilla.Params(W, V, V[0]), np.ones((40, 2), np.float32)
        return train.omega(lambda hs: factor * hs[-1].sum(), cell, params, xs)

    assert np.isfinite(omega(grows / 90, V, 1.0))
    for W, own, factor in (
        (grows, V, 1.0),
        (grows * np.nan, V, 1.0),
        (grows / 90, V, np.nan),
        (grows / 90, V * np.nan, 1.0),
    ):
        assert np.isnan(omega(W, own, factor))


def test_omega_refuses_an_output_that_is_not_the_state():
    cell = compose.Residual(cells.vanilla.cell)
    omega = lambda p: train.omega(error, cell, p, np.ones((2, 3), np.float32))  # noqa: E731
    with pytest.raises(ValueError, match="must be the h of its state"):
        jax.eval_shape(omega, like(cell, 3, 3))


@pytest.mark.parametrize("term", ["omega", *some_slow({"flossing"}, "")])
def test_a_term_brings_gradients_to_keep_their_length(term):
    """Descent on the term alone: the gradient that vanished before reaches the first step."""
    cell = cells.vanilla.cell
    xs = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    last = lambda hs: hs[-1].sum()  # noqa: E731
    optimizer = optax.adam(0.02)

    def small(params, _):
        if term == "omega":
            return train.omega(last, cell, params, xs)
        body = scan.tied(cell, params)
        return analysis.flossing(KEY, body, cell.start(params), xs, k=2, discard=5)

    @jax.vmap
    def norms(params):  # of dE/dh_t
        return analysis.gradient_norms(last, scan.tied(cell, params), cell.start(params), xs)

    @jax.jit
    def everything(params):
        begun = train.start(KEY, params, optimizer)
        state, _ = train.advance(small, optimizer, lambda key: key, begun, 100)
        return norms(jax.tree.map(lambda *both: jnp.stack(both), params, state.params))

    found = np.asarray(everything(plain(0.5, 0.3, 8)))
    before, after = found[:, -1] - found[:, 0]  # decay from the last step to the first, nats
    assert before > 8  # some .5 nats a step
    assert abs(after) < 3


@pytest.mark.parametrize("name", few_fast([*cells.names(), *MADE]))
def test_omega_takes_every_cell_and_its_batches(name, cell, sizes):
    d, _ = sizes
    params = jax.eval_shape(lambda key: cell.init(key, Prior(1.3, 0.9, 0.4, 0.3), *sizes), KEY)
    xs = np.ones((3, 2, d), np.float32)
    omega = lambda p: train.omega(lambda hs: jnp.sum(hs**2), cell, p, xs)  # noqa: E731
    value, gradient = jax.eval_shape(jax.value_and_grad(omega), params)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)
