"""Programs for other machines: of sizes that are not known yet, and for GPU and TPU from a CPU."""

from functools import partial

import jax
import numpy as np
import pytest
from conftest import MADE, build, normal
from flax import nnx
from jax import export

from recur import Prior, Unitwise, analysis, cells, scan
from recur.compose import Bidirectional, Stacked
from recur.eigenvalues import eigenvalues, on_host
from recur.flax import models
from recur.scan.planning import Memory

GRU, LSTM = cells.gru.cell, cells.lstm.cell
D, N = 3, 4
STACK = Stacked(LSTM, Bidirectional(GRU))
ELSEWHERE = ("cuda", "tpu")
MEMORIES = Memory.__args__


def symbolic(*shape, dtype=np.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def shapes_of(cell, d=D, n=N):
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), Prior(), d, n))


def filled(shapes):
    return jax.tree.map(lambda a: normal(*a.shape).astype(a.dtype) / 2, shapes)


# --- sizes that are not known ---------------------------------------------------------------------


def passes(structure, leaves, xs, lengths):
    """Both directions over sequences of different lengths, and a loss with its derivatives.

    Parameters come as a list of arrays, which is what the file of a program can take.
    """
    both, params = jax.tree.unflatten(structure, leaves)

    def loss(params, xs):
        hs = scan.run(LSTM, params, xs, memory="sqrt")[1]
        _, summed = scan.total(lambda hs, ys: (hs * ys).sum(), LSTM, params, xs, xs[..., :1])
        return (hs**2).mean() + summed

    states = scan.states(Bidirectional(GRU), both, xs, lengths=lengths)
    return jax.tree.leaves((states, jax.value_and_grad(loss, (0, 1))(params, xs)))


SHAPES = shapes_of(Bidirectional(GRU)), shapes_of(LSTM)
PASSES = jax.jit(partial(passes, jax.tree.structure(SHAPES)))


@pytest.fixture(scope="module")
def reloaded():
    """`passes` exported for any T and B, saved, and loaded again."""
    T, B = export.symbolic_shape("T, B")
    args = symbolic(T, B, D), symbolic(B, dtype=np.int32)
    exported = export.export(PASSES)(jax.tree.leaves(SHAPES), *args)
    return export.deserialize(exported.serialize())


@pytest.mark.parametrize(
    ("T", "B"),
    [(40, 2), pytest.param(1, 1, marks=pytest.mark.slow)],
)
def test_a_program_of_any_length_and_batch_gives_the_same(reloaded, T, B):
    """At 40 steps ours is chunked, and the exported one a plain scan."""
    args = filled(jax.tree.leaves(SHAPES)), normal(T, B, D), np.arange(B, dtype=np.int32) * T // B
    for ours, expected in zip(reloaded.call(*args), PASSES(*args), strict=True):
        # float32, sums of up to 40 terms in another order
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_what_needs_a_number_of_steps_says_so():
    """And of a batch that is not known, only the chunked engine needs more."""
    T, B = export.symbolic_shape("T, B")
    params, start, xs = shapes_of(GRU), symbolic(N), symbolic(T, D)
    body = partial(scan.tied, GRU)

    def refused(message, function, *args):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(function, *args)

    for name, function in {
        "truncated.* needs T as a number; here it is T": lambda p, s, xs: scan.truncated(
            GRU, p, xs, s, truncate=2
        ),
        "piece=2 needs T": lambda p, s, xs: scan.total(
            lambda hs, ys: hs.sum(), GRU, p, xs, xs, s, piece=2
        ),
        "list of lags needs T": lambda p, s, xs: analysis.input_output(body(p), s, xs, [1]),
        "a lag needs T": lambda p, s, xs: analysis.input_directions(body(p), s, xs, 1),
        "map of lags needs T": lambda p, s, xs: analysis.gradient_map(
            lambda hs: hs.sum(1), body(p), s, xs, 1
        ),
        "spectrum.* needs T": lambda p, s, xs: analysis.lyapunov(jax.random.key(0), body(p), s, xs),
    }.items():
        refused(name, function, params, start, xs)
    for xs in (symbolic(T, D), symbolic(40, B, D)):
        chunked = partial(scan.run, GRU, engine="chunked")
        refused("needs the length of a sequence as a number.*symbolic sizes", chunked, params, xs)
        assert scan.plan(GRU, xs, memory="sqrt") == scan.Plan("scan", 1, False, 1, False)
    hs = jax.eval_shape(partial(scan.run, GRU), params, symbolic(T, D), symbolic(B, N))[1]
    assert hs.shape == (T, B, N)  # states that share inputs


