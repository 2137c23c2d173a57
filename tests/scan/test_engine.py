"""The chunked engine against autodiff of the plain scan, in float64."""

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MADE, build, few_fast

from recur import Prior, Unitwise, cells, compose, scan
from recur.compose import Bidirectional, Stacked
from recur.core import hidden
from recur.scan.engine import trajectory

KEY = jax.random.key(0)
UNITWISE = [name for name in (*cells.names(), *MADE) if isinstance(build(name), Unitwise)]
ROUNDING = 1e-12  # float64, sums of some hundred terms of order one


class Shapes(Prior):
    """A prior for those who ask for nothing but shapes: it has no random numbers to trace."""

    def draw(self, key, d, n, gates=1):
        return jnp.zeros((n, gates * n)), jnp.zeros((d, gates * n)), jnp.zeros(gates * n)


def setting(cell, d, n, steps, batch=()):
    """Parameters, a state and inputs, drawn without a program: any numbers will do here."""
    rng = np.random.default_rng(0)

    def begin():
        params = cell.init(KEY, Shapes(), d, n)
        return params, cell.start(params, batch)

    params, state = jax.tree.map(
        lambda a: np.asarray(rng.normal(size=a.shape) / 2, a.dtype), jax.eval_shape(begin)
    )
    return params, state, np.asarray(rng.normal(size=(steps, *batch, d)), float)


def plain(cell, params, state, xs):
    def step(state, x):
        state = cell.step(params, state, x)[0]
        return state, state

    return jax.lax.scan(step, state, xs)


def chunks(steps, ahead=False, keep_mix=True):
    """A plan by hand."""
    return scan.Plan("chunked", steps, ahead, 1, keep_mix)


def score(final, states):
    """Reads the last state and every state, each entry with a weight of its own."""
    parts = [*jax.tree.leaves(final), *jax.tree.leaves(states)]
    return sum(jnp.sum(jnp.sin(a + np.arange(1.0 * a.size).reshape(a.shape))) for a in parts)


def graded(*runs, which=(0, 1, 2)):
    """One program: the score of each run, and its gradient in those arguments."""

    def of(run):
        return jax.value_and_grad(lambda *point: score(*run(*point)), which)

    return jax.jit(lambda *point: [of(run)(*point) for run in runs])


def assert_close(ours, expected):
    chex.assert_trees_all_close(ours, expected, atol=ROUNDING, rtol=1e-7)


@pytest.mark.parametrize("name", few_fast(UNITWISE), indirect=True)
def test_gradients_of_every_cell(cell, sizes, x64):
    """In parameters, start and inputs; six steps in chunks of three."""
    point = setting(cell, *sizes, 6, (2,))
    runs = partial(trajectory, cell, chunks(3, ahead=True)), partial(plain, cell)
    assert_close(*graded(*runs)(*point))


@cache
def one_sequence():
    """A peephole LSTM, its point without batch axes, and what the plain scan makes of it."""
    cell = cells.lstm.peephole
    point = setting(cell, 3, 4, 6)
    return cell, point, jax.device_get(graded(partial(plain, cell))(*point)[0])


@pytest.mark.parametrize(
    ("chunk", "batch"),
    [
        pytest.param(1, (), marks=pytest.mark.slow),
        (4, (1,)),
        pytest.param(6, (1, 1), marks=pytest.mark.slow),
        (9, ()),
    ],
)
def test_any_chunk_and_one_sequence_alone(chunk, batch, x64):
    """A chunk may leave steps over, or be longer than all; batch axes of one are no others."""
    cell, (params, state, xs), expected = one_sequence()
    state, xs = jax.tree.map(lambda a: a.reshape(*a.shape[:-1], *batch, a.shape[-1]), (state, xs))
    run = partial(trajectory, cell, chunks(chunk, keep_mix=chunk % 2 == 0))
    (ours,) = jax.device_get(graded(run)(params, state, xs))
    assert jax.tree.map(jnp.shape, ours[1]) == jax.tree.map(jnp.shape, (params, state, xs))
    assert_close(jax.tree.map(lambda a, b: a.reshape(b.shape), ours, expected), expected)


@cache
def four_sequences():
    cell = cells.gru.cell
    point = setting(cell, 3, 4, 5, (2, 2))
    return cell, point, jax.device_get(graded(partial(plain, cell))(*point)[0][1])


