"""Cells, compositions, tasks and models are values: equal when made alike, copied, or sent away."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MADE, build, normal, small_medium
from flax import linen as nn
from flax import nnx

from recur import Cell, cells, compose, scan, tasks
from recur.cells.wave import Medium
from recur.compose import (
    Bidirectional,
    HighwaySkip,
    Residual,
    Stacked,
    layer_normed,
    learned_start,
    masked,
    recurrent_dropout,
    resetting,
    zoneout,
)
from recur.flax import models
from recur.flax.cells import LinenCell, NnxCell, from_linen, from_nnx
from recur.functions import Constant

GRU, LSTM, PLAIN = cells.gru.cell, cells.lstm.cell, cells.gru.reset_before
IMAGES, LABELS = np.arange(12, dtype=np.float32).reshape(3, 2, 2), np.array([0, 1, 1])


def compositions():
    """Each combinator, of a Unitwise cell and of a plain one where it takes both."""
    return {
        "masked": masked(GRU),
        "masked plain": masked(PLAIN),
        "resetting": resetting(masked(GRU)),
        "resetting plain": resetting(PLAIN),
        "dropout": recurrent_dropout(GRU),
        "zoneout": zoneout(LSTM),
        "zoneout plain": zoneout(cells.cornn.cell),
        "normed": layer_normed(LSTM),
        "learned": learned_start(GRU),
        "learned plain": learned_start(PLAIN),
        "stack": Stacked(GRU, Residual(layer_normed(LSTM))),
        "highway skip": HighwaySkip(zoneout(GRU)),
        "both": Bidirectional(GRU, masked(LSTM)),
        "masked stack": masked(Stacked(GRU, LSTM)),
        "resetting stack": resetting(Stacked(GRU, HighwaySkip(LSTM))),
        "zoneout stack": zoneout(Stacked(GRU, LSTM)),
        "learned stack": learned_start(Stacked(Residual(GRU), LSTM)),
        "orthogonal": compose.orthogonal(GRU),
        "sparse": compose.sparse(GRU, 0.5, 0.9),
        "glorot": compose.glorot(compose.identity(GRU)),
        "softplus": cells.vanilla.elman(jax.nn.softplus),
        "nnx": from_nnx(nnx.LSTMCell),
        "linen": from_linen(nn.LSTMCell(3)),
        "linen of ours": from_linen(LinenCell(LSTM, 3)),
    }


def all_tasks():
    return {
        "copy": tasks.copy(5),
        "memorisation": tasks.memorisation(5),
        "permutation": tasks.random_permutation(5),
        "adding": tasks.adding(10),
        "xor": tasks.delayed_xor(10),
        "order": tasks.temporal_order(10),
        "three": tasks.three_bit_order(10),
        "padded": tasks.padded(IMAGES, LABELS, 3, 0.1),
        "unrolled": tasks.unrolled(IMAGES, LABELS, 2),
        "permuted": tasks.unrolled(IMAGES, LABELS, 2, order=np.array([3, 1, 0, 2])),
    }


def all_models():
    """Each model, its arrays known by shape alone: nothing is drawn."""
    sizes = 5, 2, 3  # vocabulary, d, n
    made = {
        "classifier": lambda r: models.Classifier(Stacked(GRU, LSTM), 2, 3, 2, rngs=r),
        "pool": lambda r: models.Classifier(
            GRU, 2, 3, 2, pool=models.AttentionPool(3, rngs=r), rngs=r
        ),
        "tagger": lambda r: models.Embedded(
            models.Tagger(Bidirectional(GRU), 2, 3, 4, rngs=r), 5, 2, rngs=r
        ),
        "language": lambda r: models.LanguageModel(GRU, *sizes, rngs=r),
        "generator": lambda r: models.Generator(GRU, 2, *sizes, rngs=r),
        "translator": lambda r: models.AttentiveDecoder(GRU, LSTM, (5, 6), 2, 3, rngs=r),
        "autoencoder": lambda r: models.Autoencoder(GRU, *sizes, rngs=r),
        "hierarchical": lambda r: models.HierarchicalAutoencoder(GRU, *sizes, rngs=r),
        "of flax": lambda r: nnx.RNN(NnxCell(from_nnx(nnx.LSTMCell), 2, 3, rngs=r), rngs=r),
        "rnn": lambda r: nnx.RNN(nnx.GRUCell(2, 3, rngs=r), rngs=r),
    }
    return {name: nnx.eval_shape(lambda m=make: m(nnx.Rngs(0))) for name, make in made.items()}


@pytest.fixture(scope="module")
def values():
    constants = {name: build(name) for name in [*cells.names(), *MADE]}
    return {**constants, **compositions(), **all_tasks()}, all_models()


def sent(value):
    return pickle.loads(pickle.dumps(value))


def is_same(ours, theirs):
    """Every value equals the other of its name, in hash too; every model has the same tree."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
    for name, value in ours[0].items():
        assert theirs[0][name] == value, name
        assert hash(theirs[0][name]) == hash(value), name
    for name, model in ours[1].items():
        assert jax.tree.structure(theirs[1][name]) == jax.tree.structure(model), name
        assert nnx.graphdef(theirs[1][name]) == nnx.graphdef(model), name
        assert jax.tree.leaves(theirs[1][name]) == jax.tree.leaves(model), name  # their types


