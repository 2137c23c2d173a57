"""Pronunciation from spelling at toy size, on a dictionary that is made here."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from killing import require_resumed

from experiments import autoencoder, data, harness
from experiments import sequence_to_sequence as s2s
from experiments.parts.edits import distances, edits, judge, mistakes
from recur.flax.models import cross_entropy

VOWELS = "aio"


def spell(rng):
    """A word and its phones: a vowel is long before one consonant and a silent e, k is silent
    before n, and doubled letters are said once."""
    word, phones = "", []
    for _ in range(rng.integers(1, 4)):
        onset = rng.choice(["kn", "k", "t", "s"])
        vowel, silent = rng.choice(list(VOWELS)), rng.random() < 0.4
        coda = rng.choice(["te", "se"] if silent else ["tt", "s"])
        word += onset + vowel + coda
        phones += ["N" if onset == "kn" else onset.upper(), vowel.upper() * (1 + silent) + "1"]
        phones += [coda[0].upper()]
    return word, phones


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    """Some 900 words, each tenth with a second pronunciation."""
    rng = np.random.default_rng(0)
    found = dict(spell(rng) for _ in range(1200))
    lines = [f"{word} {' '.join(phones)}" for word, phones in found.items()]
    lines += [f"{word}(2) {' '.join(found[word][:-1])}" for word in list(found)[::10]]
    path = tmp_path_factory.mktemp("pronunciation") / "toy.dict"
    path.write_text("\n".join(lines) + "\n")
    return path


def toy(dictionary, **changes):
    config = s2s.Config(
        dictionary=dictionary,
        networks=("attention",),
        teacher=(1.0,),
        d=8,
        n=24,
        updates=400,
        every=200,
        batch=32,
        sizes=1,
        longest=16,
        learning_rate=0.02,
        validation=50,
        test=100,
    )
    return dataclasses.replace(config, **changes)


def loaded(config):
    return data.pronunciations(config.validation, config.test, config.seed, config.dictionary)


# --- edits ----------------------------------------------------------------------------------------


@cache
def recursive(a, b):
    """The definition."""
    if not a or not b:
        return len(a) + len(b)
    both = recursive(a[1:], b[1:]) + (a[0] != b[0])
    return min(both, recursive(a[1:], b) + 1, recursive(a, b[1:]) + 1)


def test_edits_sum_to_the_distance_wherever_they_are():
    rng = np.random.default_rng(0)
    pairs = [
        tuple(tuple(rng.integers(3, size=rng.integers(7)).tolist()) for _ in range(2))
        for _ in range(200)
    ]
    lengths = np.array([len(b) for _, b in pairs])
    others = np.full((7, len(pairs)), 9)
    for i, (_, b) in enumerate(pairs):
        others[: len(b), i] = b
    for a, b in pairs:
        assert edits(a, b).sum() == recursive(a, b)
        assert edits(a, b).shape == (len(a) + 1,)
    for a, _ in pairs[:20]:
        expected = [recursive(a, b) for _, b in pairs]
        assert distances(a, others, lengths).tolist() == expected


@pytest.mark.parametrize(
    ("true", "written", "places"),
    [
        ("kitten", "kitten", [0] * 7),
        ("kitten", "sitting", [1, 0, 0, 0, 1, 0, 1]),
        ("abc", "ac", [0, 1, 0, 0]),
        ("abc", "axbc", [0, 1, 0, 0]),
        ("abc", "abcxy", [0, 0, 0, 2]),
        ("abc", "", [1, 1, 1, 0]),
        ("", "ab", [2]),
        ("aab", "ab", [0, 1, 0, 0]),  # all that agrees from the start is kept
    ],
)
def test_edits_are_where_they_are_made(true, written, places):
    found = edits(true, written)
    assert found.tolist() == places


END = 9


def test_words_are_judged_by_their_nearest_pronunciation():
    spoken = {"one": [(1, 2, 3), (1, 2)], "two": [(4,)]}
    written = np.array([[[1, 2, END, 5], [4, 4, 4, 4]], [[2, 3, END, 1], [END, 4, 4, 4]]])
    wrong, phones = judge(spoken, written, END)
    assert wrong.tolist() == [[0, 3], [1, 1]]
    assert phones.tolist() == [[2, 1], [3, 1]]


def test_mistakes_by_place_and_after_the_first():
    """The forced network misses the second phone; the free one the third too."""
    spoken = {"skipped": [(1,), (2,)], "said": [(1, 2, 3)], "right": [(5, 6)]}
    free = np.array([[0] * 5, [1, 7, 7, END, 0], [5, 6, END, 0, 0]])
    forced = np.array([[0] * 5, [1, 7, 3, END, 0], [5, 6, END, 0, 0]])
    found = mistakes(spoken, free, forced, END)
    assert found.places.tolist() == [2, 2, 2, 1, 0]
    assert found.forced.tolist() == [0, 1, 0, 0, 0]
    assert found.free.tolist() == [0, 1, 1, 0, 0]
    assert found.after[:, :3].tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 0]]


def network(kind, config, found, seed=0):
    """With numbers from NumPy in place of its draw, which would be compiled."""
    numbers = np.random.default_rng(seed)
    fill = lambda a: numbers.normal(size=a.shape).astype(a.dtype)  # noqa: E731
    make = partial(s2s.network, kind, config, found)
    return jax.tree.map(fill, jax.eval_shape(make, jax.random.key(0)))


# --- the networks ---------------------------------------------------------------------------------


def test_parts_hold_every_training_pair_once(dictionary):
    config = toy(dictionary, sizes=2)
    found = loaded(config)
    parts = s2s.by_size(found, config)
    assert len(parts) == 2
    assert parts[0].letter_lengths.max() <= parts[1].letter_lengths.max()
    assert len(parts[0].letters) < len(parts[1].letters) <= config.longest
    seen = set()
    for part in parts:
        read, said, sizes, counts = map(np.asarray, part)
        for i in range(len(sizes)):
            word = "".join(found.letters[j] for j in read[: sizes[i], i])
            assert said[counts[i] - 1 :, i].tolist() == [len(found.phones)] * (
                len(said) - counts[i] + 1
            )
            seen.add((word, tuple(said[: counts[i] - 1, i].tolist())))
    expected = {
        (word, way)
        for word, ways in found.train.items()
        for way in ways
        if max(len(word), len(way) + 1) <= config.longest
    }
    assert seen == expected
    with pytest.raises(ValueError, match="0 training words have at most longest=1"):
        s2s.by_size(found, toy(dictionary, longest=1))


@pytest.mark.parametrize("kind", [pytest.param("vector", marks=pytest.mark.slow), "attention"])
def test_the_teacher_alone_is_teacher_forcing(dictionary, kind):
    config = toy(dictionary)
    found = loaded(config)
    part = jax.tree.map(lambda a: np.asarray(a)[..., :9], s2s.by_size(found, config)[0])
    model = network(kind, config, found)

    @jax.jit
    def losses(model, part):
        logits = model(part.letters, part.phones, part.letter_lengths)
        expected = cross_entropy(logits, part.phones, part.phone_lengths)
        batch = part, jax.random.key(1)
        each = jax.vmap(lambda share: s2s.loss(model, batch, share))(np.float32([1, 0]))
        return expected, *each

    expected, taught, alone = map(np.asarray, losses(model, part))
    np.testing.assert_allclose(taught, expected, rtol=1e-5)  # float32
    assert abs(alone - expected) > 1e-4


def test_attention_is_what_the_network_writes_by(dictionary):
    """Shares of 1 over the letters; the context they give is the model's own."""
    config = toy(dictionary)
    found = loaded(config)
    model = network("attention", config, found)
    letters = np.asarray(s2s.by_size(found, config)[0].letters)[:4, 0]

    @jax.jit
    def looked(model, letters):
        """Beside what `weights` says, step by step: the contexts and the symbols."""
        memory, (written, shares) = model.read(letters), s2s.weights(model, letters)
        look, state, found = model.look(memory, None), model.decoder.start(), []
        for symbol in model.decoder.inputs(written):
            context = look(state)
            state, h = model.decoder.body(look)(state, symbol)
            found.append((context, model.decoder.readout(h).argmax()))
        contexts, symbols = zip(*found, strict=True)
        return shares, written, shares @ memory, jnp.stack(contexts), jnp.stack(symbols)

    shares, written, means, contexts, symbols = map(np.asarray, looked(model, letters))
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)  # float32
    np.testing.assert_allclose(means, contexts, atol=1e-5)  # float32, values ~ 1
    assert symbols.tolist() == written.tolist()


