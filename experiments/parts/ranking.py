"""Histories in one array, the ranking of next items, and baseline rankings."""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments import data

SCORES = ("Recall@20", "MRR", "NDCG@20", "log-likelihood")
TRAIN, VALIDATE, TEST = 1, 2, 3  # the use of a step's target; 0 if there is no step
NEIGHBOURS = (20, 100, 500, 10_000)  # numbers of neighbours that item-kNN tries
FORGETTING = (0.9, 0.7, 0.5, 0.3, 0.1)


class Packed(NamedTuple):
    """The histories of U users, packed end to end into R rows of T steps."""

    items: Array  # (T, R) int32, inputs
    targets: Array  # (T, R) int32, the items that follow
    part: Array  # (T, R) TRAIN, VALIDATE or TEST; 0 beyond the end of a row
    reset: Array  # (T, R) bool, whether a user begins at this step
    ends: Array  # (U, 2) time and row of the step whose target is the test item
    seen: Array  # (2, U, count) bool, items before the validation item and before the test item


def pack(histories: data.Histories, longest: int) -> Packed:
    """Pack by first fit, longest first. Raises ValueError if a user has fewer than 4 items."""
    for user, items in enumerate(histories.items):
        if len(items) < 4:
            raise ValueError(
                f"user {user} has {len(items)} items, but two for training, one for validation "
                "and one for the test make 4; leave such users out"
            )
    T = min(longest, max(map(len, histories.items))) - 1
    cut = [items[-T - 1 :] for items in histories.items]
    rows: list[list[int]] = []  # the users in each row
    room: list[int] = []
    for user in sorted(range(len(cut)), key=lambda user: -len(cut[user])):
        steps = len(cut[user]) - 1
        row = next((row for row, free in enumerate(room) if free >= steps), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(T)
        rows[row].append(user)
        room[row] -= steps

    items, targets, part = (np.zeros((T, len(rows)), np.int32) for _ in range(3))
    reset = np.zeros((T, len(rows)), bool)
    ends = np.zeros((len(cut), 2), np.int32)
    for row, users in enumerate(rows):
        begin = 0
        for user in users:
            end = begin + len(cut[user]) - 1
            items[begin:end, row], targets[begin:end, row] = cut[user][:-1], cut[user][1:]
            part[begin:end, row] = [TRAIN] * (end - begin - 2) + [VALIDATE, TEST]
            reset[begin, row] = True
            ends[user] = end - 1, row
            begin = end
    seen = np.zeros((2, len(cut), histories.catalogue), bool)
    for user, whole in enumerate(histories.items):
        seen[0, user, whole[:-2]] = seen[1, user, whole[:-1]] = True
    return Packed(*map(jnp.asarray, (items, targets, part, reset, ends, seen)))


def wanted(packed: Packed) -> Array:
    """The validation and the test item of every user, (2, U)."""
    time, row = packed.ends.T
    return jnp.stack([packed.targets[time - 1, row], packed.targets[time, row]])


def rate(scores: Array, items: Array, seen: Array, logs: Array) -> Array:
    """Evaluate scores and log probabilities (..., U, count) at the true items (..., U).

    Returns SCORES (..., 4). The rank is among all items that are not in `seen` (..., U, count).
    Tied items share their mean rank. Returns NaN if a score is NaN, because nothing compares as
    greater than NaN, and the rank would be one.
    """
    own = jnp.take_along_axis(scores, items[..., None], axis=-1)
    rivals = ~seen & (jnp.arange(scores.shape[-1]) != items[..., None])
    better = jnp.sum((scores > own) & rivals, axis=-1, dtype=scores.dtype)
    equal = jnp.sum((scores == own) & rivals, axis=-1, dtype=scores.dtype)
    rank = 1 + better + equal / 2
    top = rank <= 20
    likelihood = jnp.take_along_axis(logs, items[..., None], axis=-1)[..., 0]
    each = (top, 1 / rank, jnp.where(top, 1 / jnp.log2(rank + 1), 0), likelihood)
    known = jnp.stack([one.mean(axis=-1) for one in each], axis=-1)
    return jnp.where(jnp.isnan(scores).any(axis=(-2, -1))[..., None], jnp.nan, known)


def popularity(packed: Packed, count: int) -> Array:
    """Log probability of each item, (count,), from its count in the training steps plus one."""
    chosen = jnp.bincount(packed.targets[packed.part == TRAIN], length=count).astype(jnp.float32)
    return jnp.log((chosen + 1) / (chosen.sum() + count))


def neighbours(
    histories: data.Histories, packed: Packed, forgettings: tuple[float, ...] = (1.0,)
) -> tuple[Array, int, float]:
    """Item-kNN, with the best settings on the validation items.

    Returns scores (2, U, count), the number of neighbours and the forgetting. The score of a
    candidate is the sum over the history of forgetting^age cos(item, candidate). Each item
    contributes only to its nearest neighbours. Both settings are chosen for the best NDCG@20. If
    the forgetting is 1, the order of the history plays no part.
    """
    chose = np.asarray(packed.seen[0], np.float32)  # (U, count)
    norms = np.maximum(np.sqrt(chose.sum(axis=0)), 1)
    cosine = chose.T @ chose / norms / norms[:, None]
    np.fill_diagonal(cosine, 0)
    order = (-cosine).argsort(axis=1).argsort(axis=1)
    near = {k: np.where(order < k, cosine, 0) for k in NEIGHBOURS}

    def ndcg(setting: tuple[int, float]) -> float:
        k, forgetting = setting
        scores = jnp.asarray(_faded(histories, packed, forgetting, 2) @ near[k])
        return float(rate(scores, wanted(packed)[0], packed.seen[0], jnp.zeros_like(scores))[2])

    k, forgetting = max(itertools.product(NEIGHBOURS, forgettings), key=ndcg)
    both = [_faded(histories, packed, forgetting, left) @ near[k] for left in (2, 1)]
    return jnp.asarray(np.stack(both)), k, forgetting


def _faded(histories: data.Histories, packed: Packed, forgetting: float, left: int) -> np.ndarray:
    """forgetting^age of each item in each history, (U, count), without its last `left` items."""
    weights = np.zeros(packed.seen.shape[1:], np.float32)
    for user, items in enumerate(histories.items):
        weights[user, items[:-left]] = forgetting ** np.arange(len(items) - left)[::-1]
    return weights
