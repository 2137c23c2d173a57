"""Dates of many languages to ISO form: the data, the networks by what they see, and a toy run."""

import dataclasses
import datetime
import sys
import unicodedata
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from killing import require_resumed

from experiments import data, harness, translation
from experiments.parts import writers
from recur import cells


def toy(**changes):
    config = translation.Config(
        networks=("attention",),
        languages=("en", "fr"),
        held_out=("es",),
        each=300,
        test=20,
        d=16,
        n=24,
        updates=600,
        every=200,
        batch=32,
        learning_rate=1e-2,
    )
    return dataclasses.replace(config, **changes)


# --- the data -------------------------------------------------------------------------------------


def test_dates_are_written_in_three_forms_and_read_back():
    """English dates by strptime; no day is in both parts, nor twice."""
    found = data.dates(("en", "de"), 9, 6)
    assert (len(found.train_x), len(found.test_x)) == (18, 12)
    assert found.train_language.tolist() == [0] * 9 + [1] * 9
    assert found.test_language.tolist() == [0] * 6 + [1] * 6
    forms = ("%A, %B %d, %Y", "%B %d, %Y", "%b %d, %Y")
    for i, (text, iso) in enumerate(zip(found.train_x[:9], found.train_y[:9], strict=True)):
        assert datetime.datetime.strptime(text, forms[i % 3]).date().isoformat() == iso
    assert found.train_x[11].split(".")[:2] == found.train_y[11].split("-")[:0:-1]  # 04.05.2021
    assert len(set(found.train_y + found.test_y)) == 30
    assert data.dates(("en", "de"), 9, 6)[0] == found.train_x
    assert data.dates(("en", "de"), 9, 6, seed=1)[0] != found.train_x


@pytest.mark.parametrize(
    ("languages", "train", "message"),
    [
        (("en", "xx"), 5, "Babel has no language 'xx'"),
        (("e n",), 5, "Babel has no language 'e n'"),
        (("en", "en"), 5, "different names"),
        ((), 5, "one or more different names"),
        (("en",), 0, "both must be 1 or more"),
        (("en", "de"), 40_000, "at most the 73049 days"),
    ],
)
def test_languages_and_numbers_that_cannot_be_are_refused(languages, train, message):
    with pytest.raises(ValueError, match=message):
        data.dates(languages, train, 1)


def test_without_babel_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel", None)  # as if it were not there
    with pytest.raises(ImportError, match="pip install babel"):
        data.dates(("en",), 1, 1)


def test_every_default_language_is_in_babel_and_written_by_its_own_days():
    """Thirty, five of them held out; what a reader sees leaves no day open but by the words."""
    config = translation.Config()
    every = (*config.languages, *config.held_out)
    assert (len(set(every)), len(config.held_out)) == (30, 5)
    found = data.dates(every, 1, 6)
    for text, iso in zip(found.test_x, found.test_y, strict=True):
        year, _, day = iso.split("-")
        assert year in text
        assert str(int(day)) in text


def test_characters_of_held_out_languages_are_unknown_where_training_has_none():
    every = translation.corpus(toy(languages=("en",), held_out=("ru",)))
    texts, lengths = np.asarray(every.test.source), np.asarray(every.test.lengths)
    known = every.characters - 1
    assert np.asarray(every.train.source).max() == known
    assert len(every.train.lengths) == 300  # of English alone
    for i, text in enumerate(every.found.test_x):
        read = texts[: lengths[i], i]
        cyrillic = np.array([unicodedata.name(c).startswith("CYRILLIC") for c in text])
        assert (read[cyrillic] == translation.UNKNOWN).all()
        assert (texts[lengths[i] :, i] == translation.UNKNOWN).all()
        assert every.found.test_language[i] or (read > 0).all()
    names = [
        "".join(translation.SYMBOLS[s] for s in row) for row in np.asarray(every.test.targets).T
    ]
    assert names == every.found.test_y


def test_year_month_and_day_are_judged_apart():
    part = translation.pairs(["a", "b"], ["2021-05-04", "1999-12-31"], {"a": 1})
    written = translation.pairs(["a"] * 2, ["2021-06-04", "1998-12-31"], {}).targets.T
    right = translation.parts_right(np.asarray(written)[None], part)
    assert right.tolist() == [[[True, False, True], [False, True, True]]]


