"""Vowels heard by a wave: the made voices, a folder of recordings, and the experiment, tiny."""

import wave as wav
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from killing import require_resumed

from experiments import data, harness, waves
from experiments.parts import sound_classifiers
from recur import scan
from recur.cells import wave


def write(path, x, rate=16_000, channels=1, width=2):
    with wav.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.round(x * 10_000).astype("<i2").tobytes())


def tone(hertz, rate, samples):
    return np.sin(2 * np.pi * hertz * np.arange(samples) / rate)


# --- the data -------------------------------------------------------------------------------------


def test_recordings_are_named_resampled_and_cut(tmp_path):
    """1 kHz for 0.1 s at 16 kHz, as 400 samples at 8 kHz: the middle of a tone is that tone."""
    for name, hertz in (("m01ae", 1000), ("w02ae", 1500), ("m01iy", 2000)):
        write(tmp_path / f"{name}.wav", tone(hertz, 16_000, 1600))
    found = data.vowels(tmp_path, 8000, 400)
    assert found.classes == ["ae", "iy"]
    assert (found.labels.tolist(), found.speakers.tolist()) == ([0, 1, 0], [0, 0, 1])
    np.testing.assert_allclose(found.xs.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose((found.xs**2).mean(axis=1), 1, rtol=1e-5)
    expected = np.sqrt(2) * tone(1000, 8000, 800)[200:600]
    np.testing.assert_allclose(found.xs[0], expected, atol=2e-3)  # 16 bits, 1e-4 of 1, at the ends


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda p: p.unlink(), FileNotFoundError, r"has no \*\.wav"),
        (lambda p: p.rename(p.with_name("ae.wav")), ValueError, "ae.wav .* must be named"),
        (lambda p: p.write_bytes(b"RIFF"), ValueError, "m01ae.wav is not a whole WAV file"),
        (lambda p: p.write_bytes(p.read_bytes()[:99]), ValueError, r"has 55 of 2000 bytes"),
        (lambda p: write(p, np.ones(1000), channels=2), ValueError, "2 channels of 16 bits"),
        (lambda p: write(p, np.ones(1000), width=1), ValueError, "1 channels of 8 bits"),
        (lambda p: write(p, np.zeros(1000)), ValueError, "silent in its middle 400"),
        (lambda p: write(p, np.ones(300)), ValueError, "has 150 samples .* 400 are needed"),
        (lambda p: write(p, np.ones(0)), ValueError, "has 0 of 0 bytes"),
    ],
)
def test_folders_that_are_not_whole_are_refused(tmp_path, spoil, error, message):
    path = tmp_path / "m01ae.wav"
    write(path, tone(500, 16_000, 1000))
    assert data.vowels(tmp_path, 8000, 400).xs.shape == (1, 400)
    spoil(path)
    with pytest.raises(error, match=message):
        data.vowels(tmp_path, 8000, 400)


def test_made_voices_have_the_formants_of_their_vowel():
    """The strongest band around the first formant of men: 340 Hz of iy, 590 Hz of ae."""
    found = data.synthetic_vowels(20, 8000, 800)
    assert np.bincount(found.labels).tolist() == [20, 20, 20]
    assert np.bincount(found.speakers).tolist() == [3] * 20
    power = np.abs(np.fft.rfft(found.xs, axis=1)) ** 2  # bins of 10 Hz
    low, high = (power[:, a:b].sum(axis=1) for a, b in ((20, 45), (50, 80)))
    men = found.speakers % 2 == 0
    assert (high > low)[men & (found.labels == 0)].mean() > 0.8
    assert (high < low)[men & (found.labels == 2)].mean() > 0.8
    np.testing.assert_array_equal(found.xs, data.synthetic_vowels(20, 8000, 800).xs)


# --- the experiment -------------------------------------------------------------------------------


def toy(**changes):
    config = waves.Config(
        speakers=12,
        samples=160,
        shape=(22, 30),
        border=4,
        spacing=5,
        epochs=8,
        folds=3,
        batch=4,
        learning_rate=2e-3,
    )
    return replace(config, **changes)


