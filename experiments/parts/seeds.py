"""Statistics over several networks of one kind, such as seeds or folds."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from recur import plot as picture


def mean_error(each: np.ndarray, form: str = ".1f") -> str:
    """Mean and standard error of values (S,) as text, "97.2 +- 0.2"; a single value as it is."""
    if len(each) == 1:
        return f"{each[0]:{form}}"
    return f"{each.mean():{form}} +- {each.std(ddof=1) / len(each) ** 0.5:{form}}"


def broken(diverged: np.ndarray, of: str = "seed") -> str:
    """Which networks diverged, and at which update: text from (S,), where -1 means never."""
    return ", ".join(f"{of} {s} at {t}" for s, t in enumerate(diverged) if t >= 0) or "none"


def band(
    ax: Axes,
    x: np.ndarray,
    each: np.ndarray,
    colour: ColorType,
    label: str | None = None,
    style: str = "-",
) -> None:
    """Plot the median and range of curves (S, len(x)); style is "-", "--" or ".-" (with points)."""
    line = {"ls": "-", "marker": "."} if style == ".-" else {"ls": style}
    picture.band(x, each, ax, colour, label, (0, 0.5, 1), **line)
