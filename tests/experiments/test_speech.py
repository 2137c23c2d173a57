"""Strings of vowels: how they are put together and heard, and the experiment, tiny."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from killing import require_resumed

from experiments import data, harness, speech
from experiments.parts.utterances import Sounds, utterances


def toy(**changes):
    config = speech.Config(
        speakers=10,
        cells=("frame alone", "bidirectional.minimal"),
        parameters=600,
        samples=800,
        strings=200,
        most=4,
        bands=12,
        noise=0.3,
        updates=200,
        every=100,
        batch=16,
        learning_rate=2e-2,
    )
    return dataclasses.replace(config, **changes)


def sounds(**changes):
    how = Sounds(rate=8000, hop=0.01, bands=12, fewest=2, most=5, pause=(0.03, 0.1), noise=0.0)
    return how._replace(**changes)


def test_label_errors_are_edits_along_the_likeliest_path():
    """[1, none, 1] is heard and [1, 2] said; [2, 1] is heard and [2] said, 2 beyond the end."""
    paths = np.array([[1, 2], [1, 2], [0, 1], [1, 1], [1, 2]]).astype(int)
    lengths, counts = np.array([5, 4]), np.array([2, 1])
    test = speech.Strings(np.eye(3)[paths] * 9, np.array([[1, 2], [2, 0]]), lengths, counts)
    model = lambda frames, lengths: jnp.asarray(frames, jnp.float32)  # noqa: E731
    found = jax.jit(lambda: speech.wrong(model, test))()
    assert found.tolist() == [1, 1]


def test_vowels_stand_where_it_is_said_that_they_do():
    """Without noise every frame within a vowel is louder than every one in a pause."""
    found = data.synthetic_vowels(6, 8000, 800)
    who = np.array([1, 4])
    made = utterances(found, who, 40, sounds(), 0)
    assert made.frames.shape == (made.lengths.max(), 40, 12)
    assert set(made.counts) == {2, 3, 4, 5}
    assert set(made.labels.ravel()) == {0, 1, 2, 3}
    loud = made.frames.max(axis=-1)
    for i in range(40):
        spans = made.spans[i, : made.counts[i]]
        inside = np.zeros(made.lengths[i], bool)
        edge = inside.copy()
        for begin, end in spans:
            inside[begin + 1 : end - 2] = True
            edge[max(begin - 2, 0) : begin + 1] = edge[end - 2 : end + 1] = True
        own = loud[: made.lengths[i], i]
        assert own[inside].min() > own[~inside & ~edge].max(initial=-np.inf) + 3  # nats
        assert (spans[1:, 0] - spans[:-1, 1] >= 2).all()  # 0.03 s are three frames, less rounding
        assert (np.diff(spans, axis=1) >= 4).all()  # half of 0.1 s
        assert (made.labels[made.counts[i] :, i] == 0).all()
    same = utterances(found, who, 40, sounds(), 0)
    np.testing.assert_array_equal(made.frames, same.frames)
    assert not np.array_equal(made.labels, utterances(found, who, 40, sounds(), 1).labels)


def test_noise_is_heard_between_vowels():
    found = data.synthetic_vowels(2, 8000, 800)
    quiet, noisy = (
        utterances(found, np.array([0]), 5, sounds(noise=size), 0) for size in (0.0, 2.0)
    )
    np.testing.assert_allclose(quiet.frames.min(), np.log(1e-3), rtol=1e-5)  # silence
    least = [noisy.frames[:length, i].min() for i, length in enumerate(noisy.lengths)]
    assert np.median(least) > quiet.frames.min() + 3  # its size is drawn, from 0 on


def test_a_string_is_of_one_speaker_and_none_is_in_both_parts(monkeypatch):
    """Speaker k is heard as vowels of size 10^k: a string has one size, and a part its own."""
    found = data.synthetic_vowels(5, 8000, 800)
    loud = found.xs * 10.0 ** found.speakers[:, None]
    monkeypatch.setattr(data, "synthetic_vowels", lambda *_: found._replace(xs=loud))
    training, test, vowels = speech.corpus(toy(speakers=5, noise=0.0))
    assert vowels == ["ae", "ei", "iy"]
    assert (len(training.lengths), len(test.lengths)) == (200, 40)
    heard, other = (
        np.unique(np.round(part.frames.max(axis=(0, 2)) / np.log(100)))  # energy: 10^2 a speaker
        for part in (training, test)
    )
    assert len(heard) == 4
    assert len(other) == 1
    assert not set(heard) & set(other)
    with pytest.raises(ValueError, match="5 speakers leave none to train on"):
        speech.corpus(toy(held_out=0.95))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("speech")
    return place, speech.run(toy(), harness.Record(place / "whole"))


@pytest.mark.slow
def test_vowels_are_heard_where_nobody_says_when(trained):
    place, result = trained
    assert result.rates[1, 0, -1] < 0.3  # of three vowels, a guess is wrong twice
    assert result.losses[1, 0, 1] < result.losses[1, 0, 0]
    np.testing.assert_allclose(result.rates[..., -1], result.errors.sum(-1) / result.counts.sum())
    np.testing.assert_allclose(result.shares.sum(axis=-1), 1, rtol=1e-5)  # float32
    assert (result.diverged == -1).all()
    harness.save(place, result, speech.plot(result), speech.table(result))


@pytest.mark.long
def test_killed_and_resumed_ends_the_same(trained):
    place, whole = trained
    require_resumed(partial(speech.run, toy()), place, whole=whole)


def test_flags_that_cannot_be_run_are_refused():
    with pytest.raises(ValueError, match="no cell is named"):
        toy(cells=("bidirectional.gro",))
    with pytest.raises(ValueError, match=r"fewest \(5\) to most \(4\)"):
        toy(fewest=5)
    with pytest.raises(ValueError, match="pauses must be longer than nothing"):
        toy(pause=(0.0, 0.1))
    with pytest.raises(ValueError, match="not longer than the shortest pause"):
        toy(hop=0.05)
    with pytest.raises(ValueError, match="held_out must be a share"):
        toy(held_out=1.0)
