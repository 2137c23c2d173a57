"""Time series of single numbers."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.wheels import member


class Series(NamedTuple):
    """A value at each time."""

    times: np.ndarray  # (T,)
    values: np.ndarray  # (T,)


def sunspots(path: Path | None = None) -> Series:
    """The mean number of sunspots of each year, 1700 to 2008.

    `path` may name any CSV file of times and values instead, below one line of column names. Raises
    FileNotFoundError if the file is missing, and ValueError if its format is wrong.
    """
    if path is None:
        raw = member("sunspots", "statsmodels/datasets/sunspots/sunspots.csv")
    else:
        raw = path.read_bytes()
    name = path or "sunspots.csv"
    try:
        table = np.loadtxt(io.BytesIO(raw), delimiter=",", skiprows=1, ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{name} has lines that are not two numbers, `time,value`: {error}"
        ) from error
    if table.shape[1] != 2 or not np.isfinite(table).all():
        raise ValueError(
            f"{name} has {table.shape[1]} columns, or numbers that are not finite; it needs "
            "two columns, time and value, below one line of column names"
        )
    return Series(*table.T)
