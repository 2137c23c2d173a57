"""Strings of vowels spoken by one voice, with pauses between the vowels and noise over all."""

from typing import NamedTuple

import numpy as np

from experiments.data import Vowels
from experiments.parts.bands import bands

RAMP = 0.005  # seconds over which a vowel fades in and out


class Sounds(NamedTuple):
    """How strings are put together and cut into frames."""

    rate: int  # samples per second
    hop: float  # seconds from one frame to the next; a frame is twice as long
    bands: int  # energies per frame
    fewest: int  # fewest vowels of a string
    most: int
    pause: tuple[float, float]  # seconds between vowels, shortest and longest
    noise: float  # largest amplitude of the noise; that of a vowel is 1


class Utterances(NamedTuple):
    """N strings of vowels as frames, and which vowel is said when."""

    frames: np.ndarray  # (T, N, bands) float32, log energies
    lengths: np.ndarray  # (N,) frames
    labels: np.ndarray  # (L, N) 1 + index of the vowel, 0 beyond the last
    counts: np.ndarray  # (N,) number of vowels
    spans: np.ndarray  # (N, L, 2) first frame of each vowel, and the one after its last


def utterances(
    found: Vowels, speakers: np.ndarray, number: int, how: Sounds, seed: int | tuple[int, ...]
) -> Utterances:
    """Make so many strings, each by one of these speakers. Each vowel is cut to half or more of it.

    A pause precedes each vowel and follows the last, so that two equal vowels stay apart.
    """
    rng = np.random.default_rng(seed)
    hop = round(how.hop * how.rate)
    heard, labels, spans = [], [], []
    for _ in range(number):
        own = found.speakers == rng.choice(speakers)
        said = rng.choice(found.labels[own], size=rng.integers(how.fewest, how.most + 1))
        pieces = [found.xs[rng.choice(np.flatnonzero(own & (found.labels == y)))] for y in said]
        sound, at = _joined(rng, pieces, how)
        heard.append(_frames(sound, hop, how))
        labels.append(said + 1)
        spans.append(np.round(at / hop).astype(int))
    lengths, counts = (np.array([len(a) for a in each], np.int32) for each in (heard, labels))
    frames = np.zeros((lengths.max(), number, how.bands), np.float32)
    names = np.zeros((how.most, number), np.int32)
    when = np.zeros((number, how.most, 2), np.int32)
    for i in range(number):
        frames[: lengths[i], i], names[: counts[i], i] = heard[i], labels[i]
        when[i, : counts[i]] = spans[i]
    return Utterances(frames, lengths, names, counts, when)


def _joined(
    rng: np.random.Generator, pieces: list[np.ndarray], how: Sounds
) -> tuple[np.ndarray, np.ndarray]:
    """Join sounds with pauses, and add noise; returns also where each begins and ends, (L, 2)."""
    pauses = np.round(how.rate * rng.uniform(*how.pause, size=len(pieces) + 1)).astype(int)
    sound, at = [np.zeros(pauses[0])], []
    for piece, pause in zip(pieces, pauses[1:], strict=True):
        kept = rng.integers(len(piece) // 2, len(piece) + 1)
        begin = rng.integers(len(piece) - kept + 1)
        begins = sum(map(len, sound))
        at.append((begins, begins + kept))
        edge = np.minimum(np.arange(kept), np.arange(kept)[::-1]) / (RAMP * how.rate)
        sound += [piece[begin : begin + kept] * np.minimum(edge, 1), np.zeros(pause)]
    whole = np.concatenate(sound)
    return whole + how.noise * rng.random() * rng.normal(size=len(whole)), np.array(at)


def _frames(sound: np.ndarray, hop: int, how: Sounds) -> np.ndarray:
    """Log energies of overlapping frames, (T, bands)."""
    windows = np.lib.stride_tricks.sliding_window_view(sound, 2 * hop)[::hop]
    return bands(windows, how.rate, how.bands)