@pytest.mark.parametrize("which", [0, *[pytest.param(n, marks=pytest.mark.slow) for n in (1, 2)]])
def test_gradient_in_one_argument_alone(which, x64):
    """The other tangents are symbolic zeros, and take another way through the rule."""
    cell, point, expected = four_sequences()
    run = partial(trajectory, cell, chunks(2, keep_mix=False))
    assert_close(graded(run, which=which)(*point)[0][1], expected[which])


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param({"ahead": True}, marks=pytest.mark.slow),
        pytest.param({"keep_mix": False}, marks=pytest.mark.long),
    ],
)
def test_forward_mode_second_derivatives_and_vmap(kept, x64):
    cell = cells.lstm.cell
    point = setting(cell, 3, 4, 5, (2,))
    direction = jax.tree.map(jnp.cos, point)
    many = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), point[0])

    def everything(run):
        def f(*p):
            return score(*run(*p))

        def over_hessian(p):
            return jax.jvp(jax.grad(f, (0, 1, 2)), p, direction)[1]

        return (
            jax.jvp(f, point, direction)[1],
            over_hessian(point),
            jax.grad(lambda p: jax.jvp(f, p, direction)[1])(point),  # reverse over forward
            jax.vmap(jax.grad(f), (0, None, None))(many, *point[1:]),
            jax.jacfwd(lambda s: run(point[0], s, point[2])[0])(point[1]),
        )

    assert_close(
        jax.jit(lambda: everything(partial(trajectory, cell, chunks(2, **kept))))(),
        jax.jit(lambda: everything(partial(plain, cell)))(),
    )


@pytest.fixture
def short_chunks(monkeypatch):
    """Two examples make chunks of four steps, ahead; one step or more is left over."""
    module = importlib.import_module("recur.scan.planning")
    monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(module, "ROWS", 8)
    assert scan.plan(cells.gru.cell, np.zeros((11, 2, 3)), "chunked")[1:3] == (4, True)


def test_inputs_that_many_states_share(x64):
    """One sequence, twenty starts; and no example at all."""
    cell = cells.gru.cell
    params, _, xs = setting(cell, 3, 4, 100)
    starts = np.random.default_rng(1).normal(size=(4, 5, 4))
    nobody = np.zeros((100, 0, 3))

    def last(start, engine):
        return scan.run(cell, params, xs, start, engine=engine)[1][-1]

    each = jax.vmap(jax.vmap(partial(last, engine="scan")))

    @jax.jit
    def gradients(params, starts):
        ours, expected = (
            jax.grad(lambda s, f=f: jnp.sum(f(s) ** 2))(starts)
            for f in (partial(last, engine="auto"), each)
        )
        nothing = jax.grad(lambda p: jnp.sum(scan.run(cell, p, nobody)[1]))(params)
        return ours, expected, nothing

    ours, expected, nothing = gradients(params, starts)
    assert_close(ours, expected)
    assert_close(nothing, jax.tree.map(np.zeros_like, params))


def test_arrays_without_the_batch_axis_of_one(x64):
    """A state that stays and an input that all share: the pass forward takes them as they are."""
    base = cells.vanilla.cell

    def update(params, state, r, z):
        return cells.lstm.State(jnp.tanh(r + z) * state.c, state.c)

    def start(params, batch=()):
        return cells.lstm.State(base.start(params, batch), jnp.arange(1.0, 5.0))

    drive = lambda p, x: base.drive(p, x[0] + x[1])  # noqa: E731
    cell = Unitwise(base.init, start, drive, base.mix, update)
    params, _, xs = setting(base, 3, 4, 40, (1,))

    @jax.jit
    def both():
        states, inputs = cell.start(params, (1,)), (xs[:, 0], xs)
        ours = trajectory(cell, chunks(8), params, states, inputs)
        return ours, plain(cell, params, states, inputs)

    assert_close(*both())


def masked_loss(name, reverse, **how):
    """Loss and gradients of a run with masks and resets."""
    cell, steps = build(name), 11
    rng = np.random.default_rng(2)
    mask = rng.random((steps, 2)) < 0.7
    reset = np.zeros((steps, 2), bool)
    reset[6, 1] = True

    def run(params, state, xs):
        return scan.run(cell, params, xs, state, mask=mask, reset=reset, reverse=reverse, **how)

    return graded(run)(*setting(cell, 3, 4, steps, (2,)))[0]


@cache
def masked_loss_of_the_plain_scan(name, reverse):
    return jax.device_get(masked_loss(name, reverse, engine="scan"))


WAYS = [("gru", False), ("lstm", True), ("highway.deep", False)]
FAST = [("gru", False, "sqrt"), ("lstm", True, "mix")]


