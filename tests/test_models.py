"""Models in nnx: ragged batches against each sequence alone, losses against enumeration, and what
they learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments import data
from recur import analysis, cells, scan, train
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
    ends,
    greedy,
    last,
    mean,
    sampled_cross_entropy,
)
from recur.generate import scheduled

KEY = jax.random.key(7)
T, B, D, N, K = 5, 4, 3, 4, 6
GRU, LSTM = cells.gru.cell, cells.lstm.cell
DEEP, BOTH = Stacked(GRU, Residual(LSTM)), Bidirectional(GRU, LSTM)
XS = jax.random.normal(KEY, (T, B, D))
SYMBOLS = jax.random.randint(KEY, (T, B), 0, K)
LENGTHS = np.array([3, T, 0, 1])
PADDED = np.arange(T)[:, None] >= LENGTHS
CLOSE = {"atol": 2e-6}  # float32, a few products of size 10


def rngs():
    return nnx.Rngs(0)


VECTOR_MODELS = {
    "last": lambda: Classifier(DEEP, D, N, K, rngs=rngs()),
    "ends": lambda: Classifier(Stacked(GRU, BOTH), D, N, K, pool=ends, rngs=rngs()),
    "mean": lambda: Classifier(BOTH, D, N, K, pool=mean, rngs=rngs()),
    "attention": lambda: Classifier(GRU, D, N, K, pool=AttentionPool(N, rngs=rngs()), rngs=rngs()),
    "tagger": lambda: Tagger(Stacked(BOTH, GRU), D, N, K, rngs=rngs()),
}
READERS = {
    "encoder-decoder": lambda: EncoderDecoder(BOTH, DEEP, (K, K), D, N, pool=ends, rngs=rngs()),
    "attention": lambda: AttentiveDecoder(Stacked(BOTH, GRU), DEEP, (K, K), D, N, rngs=rngs()),
}


@pytest.mark.parametrize("name", VECTOR_MODELS)
def test_ragged_batches_of_vectors_equal_each_alone(name):
    model = VECTOR_MODELS[name]()
    xs = jnp.where(PADDED[..., None], jnp.nan, XS)

    @jax.jit
    def everything(model, xs):
        alone = [model(XS[:length, i]) for i, length in enumerate(LENGTHS) if length]
        gradient = jax.grad(lambda m, xs: (m(xs, LENGTHS) ** 2).sum(), (0, 1))(model, xs)
        empty = model.readout(jnp.zeros(model.readout.in_features))
        return model(xs, LENGTHS), alone, gradient, empty

    out, alone, gradient, empty = everything(model, xs)
    for i, expected in zip(np.flatnonzero(LENGTHS), alone, strict=True):
        got = out[: LENGTHS[i], i] if name == "tagger" else out[i]
        np.testing.assert_allclose(got, expected, **CLOSE)
    np.testing.assert_allclose(out[0, 2] if name == "tagger" else out[2], empty, **CLOSE)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not np.asarray(gradient[1])[PADDED].any()


@pytest.mark.parametrize("name", READERS)
def test_ragged_sources_equal_each_alone(name):
    model = READERS[name]()
    targets = jax.random.randint(jax.random.key(1), (3, B), 0, K)

    @jax.jit
    def everything(model):
        alone = [
            model(SYMBOLS[:length, i], targets[:, i]) for i, length in enumerate(LENGTHS) if length
        ]
        out = model(jnp.where(PADDED, -1, SYMBOLS), targets, LENGTHS)
        return out, alone, model(SYMBOLS, targets, LENGTHS - (LENGTHS > 1))

    out, alone, shorter = everything(model)
    for i, expected in zip(np.flatnonzero(LENGTHS), alone, strict=True):
        np.testing.assert_allclose(out[:, i], expected, **CLOSE)
    assert np.isfinite(out).all()
    assert (abs(shorter - out)[:, LENGTHS > 1] > 1e-4).any(axis=(0, 2)).all()  # all of it is read


def test_ragged_symbols_of_the_autoencoder_and_the_language_model():
    coder, model = (
        Autoencoder(DEEP, K, D, N, rngs=rngs()),
        LanguageModel(DEEP, K, D, N, rngs=rngs()),
    )
    padded = jnp.where(PADDED, -1, SYMBOLS)

    @jax.jit
    def everything(coder, model):
        own = [SYMBOLS[:length, i] for i, length in enumerate(LENGTHS) if length]
        alone = [(coder.encode(symbols), model(symbols)) for symbols in own]
        return coder.encode(padded, LENGTHS), model(padded, LENGTHS), alone

    codes, logits, alone = everything(coder, model)
    for i, (code, expected) in zip(np.flatnonzero(LENGTHS), alone, strict=True):
        np.testing.assert_allclose(codes[i], code, **CLOSE)
        np.testing.assert_allclose(logits[: LENGTHS[i], i], expected, **CLOSE)


def test_ragged_documents_equal_each_alone():
    model = HierarchicalAutoencoder(GRU, K, D, N, rngs=rngs())
    words = jax.random.randint(KEY, (3, 4, 2), 0, K)
    lengths = np.array([[4, 2], [3, 0], [0, 1]])  # one of two sentences, one with an empty one
    padded = jnp.where(np.arange(4)[:, None] >= lengths[:, None], -1, words)
    codes = model.encode(padded, lengths)
    np.testing.assert_allclose(codes[0], model.encode(words[:2, :, 0], lengths[:2, 0]), **CLOSE)
    np.testing.assert_allclose(codes[1], model.encode(words[:, :, 1], lengths[:, 1]), **CLOSE)

    def alone(sentences):
        """Both levels by hand, for sentences of whole words."""
        hs = [scan.run(GRU, model.words.values, model.embed(s))[1][-1] for s in sentences]
        return scan.run(GRU, model.sentences.values, jnp.stack(hs))[1][-1]

    by_hand = alone([words[0, :4, 0], words[1, :3, 0]])
    np.testing.assert_allclose(codes[0], by_hand, **CLOSE)
    turned = alone([words[1, :3, 0], words[0, :4, 0]])
    assert abs(turned - by_hand).max() > 1e-3  # the order of the sentences counts


def test_pools_by_their_formulas():
    hs = jnp.where(PADDED[..., None], 0, XS)
    for i, length in enumerate(LENGTHS):
        own = np.asarray(hs[: max(length, 1), i])
        np.testing.assert_allclose(last(hs, LENGTHS)[i], own[-1])
        np.testing.assert_allclose(mean(hs, LENGTHS)[i], own.mean(axis=0), **CLOSE)
    pool = AttentionPool(D, rngs=rngs())
    A, b, v = (
        np.asarray(p[...]) for p in (pool.project.kernel, pool.project.bias, pool.score.kernel)
    )
    own = np.asarray(hs[:3, 0])
    weights = np.exp(np.tanh(own @ A + b) @ v)
    np.testing.assert_allclose(
        pool(hs, LENGTHS)[0], (weights * own).sum(0) / weights.sum(), **CLOSE
    )


def test_cross_entropy_reads_only_what_is_there():
    logits = jax.random.normal(KEY, (T, B, K))
    log_p = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    each = -np.take_along_axis(log_p, np.asarray(SYMBOLS)[..., None], -1)[..., 0]
    np.testing.assert_allclose(cross_entropy(logits, SYMBOLS), each.mean(), rtol=1e-5)
    given = jnp.where(PADDED[..., None], jnp.nan, logits), jnp.where(PADDED, -1, SYMBOLS)
    value, gradient = jax.value_and_grad(cross_entropy)(*given, LENGTHS)
    np.testing.assert_allclose(value, each[~PADDED].mean(), rtol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_ctc_sums_over_all_alignments():
    steps, classes = 4, 3
    logits = jax.random.normal(KEY, (steps, 3, classes))
    labels, lengths, counts = np.array([[1, 2, 1], [2, 2, -1]]), np.array([4, 3, 2]), [2, 2, 1]
    logits = jnp.where(np.arange(steps)[:, None, None] < lengths[:, None], logits, jnp.nan)
    p = np.exp(np.asarray(jax.nn.log_softmax(logits)))
    for i, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        total = 0.0
        for path in itertools.product(range(classes), repeat=int(length)):
            collapsed = [k for k, _ in itertools.groupby(path) if k != 0]
            if collapsed == list(labels[:count, i]):
                total += np.prod([p[t, i, k] for t, k in enumerate(path)])
        value = ctc(logits, labels, lengths, np.array(counts))[i]
        np.testing.assert_allclose(value, -np.log(total), rtol=1e-5)
    gradient = jax.grad(lambda a: ctc(a, labels, lengths, np.array(counts)).sum())(logits)
    assert np.isfinite(gradient).all()


def test_ctc_refuses_targets_longer_than_inputs():
    logits = jnp.zeros((3, 2, K))
    with pytest.raises(ValueError, match=r"sequence 0 has 3 steps, but its labels need 4.*shorter"):
        ctc(logits, jnp.array([[1, 1], [2, 2], [3, 3], [4, 4]]))
    with pytest.raises(
        ValueError, match=r"sequence 1 has 3 steps, but its labels need 4, one each"
    ):
        ctc(logits, jnp.array([[1, 1], [2, 1], [1, 2]]))  # a repeat takes a blank
    with pytest.raises(ValueError, match=r"sequence 1 has 1 steps, but its labels need 2"):
        jax.jit(lambda a: ctc(a, np.array([[1, 1], [2, 2]]), np.array([3, 1])))(logits)
    with pytest.raises(ValueError, match=r"labels has shape \(2,\).*batch axes \(2,\)"):
        ctc(logits, jnp.array([1, 2]))


@pytest.mark.slow
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
    model = LanguageModel(DEEP, K, D, N, rngs=rngs())
    logits = model(SYMBOLS)
    np.testing.assert_allclose(
        logits, model.features(SYMBOLS) @ model.embed.embedding[...].T, **CLOSE
    )
    changed = model(SYMBOLS.at[3].set((SYMBOLS[3] + 1) % K))
    np.testing.assert_allclose(changed[:3], logits[:3], **CLOSE)
    assert (abs(changed[3] - logits[3]) > 1e-4).any()


@pytest.mark.parametrize("name", ["generator", *READERS])
def test_what_is_written_is_what_the_teacher_would_have_followed(name):
    if name == "generator":
        model = Generator(DEEP, D, K, D, N, rngs=rngs())
        logits = lambda y: model(XS[0], y)  # noqa: E731
        write = lambda pick: model.generate(KEY, XS[0], 8, pick)  # noqa: E731
    else:
        model = READERS[name]()
        logits = lambda y: model(SYMBOLS, y, LENGTHS)  # noqa: E731
        write = lambda pick: model.generate(KEY, SYMBOLS, 8, LENGTHS, pick)  # noqa: E731
    written = write(greedy)
    assert written.shape == (8, B)
    np.testing.assert_array_equal(written, logits(written).argmax(-1))
    sampled = write(jax.random.categorical)
    assert (sampled != written).any()
    assert ((sampled >= 0) & (sampled < K)).all()


def test_scheduled_sampling_of_a_generator():
    model = Generator(GRU, D, K, D, N, rngs=rngs())
    look = lambda h: XS[0]  # noqa: E731
    start, inputs = model.start((B,)), model.inputs(SYMBOLS)
    rest = (KEY, model.body(look), model.feed(greedy), start, inputs)
    _, hs, _ = scheduled(*rest, jnp.ones(T, bool))
    np.testing.assert_allclose(model.readout(hs), model(XS[0], SYMBOLS), **CLOSE)
    _, _, own = scheduled(*rest, jnp.zeros(T, bool))
    np.testing.assert_array_equal(own[..., 0], model.generate(KEY, XS[0], T, greedy))


def test_attention_by_its_formula():
    model = AttentiveDecoder(GRU, GRU, (K, K), D, N, rngs=rngs())
    memory = model.read(SYMBOLS, LENGTHS)
    h = jax.random.normal(KEY, (B, N))
    m = np.asarray(memory[:3, 0])
    weights = np.exp(m @ (np.asarray(h[0]) @ np.asarray(model.query.kernel[...])))
    seen = model.look(memory, LENGTHS)(h)
    np.testing.assert_allclose(seen[0], weights @ m / weights.sum(), **CLOSE)
    np.testing.assert_allclose(seen[2], 0)  # nothing was read


MODELS = {
    "classifier": (lambda: Classifier(DEEP, N, N, K, rngs=rngs()), lambda m: m.rnn),
    "tagger": (
        lambda: Embedded(Tagger(LSTM, N, N, K, rngs=rngs()), K, N, rngs=rngs()),
        lambda m: m.model.rnn,
    ),
    "language": (lambda: LanguageModel(GRU, K, N, N, rngs=rngs()), lambda m: m.rnn),
    "encoder": (
        lambda: EncoderDecoder(GRU, LSTM, (K, K), N, N, rngs=rngs()),
        lambda m: m.encoder,
    ),
    "decoder": (lambda: Autoencoder(LSTM, K, N, N, rngs=rngs()), lambda m: m.decoder.rnn),
    "planner": (lambda: HierarchicalAutoencoder(GRU, K, N, N, rngs=rngs()), lambda m: m.planner),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_recurrence_of_a_model_goes_to_an_analysis(name):
    make, of = MODELS[name]
    rnn = of(make())
    body = scan.tied(rnn.cell, rnn.values)  # the one line
    start = rnn.cell.start(rnn.values)
    xs = jax.random.normal(KEY, (T, 2 * N if name == "decoder" else N))
    gain = analysis.log_gain(KEY, body, start, xs)
    logs = analysis.log_singular_values(body, start, xs)
    assert np.isfinite(gain).all()
    assert gain[-1] < logs[0] + 1e-4  # no vector grows by more than the first singular value


def test_models_are_pytrees_that_vmap_and_grad_take_whole():
    def make(key):
        return Embedded(Tagger(DEEP, D, N, K, rngs=nnx.Rngs(key)), K, D, rngs=nnx.Rngs(key))

    models = jax.vmap(make)(jax.random.split(KEY, 2))
    many = jax.jit(jax.vmap(lambda m: cross_entropy(m(SYMBOLS, LENGTHS), SYMBOLS, LENGTHS)))
    losses = many(models)
    assert losses.shape == (2,)
    assert losses[0] != losses[1]
    one = jax.tree.map(lambda leaf: leaf[1], models)
    gradient = jax.jit(jax.grad(lambda m: cross_entropy(m(SYMBOLS), SYMBOLS)))(one)
    assert all((np.asarray(leaf) != 0).any() for leaf in jax.tree.leaves(gradient))


def trained(model, loss, batch, steps, rate=0.02):
    """The model after `steps` updates on one batch."""
    state = train.start(KEY, model, optax.adam(rate))
    advance = jax.jit(lambda s: train.advance(loss, optax.adam(rate), lambda _: batch, s, steps))
    state, losses = advance(state)
    return state.params, losses


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

        def __init__(self):
            self.layer, self.readout = (
                nnx.Linear(8, 16, rngs=rngs()),
                nnx.Linear(16, 4, rngs=rngs()),
            )

        def __call__(self, xs, lengths):
            return self.readout(jnp.tanh(self.layer(xs)))

    xs, ys, lengths = batch(held)
    cities = (ys == TO) | (ys == FROM)
    there = np.arange(8)[:, None] < lengths
    right = {}
    for name, tagger in (("gru", Tagger(GRU, 8, 16, 4, rngs=rngs())), ("alone", FeedForward())):
        model = Embedded(tagger, len(vocabulary), 8, rngs=rngs())
        model, _ = trained(model, loss, batch([k for k in corpus if k not in held]), 150)
        right[name] = np.asarray(model(xs, lengths)).argmax(-1) == ys
    assert right["gru"][there].all()
    assert right["alone"][there & ~cities].all()  # it learned what a word alone can say
    assert right["alone"][cities].mean() == 0.5  # both contexts of each city, one answer


def test_a_document_goes_through_one_vector_and_back():
    model = HierarchicalAutoencoder(GRU, K, 8, 24, rngs=rngs())
    words = jax.random.randint(jax.random.key(2), (3, 4, 6), 0, K)

    def loss(model, words):
        return cross_entropy(model(words), words)

    model, losses = trained(model, loss, words, 400)
    assert losses[0] > 1.5  # log K = 1.8 nats before
    np.testing.assert_array_equal(model.decode(model.encode(words), 3, 4), words)


@pytest.mark.slow
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
    for make in (
        lambda: LanguageModel(BOTH, K, D, N, rngs=rngs()),
        lambda: Generator(Stacked(BOTH, GRU), D, K, D, N, rngs=rngs()),
        lambda: Autoencoder(BOTH, K, D, N, rngs=rngs()),
        lambda: HierarchicalAutoencoder(BOTH, K, D, N, rngs=rngs()),
    ):
        with pytest.raises(ValueError, match=r"a Bidirectional cell has read what is to come"):
            make()
    coder = Autoencoder(GRU, K, D, N, rngs=rngs())
    with pytest.raises(ValueError, match=r"symbols holds float32; symbols are integers"):
        coder(XS[..., 0])
    with pytest.raises(ValueError, match=r"lengths lie between 0 and T = 5; got 6 to 6"):
        coder(SYMBOLS, np.full(B, 6))
    with pytest.raises(ValueError, match=r"source holds float32"):
        READERS["attention"]()(XS[..., 0], SYMBOLS)
    with pytest.raises(ValueError, match=r"targets holds float32"):
        coder.decoder(XS[0], XS[..., 0])
    with pytest.raises(ValueError, match=r"words are \(S, W, ...\).*got shape \(5,\)"):
        HierarchicalAutoencoder(GRU, K, D, N, rngs=rngs())(SYMBOLS[:, 0])
    with pytest.raises(ValueError, match=r"labels has shape \(5,\), one label a step .* \(5, 4\)"):
        cross_entropy(jnp.zeros((T, B, K)), SYMBOLS[:, 0])
    with pytest.raises(ValueError, match=r"labels holds float32"):
        cross_entropy(jnp.zeros((T, B, K)), XS[..., 0])
    table, features = jnp.zeros((K, D)), jnp.zeros((T, B, D))
    with pytest.raises(ValueError, match=r"one sample or more; got 0"):
        sampled_cross_entropy(KEY, features, table, SYMBOLS, jnp.zeros(K), 0)
    with pytest.raises(ValueError, match=r"log_q has shape \(2,\).* 6 symbols is \(6,\)"):
        sampled_cross_entropy(KEY, features, table, SYMBOLS, jnp.zeros(2), 3)
