"""Sequences of different lengths, with holes and resets, against each sequence run alone."""

import itertools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from recur import Prior, cells, scan
from recur.compose import Bidirectional, HighwaySkip, Residual, Stacked, learned_start
from recur.scan import run

KEY = jax.random.key(3)
T, D, N = 5, 3, 3  # the inputs of a skip, with their NaN, join its outputs
BATCH = (2, 2)  # two batch axes
LENGTHS = np.array([[0, T], [3, 1]])

LSTM, GRU, BEFORE = cells.lstm.cell, cells.gru.cell, cells.gru.reset_before
CELL = learned_start(LSTM)  # a start that is not zero: a reset must bring mix(start) too
NETWORKS = {
    "unitwise": CELL,
    "cell": BEFORE,
    "stacked": Stacked(HighwaySkip(BEFORE), Residual(CELL)),
    "stacked bidirectional": Stacked(Bidirectional(LSTM, CELL), GRU),
}


def draw(network):
    """Parameters (learned starts too), a start of each sequence and inputs, all drawn."""
    params = network.init(KEY, Prior(1.3, 0.9, 0.4, 0.3), D, N)
    point, unravel = ravel_pytree((params, network.start(params, BATCH), jnp.zeros((T, *BATCH, D))))
    params, state, xs = unravel(jax.random.normal(jax.random.key(4), point.shape))
    return params, state, xs


def lengths_as_mask(lengths):
    return np.arange(T)[:, None, None] < lengths


def holes():
    """A mask with holes, one sequence that is all there and one that is not there at all."""
    mask = np.ones((T, *BATCH), bool)
    mask[:, 0, 0] = False
    mask[[0, 2], 1, 0] = False
    mask[[1, 4], 1, 1] = False
    return mask


def documents():
    """Where documents begin: at the first step, in the middle, and on a masked step."""
    reset = np.zeros((T, *BATCH), bool)
    reset[0, 0], reset[2, 1] = True, True
    return reset


def weighed(tree):
    """A number in which every entry has a weight of its own."""
    leaves = jax.tree.leaves(tree)
    return sum(jnp.vdot(np.sin(1.0 + np.arange(a.size)).astype(a.dtype), a) for a in leaves)


def by_way(reverse, ahead, back):
    """Of each part of the state, `back` where that part walks backward, else `ahead`."""

    def part(path, a, b):
        return b if reverse ^ ("backward" in jax.tree_util.keystr(path)) else a

    return jax.tree.map_with_path(part, ahead, back)


def alone(network, params, state, xs, there, reset, reverse):
    """Final states and outputs, each document of each sequence run by itself.

    Only the steps that are there are ever looked at; the outputs at the others are zero.
    """
    finals, outputs = [], []
    for at in itertools.product(*map(range, BATCH)):
        own, fresh = jax.tree.map(operator.itemgetter(at), state), network.start(params)
        documents = np.split(np.arange(T), np.flatnonzero(reset[(slice(1, None), *at)]) + 1)
        last, ends, row = len(documents) - 1, [], [None] * T
        for k, document in enumerate(documents):
            ahead = own if k == 0 and not reset[(0, *at)] else fresh
            end = by_way(reverse, ahead, own if k == last else fresh)
            steps = document[there[(document, *at)]]
            if len(steps):
                end, hs = run(network, params, xs[(steps, *at)], end, reverse=reverse)
                for t, h in zip(steps, hs, strict=True):
                    row[t] = h
            ends.append(end)
        finals.append(by_way(reverse, ends[-1], ends[0]))
        outputs.append(row)
    nothing = jnp.zeros_like(next(h for h in outputs[-1] if h is not None))
    hs = [jnp.stack([nothing if h is None else h for h in row]) for row in outputs]
    final = jax.tree.map(lambda *a: jnp.stack(a).reshape(*BATCH, *a[0].shape), *finals)
    return final, jnp.stack(hs, axis=1).reshape(T, *BATCH, -1)


