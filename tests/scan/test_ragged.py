"""Sequences of different lengths, with holes and resets, against each sequence run alone."""

import itertools
import operator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import some_slow

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


def draw(network, steps=T):
    """Parameters (learned starts too), a start of each sequence and inputs, all drawn by NumPy."""
    rng = np.random.default_rng(4)

    def begin():
        params = network.init(KEY, Prior(), D, N)
        return params, network.start(params, BATCH), jnp.zeros((steps, *BATCH, D))

    return jax.tree.map(
        lambda a: np.asarray(rng.normal(size=a.shape), a.dtype), jax.eval_shape(begin)
    )


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
    fresh = network.start(params)
    sequences = list(itertools.product(*map(range, BATCH)))
    every = {}  # of each document, the steps that are there and where they start from
    for at in sequences:
        own = jax.tree.map(operator.itemgetter(at), state)
        documents = np.split(np.arange(T), np.flatnonzero(reset[(slice(1, None), *at)]) + 1)
        for k, document in enumerate(documents):
            ahead = own if k == 0 and not reset[(0, *at)] else fresh
            start = by_way(reverse, ahead, own if k == len(documents) - 1 else fresh)
            every[at, k] = document[there[(document, *at)]], start

    ends = {which: start for which, (_, start) in every.items()}
    one = partial(run, network, params, reverse=reverse)
    hs = None
    for steps in sorted({len(document) for document, _ in every.values()} - {0}):
        alike = [which for which, (document, _) in every.items() if len(document) == steps]
        starts = jax.tree.map(lambda *a: jnp.stack(a), *(every[which][1] for which in alike))
        where = (
            np.stack([every[which][0] for which in alike], 1),
            *np.transpose([a for a, _ in alike]),
        )
        found, outputs = jax.vmap(one, (1, 0), (0, 1))(xs[where], starts)
        hs = jnp.zeros((T, *BATCH, outputs.shape[-1]), xs.dtype) if hs is None else hs
        hs = hs.at[where].set(outputs)
        for i, which in enumerate(alike):
            ends[which] = jax.tree.map(operator.itemgetter(i), found)

    def last(at):
        own = [end for (whose, _), end in ends.items() if whose == at]
        return by_way(reverse, own[-1], own[0])

    finals = [last(at) for at in sequences]
    return jax.tree.map(lambda *a: jnp.stack(a).reshape(*BATCH, *a[0].shape), *finals), hs


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

    @jax.jit
    def outcomes(params, state, xs, hidden):
        both = []
        for f, xs_of in ((together, hidden), (apart, xs)):
            graded = jax.value_and_grad(f, (0, 1, 2), has_aux=True)
            (_, result), gradient = graded(params, state, xs_of)
            both.append((result, gradient))
        return both

    ours, expected = outcomes(params, state, xs, np.where(there[..., None], xs, np.nan))
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    # float64 rounding of a few dozen steps
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stacked", "stacked bidirectional"])
def test_holes_and_documents_equal_each_document_alone(name, x64):
    assert (documents() & ~holes()).any()  # a reset counts also on a masked step
    compare(NETWORKS[name], holes(), documents(), mask=holes())


def test_lengths_equal_each_sequence_alone(x64):
    compare(Bidirectional(GRU), lengths_as_mask(LENGTHS), lengths=LENGTHS)


@pytest.mark.parametrize(
    "reverse",
    [pytest.param(False, marks=pytest.mark.slow), pytest.param(True, marks=pytest.mark.long)],
)
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
    xs = np.where(mask[..., None], xs, np.nan)

    @jax.jit
    def tangents(lengths):
        return jax.jvp(lambda p: run(LSTM, p, xs, state, lengths=lengths)[1], (params,), (params,))

    for hs in map(np.asarray, tangents(LENGTHS)):
        assert np.isfinite(hs).all()
        assert not hs[~mask].any()
        assert (hs[mask] != 0).all()
    late, _ = tangents(LENGTHS + T)  # traced lengths beyond T act as T
    assert np.isnan(np.asarray(late)[-1]).any()


def test_states_of_every_step():
    """Each is the final state of a run that ends there, and carried where no step is."""
    network, mask = Stacked(GRU, Residual(GRU)), holes()
    params, _, xs = draw(network)

    @jax.jit
    def both(params, xs):
        every = scan.states(network, params, xs, mask=mask)
        return every, run(network, params, xs[:3], mask=mask[:3])[0]

    every, final = jax.device_get(both(params, xs))
    here = jax.tree.map(operator.itemgetter(2), every)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), here, final)
    for states in jax.tree.leaves(every):
        assert not states[:, 0, 0].any()  # zero is where they start
        np.testing.assert_array_equal(states[0, 1, 1], states[1, 1, 1])


def test_states_of_both_directions():
    network = Bidirectional(LSTM, GRU)

    @jax.jit
    def states_and_run(params, state, xs):
        return scan.states(network, params, xs, state), run(network, params, xs, state)

    both, ((forward, backward), hs) = jax.device_get(states_and_run(*draw(network)))
    np.testing.assert_array_equal(np.concatenate([both.forward.h, both.backward], -1), hs)
    np.testing.assert_array_equal(both.forward.c[-1], forward.c)
    np.testing.assert_array_equal(both.backward[0], backward)


