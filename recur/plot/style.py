"""Shared parts of all figures: colours, axes, powers of ten, and the note about gaps."""

from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis

# At least 10 apart in lightness, and 20 apart (CIE 1976) for each kind of colour blindness.
COLOURS = ("#1874B5", "#DD6A22", "#26185F", "#4DBBA0", "#9C1F5B", "#E8C13B")
STYLES = ("-", "--", "-.", ":")
MAP = "viridis"  # its lightness rises with the value, so that it is readable in grey
SMALL = 8  # font size of legends and notes, in points
NOTE = "recur-gaps"  # the mark of the note among the texts of the axes


def axes_or_new(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure."""
    if ax is None:
        from matplotlib import pyplot  # here: scripts that give axes need no window system

        ax = pyplot.figure(layout="constrained").add_subplot()
    return ax


def numbers(name: str, values: Any, shape: str) -> np.ndarray:
    """The values as float64, with as many axes as the shape names; "..., L, k" has two or more.

    Otherwise raises ValueError with the expected shape.
    """
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold real numbers ({shape}); got {type(values)}") from error
    axes = [axis for axis in shape.replace(" ", "").split(",") if axis not in ("...", "")]
    fits = array.ndim >= len(axes) if "..." in shape else array.ndim == len(axes)
    if not fits or array.size == 0:
        raise ValueError(
            f"{name} must have the shape ({shape}), without empty axes; got {array.shape}"
        )
    return array


def require(fits: bool, sentence: str) -> None:
    """Raise ValueError with this sentence unless it fits."""
    if not fits:
        raise ValueError(sentence)


def clock(dt: float | None) -> tuple[float, str, str]:
    """The length of a step, its unit, and the unit of a rate: in seconds if dt is given.

    Raises ValueError for a dt that is not positive.
    """
    if dt is None:
        return 1.0, "steps", "step"
    require(
        isinstance(dt, int | float | np.number) and 0 < dt < np.inf,
        f"dt must be the length of a step, a positive number of seconds; got {dt!r}",
    )
    return float(dt), "s", "s"


class Decades(ticker.MaxNLocator):
    """Ticks at whole powers of ten, for an axis in nats."""

    def __init__(self) -> None:
        super().__init__(nbins=6, integer=True, min_n_ticks=1)

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """The places of the ticks, in nats."""
        return np.log(10) * super().tick_values(vmin / np.log(10), vmax / np.log(10))


def decades(axis: Axis) -> None:
    """Label an axis of natural logarithms with powers of ten.

    The data stay in nats, so nothing overflows or vanishes.

    Args:
        axis: A matplotlib axis, such as `ax.yaxis`.

    Example:
        >>> ax = plot.band([0, 1], np.log([1e-3, 1e3]))
        >>> plot.decades(ax.yaxis)
        >>> print(ax.yaxis.get_major_formatter()(np.log(1e-3)))
        $10^{-3}$
    """
    axis.set_major_locator(Decades())
    axis.set_major_formatter(ticker.FuncFormatter(power))


def power(nats: float, _: Any = None) -> str:
    """The label of a value in nats: a power of ten."""
    return f"$10^{{{nats / np.log(10):.0f}}}$"


def finite(values: np.ndarray) -> np.ndarray:
    """The values with NaN for -inf and inf, which matplotlib leaves out."""
    return np.where(np.isfinite(values), values, np.nan)


def note_gaps(ax: Axes, values: np.ndarray, what: str = "values") -> None:
    """Note at the upper edge of a picture how many values are left out, if any are."""
    counts = (
        (np.isnan(values).sum(), "NaN (not known)"),
        (np.isneginf(values).sum(), "-inf (exactly 0)"),
        (np.isposinf(values).sum(), "inf"),
    )
    left_out = [f"{count} {kind}" for count, kind in counts if count]
    if left_out:
        note(ax, "\n".join([f"left out of {values.size} {what}:", *left_out]))


def note(ax: Axes, text: str) -> None:
    """A small text at the upper edge of the axes, below earlier ones."""
    notes = [old.get_text() for old in ax.texts if old.get_gid() == NOTE]
    above = sum(1 + text.count("\n") for text in notes)
    down = -3 - (SMALL + 4) * above
    ax.annotate(
        text,
        xy=(1, 1),
        xycoords="axes fraction",
        xytext=(-3, down),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=SMALL,
        color="0.3",
        bbox={"fc": "w", "ec": "none", "alpha": 0.8, "pad": 1},
        gid=NOTE,
        zorder=10,
    )


def legend(ax: Axes, **place: Any) -> None:
    """A small legend, if anything has a label."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=SMALL, **place)