def compare(network, there, reset=None, reverse=False, **how):
    """Results and all gradients, with NaN wherever no step is."""
    params, state, xs = draw(network)
    borders = np.zeros((T, *BATCH), bool) if reset is None else reset

    def together(params, state, xs):
        result = run(network, params, xs, state, reset=reset, reverse=reverse, **how)
        return weighed(result), result

    def apart(params, state, xs):
        result = alone(network, params, state, xs, there, borders, reverse)
        return weighed(result), result

    def outcome(f, xs):
        graded = jax.value_and_grad(f, (0, 1, 2), has_aux=True)
        (_, result), gradient = jax.jit(graded)(params, state, xs)
        return result, gradient

    ours = outcome(together, jnp.where(there[..., None], xs, jnp.nan))
    expected = outcome(apart, xs)
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    # float64 rounding of a few dozen steps
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, expected)


@pytest.mark.parametrize("name", ["stacked", "stacked bidirectional"])
def test_holes_and_documents_equal_each_document_alone(name, x64):
    assert (documents() & ~holes()).any()  # a reset counts also on a masked step
    compare(NETWORKS[name], holes(), documents(), mask=holes())


def test_lengths_equal_each_sequence_alone(x64):
    compare(Bidirectional(GRU), lengths_as_mask(LENGTHS), lengths=LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("network", [*NETWORKS.values(), Stacked(*[Bidirectional(LSTM)] * 2)])
def test_lengths_equal_each_sequence_alone_in_every_network(network, reverse, x64):
    compare(network, lengths_as_mask(LENGTHS), reverse=reverse, lengths=LENGTHS)


@pytest.mark.parametrize("name", ["unitwise", "cell"])
def test_reverse_starts_at_each_own_end(name, x64):
    """With holes, lengths and documents at once: nothing passes a border backward either."""
    lengths = np.array([[T, T], [4, T]])
    there = holes() & lengths_as_mask(lengths)
    compare(NETWORKS[name], there, documents(), reverse=True, mask=holes(), lengths=lengths)


def test_forward_mode_and_masked_outputs(x64):
    """Lengths may be traced; what is not there is zero, in tangents too."""
    params, state, xs = draw(LSTM)
    mask = lengths_as_mask(LENGTHS)
    xs = jnp.where(mask[..., None], xs, jnp.nan)

    @jax.jit
    def tangents(lengths):
        return jax.jvp(lambda p: run(LSTM, p, xs, state, lengths=lengths)[1], (params,), (params,))

    for hs in tangents(jnp.asarray(LENGTHS)):
        assert jnp.isfinite(hs).all()
        assert not hs[~mask].any()
        assert (hs[mask] != 0).all()
    late = tangents(jnp.asarray(LENGTHS) + T)  # traced lengths beyond T act as T
    assert jnp.isnan(late[0][-1]).any()


def test_states_of_every_step():
    """Each is the final state of a run that ends there, and carried where no step is."""
    network, mask = Stacked(GRU, Residual(GRU)), holes()
    params = network.init(KEY, Prior(), D, D)
    xs = jax.random.normal(KEY, (T, *BATCH, D))
    every = scan.states(network, params, xs, mask=mask)
    final, _ = run(network, params, xs[:3], mask=mask[:3])
    here = jax.tree.map(operator.itemgetter(2), every)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), here, final)
    for states in jax.tree.leaves(every):
        assert not states[:, 0, 0].any()  # zero is where they start
        np.testing.assert_array_equal(states[0, 1, 1], states[1, 1, 1])


def test_states_of_both_directions():
    network = Bidirectional(LSTM, GRU)
    params, state, xs = draw(network)
    both = scan.states(network, params, xs, state)
    (forward, backward), hs = run(network, params, xs, state)
    np.testing.assert_array_equal(jnp.concatenate([both.forward.h, both.backward], -1), hs)
    np.testing.assert_array_equal(both.forward.c[-1], forward.c)
    np.testing.assert_array_equal(both.backward[0], backward)


@pytest.mark.parametrize("name", ["unitwise", "cell"])
def test_streaming_with_masks_and_resets_equals_one_pass(name):
    network = NETWORKS[name]
    params, state, xs = draw(network)
    mask, reset = holes(), documents()
    final, hs = run(network, params, xs, state, mask=mask, reset=reset)
    middle, first = run(network, params, xs[:2], state, mask=mask[:2], reset=reset[:2])
    end, second = run(network, params, xs[2:], middle, mask=mask[2:], reset=reset[2:])
    np.testing.assert_allclose(jnp.concatenate([first, second]), hs, atol=1e-6)  # float32
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), end, final)