@pytest.mark.parametrize(
    ("name", "reverse", "memory"),
    [
        pytest.param(*way, memory, marks=() if (*way, memory) in FAST else pytest.mark.slow)
        for way in WAYS
        for memory in ("mix", "states", "sqrt")
    ],
)
def test_run_with_masks_and_resets(name, reverse, memory, short_chunks, x64):
    """Whatever the engine and the memory: results and gradients of the plain scan."""
    engine = "chunked" if isinstance(build(name), Unitwise) else "auto"
    ours = masked_loss(name, reverse, engine=engine, memory=memory)
    assert_close(ours, masked_loss_of_the_plain_scan(name, reverse))


def test_stacks_and_both_directions(short_chunks, x64):
    cell = Stacked(cells.gru.cell, Bidirectional(cells.cfn.cell))
    params, _, xs = setting(cell, 3, 4, 10, (2,))

    @jax.jit
    def gradients(params):
        return [
            jax.grad(lambda p, e=e: score(*scan.run(cell, p, xs, engine=e)))(params)
            for e in ("chunked", "scan")
        ]

    assert_close(*gradients(params))


def test_every_state_is_that_of_the_plain_scan(x64):
    cell = cells.lstm.cell

    @jax.jit
    def both(params, state, xs):
        ours = scan.states(cell, params, xs, state, engine="chunked", memory="sqrt")
        return ours, plain(cell, params, state, xs)[1]

    assert_close(*both(*setting(cell, 3, 4, 10)))


class Summed:
    """A loss of all outputs: of a readout, with lengths."""

    cell = Stacked(cells.gru.cell, cells.gru.reset_before)
    lengths = np.array([11, 5])

    @staticmethod
    def read(readout):
        return lambda hs, targets: jnp.sum((jnp.tanh(hs @ readout) - targets) ** 2)

    @classmethod
    def gradient(cls, summed):
        """Value and gradient of summed(read, params, xs, targets), a final state and a total."""
        params, _, xs = setting(cls.cell, 3, 4, 11, (2,))

        def loss(params, readout):
            state, value = summed(cls.read(readout), params, xs, xs[..., :2])
            return value + score(state, ())

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, np.ones((4, 2)))

    @classmethod
    @cache
    def whole(cls):
        def summed(read, params, xs, targets):
            state, hs = scan.run(cls.cell, params, xs, lengths=cls.lengths)
            return state, read(hs, targets)

        return jax.device_get(cls.gradient(summed))


@pytest.mark.parametrize("piece", [pytest.param(None, marks=pytest.mark.slow), 4])
def test_total_is_the_loss_of_all_outputs(piece, x64):
    """A readout piece by piece, its own gradient too; lengths and a piece that is left over."""

    def summed(read, params, xs, targets):
        how = {"lengths": Summed.lengths, "piece": piece}
        return scan.total(read, Summed.cell, params, xs, targets, **how)

    assert_close(Summed.gradient(summed), Summed.whole())


@pytest.mark.parametrize(
    ("read", "piece", "message"),
    [
        (lambda hs, _: hs.sum((1, 2)), None, r"got float32\[3\] for 3 steps and float32\[1\]"),
        (lambda hs, _: hs.sum(), 0, r"1 or more; got 0"),
        (lambda hs, _: hs.sum(), -3, r"1 or more; got -3"),
    ],
)
def test_total_is_of_sums_and_whole_pieces(read, piece, message):
    params, _, xs = setting(cells.gru.cell, 3, 4, 9, (2,))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: scan.total(read, cells.gru.cell, params, xs, (), piece=piece))


def test_total_needs_no_future():
    with pytest.raises(ValueError, match="Bidirectional layer needs the whole sequence"):
        scan.total(jnp.sum, Bidirectional(cells.gru.cell), (), np.ones((3, 2)), ())


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from recur import Prior, cells, scan, train
jax.config.update("jax_enable_x64", True)
assert jax.device_count() == 2
cell, rng = cells.lstm.cell, np.random.default_rng(0)
shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), Prior(), 3, 4))
params = jax.tree.map(lambda a: rng.normal(size=a.shape) / 2, shapes)
xs, ys = rng.normal(size=(40, 4, 3)), rng.normal(size=(4, 4))

def loss(params, batch):
    xs, ys = batch
    return jnp.mean((scan.run(cell, params, xs)[1] - ys) ** 2)

value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, (xs, ys))
two = jax.jit(train.value_and_grad(loss, (1, 0)))(params, (xs, ys))
same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10)  # float64, another order of sums
jax.tree.map(same, two, (value, gradients[0]))

mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))  # and under JAX's own checks
split = jax.shard_map(lambda p, batch: jax.lax.pmean(loss(p, batch), "b"), mesh=mesh,
                      in_specs=(P(), (P(None, "b"), P("b"))), out_specs=P())
jax.tree.map(same, jax.jit(jax.grad(split, (0, 1)))(params, (xs, ys)), gradients)
own = jax.make_mesh((2,), ("b",))  # its axes are Explicit
put = lambda a, *axes: jax.device_put(a, NamedSharding(own, P(*axes)))
batch = put(xs, None, "b"), put(ys, "b")
jax.tree.map(same, jax.jit(jax.grad(loss))(params, batch), gradients[0])
for axes, batch in (((1, 0), (xs[:, :3], ys[:3])), ((-2, 0), (xs, ys))):
    try:
        train.value_and_grad(loss, axes)(params, batch)
    except ValueError as error:
        print(error)
"""


def test_a_batch_over_two_devices():
    """Gradients equal those of one device; a batch that cannot be shared is refused."""
    quick = str(jax.config.values["jax_disable_most_optimizations"])  # as this process compiles
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = quick
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 devices cannot share 3 examples" in done.stdout
    assert "counted from the front, 0 or more; got (-2, 0)" in done.stdout


def memory_of(how, steps=512, n=64, read_all=True):
    cell, d, batch = cells.gru.cell, 16, 16
    params = cell.init(KEY, Prior(), d, n)
    xs = jnp.zeros((steps, batch, d))

    def loss(params):
        state, hs = scan.run(cell, params, xs, **how)
        return jnp.sum(hs**2) if read_all else jnp.sum(hidden(state) ** 2)

    stats = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis()
    return stats.temp_size_in_bytes, 4 * steps * batch * n


@pytest.mark.optimised
@pytest.mark.slow  # sizes of temporary buffers are those of optimised programs
def test_memory_of_a_backward_pass():
    """What the backward pass holds, in units of one array of outputs."""
    kept, unit = memory_of({"engine": "scan"})
    states, _ = memory_of({"memory": "states"})
    mix, _ = memory_of({})
    assert kept > 8 * unit  # gates, their derivatives and states of every step
    assert states - 2 * unit < 0.2 * (kept - 2 * unit)  # beyond outputs and their cotangents
    assert states < mix < states + 4 * unit  # mix(h) of a GRU is three arrays of (T, batch, n)
    few, unit = memory_of({"memory": "sqrt"}, steps=4096, read_all=False)
    assert few < 0.15 * unit  # no array of all steps: 64 states, and one segment's work


def once_for_two(p, h, r, z):
    both = r + z
    return jnp.tanh(both) * jnp.cos(both)


@pytest.mark.parametrize("sums", [(), ((0, 0),)])
@pytest.mark.parametrize(
    "update", [lambda p, h, r, z: (1 + h) * jnp.tanh(z + r), once_for_two], ids=["once", "twice"]
)
def test_sums_that_are_declared_change_no_gradient(update, sums, x64):
    agree(replace(cells.vanilla.cell, update=update, sums=sums))


def test_a_term_that_is_read_beside_the_sum(x64):
    """Nothing is declared, and so both terms are kept."""
    agree(replace(cells.vanilla.cell, update=lambda p, h, r, z: jnp.tanh(r + z) + r, sums=()))


def test_the_sum_is_kept_and_drive_is_not_computed_again(x64):
    """A declared sum saves the product of `drive` in the backward pass: two products the less."""

    def products(cell):
        params, state, xs = setting(cell, 3, 4, 8, (5,))
        states = partial(trajectory, cell, chunks(4))
        grad = jax.grad(lambda params: jnp.sum(states(params, state, xs)[1].h))
        return str(jax.jit(grad).lower(params).compile().as_text()).count(" dot(")

    assert products(cells.lstm.cell) < products(replace(cells.lstm.cell, sums=()))


def agree(cell):
    """The gradients are those of the plain scan."""
    params, state, xs = setting(cell, 3, 4, 7, (2,))
    ours, expected = graded(partial(trajectory, cell, chunks(3)), partial(plain, cell))(
        params, state, xs
    )
    assert_close(ours, expected)


def test_parameters_that_are_no_arrays(x64):
    """A number that `mix` and `drive` read as a number, an integer matrix; W alone is traced."""
    base = cells.vanilla.cell

    def shift(params, h):
        W, _, times, order = params
        return jnp.roll(h @ W, times, -1)[..., order[0]]

    cell = Unitwise(
        base.init, base.start, lambda p, x: x @ p[1] * range(3)[p[2]], shift, base.update
    )
    params, state, xs = setting(base, 3, 4, 7, (2,))
    order = jnp.array([[3, 1, 0, 2]])

    def gradients(W):
        return [
            jax.grad(lambda W, f=f: score(*f((W, params.V, 2, order), state, xs)))(W)
            for f in (partial(trajectory, cell, chunks(3)), partial(plain, cell))
        ]

    assert_close(*jax.jit(gradients)(params.W))


def test_parameters_that_are_not_there(x64):
    """No bias is None, which has no tangent either."""
    base = cells.vanilla.cell
    cell = Unitwise(
        base.init,
        lambda p, batch=(): jnp.zeros((*batch, 4)),
        lambda p, x: x @ p[1],
        lambda p, h: h @ p[2],
        base.update,
    )
    params, state, xs = setting(base, 3, 4, 7, (2,))

    runs = partial(trajectory, cell, chunks(3)), partial(plain, cell)
    assert_close(*graded(*runs, which=0)((None, params.V, params.W), state, xs))


def test_sums_of_our_cells():
    assert cells.lstm.cell.sums == ((0, 0), (1, 1), (2, 2), (3, 3))
    assert cells.gru.cell.sums == ((0, 0), (1, 1))  # the reset gate stands between W h and V x
    assert cells.minimal.cell.sums == ((0, 1),)
    assert cells.mingru.cell.sums == ()
    assert compose.masked(cells.gru.cell).sums == cells.gru.cell.sums
    assert compose.resetting(cells.gru.cell).sums == ()


@pytest.mark.parametrize(("batch", "turned"), [((5,), True), ((1,), False), ((), False)])
def test_the_product_backward_finds_its_weights_in_order(batch, turned, x64):
    """A loop whose weights lie transposed has a transpose in it, to read them by."""
    cell = cells.lstm.cell
    params, state, xs = setting(cell, 3, 4, 8, batch)

    def loss(params):
        return jnp.sum(trajectory(cell, chunks(4), params, state, xs)[1].h)

    loops = innermost_loops(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)
    forward, backward = (names for names in loops if "dot_general" in names)
    assert "tanh" in forward
    assert "tanh" not in backward
    assert ("transpose" in backward) == turned


def innermost_loops(jaxpr):
    """The names of all that is done in each scan that has no scan in it."""

    def inner(eqn):
        values = jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda v: hasattr(v, "eqns"))
        return [getattr(v, "jaxpr", v) for v in values if hasattr(v, "eqns")]

    def names(jaxpr):
        below = [name for eqn in jaxpr.eqns for body in inner(eqn) for name in names(body)]
        return [eqn.primitive.name for eqn in jaxpr.eqns] + below

    loops = []
    for eqn in jaxpr.eqns:
        for body in inner(eqn):
            last = eqn.primitive.name == "scan" and "scan" not in names(body)
            loops += [names(body)] if last else innermost_loops(body)
    return loops


def test_plan_says_what_runs(caplog):
    cell, other = cells.gru.cell, cells.gru.reset_before
    params, _, xs = setting(cell, 3, 4, 100, (2,))
    assert scan.plan(cell, xs) == scan.Plan("chunked", 25, True, 1, True)  # 32 does not divide 100
    assert scan.plan(cell, xs[:97]) == scan.Plan("chunked", 32, True, 1, True)  # nor is there any
    assert scan.plan(cell, np.zeros((97, 4, 5, 3))) == scan.Plan("chunked", 8, False, 1, True)
    assert scan.plan(cell, np.zeros((100, 8, 3))) == scan.Plan("chunked", 10, False, 1, True)
    assert scan.plan(cell, xs[:5]) == scan.Plan("scan", 5, False, 1, False)
    assert scan.plan(other, xs, memory="sqrt") == scan.Plan("scan", 10, False, 10, False)
    with caplog.at_level("DEBUG", "recur.scan"):
        jax.eval_shape(lambda: scan.run(cell, params, xs[:5]))
    assert "5 steps of state float32[2,4]: Plan(engine='scan', chunk=5, ahead=False" in caplog.text
    with pytest.raises(ValueError, match="engine must be one of auto, scan, chunked; got 'fast'"):
        scan.plan(cells.gru.cell, xs, engine="fast")
    with pytest.raises(ValueError, match="memory must be one of mix, states, chunks, sqrt"):
        jax.eval_shape(lambda: scan.run(cell, params, xs, memory="all"))
    with pytest.raises(ValueError, match="structure of a Unitwise cell, and this cell is not one"):
        scan.plan(cells.gru.reset_before, xs, engine="chunked")
