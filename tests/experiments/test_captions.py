"""Strips of digits in words: how strips are put together, how words are judged, and a toy run."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from killing import require_resumed

from experiments import captions, data, harness
from experiments.captions import END, FEWEST, MOST
from experiments.parts.writers import Pairs


def bars(number, seed=0):
    """Digit k is k + 1 columns of full ink, somewhere in 14 columns of 4 rows."""
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % 10
    images = np.zeros((number, 4, 14), np.float32)
    for image, label in zip(images, labels, strict=True):
        left = rng.integers(14 - label)
        image[:, left : left + label + 1] = 1
    return images, labels.astype(np.int32)


def codes(number, seed):
    """Digit k is k + 1 in four bits, one a row, four columns wide."""
    labels = np.random.default_rng(seed).integers(10, size=number)
    bits = (labels[:, None] + 1) >> np.arange(4) & 1
    images = np.repeat(bits[:, :, None], 4, axis=2).astype(np.float32)
    return np.pad(images, ((0, 0), (0, 0), (2, 3))), labels.astype(np.int32)


def toy(**changes):
    config = captions.Config(
        networks=("attention",),
        columns=2,
        gap=4,
        d=16,
        n=24,
        updates=400,
        every=200,
        batch=32,
        test=60,
        learning_rate=2e-2,
    )
    return dataclasses.replace(config, **changes)


def test_ink_is_found():
    images, labels = bars(20)
    images[3] = 0  # nothing is written
    found = captions.digits(images, labels)
    widths = np.where(np.arange(20) == 3, 1, labels + 1)
    assert np.asarray(found.widths).tolist() == widths.tolist()
    for image, left, width in zip(images, *map(np.asarray, found[2:]), strict=True):
        assert image.sum() == 4 * image[0, left : left + width].sum()


def test_strips_show_their_digits_at_unlike_distances():
    """Read off the image, bar by bar: the names, the gaps, the width; steps are columns of it."""
    config = toy(gap=5, columns=2)
    found = captions.digits(*bars(50))

    T = captions.longest(config, found)
    made = jax.jit(lambda key: captions.strips(key, found, 200, T, config))
    part, images = made(jax.random.key(0))
    source, targets, lengths, counts = map(np.asarray, part)
    assert images.shape == (200, 4, T)
    assert T == 5 * 10 + 6 * 5
    assert T % config.columns == 0
    gaps = []
    for i, image in enumerate(np.asarray(images)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], image[0], [0]])))
        begins, ends = edges[::2], edges[1::2]
        names = targets[: counts[i] - 1, i]
        assert (targets[counts[i] - 1 :, i] == END).all()
        # bars without a gap between them are one
        assert (ends - begins).sum() == (names + 1).sum()
        between = [begins[0], *(begins[1:] - ends[:-1])]
        gaps += between
        if len(begins) == len(names):
            assert (ends - begins - 1).tolist() == names.tolist()
        assert 0 <= lengths[i] * config.columns - ends[-1] <= config.gap + config.columns - 1
        steps = source[:, i].reshape(-1, 4, config.columns)
        np.testing.assert_array_equal(np.concatenate(list(steps), axis=1), image)
    assert set(gaps) == set(range(6))
    assert set(counts - 1) == set(range(FEWEST, MOST + 1))
    assert set(targets.ravel()) == set(range(11))


def test_words_are_judged_by_edits_up_to_the_end():
    targets = np.array([[1, 2, END, END, END, END], [3, 3, 3, 3, 3, END]]).T
    test = Pairs(None, targets, None, np.array([3, 6]))
    # one word is missing; of the others one is wrong, and one too many
    written = np.array([[[1, END, 2, 2, 2, 2], [3, 3, 4, 4, 3, 3]]])
    assert captions.wrong(test, written).tolist() == [[1, 2]]
    np.testing.assert_allclose(captions.word_errors(test, written), [[3 / 7]])
    assert captions.spoken(written[0, 0]) == "one"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("captions")
    images = data.Images(*codes(100, 0), *codes(50, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "digits", lambda folder: images)
        yield place, captions.run(toy(), harness.Record(place / "whole"))


@pytest.mark.slow
def test_codes_are_named(trained):
    place, result = trained
    errors = result.errors[0, 0].sum() / result.counts.sum()
    assert errors < 0.3  # of the ten, a guess is wrong nine times
    assert (result.diverged == -1).all()
    assert result.counts[result.examples].tolist() == list(captions.SHOWN)
    assert result.looks.shape == (len(captions.SHOWN), MOST + 1, result.images.shape[2])
    np.testing.assert_allclose(result.looks.sum(axis=-1), 2, rtol=1e-4)  # two columns a step
    harness.save(place, result, captions.plot(result), captions.table(result))


@pytest.mark.long
def test_killed_and_resumed_ends_the_same(trained):
    place, whole = trained
    require_resumed(partial(captions.run, toy()), place, whole=whole)


def test_flags_that_cannot_be_run_are_refused():
    with pytest.raises(ValueError, match="no network 'vectors'; there are bag, vector, attention"):
        toy(networks=("vectors",))
    with pytest.raises(ValueError, match="gap is a number of columns"):
        toy(gap=-1)
    with pytest.raises(ValueError, match="columns must be 1 or more"):
        toy(columns=0)
