"""How far back does the output see?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from recur.plot import bands
from recur.plot.style import (
    COLOURS,
    axes_or_new,
    clock,
    decades,
    legend,
    note_gaps,
    numbers,
    require,
)


def input_output(
    logs: Any,
    lags: Any,
    ax: Axes | None = None,
    colour: ColorType = COLOURS[0],
    label: str | None = "largest",
    dt: float | None = None,
) -> Axes:
    """How far back does the output see? The singular values of dh_T/dx_{T-lag} against the lag.

    The largest is in colour, with its median over the batch and 10-90 % of the batch. The same for
    all k values is in grey.

    Args:
        logs: From `analysis.input_output`, (..., L, k), nats, any batch axes first.
        lags: The lags that it was given, (L,), steps.
        ax: Axes to draw in; a new figure if None.
        colour: The colour of the largest value.
        label: The name of the largest value in the legend; None draws no legend.
        dt: Seconds per step: lags are in seconds; in steps if None.

    Returns:
        The axes.

    Raises:
        ValueError: logs and lags do not fit, or dt is not positive.

    Example:
        >>> logs = np.log([[1.0, 0.5], [0.5, 0.1], [0.25, 0.01]])
        >>> ax = plot.input_output(logs, lags=[0, 1, 2])
        >>> print(ax.get_xlabel(), ax.get_legend_handles_labels()[1])
        lag (steps) ['all of them', 'largest']
    """
    logs, lags = numbers("logs", logs, "..., L, k"), numbers("lags", lags, "L")
    length, unit, _ = clock(dt)
    require(
        logs.shape[-2] == len(lags),
        f"logs must have one row per lag, (..., {len(lags)}, k) for these {len(lags)} lags; got "
        f"{logs.shape}",
    )
    ax = axes_or_new(ax)
    order = np.argsort(lags)
    logs, lags = logs[..., order, :], length * lags[order]
    largest, every = logs[..., 0], np.moveaxis(logs, -1, 0)
    if logs.shape[-1] > 1:
        name = None if label is None else "all of them"
        bands.draw(ax, lags, every, "nearest", "0.5", name, lw=1, ls=":")
    bands.draw(ax, lags, largest, "nearest", colour, label, lw=2)
    note_gaps(ax, logs)
    decades(ax.yaxis)
    ax.set(xlabel=f"lag ({unit})", ylabel=r"singular values of $dh_T/dx_{T-\mathrm{lag}}$")
    legend(ax)
    return ax