def test_the_teacher_leaves_by_and_by_while_all_sizes_are_read_alike():
    config = s2s.Config(teacher=(1.0, 0.5), seeds=2, updates=400, every=200, sizes=5)
    seen = []

    def learner(part, state, shares):
        seen.append(part)
        return state + 1, shares[:, None]

    learners = [partial(learner, part) for part in range(5)]
    early, late = (s2s.learn(k, learners, jnp.zeros(()), config) for k in range(2))
    assert early[0] == late[0] == 10  # blocks of 20 updates
    past = np.array([np.arange(10).mean(), np.arange(10, 20).mean()]) / 20
    np.testing.assert_allclose(early[1], [1, 1, *[1 - past[0] / 2] * 2], rtol=1e-6)  # float32
    np.testing.assert_allclose(late[1], [1, 1, *[1 - past[1] / 2] * 2], rtol=1e-6)
    assert sorted(seen[:10]) == sorted(seen[10:]) == sorted([*range(5)] * 2)
    assert seen[:10] != seen[10:]


def test_up_to_the_first_mistake_both_read_the_same(dictionary):
    """Told that another phone was right at a place, the forced network goes another way from there.

    Not before: up to that place it writes what the free one does.
    """
    config = toy(dictionary, n=6)
    found = loaded(config)
    part = jax.tree.map(lambda a: np.asarray(a)[..., :20], s2s.by_size(found, config)[0])
    model = network("attention", config, found)

    @jax.jit
    def both(model, part):
        free, _ = s2s.answer(model, part)
        places = jnp.arange(20) % 5
        there = jnp.arange(len(free))[:, None] == places
        others = jnp.where(there, (free + 3) % len(found.phones), free)
        return free, s2s.answer(model, part._replace(phones=others))[1], places

    free, forced, places = map(np.asarray, both(model, part))
    for i, t in enumerate(places):
        assert free[: t + 1, i].tolist() == forced[: t + 1, i].tolist()
    assert (free != forced).any(axis=0).sum() > 5


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """A run that was killed and resumed has the programs of the whole one: no need to make them."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def trained(dictionary, compiled_once, tmp_path_factory):
    """Where it was made and what came out: one run for all tests that look at one."""
    place = tmp_path_factory.mktemp("spoken")
    config = toy(dictionary)
    return place, config, s2s.run(config, harness.Record(place / "whole"))


@pytest.mark.slow
def test_the_toy_language_is_learned(trained):
    place, config, result = trained
    share = result.errors.sum(axis=-1) / result.phones.sum(axis=-1)
    # each tenth word has a second form without its last phone, of which either is right
    assert share.max() < 0.1
    assert result.errors.shape == (1, 1, 1, config.test)
    assert (result.diverged == -1).all()
    right = result.errors[0, 0, 0] == 0
    one_way = np.array([len(ways) == 1 for ways in loaded(config).test.values()])
    same = result.written[0, 0, 0] == result.spoken
    assert (same | ~right)[one_way].all()
    harness.save(place, result, s2s.plot(result), s2s.table(result))


@pytest.mark.long
def test_killed_and_resumed_ends_the_same(trained):
    place, config, whole = trained
    require_resumed(lambda record: s2s.run(config, record), place, whole=whole)


def test_flags_that_cannot_be_run_are_refused(dictionary):
    with pytest.raises(ValueError, match="did you mean 'gru'"):
        toy(dictionary, cell="grru")
    with pytest.raises(ValueError, match=r"every \(30\) must be a multiple of 20"):
        toy(dictionary, every=30, updates=300)
    with pytest.raises(ValueError, match="shares from 0 to 1, got"):
        toy(dictionary, teacher=(1.5,))
    with pytest.raises(ValueError, match="seeds must be 1 or more"):
        toy(dictionary, seeds=0)


# --- autoencoders ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["na-tion", "string", "ma-ke", "in-ter-na-tio-nal", "ab-botts", "cwm", "a-rea", "eye"]
)
def test_syllables_begin_at_the_last_consonant_before_a_vowel(word):
    assert autoencoder.syllables(word.replace("-", "")) == word.split("-")


def test_letters_and_syllables_are_the_same_words():
    words = ["nation", "cwm", "make"]
    symbols, lengths, written = map(np.asarray, autoencoder.flat(words, 7))
    assert symbols.shape == (8, 3)
    assert lengths.tolist() == written.tolist() == [7, 4, 5]
    for i, word in enumerate(words):
        assert "".join(autoencoder.LETTERS[j] for j in symbols[: lengths[i] - 1, i]) == word
        assert (symbols[lengths[i] - 1 :, i] == autoencoder.END).all()
    symbols, lengths, written = map(np.asarray, autoencoder.nested(words, 3, 4))
    assert symbols.shape == (3, 5, 3)
    assert lengths.T.tolist() == [[3, 5, 0], [4, 0, 0], [3, 3, 0]]
    assert written.T.tolist() == [[3, 5, 1], [4, 1, 1], [3, 3, 1]]
    for i, word in enumerate(words):
        letters = [
            autoencoder.LETTERS[j] for part in symbols[..., i] for j in part if j != autoencoder.END
        ]
        assert "".join(letters) == word


class Echo:
    """A model that writes back what it was given, but for what `spoil` does."""

    def __init__(self, symbols, spoil):
        self.symbols = np.array(symbols)
        self.symbols[spoil] = 3

    def encode(self, symbols, lengths):
        return jnp.zeros((symbols.shape[-1], 2))

    def decode(self, code, *steps):
        assert self.symbols.shape == (*steps, len(code))
        return self.symbols


@pytest.mark.parametrize(
    ("spoil", "right"),
    [
        ((0, 0, 1), [True, False, True]),  # a letter of the second word
        ((1, 3, 2), [True, True, True]),  # after the end of a syllable
        ((1, 2, 2), [True, True, False]),  # the end of a syllable
        ((2, 1, 0), [True, True, True]),  # after a syllable that is not there
        ((2, 0, 0), [False, True, True]),  # one syllable too many
    ],
)
def test_a_word_is_written_back_without_a_mistake_up_to_each_end(spoil, right):
    part = autoencoder.nested(["nation", "cwm", "make"], 3, 4)
    assert autoencoder.rebuilt(Echo(part.symbols, spoil), part)[1].tolist() == right


def test_neighbours_are_the_nearest():
    words = ["tattoo", "cat", "act", "cart", "zoo"]
    rng = np.random.default_rng(0)
    chance, bag, edited = autoencoder.by_letters(autoencoder.flat(words, 6), rng)
    assert (chance != np.arange(5)).all()
    assert bag[1:3].tolist() == [2, 1]  # an anagram
    for i, j in enumerate(edited):
        far = [recursive(words[i], word) for word in words]
        assert j != i
        assert far[j] == sorted(far)[1]
    # about their mean (2, 1) these are (-2, -1), (-1, -1), (1, 0), (2, 2)
    assert autoencoder.nearest(np.array([[0, 0], [1, 0], [3, 1], [4, 3.0]])).tolist() == [
        1,
        0,
        3,
        2,
    ]


def test_a_probe_of_hand():
    """nation - station rhyme and have two syllables both; station has one phone more, and more."""
    words = ["nation", "station"]
    phones = [said.split() for said in ("N EY SH AH N", "S T EY SH AH N")]
    found = autoencoder.probe(words, phones, np.array([1, 0]))
    assert found == pytest.approx([1, 0, 1, (2 / 5 + 2 / 6) / 2, (2 / 6 + 2 / 7) / 2])
    assert autoencoder.rhyme(phones[1]) == "AH N"
    assert autoencoder.rhyme(["S", "T"]) == "S T"


def coded(dictionary, **changes):
    config = autoencoder.Config(
        dictionary=dictionary,
        n=24,
        d=8,
        seeds=1,
        updates=400,
        every=200,
        batch=32,
        learning_rate=0.02,
        longest=16,
        test=100,
    )
    return dataclasses.replace(config, **changes)


@pytest.mark.long
def test_words_come_back_and_lie_by_their_beginnings(dictionary, compiled_once, tmp_path):
    """And they do so in a run that was killed and resumed."""
    config = coded(dictionary)
    result = autoencoder.run(config, harness.Record(tmp_path / "whole"))
    assert (result.losses[..., -1] < 0.7 * result.losses[..., 0]).all()
    assert (result.rebuilt[0, :, -1] > 0.1).all()  # of some 900 words, by chance none
    assert result.rankings.tolist()[3:] == ["sequence", "hierarchical", "summed"]
    assert result.probes[3, 1] > result.probes[0, 1]  # beginnings, against chance
    assert (result.neighbours != np.arange(100)).all()
    harness.save(tmp_path, result, autoencoder.plot(result), autoencoder.table(result))
    require_resumed(lambda record: autoencoder.run(config, record), tmp_path, whole=result)


def test_autoencoders_refuse_bad_flags(dictionary, tmp_path):
    with pytest.raises(ValueError, match=r"every \(7\) must divide updates"):
        coded(dictionary, every=7)
    with pytest.raises(ValueError, match=r"test must be 2 or more.*got 1"):
        coded(dictionary, test=1)
    with pytest.raises(ValueError, match="must leave some of"):
        autoencoder.run(coded(dictionary, test=10_000), harness.Record(tmp_path))