def test_bands_sort_tones():
    xs = np.stack([tone(hertz, 8000, 400) for hertz in (300, 1000, 3000)])
    loudest = waves.bands(xs, 8000).argmax(axis=1)
    assert loudest[0] < loudest[1] < loudest[2]
    mel = np.log1p(np.array([300, 1000, 3000]) / 700) / np.log1p(4000 / 700) * 13 - 1
    np.testing.assert_allclose(loudest, mel, atol=0.5 + 0.3)  # the nearest centre; a window's width


def test_no_speaker_is_in_training_and_test():
    speakers = np.repeat(np.arange(10), 3)
    held = waves.divide(speakers, toy(folds=4, run_folds=4))
    assert (held.sum(axis=0) == 1).all()
    for own in held:
        assert not set(speakers[own]) & set(speakers[~own])
    assert not np.array_equal(held, waves.divide(speakers, toy(folds=4, run_folds=4, seed=1)))
    with pytest.raises(ValueError, match="2 speakers cannot be divided into folds=3"):
        waves.divide(np.array([0, 1]), toy())


def test_power_is_that_of_the_probes():
    """Against a plain loop over the cell, and its share against `cells.wave.intensity`."""
    at = waves.medium(toy(), 3)
    net = sound_classifiers.through_a_material(at, 1e-3)
    rho = net.draw(jax.random.key(0)) + 0.01 * jax.random.normal(jax.random.key(1), (at.n,))
    xs, labels = jax.random.normal(jax.random.key(2), (60, 2, 1)), jnp.array([0, 2])

    @jax.jit
    def both():
        hs = scan.run(wave.linear(at), sound_classifiers.material(at, rho), xs)[1]
        found = (
            net.power(rho, xs),
            sound_classifiers.loss(net, rho, (xs, labels)),
            sound_classifiers.speeds(at, rho),
        )
        expected = wave.project(wave.blur(at, rho), at.steepness)
        return wave.intensity(at, hs), *found, expected

    shares, power, nats, speeds, slow = map(np.asarray, both())
    np.testing.assert_allclose(power / power.sum(axis=1, keepdims=True), shares, rtol=1e-4)  # sums
    np.testing.assert_allclose(nats, -np.log(shares[[0, 1], [0, 2]]).mean(), rtol=1e-4)
    np.testing.assert_allclose(speeds, 1 - 0.5 * slow, rtol=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Where it was made and what came out: one run for all tests that look at one."""
    place = tmp_path_factory.mktemp("waves")
    return place, waves.run(toy(), harness.Record(place / "whole"))


@pytest.mark.optimised
@pytest.mark.slow
def test_a_wave_learns_to_tell_voices_apart(trained):
    place, result = trained
    assert (result.losses[..., -1] < result.losses[..., 0]).all()
    # the wave hears 24 recordings of three vowels: chance is 1/3 +- 0.1
    assert (result.accuracies[0, :, -1, 0] > 0.6).all()
    assert result.linear.min() > 0.8
    assert result.confusion.sum(axis=(1, 2)).tolist() == [24, 24]  # two folds of four speakers
    right = np.trace(result.confusion, axis1=1, axis2=2) / 24
    np.testing.assert_allclose(right, result.accuracies[:, :, -1, 1].mean(axis=1))
    assert result.parameters[0] == 22 * 30
    np.testing.assert_allclose(result.parameters[1], 660, rtol=0.15)  # a width is a whole number
    assert 0.5 <= result.speeds.min() < 0.7 < 0.8 < result.speeds.max() <= 1
    assert (result.energy > 0).all()
    (row, column), *probes = result.places
    assert (row, column) == np.unravel_index(result.energy.sum(axis=0).argmax(), (22, 30))
    assert len(probes) == 3
    assert (result.diverged == -1).all()
    harness.save(place, result, waves.plot(result), waves.table(result))


@pytest.mark.long
def test_killed_and_resumed_ends_the_same(trained):
    place, whole = trained
    require_resumed(partial(waves.run, toy()), place, part="lstm", whole=whole)


def test_flags_that_cannot_be_run_are_refused():
    with pytest.raises(ValueError, match=r"run_folds \(4\) must be 1 to folds"):
        toy(run_folds=4)
    with pytest.raises(ValueError, match="epochs must be 1 or more"):
        toy(epochs=0)
    with pytest.raises(ValueError, match="outside the grid"):
        toy(spacing=20)
    with pytest.raises(ValueError, match="CFL"):
        toy(dt=0.8)
