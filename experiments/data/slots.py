"""Sentences with a tag for each word, in the format of the CSV files of the ATIS corpus."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Tagged(NamedTuple):
    """Sentences as numbers of words, and the number of each word's tag."""

    train_x: list[np.ndarray]  # one (T_i,) int32 per sentence
    train_y: list[np.ndarray]
    test_x: list[np.ndarray]
    test_y: list[np.ndarray]
    words: list[str]
    tags: list[str]  # O, B-kind and I-kind


def slots(data_dir: Path) -> Tagged:
    """ATIS: 4,978 + 893 requests to a flight desk, each word with one of 129 tags.

    `data_dir` must hold <name>.dict.vocab.csv and <name>.dict.slots.csv, with one word or tag per
    line, and <name>.train.query.csv, <name>.train.slots.csv and the same two for test. These have
    one sentence per line, as numbers separated by blanks, which are line numbers from 0 in the
    dictionaries. Raises FileNotFoundError if a file is missing, and ValueError if one is damaged.
    """
    words, tags = (_dictionary(_file(data_dir, f"dict.{part}.csv")) for part in ("vocab", "slots"))
    wrong = [tag for tag in tags if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3)]
    if wrong:
        raise ValueError(f"tags in {data_dir} must be O, B-kind or I-kind; found {wrong[0]!r}")
    return Tagged(
        *_part(data_dir, "train", words, tags), *_part(data_dir, "test", words, tags), words, tags
    )


def _part(
    data_dir: Path, part: str, words: list[str], tags: list[str]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The sentences of a part and their tags."""
    queries, labels = (_file(data_dir, f"{part}.{kind}.csv") for kind in ("query", "slots"))
    xs, ys = _sentences(queries, len(words)), _sentences(labels, len(tags))
    if len(xs) != len(ys):
        raise ValueError(f"{queries} has {len(xs)} sentences, but {labels} has {len(ys)}")
    for line, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
        if len(x) != len(y):
            raise ValueError(f"line {line} of {queries} has {len(x)} words, but {labels} {len(y)}")
    return xs, ys


def _file(data_dir: Path, ending: str) -> Path:
    """The only file in the folder with this ending."""
    found = sorted(data_dir.glob(f"*.{ending}"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{data_dir} has {len(found)} files *.{ending}; it must have one *.dict.vocab.csv, one "
            "*.dict.slots.csv, and one *.query.csv and *.slots.csv for train and test, like ATIS"
        )
    return found[0]


def _dictionary(path: Path) -> list[str]:
    names = path.read_text().split()
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path} must list different names, one per line; is the file complete?")
    return names


def _sentences(path: Path, count: int) -> list[np.ndarray]:
    """The lines of a file as arrays of numbers 0 .. count - 1."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            found.append(np.array(line.split(), np.int32))
        except ValueError as error:
            raise ValueError(f"line {number} of {path} must be whole numbers ({error})") from error
        if not found[-1].size or not 0 <= found[-1].min() <= found[-1].max() < count:
            raise ValueError(f"line {number} of {path} must be numbers from 0 to {count - 1}")
    if not found:
        raise ValueError(f"{path} has no sentences; is the file whole?")
    return found
