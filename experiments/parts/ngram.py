"""An n-gram model, which predicts a symbol from the last few: interpolated Kneser-Ney smoothing.

    p(w | h) = (c(h w) - D) / c(h) + (sum of all D of h) / c(h) * p(w | h without its first symbol)

At the highest order, c counts occurrences in the text. At lower orders, c(h w) counts the different
symbols that come before h w. D is a discount. Each order has three, for n-grams counted once, twice
and more often. Below the first order, all symbols are equally likely. Kneser and Ney 1995, as
modified by Chen and Goodman 1999.
"""

from typing import NamedTuple

import numpy as np

FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])  # discounts if too few n-grams are so rare


class Order(NamedTuple):
    """The n-grams of one order, sorted by (context, last symbol), and their contexts."""

    keys: np.ndarray  # (N,) context * vocabulary + symbol; the index is the n-gram's number
    seen: np.ndarray  # (N,) (c(h w) - D) / c(h)
    rest: np.ndarray  # (contexts,) the share left to the lower order; 1 if h is unknown


def fit(text: np.ndarray, vocabulary: int, order: int = 5) -> list[Order]:
    """Fit a model to a text (T,) of symbols 0 .. vocabulary - 1. Returns orders 1, 2, ... in turn.

    Raises ValueError if the order is below 1, or greater than the length of the text.
    """
    if not 1 <= order <= len(text):
        raise ValueError(
            f"an n-gram model must have an order from 1 to the {len(text)} symbols of the text; "
            f"got order={order}"
        )
    keys, places, contexts = [], [], np.zeros(len(text), np.int64)
    for _ in range(order):
        unique, place = np.unique(
            contexts * vocabulary + text[-len(contexts) :], return_inverse=True
        )
        keys.append(unique)
        places.append(place)  # of the n-gram that ends at each symbol
        contexts = place[:-1]
    model = []
    for k in range(order):
        counts = np.bincount(places[k])
        if k + 1 < order:  # count the different n-grams of the next order that end in it
            first = np.unique(places[k + 1], return_index=True)[1]
            counts = np.bincount(places[k][1:][first], minlength=len(keys[k]))
        model.append(_smoothed(keys[k], counts, vocabulary, len(keys[k - 1]) if k else 1))
    return model


def _smoothed(keys: np.ndarray, counts: np.ndarray, vocabulary: int, contexts: int) -> Order:
    context = keys // vocabulary
    discount = _discounts(counts)[np.minimum(counts, 3)]
    total = np.bincount(context, counts, contexts)
    kept = np.bincount(context, counts - discount, contexts)
    known = np.maximum(total, 1)
    return Order(keys, (counts - discount) / known[context], np.where(total, 1 - kept / known, 1))


def _discounts(counts: np.ndarray) -> np.ndarray:
    """The discounts D of n-grams that are counted 0, 1, 2, and 3 or more times."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    if not n[1:5].all():
        return FALLBACK
    r = np.arange(1, 4)
    D = r - (r + 1) * n[1] / (n[1] + 2 * n[2]) * n[2:5] / n[1:4]
    return np.concatenate([[0.0], D]) if (D > 0).all() else FALLBACK


def log_probabilities(model: list[Order], text: np.ndarray, vocabulary: int) -> np.ndarray:
    """log p of every symbol of a text given the preceding symbols of the text, (T,), in nats."""
    p = np.full(len(text), 1 / vocabulary)
    contexts = np.zeros(len(text), np.int64)  # of each symbol; -1: not in the model
    for keys, seen, rest in model:
        wanted = np.where(contexts < 0, -1, contexts * vocabulary + text)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found = keys[place] == wanted
        p = np.where(contexts < 0, p, np.where(found, seen[place], 0) + rest[contexts] * p)
        contexts = np.concatenate([[-1], np.where(found, place, -1)[:-1]])
    return np.log(p)
