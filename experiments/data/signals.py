"""Signals of different lengths with labels, in the format of the UEA archive of time series."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.wheels import member


class Signals(NamedTuple):
    """Signals of several channels, and the class of each, split for training and testing."""

    train_x: list[np.ndarray]  # one (T_i, channels) float32 per signal
    train_y: np.ndarray  # (N,) int32
    test_x: list[np.ndarray]
    test_y: np.ndarray
    classes: list[str]  # their names


def japanese_vowels(data_dir: Path | None = None) -> Signals:
    """270 + 370 utterances of two vowels by 9 speakers, 7 to 29 steps of 12 coefficients.

    `data_dir` may name a folder with <name>_TRAIN.ts and <name>_TEST.ts instead, as in archives of
    time series. Raises FileNotFoundError if a file is missing, and ValueError if one is damaged.
    """
    texts = []
    for part in ("TRAIN", "TEST"):
        if data_dir is None:
            name = f"aeon/datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts"
            texts.append((name, member("japanese_vowels", name).decode()))
            continue
        found = sorted(data_dir.glob(f"*_{part}.ts"))
        if len(found) != 1:
            raise FileNotFoundError(
                f"{data_dir} has {len(found)} files *_{part}.ts; it must have one *_TRAIN.ts and "
                "one *_TEST.ts, from an archive of time series with labels"
            )
        texts.append((str(found[0]), found[0].read_text()))
    (train_x, train), (test_x, test) = (_read(*text) for text in texts)
    channels = {x.shape[1] for x in train_x + test_x}
    if len(channels) != 1:
        raise ValueError(f"{texts[0][0]} and its test part have signals of {channels} channels")
    classes = sorted(set(train))
    if not set(test) <= set(classes):
        raise ValueError(f"{texts[1][0]} has classes that {texts[0][0]} lacks")
    train_y, test_y = (np.array([classes.index(y) for y in ys], np.int32) for ys in (train, test))
    return Signals(train_x, train_y, test_x, test_y, classes)


def _read(name: str, text: str) -> tuple[list[np.ndarray], list[str]]:
    """The signals and labels of a file. Each line after @data has the channels, then a class."""
    signals, labels = [], []
    for number, line in _lines(text):
        *channels, label = line.split(":")
        try:
            signals.append(np.array([c.split(",") for c in channels], np.float32).T)
        except ValueError as error:
            raise ValueError(
                f"line {number} of {name} must be channels of equally many numbers, then a class, "
                f"separated by colons ({error})"
            ) from error
        if signals[-1].ndim != 2:
            raise ValueError(f"line {number} of {name} has no channels before its class")
        labels.append(label.strip())
    if not signals:
        raise ValueError(f"{name} has no signals after a line @data; is the file complete?")
    return signals, labels


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines after @data."""
    begun = False
    for number, line in enumerate(text.splitlines(), 1):
        if begun and line.strip():
            yield number, line
        begun = begun or line.strip().lower() == "@data"
