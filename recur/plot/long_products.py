"""How much of each direction of the first state is left in the last?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from recur.analysis import SingularValues
from recur.plot.style import (
    COLOURS,
    axes_or_new,
    decades,
    finite,
    legend,
    note_gaps,
    numbers,
    require,
)

VISIBLE = 0.01  # of the span of the values: the legend explains longer bars


def singular_values(
    found: SingularValues,
    ax: Axes | None = None,
    colour: ColorType = COLOURS[0],
    label: str | None = None,
    **line: Any,
) -> Axes:
    """How much of each direction is left? The singular values of d state_T / d state_0.

    They are drawn largest first. Wide bars are the effect of one rounding. On the horizontal line,
    at 1, a perturbation neither grows nor fades.

    Args:
        found: From `analysis.singular_value_details`. With a batch axis first, each member is a
            line.
        ax: Axes to draw in; a new figure if None.
        colour: The colour of the line and its bars.
        label: In the legend; None for no legend.
        **line: For `ax.plot`.

    Returns:
        The axes.

    Raises:
        ValueError: found is not a result of `analysis.singular_value_details`.

    Example:
        >>> found = analysis.SingularValues(np.array([0.0, -2.0]), np.array([1e-6, 0.5]))
        >>> ax = plot.singular_values(found, label="GRU")
        >>> print(ax.get_xlabel(), ax.get_legend_handles_labels()[1])
        direction ['effect of rounding', 'GRU']
    """
    require(
        isinstance(found, SingularValues),
        f"this draws the result of analysis.singular_value_details; got {type(found).__name__}",
    )
    logs = numbers("logs", found.logs, "..., m")
    rounding = numbers("rounding", found.rounding, "..., m")
    require(
        logs.shape == rounding.shape,
        f"logs and rounding must have the same shape; got {logs.shape} and {rounding.shape}",
    )
    ax, m = axes_or_new(ax), logs.shape[-1]
    rows, sizes = finite(logs).reshape(-1, m), finite(rounding).reshape(-1, m)
    direction = np.arange(1, m + 1)
    for row, size in zip(rows, sizes, strict=True):
        ax.vlines(direction, row - size, row + size, color=colour, lw=4, alpha=0.35)
    known = np.isfinite(rows + sizes)
    span = np.ptp(rows[known]) if known.any() else 0
    if label is not None and sizes[known].max(initial=0) > VISIBLE * span:
        ax.plot([], [], color=colour, lw=4, alpha=0.35, label="effect of rounding")
    style = {"lw": 1, "marker": "." if logs.ndim == 1 else None, **line}
    for i, row in enumerate(rows):
        ax.plot(direction, row, color=colour, label=None if i else label, **style)
    ax.axhline(0, color="k", lw=0.7)
    note_gaps(ax, logs)
    decades(ax.yaxis)
    ax.set(xlabel="direction", ylabel=r"singular values of $ds_T/ds_0$")
    legend(ax)
    return ax