def test_a_value_is_itself_after_pickling_and_copying(values):
    """And it is no other: of all of them any two are unequal."""
    is_same(values, sent(values))
    is_same(values, copy.deepcopy(values))
    is_same(values, tuple({k: copy.copy(v) for k, v in part.items()} for part in values))
    assert len(set(values[0].values())) == len(values[0])


CHILD = """
import pickle, sys
values = pickle.load(sys.stdin.buffer)
from recur import cells, compose, tasks
assert all(cells.named(name) == values[0][name] for name in cells.names())
assert compose.masked(cells.gru.cell) == values[0]["masked"]
assert tasks.copy(5) == values[0]["copy"]
pickle.dump(values, sys.stdout.buffer)
"""


@pytest.mark.slow  # gates are found by running the cell
def test_biased_gates_are_values():
    one = compose.chrono(GRU, 20), compose.forget_bias(LSTM, 2.0)
    other = compose.chrono(T_max=20, cell=GRU), compose.forget_bias(LSTM, value=2)
    assert one == other == sent(one) == copy.deepcopy(one)
    assert hash(one) == hash(sent(one))


def test_another_process_gets_and_gives_equal_values(values):
    """A new one, in which every function has another address, and the text another hash."""
    run = subprocess.run(
        [sys.executable, "-c", CHILD], input=pickle.dumps(values), capture_output=True
    )
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    is_same(values, pickle.loads(run.stdout))


def test_what_was_sent_is_not_compiled_again(values):
    """As a static argument, and as a tree that holds a model."""
    traces = []

    def constant(cell, x):
        traces.append(1)
        return x

    def tree(model):
        traces.append(1)
        return jax.tree.leaves(model)

    compiled, of_model = jax.jit(constant, static_argnums=0), jax.jit(tree)
    for name in ("lstm", "masked", "stack", "sparse", "nnx", "linen", "copy", "permuted"):
        for value in (values[0][name], sent(values[0][name]), copy.deepcopy(values[0][name])):
            compiled.trace(value, 1.0)
        assert len(traces) == 1, name
        traces.clear()
    for name in ("classifier", "of flax", "rnn"):
        for model in (values[1][name], sent(values[1][name]), copy.deepcopy(values[1][name])):
            of_model.trace(model)
        assert len(traces) == 1, name
        traces.clear()


def test_a_model_that_was_sent_keeps_its_numbers():
    cell = from_nnx(nnx.SimpleCell)
    model = nnx.eval_shape(lambda: NnxCell(cell, 2, 3, rngs=nnx.Rngs(0)))
    module = jax.tree.map(lambda a: normal(*a.shape), model)
    there, xs = sent(module), normal(4, 2)
    one, other = jax.jit(lambda *m: [scan.run(cell, each.values, xs)[1] for each in m])(
        module, there
    )
    np.testing.assert_array_equal(one, other)
    assert np.abs(one).min() > 0