XS = jnp.ones((T, *BATCH, D))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"mask": np.ones((T, 2), bool)},
            r"mask has shape \(5, 2\).* \(T, ...batch\) = \(5, 2, 2\)",
        ),
        ({"mask": np.ones((T, *BATCH))}, r"mask holds float.*mask != 0"),
        ({"reset": np.ones(T, bool)}, r"reset has shape \(5,\).*broadcast_to where all share one"),
        ({"reset": np.ones((T, *BATCH), int)}, r"reset holds int.*reset != 0"),
        ({"lengths": LENGTHS + 1}, r"between 0 and T = 5; got 1 to 6. Shorten them, or pad"),
        ({"lengths": LENGTHS - 1}, r"between 0 and T = 5; got -1 to 4"),
        ({"lengths": 3}, r"lengths has shape \(\); .* that of the batch axes, \(2, 2\)"),
        ({"lengths": LENGTHS[0]}, r"lengths has shape \(2,\)"),
        ({"lengths": LENGTHS / 2}, r"lengths holds float.*pass integers"),
    ],
)
@pytest.mark.parametrize("f", [run, scan.states])
def test_bad_lengths_masks_and_resets(f, how, message):
    params = GRU.init(KEY, Prior(), D, N)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda xs: f(GRU, params, xs, **how), XS)


def test_present_needs_no_batch():
    assert scan.present(jnp.ones((4, 2)), 3).tolist() == [True, True, True, False]
    assert scan.present(jnp.ones((4, 2))) is None


@pytest.mark.slow
def test_every_cell_takes_masks_and_resets(cell, params, sizes):
    """Holes and documents against plain runs of what is there; any shape of state."""
    xs = jax.random.normal(KEY, (T, 2, sizes[0]))
    mask = jnp.ones((T, 2), bool).at[1, 0].set(False)
    reset = jnp.zeros((T, 2), bool).at[3].set(True)
    padded = jnp.where(mask[..., None], xs, jnp.nan)
    final, hs = run(cell, params, padded, mask=mask, reset=reset)
    _, first = run(cell, params, xs[np.array([0, 2]), 0])
    end, second = run(cell, params, xs[3:, 0])
    np.testing.assert_allclose(hs[np.array([0, 2]), 0], first, atol=1e-5)  # float32
    np.testing.assert_allclose(hs[3:, 0], second, atol=1e-5)
    own = jax.tree.map(operator.itemgetter(0), final)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), own, end)

    def loss(params):
        return run(cell, params, padded, mask=mask, reset=reset)[1].sum()

    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(jax.jit(jax.grad(loss))(params)))


@pytest.mark.parametrize("name", ["unitwise", "stacked", "stacked bidirectional"])
def test_states_that_share_a_ragged_batch(name, x64):
    """Three starts of each sequence: each pair is as if run alone, beyond 32 steps, too."""
    network, steps = NETWORKS[name], 40
    params, state, _ = draw(network)
    xs = jax.random.normal(KEY, (steps, *BATCH, D))
    lengths = np.array([[0, steps], [3, 33]])
    reset = jnp.zeros((steps, *BATCH), bool).at[2, 1].set(True)
    xs = jnp.where(scan.present(xs, lengths)[..., None], xs, jnp.nan)
    states = jax.tree.map(lambda a: jnp.stack([a, -a, 2 * a]), state)

    def f(states):
        return run(network, params, xs, states, lengths=lengths, reset=reset)

    ours = jax.jit(f)(states)
    expected = jax.jit(jax.vmap(f, out_axes=(0, 1)))(states)
    # float64 rounding of forty steps
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, expected)


def test_lengths_of_eight_bits():
    for kind in (np.uint8, np.int8):
        assert scan.present(jnp.zeros((300, 2, 1)), np.array([10, 100], kind)).sum(0).tolist() == [
            10,
            100,
        ]
