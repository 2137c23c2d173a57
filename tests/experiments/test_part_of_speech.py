"""Parts of speech: what is in the data, the baseline by hand, and a toy language."""

from functools import partial

import jax
import numpy as np
import pytest
from killing import require_resumed

from experiments import data, harness, part_of_speech

TAGS = ("DET", "NOUN", "VERB")


@pytest.fixture(scope="module", autouse=True)
def unoptimised():
    """Here compiling costs more than running, in the slow tests too."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def conllu(sentences):
    """Sentences of (word, tag) as a file, with what is to be passed over."""
    lines = []
    for words in sentences:
        lines += ["# text = of no concern", "1-2\tdo\t_\t_\t_\t_\t_\t_\t_\t_"]
        lines += [f"{i}\t{word}\t_\t{tag}" + "\t_" * 6 for i, (word, tag) in enumerate(words, 1)]
        lines += ["2.1\tgone\t_\tVERB\t_\t_\t_\t_\t_\t_", ""]
    return "\n".join(lines)


def made(place, train, test):
    place.mkdir(exist_ok=True)
    (place / "xx-ud-train.conllu").write_text(conllu(train))
    (place / "xx-ud-test.conllu").write_text(conllu(test))
    return place


def language(rng, count):
    """A noun or a verb by its ending; "luta" is a noun after "a" and a verb elsewhere."""
    sentences = []
    for _ in range(count):
        words = []
        for _ in range(rng.integers(1, 4)):
            noun = rng.random() < 0.5
            if rng.random() < 0.5:
                word = "luta"
            else:
                word = "".join(rng.choice(list("bcdfg"), 4)) + ("ção" if noun else "ava")
            words += [("A" if not words else "a", "DET")] * noun
            words.append((word, "NOUN" if noun else "VERB"))
        sentences.append(words)
    return sentences


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    return made(tmp_path_factory.mktemp("pos") / "toy", language(rng, 240), language(rng, 80))


def toy(folder, **changes):
    values = {
        "data_dir": folder,
        "cells": ("minimal",),
        "d": 8,
        "parameters": 300,
        "epochs": 4,
        "batch": 10,
        "held_out": 40,
        "dropout": 0.0,
        "learning_rate": 3e-2,
    }
    return part_of_speech.Config(**values | changes)


def test_the_newspaper_is_whole():
    found = data.parts_of_speech()
    assert (len(found.train_x), len(found.test_x)) == (7578, 842)
    assert sum(map(len, found.train_x + found.test_x)) == 168_400
    assert (len(found.words), len(found.tags)) == (20_767, 16)
    first = [
        (found.words[x], found.tags[y])
        for x, y in zip(found.train_x[0], found.train_y[0], strict=True)
    ]
    assert first[:3] == [("Eu", "PRON"), ("sei", "VERB"), ("que", "SCONJ")]
    assert all(len(x) == len(y) for x, y in zip(found.test_x, found.test_y, strict=True))


def test_a_users_own_treebank(tmp_path):
    made(tmp_path, [[("A", "DET"), ("luta", "NOUN")], [("luta", "VERB")]], [[("a", "DET")]])
    found = data.parts_of_speech(tmp_path)
    assert (found.words, found.tags) == (["A", "a", "luta"], ["DET", "NOUN", "VERB"])
    assert [x.tolist() for x in found.train_x + found.test_x] == [[0, 2], [2], [1]]
    assert [y.tolist() for y in found.train_y + found.test_y] == [[0, 1], [2], [0]]
    test = tmp_path / "xx-ud-test.conllu"
    for broken, message in (
        ("", "has no words"),
        ("1\ta\tDET\n", "line 1 of .*test.conllu has 3 columns"),
        ("1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n", "or no part of speech"),
    ):
        test.write_text(broken)
        with pytest.raises(ValueError, match=message):
            data.parts_of_speech(tmp_path)
    test.unlink()
    with pytest.raises(FileNotFoundError, match=r"has 0 files \*test.conllu"):
        data.parts_of_speech(tmp_path)


def test_the_most_frequent_part_by_hand(tmp_path):
    """Known words by themselves, in small letters; others by their ending; else by all."""
    train = [
        [("corava", "VERB"), ("a", "DET"), ("Luta", "NOUN"), ("luta", "NOUN"), ("luta", "VERB")],
        [("x", "DET"), ("nação", "NOUN"), ("nação", "NOUN"), ("corava", "VERB"), ("lava", "NOUN")],
    ]
    test = [
        [
            ("LUTA", "NOUN"),
            ("falava", "VERB"),
            ("canção", "VERB"),
            ("xyz", "NOUN"),
            ("lava", "NOUN"),
        ]
    ]
    found = data.parts_of_speech(made(tmp_path, train * 5, test))
    divided = part_of_speech.parts(found, toy(tmp_path, held_out=1))
    answers = part_of_speech.most_frequent(divided, 3)
    assert [TAGS[y] for y in answers[:5, 0]] == ["NOUN", "VERB", "NOUN", "NOUN", "NOUN"]
    np.testing.assert_allclose(part_of_speech.scores(divided, answers), [4 / 5, 2 / 3])
    blind = part_of_speech.parts(found, toy(tmp_path, held_out=1, ending=0))
    assert (part_of_speech.most_frequent(blind, 3)[1:4, 0] == TAGS.index("NOUN")).all()


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Where it was made and what came out: one run for all tests that look at one."""
    place = tmp_path_factory.mktemp("run")
    return place, part_of_speech.run(toy(folder), harness.Record(place / "whole"))


@pytest.mark.slow
def test_a_part_that_hangs_on_the_word_before_is_learned(trained):
    place, result = trained
    # half of the words but "a" are "luta", a noun as often as a verb: the baseline misses a half
    assert result.baseline[0] < 0.9
    assert (result.accuracies[..., 0] > 0.97).all()
    assert result.baseline[1] == 1  # an ending tells
    assert (result.accuracies[..., 1] > 0.95).all()
    words = result.confusion.sum()
    right = np.trace(result.confusion[0])
    np.testing.assert_allclose(right / words, result.accuracies[..., 0].mean())
    assert (result.diverged == -1).all()
    harness.save(place, result, part_of_speech.plot(result), part_of_speech.table(result))


@pytest.mark.slow
def test_killed_and_resumed_ends_the_same(folder, trained):
    place, whole = trained
    require_resumed(partial(part_of_speech.run, toy(folder)), place, whole=whole)


def test_flags_that_cannot_be_run_are_refused(folder):
    with pytest.raises(ValueError, match="no cell is named"):
        toy(folder, cells=("grru",))
    with pytest.raises(ValueError, match="word_dropout must be a share"):
        toy(folder, word_dropout=1.0)
    with pytest.raises(ValueError, match="ending is a number of letters"):
        toy(folder, ending=-1)
    with pytest.raises(ValueError, match="must leave some of 240"):
        part_of_speech.parts(data.parts_of_speech(folder), toy(folder, held_out=240))
