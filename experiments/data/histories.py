"""The items that users chose, in order of time."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.wheels import member


class Histories(NamedTuple):
    """The items of each user, oldest first, as numbers 0 .. catalogue - 1."""

    items: list[np.ndarray]  # one (T_i,) int32 per user
    catalogue: int  # number of different items


def histories(path: Path | None = None) -> Histories:
    """MovieLens-100k: 100,000 ratings by 943 users of 1,682 films; a rating counts as a choice.

    `path` may name another file of the same format: tab-separated columns user, item, rating and
    time, below one line of column names. Users and items may have any names. Events of equal time
    keep their order in the file. Raises FileNotFoundError if the file is missing, and ValueError if
    its format is wrong.
    """
    name = path or "ml-100k.inter"
    if path is None:
        raw = member("movielens", "recbole/dataset_example/ml-100k/ml-100k.inter")
    else:
        raw = path.read_bytes()
    rows = [line.split("\t") for line in raw.decode().splitlines()[1:]]
    try:
        times = np.array([float(time) for _, _, _, time in rows])
    except ValueError as error:
        raise ValueError(
            f"{name} must have lines of user, item, rating and time, separated by tabs, below one "
            f"line of column names ({error})"
        ) from error
    if not rows or not np.isfinite(times).all():
        raise ValueError(f"{name} has no ratings, or times that are not finite numbers")
    table = np.array(rows)
    users, items = (np.unique(table[:, i], return_inverse=True) for i in (0, 1))
    order = np.lexsort((times, users[1]))  # stable: equal times keep the order of the file
    ends = np.cumsum(np.bincount(users[1]))[:-1]
    return Histories(np.split(items[1][order].astype(np.int32), ends), len(items[0]))
