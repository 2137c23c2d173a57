"""Tagged sentences in arrays, and the recurrences that read them one way or both."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import cells
from recur.compose import Bidirectional
from recur.core import Recurrence

BOTH = "bidirectional."
UNKNOWN = 0  # the word that stands for all that training does not know


class Sentences(NamedTuple):
    """Sentences of unlike length in one array."""

    words: Array  # (T, N)
    tags: Array  # (T, N)
    lengths: Array  # (N,)


def ragged(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], longest: int) -> Sentences:
    """Sentences (T_i,), cut at `longest` words, in arrays of as many steps."""
    words, tags = np.zeros((2, longest, len(xs)), np.int32)
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        words[: len(x), i], tags[: len(y), i] = x[:longest], y[:longest]
    lengths = np.array([min(len(x), longest) for x in xs], np.int32)
    return Sentences(jnp.asarray(words), jnp.asarray(tags), jnp.asarray(lengths))


def there(part: Sentences) -> np.ndarray:
    """Which steps are words, (T, N)."""
    return np.arange(len(part.words))[:, None] < np.asarray(part.lengths)


def most_frequent(training: Sentences, asked: Sentences, tags: int) -> np.ndarray:
    """Answers (T, N): the most frequent tag of each word, whatever stands beside it.

    Of a word that training does not know, the most frequent of all.
    """
    words, own = (np.asarray(a)[there(training)] for a in training[:2])
    read = np.asarray(asked.words)
    counts = np.zeros((max(words.max(), read.max()) + 1, tags), int)
    np.add.at(counts, (words, own), 1)
    known = counts.sum(axis=1) > 0
    best = np.where(known, counts.argmax(axis=1), counts.sum(axis=0).argmax())
    return best[read]


def divide(N: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of N training sentences are to be fitted, and which are held out."""
    if held_out >= N:
        raise ValueError(f"held_out ({held_out}) must leave some of {N} training sentences")
    order = np.random.default_rng(seed).permutation(N)
    return order[held_out:], order[:held_out]


def network(name: str) -> Recurrence:
    """The cell of a name, or, of "bidirectional." and a name, one each way."""
    cell = cells.named(name.removeprefix(BOTH))
    return Bidirectional(cell) if name.startswith(BOTH) else cell
