"""Reviews at toy size: the words decide for a regression, their order for a recurrence."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from killing import require_resumed

from experiments import data, harness, sentiment
from experiments.parts import bag_of_words


@pytest.fixture
def path(tmp_path):
    """Reviews of the same words, of which the first decides."""
    rng, lines = np.random.default_rng(0), ["text,label"]
    for i in range(400):
        good = rng.integers(2)
        first, second = ("good", "bad") if good else ("bad", "good")
        rest = " ".join(["film"] * rng.integers(1, 6))
        lines.append(f'"a {first} {rest}, {second} {i}!",{good}')
    file = tmp_path / "toy.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def toy(path, **changes):
    config = sentiment.Config(
        path=path,
        cells=("minimal",),
        d=8,
        parameters=400,
        epochs=12,
        batch=16,
        dropout=0.0,
        word_dropout=0.0,
        learning_rate=4e-2,
    )
    return replace(config, **changes)


def test_the_reviews_are_split_once_and_for_all():
    found = data.reviews()
    assert (len(found.train_x), len(found.test_x)) == (6823, 1705)
    assert 0.49 < found.test_y.mean() < 0.51
    assert found.words[:5] == ["<unk>", "the", "a", "of", "and"]
    assert max(map(len, found.train_x + found.test_x)) == 51
    assert found.test_y[:20].tolist() == [
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        1,
        0,
        1,
        0,
        0,
        1,
        1,
        0,
        0,
        0,
        1,
        1,
        0,
    ]


def test_reviews_of_a_users_own_file(path):
    found, again = (data.reviews(path=path) for _ in range(2))
    assert (len(found.train_x), len(found.test_x)) == (320, 80)
    for one, other in zip(found, again, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    assert set(found.words) == {"<unk>", "a", "good", "bad", "film", "!"}  # each number comes once
    texts = path.read_text()
    for broken, message in (
        ("text,mark\nx,1\n", "row 1 of .* no text, or no label"),
        (texts + '"it is",2\n', "row 401 of"),
        (texts.splitlines()[0], "0 different reviews"),
        ("text,label\n" + '"the same",1\n' * 20, "1 different reviews"),
        ('text,label\n"open,1\n', "not a CSV file"),
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=message):
            data.reviews(path=path)
    path.write_bytes(b"text,label\n\xff,1\n")
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        data.reviews(path=path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.reviews(path=path.with_name("nowhere"))


def test_the_regression_is_at_its_minimum():
    """Where the gradient, taken by hand from the formula, is zero."""
    rng, V, ridge = np.random.default_rng(0), 12, 1e-2
    texts = [rng.integers(0, V, size=rng.integers(1, 9)).astype(np.int32) for _ in range(60)]
    y = np.array([int(3 in x or rng.random() < 0.3) for x in texts], np.int32)
    part = bag_of_words.bag(bag_of_words.ragged(texts, y, 9))
    regress = jax.jit(lambda ridge: bag_of_words.regress(part, V, ridge))
    weights = regress(np.float32(ridge))
    x = np.zeros((60, V))
    for i, text in enumerate(texts):
        known = sorted(set(text.tolist()) - {0})
        x[i, known] = 1 / np.sqrt(max(len(known), 1))
    x[:, 0] = 1
    w = np.asarray(weights, float)
    slope = x.T @ (1 / (1 + np.exp(-x @ w)) - y) / 60 + ridge * np.where(np.arange(V), w, 0)
    assert np.abs(slope).max() < 1e-5  # of terms of size .1, summed in float32
    assert w[3] == w[1:].max()


def test_long_reviews_keep_their_end():
    part = bag_of_words.ragged([np.arange(5), np.array([7])], np.array([1, 0]), 3)
    assert part.words.T.tolist() == [[2, 3, 4], [7, 0, 0]]
    assert part.lengths.tolist() == [3, 1]


@pytest.mark.slow
def test_order_is_what_a_recurrence_adds(path, tmp_path):
    result = sentiment.run(toy(path), harness.Record(tmp_path))
    assert result.regression < 0.7  # both classes have the same words; 80 reviews
    assert result.test.min() > 0.95
    assert result.by_length.shape == (2, len(result.bands))
    assert (result.diverged == -1).all()
    harness.save(tmp_path, result, sentiment.plot(result), sentiment.table(result))


@pytest.mark.long
def test_a_killed_run_resumes_to_the_same_end(path, tmp_path):
    config = toy(path, epochs=3, word_dropout=0.2, dropout=0.3)
    require_resumed(partial(sentiment.run, config), tmp_path)


def test_what_cannot_be_run_is_refused(path):
    for changes, message in (
        ({"cells": ("ltsm",)}, "no cell is named"),
        ({"dropout": 1.0}, "dropout must be a share"),
        ({"longest": 0}, "longest must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            toy(path, **changes)
