"""A band that holds most of several curves, and the median in it."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from recur.plot.style import COLOURS, axes_or_new, finite, note_gaps, numbers, require

Method = Literal["linear", "nearest"]  # of a quantile; "nearest" for logarithms that may be -inf
MOST = (0.1, 0.5, 0.9)


def band(
    x: Any,
    curves: Any,
    ax: Axes | None = None,
    colour: ColorType = COLOURS[0],
    label: str | None = None,
    q: Sequence[float] = MOST,
    **line: Any,
) -> Axes:
    """Where do most of several curves lie? Their median, and a band about it.

    The quantiles leave out NaN.

    Args:
        x: (L,).
        curves: (..., L), with leading axes over which the quantiles go.
        ax: Axes to draw in; a new figure if None.
        colour: The colour of the line and the band.
        label: In the legend; None for none.
        q: The quantiles (low, middle, high).
        **line: For `ax.plot` of the median, such as `ls="--"`.

    Returns:
        The axes.

    Raises:
        ValueError: x and curves do not fit, or q does not increase within 0 .. 1.

    Example:
        >>> curves = np.arange(12.0).reshape(3, 4)
        >>> print(plot.band(np.arange(4), curves).lines[0].get_ydata())  # the median of three
        [4. 5. 6. 7.]
    """
    x, curves = numbers("x", x, "L"), numbers("curves", curves, "..., L")
    require(
        curves.shape[-1] == len(x),
        f"curves must have one value per point along their last axis; got curves {curves.shape} "
        f"and {len(x)} points",
    )
    require(
        len(q) == 3 and 0 <= q[0] <= q[1] <= q[2] <= 1,
        "q must hold three fractions that increase within 0 .. 1: low, middle, high; got "
        f"{tuple(q)}",
    )
    ax = axes_or_new(ax)
    draw(ax, x, curves, "linear", colour, label, q, **line)
    note_gaps(ax, curves)
    return ax


def draw(
    ax: Axes,
    x: np.ndarray,
    curves: np.ndarray,
    method: Method,
    colour: ColorType,
    label: str | None,
    q: Sequence[float] = MOST,
    **line: Any,
) -> None:
    """`band` for arguments that have been checked, without its note."""
    low, middle, high = finite(quantiles(curves, method, q))
    if curves.ndim > 1:
        ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    alone = np.isfinite(middle) & ~np.isfinite(_beside(middle)).any(axis=0)
    marks = {"marker": ".", "markevery": alone.tolist()} if alone.any() else {}
    ax.plot(x, middle, color=colour, label=label, **marks, **line)
    ends = np.array([[x.min(), 0], [x.max(), 0]])
    ax.update_datalim(ends, updatey=False)  # otherwise gaps at the ends would be invisible
    ax.autoscale_view(scaley=False)


def quantiles(curves: np.ndarray, method: Method, q: Sequence[float]) -> np.ndarray:
    """The quantiles over the leading axes, (len(q), L), without NaN; NaN where all are NaN."""
    flat = curves.reshape(-1, curves.shape[-1])
    known = ~np.isnan(flat).all(axis=0)
    found = np.full((len(q), flat.shape[1]), np.nan)
    if known.any():
        found[:, known] = np.nanquantile(flat[:, known], list(q), axis=0, method=method)
    return found


def _beside(values: np.ndarray) -> np.ndarray:
    """The values before and after each, (2, L), to find points between two gaps."""
    padded = np.pad(values, 1, constant_values=np.nan)
    return np.stack([padded[:-2], padded[2:]])