# --- the networks ---------------------------------------------------------------------------------


def network(kind, seed=0):
    """With numbers from NumPy in place of its draw, which would be compiled."""
    numbers = np.random.default_rng(seed)
    make = lambda: writers.network(  # noqa: E731
        kind, cells.minimal.cell, (9, 5), 4, 6, nnx.Rngs(0)
    )
    fill = lambda a: numbers.normal(size=a.shape).astype(a.dtype)  # noqa: E731
    return jax.tree.map(fill, jax.eval_shape(make))


def test_a_bag_knows_no_order_and_the_others_do():
    """What a date is written as does not change where its characters are shuffled; padding, that
    would be read as symbol 0, has no part."""
    rng = np.random.default_rng(0)
    source, lengths = rng.integers(1, 9, (7, 3)), np.array([7, 5, 6])
    other = source.copy()
    for i, length in enumerate(lengths):
        other[:length, i] = other[:length, i][::-1]
        other[length:, i] = 0
    targets = rng.integers(0, 5, (4, 3))

    @jax.jit
    def losses(models, source, targets, lengths):
        part = writers.Pairs(source, targets, lengths, jnp.full(3, 4))
        return [writers.loss(model, part) for model in models]

    models = [network(kind) for kind in writers.KINDS]
    first, second = (np.array(losses(models, s, targets, lengths)) for s in (source, other))
    np.testing.assert_allclose(first[0], second[0], rtol=1e-5)  # float32
    assert (abs(first[1:] - second[1:]) > 1e-3).all()


def test_what_is_written_is_the_likeliest_symbol_after_those_before_it():
    """Against teacher forcing on what was written, and in chunks that do not divide the number."""
    rng = np.random.default_rng(1)
    source, lengths = rng.integers(1, 9, (7, 5)), np.array([7, 5, 6, 1, 7])
    part = writers.Pairs(source, np.zeros((4, 5), int), lengths, np.full(5, 4))
    model = network("attention")

    @jax.jit
    def both(model, part):
        written = writers.write(model, part)
        look = model.look(model.read(part.source, part.lengths), part.lengths)
        again = model.decoder.follow(look, written.T).argmax(axis=-1)
        return written, again.T, writers.looks(model, model.read(part.source[:, 0]), written[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "CHUNK", 2)
        written, again, looks = map(np.asarray, both(model, jax.tree.map(jnp.asarray, part)))
    assert written.shape == (5, 4)
    assert (written == again).all()
    assert looks.shape == (4, 7)
    np.testing.assert_allclose(looks.sum(axis=1), 1, rtol=1e-5)  # float32


# --- the experiment -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("translation")
    return place, toy(), translation.run(toy(), harness.Record(place / "whole"))


@pytest.mark.slow
def test_english_and_french_are_learned_and_spanish_in_part(trained):
    place, _, result = trained
    right = result.right[0, 0]
    known = ~result.held_out[result.language]
    assert right[known].all(axis=1).mean() > 0.9
    assert right[~known, 0].mean() > 0.5  # years are numerals
    same = result.written[0, 0] == result.isos
    assert (same == right.all(axis=1)).all()
    assert (result.diverged == -1).all()
    harness.save(place, result, translation.plot(result), translation.table(result))
    shares = result.looks.sum(axis=-1)
    np.testing.assert_allclose(shares, 1, rtol=1e-4)  # float32


@pytest.mark.long
def test_killed_and_resumed_ends_the_same(trained):
    place, config, whole = trained
    require_resumed(partial(translation.run, config), place, whole=whole)


def test_flags_that_cannot_be_run_are_refused():
    with pytest.raises(ValueError, match="no network 'vectors'; there are bag, vector, attention"):
        toy(networks=("vectors",))
    with pytest.raises(ValueError, match=r"every \(7\) must divide updates"):
        toy(every=7)
    with pytest.raises(ValueError, match="each must be 1 or more"):
        toy(each=0)