def test_models_and_parallel_cells_take_symbolic_sizes():
    T, B = export.symbolic_shape("T, B")
    for module in (cells.mingru, cells.minlstm):
        h, hs = jax.eval_shape(module.parallel, shapes_of(module.cell), symbolic(T, B, D))
        assert (h.shape, hs.shape) == ((B, N), (T, B, N))
    for pool in (models.last, models.mean, models.ends):
        model = nnx.eval_shape(
            lambda pool=pool: models.Classifier(STACK, D, N, 2, pool=pool, rngs=nnx.Rngs(0))
        )
        logits = jax.eval_shape(
            lambda m, *a: m(*a), model, symbolic(T, B, D), symbolic(B, dtype=np.int32)
        )
        assert logits.shape == (B, 2)


# --- other machines -------------------------------------------------------------------------------


def lowers(function, *shapes):
    """Exported for a GPU and a TPU at once; the text of the program."""
    return export.export(jax.jit(function), platforms=ELSEWHERE)(*shapes).mlir_module()


ENGINES = [(engine, memory) for engine in ("scan", "chunked") for memory in MEMORIES]


def gradients(cell, ways, params, xs):
    """The gradient of a loss by each engine and memory."""

    def loss(params, way):
        engine, memory = way
        return (scan.run(cell, params, xs, engine=engine, memory=memory)[1] ** 2).sum()

    return [jax.grad(loss)(params, way) for way in ways]


def sizes(name):
    return (3, 9) if name.startswith("wave.") else (N, N)


def each_cell_lowers(chosen):
    """Every cell, by chosen(i, ways) of the ways that it can go."""
    for i, name in enumerate([*cells.names(), *MADE]):
        cell, (d, n) = build(name), sizes(name)
        ways = ENGINES if isinstance(cell, Unitwise) else ENGINES[: len(MEMORIES)]
        program = partial(gradients, cell, chosen(i, ways))
        lowers(program, shapes_of(cell, d, n), symbolic(40, 2, d))


def test_each_engine_and_memory_lowers_for_gpu_and_tpu():
    lowers(partial(gradients, GRU, [ENGINES[3], ENGINES[4]]), shapes_of(GRU), symbolic(40, 2, D))


@pytest.mark.slow
def test_every_cell_lowers_for_gpu_and_tpu():
    """Each by one memory, in turn, of the chunked engine if it has that."""
    each_cell_lowers(lambda i, ways: [ways[-1 - i % len(MEMORIES)]])


@pytest.mark.long
def test_every_cell_lowers_by_every_engine_and_memory():
    each_cell_lowers(lambda _, ways: ways)


