"""Tagged sentences in arrays, and the recurrences that read them in one or both directions."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import cells
from recur.compose import Bidirectional
from recur.core import Recurrence

BOTH = "bidirectional."
UNKNOWN = 0  # stands for every word that does not occur in training


class Sentences(NamedTuple):
    """Sentences of different lengths in one array."""

    words: Array  # (T, N)
    tags: Array  # (T, N)
    lengths: Array  # (N,)


def ragged(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], longest: int) -> Sentences:
    """Put sentences (T_i,) into arrays of `longest` steps; longer sentences are cut."""
    words, tags = np.zeros((2, longest, len(xs)), np.int32)
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        words[: len(x), i], tags[: len(y), i] = x[:longest], y[:longest]
    lengths = np.array([min(len(x), longest) for x in xs], np.int32)
    return Sentences(jnp.asarray(words), jnp.asarray(tags), jnp.asarray(lengths))


def there(part: Sentences) -> np.ndarray:
    """Which steps are words, (T, N)."""
    return np.arange(len(part.words))[:, None] < np.asarray(part.lengths)


def most_frequent(training: Sentences, asked: Sentences, tags: int) -> np.ndarray:
    """Answers (T, N): the most frequent tag of each word in training, whatever its context.

    A word that does not occur in training gets the most frequent tag of all words.
    """
    words, own = (np.asarray(a)[there(training)] for a in training[:2])
    read = np.asarray(asked.words)
    counts = np.zeros((max(words.max(), read.max()) + 1, tags), int)
    np.add.at(counts, (words, own), 1)
    known = counts.sum(axis=1) > 0
    best = np.where(known, counts.argmax(axis=1), counts.sum(axis=0).argmax())
    return best[read]


def divide(N: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split N training sentences into those to fit and those that are held out."""
    if held_out >= N:
        raise ValueError(f"held_out ({held_out}) must leave some of {N} training sentences")
    order = np.random.default_rng(seed).permutation(N)
    return order[held_out:], order[:held_out]


def network(name: str) -> Recurrence:
    """The cell of this name. The prefix "bidirectional." gives one cell for each direction."""
    cell = cells.named(name.removeprefix(BOTH))
    return Bidirectional(cell) if name.startswith(BOTH) else cell
