"""What several networks of one kind say together: seeds, or folds."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from recur import plot as picture


def mean_error(each: np.ndarray, form: str = ".1f") -> str:
    """Mean and standard error of values (S,), "97.2 +- 0.2"; of one value, itself."""
    if len(each) == 1:
        return f"{each[0]:{form}}"
    return f"{each.mean():{form}} +- {each.std(ddof=1) / len(each) ** 0.5:{form}}"


def broken(diverged: np.ndarray, of: str = "seed") -> str:
    """Which networks diverged at which update, of (S,) where -1 is never; or "none"."""
    return ", ".join(f"{of} {s} at {t}" for s, t in enumerate(diverged) if t >= 0) or "none"


def band(
    ax: Axes,
    x: np.ndarray,
    each: np.ndarray,
    colour: ColorType,
    label: str | None = None,
    style: str = "-",
) -> None:
    """Median and range of curves (S, len(x)); style is "-", "--" or, with points, ".-"."""
    line = {"ls": "-", "marker": "."} if style == ".-" else {"ls": style}
    picture.band(x, each, ax, colour, label, (0, 0.5, 1), **line)
