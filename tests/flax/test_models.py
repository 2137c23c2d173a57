"""Models in nnx: ragged batches against each sequence alone, losses against enumeration, and what
they learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import some_slow
from flax import nnx

from experiments import data
from recur import analysis, cells, scan, tasks, train
from recur.compose import Bidirectional, Residual, Stacked
from recur.flax.models import (
    AttentionPool,
    AttentiveDecoder,
    Autoencoder,
    Classifier,
    Embedded,
    EncoderDecoder,
    Generator,
    HierarchicalAutoencoder,
    LanguageModel,
    Tagger,
    cross_entropy,
    ctc,
    ctc_decode,
    ctc_greedy,
    edit_distance,
    ends,
    greedy,
    label_error_rate,
    last,
    mean,
    sampled,
    sampled_cross_entropy,
)
from recur.flax.models.pooling import attend
from recur.generate import scheduled

KEY = jax.random.key(7)
T, B, D, N, K = 5, 4, 3, 4, 6
GRU, LSTM = cells.gru.cell, cells.lstm.cell
DEEP, BOTH = Stacked(GRU, Residual(LSTM)), Bidirectional(GRU, LSTM)
DRAWS = np.random.default_rng(7)
XS = DRAWS.normal(size=(T, B, D)).astype(np.float32)
SYMBOLS = DRAWS.integers(K, size=(T, B), dtype=np.int32)
LENGTHS = np.array([3, T, 0, 1])
PADDED = np.arange(T)[:, None] >= LENGTHS
CLOSE = {"atol": 2e-6}  # float32, a few products of size 10


def rngs():
    return nnx.Rngs(0)


def filled(make, *sizes):
    """A model with numbers from NumPy in place of its draw, which would be compiled."""
    numbers = np.random.default_rng(0)
    model = jax.eval_shape(lambda: make(*sizes, rngs=rngs()))
    return jax.tree.map(lambda a: (numbers.normal(size=a.shape) / 2).astype(a.dtype), model)


def traced(function, *known):
    """The shape of what a function gives: it is traced with values that are known, not compiled."""
    return jax.eval_shape(lambda: function(*known))


VECTOR_MODELS = {
    "last": lambda rngs: Classifier(DEEP, D, N, K, rngs=rngs),
    "ends": lambda rngs: Classifier(Stacked(GRU, BOTH), D, N, K, pool=ends, rngs=rngs),
    "mean": lambda rngs: Classifier(BOTH, D, N, K, pool=mean, rngs=rngs),
    "attention": lambda rngs: Classifier(GRU, D, N, K, pool=AttentionPool(N, rngs=rngs), rngs=rngs),
    "tagger": lambda rngs: Tagger(Stacked(BOTH, GRU), D, N, K, rngs=rngs),
}
READERS = {
    "encoder-decoder": lambda rngs: EncoderDecoder(BOTH, DEEP, (K, K), D, N, pool=ends, rngs=rngs),
    "attention": lambda rngs: AttentiveDecoder(Stacked(BOTH, GRU), DEEP, (K, K), D, N, rngs=rngs),
}


@pytest.mark.parametrize("name", ["attention", "tagger", *some_slow({"last", "ends", "mean"}, "")])
def test_ragged_batches_of_vectors_equal_each_alone(name):
    xs = np.where(PADDED[..., None], np.nan, XS)

    @jax.jit
    def everything(model, xs):
        alone = [model(XS[:length, i]) for i, length in enumerate(LENGTHS) if length]
        empty = model.readout(jnp.zeros(model.readout.in_features))

        def squares(model, xs):
            out = model(xs, LENGTHS)
            return (out**2).sum(), out

        gradient, out = jax.grad(squares, (0, 1), has_aux=True)(model, xs)
        return out, alone, gradient, empty

    found = everything(filled(VECTOR_MODELS[name]), xs)
    out, alone, gradient, empty = jax.tree.map(np.asarray, found)
    for i, expected in zip(np.flatnonzero(LENGTHS), alone, strict=True):
        got = out[: LENGTHS[i], i] if name == "tagger" else out[i]
        np.testing.assert_allclose(got, expected, **CLOSE)
    np.testing.assert_allclose(out[0, 2] if name == "tagger" else out[2], empty, **CLOSE)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not gradient[1][PADDED].any()


@pytest.mark.parametrize("name", ["encoder-decoder", *some_slow({"attention"}, "")])
def test_ragged_sources_equal_each_alone(name):
    targets = np.random.default_rng(1).integers(K, size=(3, B), dtype=np.int32)

    @jax.jit
    def everything(model):
        alone = [
            model(SYMBOLS[:length, i], targets[:, i]) for i, length in enumerate(LENGTHS) if length
        ]
        out = model(np.where(PADDED, -1, SYMBOLS), targets, LENGTHS)
        return out, alone, model(SYMBOLS, targets, LENGTHS - (LENGTHS > 1))

    out, alone, shorter = jax.tree.map(np.asarray, everything(filled(READERS[name])))
    for i, expected in zip(np.flatnonzero(LENGTHS), alone, strict=True):
        np.testing.assert_allclose(out[:, i], expected, **CLOSE)
    assert np.isfinite(out).all()
    assert (abs(shorter - out)[:, LENGTHS > 1] > 1e-4).any(axis=(0, 2)).all()  # all of it is read


def test_ragged_symbols_of_the_autoencoder_and_the_language_model():
    padded = np.where(PADDED, -1, SYMBOLS)

    @jax.jit
    def everything(coder, model):
        own = [SYMBOLS[:length, i] for i, length in enumerate(LENGTHS) if length]
        alone = [(coder.encode(symbols), model(symbols)) for symbols in own]
        return coder.encode(padded, LENGTHS), model(padded, LENGTHS), alone

    coder, model = filled(Autoencoder, DEEP, K, D, N), filled(LanguageModel, DEEP, K, D, N)
    codes, logits, alone = jax.tree.map(np.asarray, everything(coder, model))
    for i, (code, expected) in zip(np.flatnonzero(LENGTHS), alone, strict=True):
        np.testing.assert_allclose(codes[i], code, **CLOSE)
        np.testing.assert_allclose(logits[: LENGTHS[i], i], expected, **CLOSE)


def test_ragged_documents_equal_each_alone():
    words = np.random.default_rng(7).integers(K, size=(3, 4, 2), dtype=np.int32)
    lengths = np.array([[4, 2], [3, 0], [0, 1]])  # one of two sentences, one with an empty one
    padded = np.where(np.arange(4)[:, None] >= lengths[:, None], -1, words)

    @jax.jit
    def everything(model):
        model_codes = model.encode(padded, lengths)
        first = model.encode(words[:2, :, 0], lengths[:2, 0])
        second = model.encode(words[:, :, 1], lengths[:, 1])
        # both levels of the first by hand, for sentences of whole words, in both orders
        hs = [
            scan.run(GRU, model.words.values, model.embed(s))[1][-1]
            for s in (words[0, :4, 0], words[1, :3, 0])
        ]
        orders = jnp.stack([jnp.stack(hs), jnp.stack(hs[::-1])], axis=1)
        by_hand, turned = scan.run(GRU, model.sentences.values, orders)[1][-1]
        model.combine = "sum"
        summed = model.encode(padded, lengths), model.encode(padded[::-1], lengths[::-1]), sum(hs)
        return model_codes, jnp.stack([first, second]), by_hand, turned, summed

    model = filled(HierarchicalAutoencoder, GRU, K, D, N)
    codes, own, by_hand, turned, summed = jax.tree.map(np.asarray, everything(model))
    np.testing.assert_allclose(summed[0][0], summed[2], **CLOSE)
    np.testing.assert_allclose(summed[1], summed[0], **CLOSE)  # in any order, an empty one is none
    np.testing.assert_allclose(codes, own, **CLOSE)
    np.testing.assert_allclose(codes[0], by_hand, **CLOSE)
    assert abs(turned - by_hand).max() > 1e-3  # the order of the sentences counts


def test_pools_by_their_formulas():
    hs = np.where(PADDED[..., None], np.nan, XS)  # what is not there is not read

    @jax.jit
    def everything(pool, hs):
        two = jnp.concatenate([hs, hs], axis=-1)
        return last(hs, LENGTHS), mean(hs, LENGTHS), ends(two, LENGTHS), pool(hs, LENGTHS)

    pool = filled(AttentionPool, D)
    lasts, means, both, attended = map(np.asarray, everything(pool, hs))
    for i, length in enumerate(LENGTHS):
        own = hs[:length, i] if length else np.zeros((1, D))
        np.testing.assert_allclose(lasts[i], own[-1])
        np.testing.assert_allclose(means[i], own.mean(axis=0), **CLOSE)
        np.testing.assert_allclose(both[i], np.concatenate([own[-1], own[0]]))
        assert np.isfinite(attended[i]).all()
    A, b, v = (
        np.asarray(p[...]) for p in (pool.project.kernel, pool.project.bias, pool.score.kernel)
    )
    own = hs[:3, 0]
    weights = np.exp(np.tanh(own @ A + b) @ v)
    np.testing.assert_allclose(attended[0], (weights * own).sum(0) / weights.sum(), **CLOSE)


def test_cross_entropy_reads_only_what_is_there():
    logits = np.random.default_rng(0).normal(size=(T, B, K)).astype(np.float32)
    log_p = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    each = -np.take_along_axis(log_p, SYMBOLS[..., None], -1)[..., 0]
    given = np.where(PADDED[..., None], np.nan, logits), np.where(PADDED, -1, SYMBOLS)

    @jax.jit
    def everything(logits, *given):
        some = jax.value_and_grad(cross_entropy)(*given, LENGTHS)
        return cross_entropy(logits, SYMBOLS), *some

    whole, value, gradient = everything(logits, *given)
    np.testing.assert_allclose(whole, each.mean(), rtol=1e-5)
    np.testing.assert_allclose(value, each[~PADDED].mean(), rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_a_label_that_is_no_class_is_refused_and_never_a_number():
    """ValueError where it is known, NaN where traced; what is left out is not looked at."""
    table, log_q = DRAWS.normal(size=(K, D)).astype(np.float32), np.zeros(K, np.float32)
    logits, known = DRAWS.normal(size=(T, B, K)).astype(np.float32), SYMBOLS.astype(np.int8)
    losses = {  # (labels, mask) -> a number
        "exact": lambda y, mask: cross_entropy(logits, y, mask=mask),
        "sampled": lambda y, mask: sampled_cross_entropy(KEY, XS, table, y, log_q, 3, mask=mask),
    }

    @jax.jit
    def of(labels, mask):
        every = {name: loss(labels, mask) for name, loss in losses.items()}
        every["task"] = tasks.loss(logits, labels)
        every["accuracy"] = tasks.accuracy(logits, labels)
        lengths = labels[0]
        every["length"] = cross_entropy(logits, jnp.zeros_like(labels), lengths)
        every["proposal"] = sampled_cross_entropy(KEY, XS, table, SYMBOLS * 0, log_q * jnp.nan, 3)
        pooled = {f.__name__: f(XS[..., :2], lengths) for f in (last, mean, ends)}
        pooled |= {"attend": attend(XS[..., 0], XS, lengths)}
        slopes = (
            jax.grad(lambda a: cross_entropy(a, labels, mask=mask))(logits),
            jax.grad(lambda a: sampled_cross_entropy(KEY, XS, a, labels, log_q, 3, mask=mask))(
                table
            ),
        )
        return every, pooled, slopes

    here = np.ones((T, B), bool)
    for bad in (K, 99, -1, -100):
        labels = known.copy()
        labels[0, 1] = bad
        without = here.copy()
        without[0, 1] = False
        for loss in losses.values():
            with pytest.raises(ValueError, match=rf"labels holds {bad} at \(0, 1\) .* 0 .. 5:"):
                traced(loss, labels, here)
            traced(loss, labels, without)
        for score in (tasks.loss, tasks.accuracy):
            with pytest.raises(ValueError, match=rf"targets holds {bad} .* 6 classes"):
                traced(score, logits, labels)
        every, pooled, slopes = of(labels, here)
        assert np.isnan(slopes[0][0, 1]).all()
        assert all(np.isnan(value) for value in every.values()), every
        for name, value in pooled.items():
            np.testing.assert_array_equal(
                np.isnan(value).all(-1), [False, True, False, False], name
            )
        some, _, slopes = of(labels, without)
        assert np.isfinite([some["exact"], some["sampled"]]).all()
        assert all(np.isfinite(slope).all() for slope in slopes)


def test_a_symbol_without_a_vector_is_refused_and_never_a_number():
    """Where it is traced, from that step on, in that sequence; where nothing reads it, nothing."""
    models = {
        "embedded": filled(lambda rngs: Embedded(Tagger(GRU, D, N, K, rngs=rngs), K, D, rngs=rngs)),
        "encoder-decoder": filled(EncoderDecoder, GRU, GRU, (K, K), D, N),
        "generator": filled(Generator, GRU, D, K, D, N),
        "language": filled(LanguageModel, GRU, K, D, N),
    }
    every = {
        "embedded": lambda y: models["embedded"](y, LENGTHS),
        "language": models["language"],
        "generator": lambda y: models["generator"](XS[0], y)[1:],  # the step after reads it
        "encoder-decoder": lambda y: models["encoder-decoder"](y, SYMBOLS, LENGTHS),
    }
    program = jax.jit(lambda y: {name: read(y) for name, read in every.items()})
    for bad in (-1, K):
        symbols = SYMBOLS.copy()
        symbols[0, 0] = bad
        for read in every.values():
            with pytest.raises(ValueError, match=rf"holds {bad} at \(0, 0\).* 6 symbols"):
                traced(read, symbols)
        for name, value in program(symbols).items():
            gone = np.isnan(value).all(-1)
            own = LENGTHS[0] if name == "embedded" else len(value)
            assert gone[:own, 0].all(), name
            assert not gone[:, 1].any(), name
    unread = np.where(PADDED, -1, SYMBOLS)
    traced(every["embedded"], unread)
    slope = jax.jit(jax.grad(lambda model, y: jnp.sum(model(y, LENGTHS))))
    gradient = slope(models["embedded"], unread).embed.embedding[...]
    assert np.isfinite(gradient).all()


def test_a_generator_with_nan_logits_says_no_symbol():
    model = filled(Generator, GRU, D, K, D, N)
    broken = XS[0].copy()
    broken[1] = np.nan
    written = jax.jit(lambda context: model.generate(KEY, context, 3))(broken)
    np.testing.assert_array_equal((written == -1).all(axis=0), [False, True, False, False])


def test_accuracy_of_nan_is_nan():
    targets, logits = np.zeros((1, 3), int), np.zeros((1, 3, 4), np.float32)
    logits[0, 0, 2] = np.nan
    assert np.isnan(jax.jit(tasks.accuracy)(logits, targets))


def by_enumeration(p, labels):
    """-log of the summed probability of all paths p (T, K) that say the labels, blank 0."""
    total = 0.0
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        if [k for k, _ in itertools.groupby(path) if k != 0] == list(labels):
            total += np.prod([p[t, k] for t, k in enumerate(path)])
    return -np.log(total) if total else np.inf


def test_ctc_of_labels_that_are_none_few_or_impossible():
    """Labels out of range, or the blank, NaN where traced; none, blanks alone; too many, inf; an
    unused class of logit -inf, the number and the derivative without it."""
    steps, classes = 4, 4
    logits = np.random.default_rng(0).normal(size=(steps, 8, classes)).astype(np.float32)
    logits[:, 0] = 0
    logits[:, 1, 3] = -np.inf  # a class that is not used, and then all that are on the way
    logits[1, 2, :3], logits[2, 2, :2] = -np.inf, -np.inf
    labels = np.array([[1, 1, 2, 1, 4, -1, 0, 1], [2, 2, 1, 1, 1, 1, 1, 9]])
    counts = np.array([0, 2, 2, 2, 2, 2, 2, 1])
    rare = np.array([[1, 1, 1], [1, 2, 3], [1, 1, 2]]).T  # 1 1 1 does not fit

    @jax.jit
    def both(logits, labels, counts):
        def total(logits):
            each = ctc(logits, labels, label_lengths=counts)
            return jnp.where(jnp.isfinite(each), each, 0).sum(), each

        (_, each), gradient = jax.value_and_grad(total, has_aux=True)(logits)
        none = ctc(logits, jnp.zeros((0, 8), int))
        without = jax.grad(lambda a: ctc(a, labels[:, 1:2]).sum())(logits[:, 1:2, :3])
        return each, gradient, none, ctc(logits[:, :3], rare + 0 * counts[0]), without

    ours, gradient, none, full, without = jax.device_get(both(logits, labels, counts))
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)).astype(float)
    expected = [by_enumeration(p[:, i], labels[:count, i]) for i, count in enumerate(counts)]
    expected[4:7] = [np.nan] * 3
    np.testing.assert_allclose(ours, expected, rtol=1e-5)  # float32, some ten sums
    np.testing.assert_allclose(ours[0], steps * np.log(classes), rtol=1e-6)
    np.testing.assert_allclose(none, [by_enumeration(p[:, i], []) for i in range(8)], rtol=1e-5)
    np.testing.assert_allclose(
        full, [by_enumeration(p[:, i], rare[:, i]) for i in range(3)], rtol=1e-5
    )
    assert np.isfinite(gradient[:, [0, 1, 2, 3, 7]]).all()
    np.testing.assert_allclose(gradient[:, 1, :3], without[:, 0], atol=1e-6)
    assert not gradient[:, 1, 3].any()


@pytest.mark.slow
def test_ctc_sums_over_all_alignments():
    logits = np.random.default_rng(1).normal(size=(4, 3, 3)).astype(np.float32)
    labels, lengths, counts = np.array([[1, 2, 1], [2, 2, -1]]), np.array([4, 3, 2]), [2, 2, 1]
    logits[np.arange(4)[:, None] >= lengths] = np.nan
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)

    def total(logits):
        each = ctc(logits, labels, lengths, np.array(counts))
        return each.sum(), each

    (_, ours), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(logits)
    for i, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        expected = by_enumeration(p[:length, i], labels[:count, i])
        np.testing.assert_allclose(ours[i], expected, rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_ctc_refuses_targets_longer_than_inputs():
    logits = np.zeros((3, 2, K), np.float32)
    with pytest.raises(ValueError, match=r"sequence 0 has 3 steps, but its labels need 4.*shorter"):
        ctc(jnp.asarray(logits), jnp.array([[1, 1], [2, 2], [3, 3], [4, 4]]))

    def refused(message, *arguments):  # by values that are known while the rest is traced
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda logits: ctc(logits, *arguments), logits)

    repeat = np.array([[1, 1], [2, 1], [1, 2]])  # takes a blank
    refused(r"sequence 1 has 3 steps, but its labels need 4: one for each label", repeat)
    two = np.array([[1, 1], [2, 2]])
    refused(r"sequence 1 has 1 steps, but its labels need 2", two, np.array([3, 1]))
    refused(r"batch axes \(2,\); got \(2,\)", np.array([1, 2]))
    refused(r"batch axes, \(2,\), .*; got \(3,\)", two, None, np.array([1, 2, 1]))
    refused(r"labels holds 6 at \(0, 1\).* 6 classes are numbered 0 .. 5", np.array([[1, 6]]))
    refused(r"labels must not hold the blank, 0", np.array([[1, 0]]))
    refused(r"blank must be one of the 6 classes of .*; got -1", np.array([[1, 2]]), None, None, -1)


def by_paths(p, blank):
    """The probability of every sequence of labels, of all paths p (T, K); and the likeliest."""
    total = {}
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        said = tuple(k for k, _ in itertools.groupby(path) if k != blank)
        total[said] = total.get(said, 0) + np.prod([p[t, k] for t, k in enumerate(path)])
    return total, max(total, key=total.get)


def by_prefixes(p, beams, blank):
    """The prefix search as it is written in the paper, with a dictionary."""
    kept = {(): (1.0, 0.0)}
    for now in p:
        after = {}

        def add(prefix, b, e, after=after):
            before = after.get(prefix, (0.0, 0.0))
            after[prefix] = before[0] + b, before[1] + e

        for prefix, (b, e) in kept.items():
            for k, chance in enumerate(now):
                if k == blank:
                    add(prefix, chance * (b + e), 0)
                elif prefix and k == prefix[-1]:
                    add(prefix, 0, chance * e)
                    add((*prefix, k), 0, chance * b)
                else:
                    add((*prefix, k), 0, chance * (b + e))
        kept = dict(sorted(after.items(), key=lambda item: -sum(item[1]))[:beams])
    best = max(kept, key=lambda prefix: sum(kept[prefix]))
    return best, sum(kept[best])


def test_ctc_decodes_what_brute_force_does():
    """All prefixes of 3 steps fit in 15 beams, and there the search is exact; of 4 steps it finds
    what a dictionary of 15 finds. A path that is likeliest need not say the likeliest labels.
    No answer where a logit is NaN or a length, traced, is out of range."""
    rng, blank = np.random.default_rng(5), 2
    logits = 1.5 * rng.normal(size=(4, 2, 6, 3)).astype(np.float32)
    lengths = rng.integers(1, 5, size=(2, 6))
    lengths[:, 0], lengths[1, 3:] = (0, 3), (4, 3, 4)
    logits[:, 1, 4] = 0, 0, 0.3  # blanks are the likeliest path, and far from the likeliest labels
    logits[2, 1, 3, 1] = -np.inf  # a label that cannot be said
    padded = np.where((np.arange(4)[:, None, None] >= lengths)[..., None], np.nan, logits)
    padded[0, 0, 1, 0], lengths[0, 2], lengths[0, 3] = np.nan, 5, -1

    @jax.jit
    def everything(logits, lengths):
        exact, plain = ctc_decode(logits, lengths, blank, 15), ctc_greedy(logits, lengths, blank)
        return exact, plain, edit_distance(plain.labels, exact.labels, plain.counts)

    exact, plain, distance = jax.device_get(everything(padded, lengths))
    for found in (exact, plain):
        assert (found.labels[:, 0, 1:4] == -1).all()
        assert (found.counts[0, 1:4] == -1).all()
        assert np.isnan(found.log_p[0, 1:4]).all()
    assert np.isnan(distance[0, 1:4]).all()

    p = np.exp(logits.astype(float))
    p /= p.sum(axis=-1, keepdims=True)
    differ = 0
    for i in [(0, 0), (0, 4), (0, 5), *((1, i) for i in range(6))]:
        own = p[(slice(lengths[i]), *i)]
        total, best = by_paths(own, blank)
        path = tuple(k for k, _ in itertools.groupby(own.argmax(axis=-1)) if k != blank)
        said, chance = by_prefixes(own, 15, blank)
        if lengths[i] < 4:
            assert said == best
            np.testing.assert_allclose(chance, total[best])
        expected = (exact, said, chance), (plain, path, own.max(axis=-1).prod())
        for found, labels, p_labels in expected:
            padding = (-1,) * (4 - len(labels))
            assert (*found.labels[(slice(None), *i)],) == (*labels, *padding), i
            assert found.counts[i] == len(labels)
            # float32, sums of some 80 paths
            np.testing.assert_allclose(found.log_p[i], np.log(p_labels), atol=1e-5)
        differ += path != best
    assert differ >= 2

    def refused(message, *arguments, **options):
        with pytest.raises(ValueError, match=message):
            traced(lambda: ctc_decode(logits[:, 0], *arguments, **options))

    refused(r"blank must be one of the 3 classes of .*; got 3", blank=3)
    refused(r"lengths must have .*\(6,\).*; got \(3,\)", np.array([1, 2, 3]))
    refused(r"beams must be 1 or more, .*; got 0", beams=0)


def test_the_edit_distance_is_that_of_the_recursion():
    rng = np.random.default_rng(6)
    a, b = rng.integers(3, size=(5, 8)), rng.integers(3, size=(4, 8))
    m, n = rng.integers(6, size=8), rng.integers(5, size=8)

    def recursive(a, b):
        if not len(a) or not len(b):
            return len(a) + len(b)
        keep = recursive(a[1:], b[1:]) + (a[0] != b[0])
        return min(keep, recursive(a[1:], b) + 1, recursive(a, b[1:]) + 1)

    expected = [recursive(a[: m[i], i], b[: n[i], i]) for i in range(8)]
    found, rate = jax.jit(lambda *of: (edit_distance(*of), label_error_rate(*of)))(a, b, m, n)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(rate, sum(expected) / n.sum(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"same sequences; got shapes \(5, 8\) and \(4, 7\)"):
        traced(edit_distance, a, b[:, 1:])
    with pytest.raises(ValueError, match=r"answers must hold integers, .*; got float"):
        traced(edit_distance, a / 2, b)


@pytest.mark.optimised
@pytest.mark.long
def test_the_sampled_softmax_has_an_unbiased_sum():
    model = LanguageModel(GRU, K, D, N, rngs=rngs())
    features, labels = model.features(SYMBOLS), SYMBOLS[::-1]
    table = 3 * jax.random.normal(KEY, (K, D))
    log_q = jax.random.normal(jax.random.key(1), (K,))
    exact = cross_entropy(features @ table.T, labels, LENGTHS)
    many = sampled_cross_entropy(KEY, features, table, labels, log_q, 200_000, LENGTHS)
    np.testing.assert_allclose(many, exact, rtol=0.02)  # 1/sqrt(samples) times a spread of weights

    def inverse(key):  # e^loss = 1 / p of one step
        return jnp.exp(sampled_cross_entropy(key, features[:1, 0], table, labels[:1, 0], log_q, 3))

    draws = jax.vmap(inverse)(jax.random.split(KEY, 20_000))
    expected = jnp.exp(cross_entropy(features[:1, 0] @ table.T, labels[:1, 0]))
    error = draws.std() / np.sqrt(len(draws))
    assert abs(draws.mean() - expected) < 4 * error
    assert error < 0.05 * expected


def test_the_language_model_ties_its_embeddings_and_sees_the_past_alone():
    other = SYMBOLS.copy()
    other[3] = (SYMBOLS[3] + 1) % K

    @jax.jit
    def everything(model, symbols, other):
        tied = model.features(symbols) @ model.embed.embedding[...].T
        return model(symbols), tied, model(other)

    model = filled(LanguageModel, DEEP, K, D, N)
    logits, tied, changed = map(np.asarray, everything(model, SYMBOLS, other))
    np.testing.assert_allclose(logits, tied, **CLOSE)
    np.testing.assert_allclose(changed[:3], logits[:3], **CLOSE)
    assert (abs(changed[3] - logits[3]) > 1e-4).any()


@pytest.mark.parametrize("name", ["attention", *some_slow({"generator", "encoder-decoder"}, "")])
def test_what_is_written_is_what_the_teacher_would_have_followed(name):
    @jax.jit
    def everything(model):
        if name == "generator":
            logits = lambda y: model(XS[0], y)  # noqa: E731
            write = lambda pick: model.generate(KEY, XS[0], 8, pick)  # noqa: E731
        else:
            logits = lambda y: model(SYMBOLS, y, LENGTHS)  # noqa: E731
            write = lambda pick: model.generate(KEY, SYMBOLS, 8, LENGTHS, pick)  # noqa: E731
        written = write(greedy)
        return written, logits(written), write(jax.random.categorical)

    make = READERS.get(name, lambda rngs: Generator(DEEP, D, K, D, N, rngs=rngs))
    written, logits, sampled = map(np.asarray, everything(filled(make)))
    assert written.shape == (8, B)
    np.testing.assert_array_equal(written, logits.argmax(-1))
    assert (sampled != written).any()
    assert ((sampled >= 0) & (sampled < K)).all()


@pytest.mark.parametrize("name", ["attention", *some_slow({"encoder-decoder"}, "")])
def test_beam_search_finds_what_a_list_of_all_beginnings_does(name):
    """5 beams against the search over a list; 27 in that list against all 81 sequences. Ragged
    sources, one of them broken: it has no answer."""
    steps, k, end, beams = 4, 3, 1, 5
    make = {
        "encoder-decoder": lambda rngs: EncoderDecoder(GRU, LSTM, (K, k), D, N, rngs=rngs),
        "attention": lambda rngs: AttentiveDecoder(BOTH, LSTM, (K, k), D, N, rngs=rngs),
    }[name]
    every = np.array(list(itertools.product(range(k), repeat=steps)))

    @jax.jit
    def everything(model, source):
        teacher = jax.vmap(lambda y: model(source, jnp.tile(y[:, None], B), LENGTHS))
        return model.beam_search(source, steps, beams, end, LENGTHS), teacher(every)

    source = np.where(PADDED, -1, SYMBOLS)
    source[1, 1] = K
    numbers = np.random.default_rng(19)  # a draw in which greedy misses, and beams change places
    model = jax.eval_shape(lambda: make(rngs()))
    model = jax.tree.map(lambda a: numbers.normal(size=a.shape).astype(a.dtype), model)
    found, logits = jax.device_get(everything(model, source))
    assert (found.symbols[:, 1] == -1).all()
    assert np.isnan(found.log_p[1])

    logits = np.where(np.isnan(logits), 0, logits)
    log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)  # (81, steps, B, k)
    rows = {tuple(y): i for i, y in enumerate(every.tolist())}
    differ = 0
    for i in (0, 2, 3):

        def next_of(y, i=i):  # log p of each symbol after the beginning y
            return log_p[rows[(*y, *[0] * (steps - len(y)))], len(y), i]

        def search(beams):
            kept = [((), 0.0)]
            for _ in range(steps):
                longer = [(y, total) for y, total in kept if end in y]
                open_ones = [(y, total) for y, total in kept if end not in y]
                longer += [((*y, s), t + next_of(y)[s]) for y, t in open_ones for s in range(k)]
                kept = sorted(longer, key=lambda item: -item[1])[:beams]
            return kept[0]

        def whole(y):  # up to the first end
            stop = y.index(end) + 1 if end in y else steps
            return sum(next_of(y[:t])[y[t]] for t in range(stop))

        best, total = search(beams)
        padding = (end,) * (steps - len(best))
        assert (*found.symbols[:, i],) == (*best, *padding)
        np.testing.assert_allclose(found.log_p[i], total, atol=1e-5)  # float32, four steps
        exact = max(whole(tuple(y)) for y in every.tolist())
        np.testing.assert_allclose(search(27)[1], exact, rtol=1e-6)
        differ += search(1)[1] < exact - 1e-3
    assert differ


def test_a_beam_search_refuses_what_it_cannot_do():
    model = filled(Generator, GRU, D, K, D, N)
    for arguments, message in (
        ((0, 2, 1), "at least one step and one beam; got 0 and 2"),
        ((3, 0, 1), "got 3 and 0"),
        ((3, 2, K), "end must be one of the 6 symbols, 0 .. 5; got 6"),
        ((3, 2, -1), "end must be .*; got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            traced(model.beam_search, XS[0], *arguments)
    assert traced(model.beam_search, XS[0], 3, 2, 1).symbols.shape == (3, B)


def test_a_text_goes_on_from_its_prompt():
    """The state after the prompt is carried on: greedily, each symbol is the likeliest given all
    before it; of the two likeliest, no other is drawn, and in the shares that p^(1/2) has."""
    many = np.tile(SYMBOLS[:2, :1], 3000)

    @jax.jit
    def everything(model, heat):
        written = model.generate(KEY, SYMBOLS, 6, top_k=1)
        logits = model(jnp.concatenate([SYMBOLS, written]))
        cold, none = (sampled(heat[i])(KEY, logits) for i in (0, 1))
        return written, logits, cold, none, model.generate(KEY, many, 1, heat[2], 2)[0]

    model = filled(LanguageModel, DEEP, K, D, N)
    found = everything(model, np.float32([1e-30, 0, 2]))
    written, logits, cold, none, drawn = map(np.asarray, found)
    np.testing.assert_array_equal(written, logits[T - 1 : -1].argmax(axis=-1))
    np.testing.assert_array_equal(cold, logits.argmax(axis=-1))
    assert (none == -1).all()  # a temperature of 0 that was not known
    first = logits[1, 0]
    two = np.argsort(first)[-2:]
    assert np.isin(drawn, two).all()
    p = 1 / (1 + np.exp(-(first[two[1]] - first[two[0]]) / 2))
    # 4 standard errors of the share
    assert abs(np.mean(drawn == two[1]) - p) < 4 * np.sqrt(p * (1 - p) / 3000)


def test_a_text_that_cannot_go_on_says_why():
    model = filled(LanguageModel, GRU, K, D, N)
    for message, prompt, *how in (
        ("a prompt must have at least one symbol", SYMBOLS[:0], 3),
        (r"prompt holds 6 at \(1,\)", np.array([0, K]), 3),
        ("temperature must be above 0; got 0", SYMBOLS, 3, 0),
        ("above 0.*got -1.0", SYMBOLS, 3, -1.0),
        ("above 0.*got nan", SYMBOLS, 3, np.nan),
        ("top_k must be 1 or more; got top_k=0", SYMBOLS, 3, 1.0, 0),
        ("top_k must be at most 6, .*; got top_k=7", SYMBOLS, 3, 1.0, 7),
        ("steps must be a number of outputs, 1 or more; got 0", SYMBOLS, 0),
    ):
        with pytest.raises(ValueError, match=message):
            traced(lambda prompt=prompt, how=how: model.generate(KEY, prompt, *how))


def test_the_logits_of_a_jordan_tagger_are_those_of_what_it_feeds_back():
    jordan = cells.jordan
    few = jordan.outputs(jordan.softmax, K)
    model = filled(lambda rngs: Tagger(few, D, N, K, read=jordan.logits, rngs=rngs))
    assert len(jax.tree.leaves(model)) == 5  # no read-out but the cell's own

    @jax.jit
    def both(model, xs):
        _, hs = scan.run(few, model.rnn.values, xs)
        return jax.nn.softmax(model(xs)), jordan.output(model.rnn.values, hs)

    np.testing.assert_allclose(*both(model, XS), **CLOSE)
    with pytest.raises(ValueError, match=r"\(6,\) logits for 6 tags; got \(4,\).*outputs\(cell, 6"):
        traced(lambda: Tagger(jordan.softmax, D, N, K, read=jordan.logits, rngs=rngs()))


def test_scheduled_sampling_of_a_generator():
    @jax.jit
    def everything(model, teacher):
        start, inputs = model.start((B,)), model.inputs(SYMBOLS)
        rest = (KEY, model.body(lambda h: XS[0]), model.feed(greedy), start, inputs)
        _, hs, _ = scheduled(*rest, teacher)
        _, _, own = scheduled(*rest, ~teacher)
        followed = model.readout(hs), model(XS[0], SYMBOLS)
        return followed, (own[..., 0], model.generate(KEY, XS[0], T, greedy))

    followed, alone = everything(filled(Generator, GRU, D, K, D, N), np.ones(T, bool))
    np.testing.assert_allclose(*followed, **CLOSE)
    np.testing.assert_array_equal(*alone)


def test_attention_by_its_formula():
    h = DRAWS.normal(size=(B, N)).astype(np.float32)

    @jax.jit
    def everything(model, h):
        memory = model.read(SYMBOLS, LENGTHS)
        return memory, model.look(memory, LENGTHS)(h)

    model = filled(AttentiveDecoder, GRU, GRU, (K, K), D, N)
    memory, seen = map(np.asarray, everything(model, h))
    m = memory[:3, 0]
    weights = np.exp(m @ (h[0] @ np.asarray(model.query.kernel[...])))
    np.testing.assert_allclose(seen[0], weights @ m / weights.sum(), **CLOSE)
    np.testing.assert_allclose(seen[2], 0)  # nothing was read


MODELS = {
    "classifier": (lambda rngs: Classifier(DEEP, N, N, K, rngs=rngs), lambda m: m.rnn),
    "tagger": (
        lambda rngs: Embedded(Tagger(LSTM, N, N, K, rngs=rngs), K, N, rngs=rngs),
        lambda m: m.model.rnn,
    ),
    "language": (lambda rngs: LanguageModel(GRU, K, N, N, rngs=rngs), lambda m: m.rnn),
    "encoder": (
        lambda rngs: EncoderDecoder(GRU, LSTM, (K, K), N, N, rngs=rngs),
        lambda m: m.encoder,
    ),
    "decoder": (lambda rngs: Autoencoder(LSTM, K, N, N, rngs=rngs), lambda m: m.decoder.rnn),
    "planner": (lambda rngs: HierarchicalAutoencoder(GRU, K, N, N, rngs=rngs), lambda m: m.planner),
}


@jax.jit
def growths(rnn, xs):
    """Recurrences of the same cell and sizes share this program."""
    body = scan.tied(rnn.cell, rnn.values)  # the one line
    start = rnn.cell.start(rnn.values)
    gain = analysis.log_gain(KEY, body, start, xs)
    return gain, analysis.log_singular_values(body, start, xs)


OTHERS = {"tagger", "language", "encoder", "decoder", "planner"}


@pytest.mark.parametrize("name", ["classifier", *some_slow(OTHERS, "")])
def test_the_recurrence_of_a_model_goes_to_an_analysis(name):
    make, of = MODELS[name]
    rnn = of(filled(make))
    xs = np.random.default_rng(0).normal(size=(T, 2 * N if name == "decoder" else N))
    gain, logs = map(np.asarray, growths(rnn, xs.astype(np.float32)))
    assert np.isfinite(gain).all()
    assert gain[-1] < logs[0] + 1e-4  # no vector grows by more than the first singular value


@pytest.mark.slow
def test_models_are_pytrees_that_vmap_and_grad_take_whole():
    def make(key):
        return Embedded(Tagger(DEEP, D, N, K, rngs=nnx.Rngs(key)), K, D, rngs=nnx.Rngs(key))

    @jax.jit
    def everything(models):
        losses = jax.vmap(lambda m: cross_entropy(m(SYMBOLS, LENGTHS), SYMBOLS, LENGTHS))(models)
        one = jax.tree.map(lambda leaf: leaf[1], models)
        return losses, jax.grad(lambda m: cross_entropy(m(SYMBOLS), SYMBOLS))(one)

    models = jax.jit(lambda key: jax.vmap(make)(jax.random.split(key, 2)))(KEY)
    losses, gradient = everything(models)
    losses = np.asarray(losses)
    assert losses.shape == (2,)
    assert losses[0] != losses[1]
    assert all((np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(gradient))


def trained(make, loss, batch, steps, then, rate=0.02):
    """What `then` says of a model after `steps` updates on one batch, and the losses."""
    optimizer = optax.adam(rate)

    @jax.jit
    def everything(key, batch):
        state = train.start(key, make(nnx.Rngs(key)), optimizer)
        state, losses = train.advance(loss, optimizer, lambda _: batch, state, steps)
        return then(state.params), losses

    return jax.tree.map(np.asarray, everything(KEY, batch))


CITIES = ("taipei", "paris", "lima", "oslo", "cairo", "quito")
FILLERS = (("",), ("please",), ("i", "want", "to"), ("we",))
OTHER, TO, FROM, TIME = range(4)


def sentences():
    """(words, tags) of "[filler] arrive|leave CITY on November N", by verb, city and filler."""
    out = {}
    for verb, city, (f, filler) in itertools.product(
        ("arrive", "leave"), CITIES, enumerate(FILLERS)
    ):
        words = [*filter(None, filler), verb, city, "on", "november", "2"]
        tags = [OTHER] * (len(words) - 4) + [TO if verb == "arrive" else FROM, OTHER, TIME, TIME]
        out[verb, city, f] = (words, tags)
    return out


@pytest.mark.slow
def test_the_order_example_takes_a_recurrence():
    """Arrive Taipei on November 2, leave Taipei on November 2: the tag of Taipei by its context."""
    corpus = sentences()
    vocabulary = sorted({word for words, _ in corpus.values() for word in words})
    held = [key for key in corpus if (CITIES.index(key[1]) + key[2]) % 3 == 0]
    assert ("arrive", "taipei", 0) in held
    assert ("leave", "taipei", 0) in held

    def batch(keys):
        xs, ys = np.zeros((2, 8, len(keys)), np.int32)
        for i, key in enumerate(keys):
            words, tags = corpus[key]
            xs[: len(words), i] = [vocabulary.index(word) for word in words]
            ys[: len(words), i] = tags
        return xs, ys, np.array([len(corpus[key][0]) for key in keys])

    def loss(model, batch):
        return cross_entropy(model(batch[0], batch[2]), batch[1], batch[2])

    class FeedForward(nnx.Module):
        """A tagger that sees each word alone."""

        def __init__(self, rngs):
            self.layer, self.readout = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)

        def __call__(self, xs, lengths):
            return self.readout(jnp.tanh(self.layer(xs)))

    xs, ys, lengths = batch(held)
    cities = (ys == TO) | (ys == FROM)
    there = np.arange(8)[:, None] < lengths
    taggers = {"gru": lambda rngs: Tagger(GRU, 8, 16, 4, rngs=rngs), "alone": FeedForward}
    seen, right = batch([key for key in corpus if key not in held]), {}
    for name, tagger in taggers.items():
        logits, _ = trained(
            lambda rngs, tagger=tagger: Embedded(tagger(rngs), len(vocabulary), 8, rngs=rngs),
            loss,
            seen,
            150,
            lambda model: model(xs, lengths),
        )
        right[name] = logits.argmax(-1) == ys
    assert right["gru"][there].all()
    assert right["alone"][there & ~cities].all()  # it learned what a word alone can say
    assert right["alone"][cities].mean() == 0.5  # both contexts of each city, one answer


@pytest.mark.slow
def test_a_document_goes_through_one_vector_and_back():
    words = np.random.default_rng(2).integers(K, size=(3, 4, 6), dtype=np.int32)
    back, losses = trained(
        lambda rngs: HierarchicalAutoencoder(GRU, K, 8, 24, rngs=rngs),
        lambda model, words: cross_entropy(model(words), words),
        words,
        150,
        lambda model: model.decode(model.encode(words), 3, 4),
    )
    assert losses[0] > 1.5  # log K = 1.8 nats before
    np.testing.assert_array_equal(back, words)


@pytest.mark.optimised
@pytest.mark.long
def test_the_autoencoder_reconstructs_words_it_never_saw():
    """Against a decoder of the same size that is told which letters a word has, not their order.

    1,500 updates of 128 words: 99.4 % of held-out words exactly, the bag of letters 21 %.
    """
    words, longest = data.words(3, 6, held_out=1000), 7  # with the end

    def coded(words):
        symbols = np.zeros((longest, len(words)), np.int32)
        for i, word in enumerate(words):
            symbols[: len(word), i] = [ord(letter) - ord("a") + 1 for letter in word]
        return symbols, np.array([len(word) + 1 for word in words], np.int32)

    def bag(symbols, lengths):
        there = np.arange(longest)[:, None] < lengths
        return jax.nn.one_hot(jnp.where(there, symbols, -1), 27).sum(axis=0)

    seen, (test, lengths) = jax.tree.map(jnp.asarray, coded(words.train)), coded(words.test)
    assert not set(words.train) & set(words.test)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(5e-3, 1500))
    )

    def sample(key):
        picked = jax.random.randint(key, (128,), 0, len(words.train))
        return seen[0][:, picked], seen[1][picked]

    def exact(model, code, decoder):
        """The share of test words that come back whole after training."""

        def loss(model, batch):
            return cross_entropy(decoder(model)(code(model, *batch), batch[0]), *batch)

        state = train.start(KEY, model, optimizer)
        state, _ = jax.jit(lambda s: train.advance(loss, optimizer, sample, s, 1500))(state)
        model = state.params
        back = decoder(model).generate(KEY, code(model, test, lengths), longest, greedy)
        beyond = np.arange(longest)[:, None] >= lengths
        return float(((back == test) | beyond).all(axis=0).mean())

    coder = Autoencoder(GRU, 27, 32, 96, rngs=rngs())
    whole = exact(coder, lambda model, *words: model.encode(*words), lambda model: model.decoder)
    letters = Generator(GRU, 27, 27, 32, 96, rngs=rngs())
    unordered = exact(letters, lambda model, *words: bag(*words), lambda model: model)
    print(f"held-out words back whole: {whole:.1%}, from a bag of letters: {unordered:.1%}")
    assert whole > 0.9
    assert unordered < 0.5  # one word of many with the same letters


def test_bad_inputs_say_what_to_do():
    def refused(message, function, *arguments):  # while it is traced: nothing is compiled
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(function, *arguments)

    for make in (
        lambda: LanguageModel(BOTH, K, D, N, rngs=rngs()),
        lambda: Generator(Stacked(BOTH, GRU), D, K, D, N, rngs=rngs()),
        lambda: Autoencoder(BOTH, K, D, N, rngs=rngs()),
        lambda: HierarchicalAutoencoder(BOTH, K, D, N, rngs=rngs()),
    ):
        refused(r"a Bidirectional cell also reads what is to come", make)

    def coder():
        return Autoencoder(GRU, K, D, N, rngs=rngs())

    refused(
        r"symbols must hold integers, 0 .. 5 for 6 symbols; got float32",
        lambda: coder()(XS[..., 0]),
    )
    refused(
        r"lengths must be within 0 .. T = 5; got 6 to 6", lambda: coder()(SYMBOLS, np.full(B, 6))
    )
    refused(
        r"source must hold integers, .*; got float32",
        lambda: READERS["attention"](rngs=rngs())(XS[..., 0], SYMBOLS),
    )
    refused(
        r"targets must hold integers, .*; got float32", lambda: coder().decoder(XS[0], XS[..., 0])
    )
    refused(
        r'combine must be "recurrence" or "sum"; got \'mean\'',
        lambda: HierarchicalAutoencoder(GRU, K, D, N, combine="mean", rngs=rngs()),
    )
    refused(
        r"words must be \(S, W, ...\).*got shape \(5,\)",
        lambda: HierarchicalAutoencoder(GRU, K, D, N, rngs=rngs())(SYMBOLS[:, 0]),
    )
    logits = np.zeros((T, B, K), np.float32)
    with pytest.raises(
        ValueError, match=r"labels must hold one label per step .* \(5, 4\); got shape \(5,\)"
    ):
        cross_entropy(logits, SYMBOLS[:, 0])
    with pytest.raises(ValueError, match=r"labels must hold integers, .*; got float32"):
        cross_entropy(logits, XS[..., 0])
    table, features = np.zeros((K, D), np.float32), np.zeros((T, B, D), np.float32)
    with pytest.raises(ValueError, match=r"samples must be 1 or more, .*; got 0"):
        sampled_cross_entropy(KEY, features, table, SYMBOLS, np.zeros(K, np.float32), 0)
    with pytest.raises(ValueError, match=r"log_q must hold .* 6 symbols, \(6,\); got shape \(2,\)"):
        sampled_cross_entropy(KEY, features, table, SYMBOLS, np.zeros(2, np.float32), 3)