KEY = jax.random.key(0)
ANALYSES = {
    "singular values": lambda b, s, xs: analysis.singular_value_details(b, s, xs),
    "input-output": lambda b, s, xs: analysis.input_output(b, s, xs, [0, 3]),
    "input directions": lambda b, s, xs: analysis.input_directions(b, s, xs, 2),
    "one step": lambda b, s, xs: analysis.one_step_spectra(b, s, xs),
    "top": lambda b, s, xs: analysis.top_log_singular_values(KEY, b, s, xs, 2),
    "density": lambda b, s, xs: analysis.singular_density(KEY, b, s, xs, 4),
    "gain": lambda b, s, xs: analysis.log_gain(KEY, b, s, xs),
    "gradient norms": lambda b, s, xs: analysis.gradient_norms(lambda hs: hs[-1].sum(), b, s, xs),
    "gradient map": lambda b, s, xs: analysis.gradient_map(lambda hs: hs.sum(1), b, s, xs, 2),
    "exponents": lambda b, s, xs: analysis.lyapunov_details(KEY, b, s, xs),
    "flossing": lambda b, s, xs: jax.grad(lambda s: analysis.flossing(KEY, b, s, xs, 2))(s),
    "growth": lambda b, s, xs: analysis.finite_growth(KEY, b, s, xs),
    "fixed points": lambda b, s, xs: analysis.fixed_points(b, s[None], xs[0]),
    "differentiated": lambda b, s, xs: jax.grad(
        lambda s: analysis.log_singular_values(b, s, xs).sum()
    )(s),
}
FAST, DEAR = ("growth", "fixed points"), ("differentiated", "flossing")


def analyses(names, params, start, xs):
    return [ANALYSES[name](scan.tied(GRU, params), start, xs) for name in names]


@pytest.mark.parametrize(
    "names",
    [
        FAST,
        pytest.param(sorted(set(ANALYSES) - set(FAST) - set(DEAR)), marks=pytest.mark.slow),
        pytest.param(DEAR, marks=pytest.mark.long),
    ],
    ids=["fast", "slow", "long"],
)
def test_analyses_lower_for_gpu_and_tpu(names):
    lowers(partial(analyses, names), shapes_of(GRU), symbolic(N), symbolic(9, D))


# --- eigenvalues, which a TPU does not have -------------------------------------------------------


def test_eigenvalues_found_on_the_host_are_those_of_the_device(x64):
    """One matrix, and a batch with NaN in it; the derivative against two neighbours."""
    a, da = normal(3, 4, 4), normal(4, 4, seed=1)
    broken = np.where(np.arange(3)[:, None, None] == 1, np.nan, a)

    def by(found, a):
        return jax.vmap(lambda a: found(a)[0] if found is on_host else found(a))(a)

    @jax.jit
    def numbers(a, broken):
        one, along = jax.jvp(eigenvalues, (a[0],), (da,))
        return one, along, on_host(a[0]), by(on_host, broken), by(eigenvalues, a)

    one, along, (values, V), batch, ours = jax.device_get(numbers(a, broken))
    np.testing.assert_allclose(a[0] @ V, V * values, atol=1e-12)
    np.testing.assert_allclose(values, np.linalg.eigvals(a[0]), rtol=1e-12)
    np.testing.assert_allclose(np.sort_complex(one), np.sort_complex(values), rtol=1e-12)
    assert np.isnan(batch[1]).all()
    for i in (0, 2):
        np.testing.assert_allclose(np.sort_complex(batch[i]), np.sort_complex(ours[i]), rtol=1e-12)
    near = [np.linalg.eigvals(a[0] + e * da) for e in (1e-6, -1e-6)]
    near = [v[np.abs(v - one[:, None]).argmin(1)] for v in near]
    np.testing.assert_allclose(along, (near[0] - near[1]) / 2e-6, rtol=1e-7, atol=1e-8)


def test_stability_lowers_for_a_gpu_and_calls_the_host_of_a_tpu():
    """Without a TPU the call itself cannot be lowered: there is no host that would take it."""
    program = jax.jit(lambda p, s, x: analysis.stability(scan.tied(GRU, p), s, x))
    traced = program.trace(shapes_of(GRU), symbolic(2, N), symbolic(D))
    assert "_eig_real" in traced.lower(lowering_platforms=("cuda",)).as_text()
    with pytest.raises(ValueError, match="backend cpu is different from the lowering platform tpu"):
        traced.lower(lowering_platforms=("tpu",))