def test_values_are_equal_however_they_are_written():
    medium = small_medium()
    for one, other in [
        (cells.vanilla.elman(jnp.tanh), cells.vanilla.elman(phi=jnp.tanh)),
        (cells.vanilla.elman(jnp.tanh), cells.vanilla.cell),
        (cells.lstm.long_short(phi=jnp.tanh), cells.lstm.cell),
        (cells.leaky.fixed(alpha=1), cells.leaky.fixed(np.float64(1))),
        (cells.leaky.fixed(jnp.float32(0.5)), cells.leaky.fixed(0.5)),
        (cells.antisymmetric.euler(gamma=0.1, eps=0.1), cells.antisymmetric.cell),
        (cells.cornn.oscillators(0.1, epsilon=1, gamma=1), cells.cornn.cell),
        (cells.highway.deep(L=3), cells.highway.deep(np.int32(3))),
        (cells.wave.linear(medium=medium), cells.wave.saturable(medium, 0, 1)),
        (
            cells.wave.linear(dataclasses.replace(medium, sources=[[0, 1], [1, 2], [2, 0]])),
            cells.wave.linear(medium),
        ),
        (masked(cell=GRU), masked(GRU)),
        (compose.sparse(GRU, spectral_radius=1, density=1), compose.sparse(GRU, 1.0, 1.0)),
        (tasks.copy(T=5), tasks.copy(5)),
        (tasks.copy(5, length=10), tasks.copy(5, 8)),
        (tasks.padded(IMAGES, LABELS, noise=0, T=3), tasks.padded(IMAGES + 0, LABELS, 3, 0.0)),
        (from_nnx(make=nnx.LSTMCell), from_nnx(nnx.LSTMCell)),
    ]:
        assert one == other
        assert hash(one) == hash(other)


def test_tasks_of_other_images_are_other_tasks():
    """Of the same shape; one bit is enough, and that of NaN is one."""
    for change in (np.nan, 5.5, -0.0):
        other = IMAGES.copy()
        other[0, 0, 0] = change
        ours = tasks.unrolled(other, LABELS, 2)
        assert ours != tasks.unrolled(IMAGES, LABELS, 2)
        assert ours == sent(ours)
    assert Constant(np.zeros(2)) != Constant(np.zeros(2, np.float32))
    assert Constant(np.zeros(2)) != 0


def test_a_medium_holds_tuples():
    """Of lists and of arrays, or its cell would have no hash."""
    wanted = Medium((3, 4), ((0, 1), (2, 2)), ((1, 1),), border=1)
    given = Medium([3, 4], np.array([[0, 1], [2, 2]]), [np.array([1, 1])], border=1)
    assert given == wanted
    assert hash(given) == hash(wanted)


def test_a_phi_without_a_hash_is_refused():
    class Phi:
        __hash__ = None

        def __call__(self, a):
            return a

    for make in (cells.vanilla.elman, cells.lstm.long_short):
        with pytest.raises(TypeError, match=r"a cell is a constant.*has none"):
            make(Phi())


def test_jitted_functions_are_pickled_by_the_name_that_their_module_has_for_them():
    for phi in (jnp.tanh, jax.nn.relu, jax.nn.silu, jnp.maximum, jax.nn.softmax):
        assert sent(phi) is phi
        assert copy.deepcopy(phi) is phi
    other = jax.jit(np.tanh)  # its module does not have it
    assert copy.deepcopy(other) is not other
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(other)


def test_a_replaced_function_keeps_what_a_cell_takes():
    """By dataclasses.replace, which experiments use: before pickling and after."""
    cell = dataclasses.replace(GRU, init=cells.gru.init_reset_before)
    for changed in (cell, sent(cell), copy.copy(cell)):
        assert changed.takes is GRU.takes
        with pytest.raises(ValueError, match=r"are lstm\.Params, which another cell takes"):
            scan.tied(changed, cells.lstm.Params(normal(3, 12), normal(2, 12), normal(12)))
    own = Cell(PLAIN.init, PLAIN.start, PLAIN.step)
    assert dataclasses.replace(own, takes=PLAIN.takes, gates=PLAIN.gates) == PLAIN
