"""Edit distance: how many symbols to replace, delete or insert, and where. Levenshtein 1966."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.data import Spoken

AFTER = 6  # number of places counted after a first mistake


def edits(true: Sequence, written: Sequence) -> np.ndarray:
    """The fewest edits that turn `written` into `true`, counted at each place: (len(true) + 1,).

    A wrong or missing symbol counts at its own place. A superfluous symbol counts at the place that
    follows it. The sum is the edit distance.
    """
    found = np.zeros(len(true) + 1, int)
    same = first_difference(true, written)
    a, b = true[same:], written[same:]
    if not len(a) or not len(b):
        found[same : len(true)] = 1
        found[same] += len(b)
        return found
    costs = _costs(a, b)
    i, j = len(a), len(b)
    while i or j:
        here = costs[i][j]
        if i and j and here == costs[i - 1][j - 1] + (a[i - 1] != b[j - 1]):
            i, j = i - 1, j - 1
            found[same + i] += a[i] != b[j]
        elif i and here == costs[i - 1][j] + 1:
            i -= 1
            found[same + i] += 1
        else:
            j -= 1
            found[same + i] += 1
    return found


def first_difference(a: Sequence, b: Sequence) -> int:
    """The first place at which two sequences differ, or the length of the shorter one."""
    for t, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return t
    return min(len(a), len(b))


def distances(one: Sequence[int], others: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Edit distances (N,) from one sequence to the first lengths (N,) symbols of others (T, N)."""
    T, N = others.shape
    before = np.repeat(np.arange(T + 1)[:, None], N, axis=1)  # from the empty sequence
    for i, symbol in enumerate(one, 1):
        now = np.full((T + 1, N), i)
        for j in range(1, T + 1):
            changed = before[j - 1] + (others[j - 1] != symbol)
            now[j] = np.minimum(np.minimum(before[j], now[j - 1]) + 1, changed)
        before = now
    return np.take_along_axis(before, lengths[None], axis=0)[0]


def ended(written: np.ndarray, end: int) -> tuple[int, ...]:
    """The symbols before the first end symbol."""
    symbols = written.tolist()
    return tuple(symbols[: symbols.index(end)] if end in symbols else symbols)


def judge(spoken: Spoken, written: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Edit distance to each word's nearest pronunciation, and the phones of that one: (M, N) each.

    written (M, N, L) are the phones that M networks wrote for the N words.
    """
    found = np.zeros((2, *written.shape[:2]), int)
    for m, rows in enumerate(written):
        for i, (row, ways) in enumerate(zip(rows, spoken.values(), strict=True)):
            own = ended(row, end)
            found[:, m, i] = min((edits(way, own).sum(), len(way)) for way in ways)
    return found[0], found[1]


class Mistakes(NamedTuple):
    """Where a network makes mistakes, in words with a single pronunciation.

    A network writes free if it reads its own phones, and forced if it reads the true ones.
    """

    places: np.ndarray  # (L,) number of words that reach this place; the end counts as a place
    free: np.ndarray  # (L,) edits at this place, free
    forced: np.ndarray  # (L,) mistakes at this place, forced
    # (3, A) 1 .. A places after a word's first forced mistake: free edits, forced mistakes, words
    after: np.ndarray


def mistakes(spoken: Spoken, free: np.ndarray, forced: np.ndarray, end: int) -> Mistakes:
    """Count the mistakes in phones (N, L) that were written free and forced."""
    places, freely, taught = np.zeros((3, free.shape[1]), int)
    after = np.zeros((3, AFTER), int)
    for own, guided, ways in zip(free, forced, spoken.values(), strict=True):
        if len(ways) > 1:
            continue
        size = len(ways[0]) + 1
        wrong = edits(ways[0], ended(own, end))
        missed = guided[:size] != [*ways[0], end]
        for counts, here in ((places, 1), (freely, wrong), (taught, missed)):
            counts[:size] += here
        if missed.any():
            begin = int(missed.argmax()) + 1
            left = min(size - begin, AFTER)
            later = slice(begin, begin + left)
            after[:, :left] += np.stack([wrong[later], missed[later], np.ones(left, int)])
    return Mistakes(places, freely, taught, after)


def _costs(a: Sequence, b: Sequence) -> list[list[int]]:
    """The edit distance from the first i symbols of a to the first j of b, at [i][j]."""
    costs = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        above, row = costs[-1], [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j - 1] + (x != y), above[j] + 1, row[-1] + 1))
        costs.append(row)
    return costs
