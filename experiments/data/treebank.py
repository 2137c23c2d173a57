"""Running text as symbols: the Penn Treebank, or any text file, by words or by characters."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from experiments.data.wheels import member

Level = Literal["words", "characters"]

END = "<eos>"  # the word at the end of a line
UNKNOWN = {"words": "<unk>", "characters": "\ufffd"}  # stands for symbols not in training


class Text(NamedTuple):
    """Running text in three parts, as numbers of symbols."""

    train: np.ndarray  # (N,) int32
    valid: np.ndarray
    test: np.ndarray
    symbols: list[str]  # the most frequent first


def penn(level: Level = "words") -> Text:
    """The Penn Treebank as split by Mikolov: 929,589 + 73,760 + 82,430 words, 10,000 different.

    As characters, it has 5,017,482 + 393,042 + 442,423 characters, 50 different. There, <unk> is
    spelt out, and each sentence is a line.
    """
    raw = member("treebank", "treebank/__init__.py").decode()
    found = dict(re.findall(r"penn\['(\w+)'\] = \"\"\"(.*?)\"\"\"", raw, re.DOTALL))
    lines = [found[part].splitlines() for part in ("train", "valid", "test")]
    whole = [
        "".join(" ".join(line.split()) + "\n" for line in part if line.split()) for part in lines
    ]
    train, valid, test = (_split(part, level) for part in whole)
    return _numbered(train, valid, test, [symbol for symbol, _ in Counter(train).most_common()])


def text(path: Path, level: Level = "words", vocabulary: int = 10_000) -> Text:
    """A text file in UTF-8: 90 % for training, then 5 % for validation, and 5 % for testing.

    Words are separated by blanks, and <eos> follows each line that is not empty. Characters include
    blanks and line ends. One unknown symbol replaces all symbols that occur only once in training,
    or are not among its `vocabulary` most frequent ones. Raises FileNotFoundError if the file is
    missing, and ValueError if it is not text or too short.
    """
    try:
        symbols = _split(path.read_bytes().decode(), level)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}); convert it first") from error
    if len(symbols) < 40:
        raise ValueError(f"{path} has {len(symbols)} {level}; at least 40 are needed")
    ends = round(0.9 * len(symbols)), round(0.95 * len(symbols))
    train, valid, test = symbols[: ends[0]], symbols[ends[0] : ends[1]], symbols[ends[1] :]
    unknown = UNKNOWN[level]
    often = [
        symbol
        for symbol, times in Counter(train).most_common(vocabulary)
        if times > 1 and symbol != unknown
    ]
    return _numbered(train, valid, test, [*often, unknown])


def _split(whole: str, level: Level) -> list[str]:
    """The text as a list of symbols."""
    if level == "characters":
        return list(whole)
    return [word for line in whole.splitlines() if line.split() for word in [*line.split(), END]]


def _numbered(
    train: Sequence[str], valid: Sequence[str], test: Sequence[str], symbols: list[str]
) -> Text:
    """Number the symbols by their places in a list, whose last entry stands for all others."""
    index = {symbol: i for i, symbol in enumerate(symbols)}
    last = len(symbols) - 1
    numbers = [
        np.array([index.get(symbol, last) for symbol in part], np.int32)
        for part in (train, valid, test)
    ]
    return Text(numbers[0], numbers[1], numbers[2], symbols)
