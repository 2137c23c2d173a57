"""Sentences with a tag for each word, as the csv files of the ATIS corpus have them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Tagged(NamedTuple):
    """Sentences as numbers of words, and the number of each word's tag."""

    train_x: list[np.ndarray]  # one (T_i,) int32 a sentence
    train_y: list[np.ndarray]
    test_x: list[np.ndarray]
    test_y: list[np.ndarray]
    words: list[str]
    tags: list[str]  # O, B-kind and I-kind


def slots(data_dir: Path) -> Tagged:
    """ATIS: 4,978 + 893 requests to a flight desk, each word with one of 129 tags.

    `data_dir` holds <name>.dict.vocab.csv and <name>.dict.slots.csv, one word or tag a line, and
    <name>.train.query.csv, <name>.train.slots.csv and the same two of test: one sentence a line,
    as line numbers from 0 of these dictionaries, separated by blanks. Raises FileNotFoundError and
    ValueError where they are not there or not whole.
    """
    words, tags = (_dictionary(_file(data_dir, f"dict.{part}.csv")) for part in ("vocab", "slots"))
    wrong = [tag for tag in tags if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3)]
    if wrong:
        raise ValueError(f"the tags of {data_dir} are O, B-kind or I-kind; there is {wrong[0]!r}")
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
        raise ValueError(f"{queries} has {len(xs)} sentences, {labels} {len(ys)}; are both whole?")
    for line, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
        if len(x) != len(y):
            raise ValueError(f"line {line} of {queries} has {len(x)} words, of {labels} {len(y)}")
    return xs, ys


def _file(data_dir: Path, ending: str) -> Path:
    """The one file of the folder with that ending."""
    found = sorted(data_dir.glob(f"*.{ending}"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{data_dir} has {len(found)} files *.{ending}; it takes one each of *.dict.vocab.csv, "
            "*.dict.slots.csv, and *.query.csv and *.slots.csv for train and test, as ATIS has them"
        )
    return found[0]


def _dictionary(path: Path) -> list[str]:
    names = path.read_text().split()
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path} is not a list of different names, one a line; is the file whole?")
    return names


def _sentences(path: Path, count: int) -> list[np.ndarray]:
    """The lines of a file as arrays of numbers 0 .. count - 1."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            found.append(np.array(line.split(), np.int32))
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is not whole numbers ({error})") from error
        if not found[-1].size or not 0 <= found[-1].min() <= found[-1].max() < count:
            raise ValueError(f"line {number} of {path} is not numbers from 0 to {count - 1}")
    if not found:
        raise ValueError(f"{path} has no sentences; is the file whole?")
    return found