@pytest.mark.parametrize("name", ["unitwise", "cell"])
def test_streaming_with_masks_and_resets_equals_one_pass(name):
    network = NETWORKS[name]
    mask, reset = holes(), documents()

    @jax.jit
    def whole_and_pieces(params, state, xs):
        middle, first = run(network, params, xs[:2], state, mask=mask[:2], reset=reset[:2])
        end, second = run(network, params, xs[2:], middle, mask=mask[2:], reset=reset[2:])
        whole = run(network, params, xs, state, mask=mask, reset=reset)
        return whole, (end, jnp.concatenate([first, second]))

    whole, pieces = whole_and_pieces(*draw(network))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), pieces, whole)  # float32


XS = np.ones((T, *BATCH, D), np.float32)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"mask": np.ones((T, 2), bool)},
            r"mask must have shape \(T, ...batch\) = \(5, 2, 2\).*; got \(5, 2\)",
        ),
        ({"mask": np.ones((T, *BATCH))}, r"mask must hold booleans.*float.*mask != 0"),
        (
            {"reset": np.ones(T, bool)},
            r"reset must have shape .*; got \(5,\).*broadcast_to where all share one",
        ),
        ({"reset": np.ones((T, *BATCH), int)}, r"reset must hold booleans.*int.*reset != 0"),
        ({"lengths": LENGTHS + 1}, r"within 0 .. T = 5; got 1 to 6. Shorten them, or pad"),
        ({"lengths": LENGTHS - 1}, r"within 0 .. T = 5; got -1 to 4"),
        ({"lengths": 3}, r"the shape of the batch axes, \(2, 2\).*; got \(\)"),
        ({"lengths": LENGTHS[0]}, r"lengths must have .*; got \(2,\)"),
        ({"lengths": LENGTHS / 2}, r"lengths must hold integers.* holds float"),
    ],
)
@pytest.mark.parametrize("f", [run, scan.states])
def test_bad_lengths_masks_and_resets(f, how, message):
    params = cells.gru.Params(*(np.ones(shape, np.float32) for shape in ((N, 9), (D, 9), (9,))))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda xs: f(GRU, params, xs, **how), XS)


def test_batch_first_is_caught():
    """By lengths and masks whose shape shows it, and by a mask of the right shape whose padding
    runs along the wrong axis; a mask with gaps, or one that all sequences share, is none of these.
    """
    first = np.ones((3, T, D), np.float32)

    def refused(message, **how):
        with pytest.raises(ValueError, match=message):
            scan.present(first, **how)

    refused(r"batch axes first: .* pass jnp.moveaxis\(xs, -2, 0\)", lengths=np.array([1, 2, 3]))
    refused(r"One of the two has batch axes first", mask=np.ones((T, 3), bool))
    with pytest.raises(ValueError, match="have batch axes first"):
        scan.present(np.ones((2, 3, T, D)), np.ones((2, 3), int))
    padded = np.arange(T) < np.array([2, 5, 3])[:, None]
    with pytest.warns(UserWarning, match=r"mask \(3, 5\) is padded along its second axis"):
        scan.present(first, mask=padded)
    scan.present(np.ones((T, 3, D)), mask=padded.T)
    gaps = np.array([True, False, True, True])[:, None]
    scan.present(np.ones((4, 6, D)), mask=np.broadcast_to(gaps, (4, 6)))
    scan.present(np.ones((T, 3, D)), mask=np.random.default_rng(0).random((T, 3)) < 0.5)


def test_present_needs_no_batch():
    xs = np.ones((4, 2))
    assert jax.jit(lambda: scan.present(xs, 3))().tolist() == [True, True, True, False]
    assert scan.present(xs) is None


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


@pytest.mark.parametrize("name", ["unitwise", "stacked bidirectional", *some_slow({"stacked"}, "")])
def test_states_that_share_a_ragged_batch(name, x64):
    """Three starts of each sequence: each pair is as if run alone, beyond 32 steps, too."""
    network, steps = NETWORKS[name], 40
    params, state, xs = draw(network, steps)
    lengths = np.array([[0, steps], [3, 33]])
    reset = np.zeros((steps, *BATCH), bool)
    reset[2, 1] = True
    there = np.arange(steps)[:, None, None] < lengths
    xs = np.where(there[..., None], xs, np.nan)

    @jax.jit
    def both(states):
        def f(states):
            return run(network, params, xs, states, lengths=lengths, reset=reset)

        return f(states), jax.vmap(f, out_axes=(0, 1))(states)

    states = jax.tree.map(lambda a: np.stack([a, -a, 2 * a]), state)
    # float64 rounding of forty steps
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), *both(states))


def test_lengths_of_eight_bits():
    for kind in (np.uint8, np.int8):
        lengths = np.array([10, 100], kind)
        there = jax.jit(lambda lengths=lengths: scan.present(np.zeros((300, 2, 1)), lengths))()
        assert np.sum(there, 0).tolist() == [10, 100]
