"""How much gradient reaches each step, and how much crosses each lag?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.typing import ColorType

from recur.plot import bands
from recur.plot.style import (
    COLOURS,
    MAP,
    Decades,
    axes_or_new,
    clock,
    decades,
    finite,
    legend,
    note_gaps,
    numbers,
    power,
)


def gradient_norms(
    logs: Any,
    ax: Axes | None = None,
    colour: ColorType = COLOURS[0],
    label: str | None = None,
    dt: float | None = None,
    **line: Any,
) -> Axes:
    """How much gradient reaches each step? |dloss/dh_t| against t = 1 .. T.

    It shows the median over the batch axes, and 10-90 % of the batch.

    Args:
        logs: From `analysis.gradient_norms`, (..., T), nats, any batch axes first.
        ax: Axes to draw in; a new figure if None.
        colour: The colour of the line and the band.
        label: In the legend; None for none.
        dt: Seconds per step: time is in seconds; in steps if None.
        **line: For `ax.plot`.

    Returns:
        The axes.

    Raises:
        ValueError: The logs are not numbers, or have no axis, or dt is not positive.

    Example:
        >>> ax = plot.gradient_norms(-0.5 * np.arange(8.0)[::-1], label="vanilla")
        >>> print(ax.get_xlabel(), ax.get_legend_handles_labels()[1])
        t (steps) ['vanilla']
    """
    logs, (length, unit, _) = numbers("logs", logs, "..., T"), clock(dt)
    ax, t = axes_or_new(ax), length * np.arange(1, logs.shape[-1] + 1)
    bands.draw(ax, t, logs, "nearest", colour, label, **line)
    note_gaps(ax, logs)
    decades(ax.yaxis)
    ax.set(xlabel=f"t ({unit})", ylabel=r"gradient $|d\,\mathrm{loss}/dh_t|$")
    legend(ax)
    return ax


def gradient_map(logs: Any, ax: Axes | None = None, dt: float | None = None) -> Axes:
    """How much gradient crosses which lag, at which step? |dloss_t/dh_{t-lag}| over t and lag.

    Where t < lag there is no such step, and nothing is drawn. Exact zeros are grey, and unknown
    values are hatched.

    Args:
        logs: From `analysis.gradient_map`, (T, lags + 1), nats, or a batch of them, (B, T, lags +
            1), whose median is drawn.
        ax: Axes to draw in; a new figure if None.
        dt: The seconds of a step: t and lag are in seconds; in steps if None.

    Returns:
        The axes.

    Raises:
        ValueError: The logs are not numbers, or have fewer than two axes, or dt is not positive.

    Example:
        >>> t, lag = np.arange(6)[:, None], np.arange(4)
        >>> ax = plot.gradient_map(np.where(t >= lag, -0.5 * lag, np.nan))
        >>> print(ax.get_xlabel(), ax.get_ylabel(), sep=", ")
        t (steps), lag (steps)
    """
    logs, (length, unit, _) = numbers("logs", logs, "..., T, lags + 1"), clock(dt)
    if logs.ndim > 2:
        logs = _median(logs.reshape(-1, *logs.shape[-2:]))
    ax, (T, count) = axes_or_new(ax), logs.shape
    there = np.arange(T)[:, None] >= np.arange(count)
    edges = length * (np.arange(T + 1) + 0.5), length * (np.arange(count + 1) - 0.5)
    _shade(ax, edges, there & np.isneginf(logs), "0.8")
    _shade(ax, edges, there & np.isnan(logs), "white", hatch="xxx")
    image = ax.pcolormesh(*edges, finite(logs).T, cmap=MAP, rasterized=True)
    bar = ax.figure.colorbar(image, ax=ax, ticks=Decades(), format=power)
    bar.set_label(r"$|d\,\mathrm{loss}_t/dh_{t-\mathrm{lag}}|$")
    note_gaps(ax, logs[there])
    ax.set(xlabel=f"t ({unit})", ylabel=f"lag ({unit})")
    return ax


def _median(logs: np.ndarray) -> np.ndarray:
    """The median of a batch (B, T, L); NaN at a step where a member is NaN at every lag."""
    median = bands.quantiles(logs.reshape(len(logs), -1), "nearest", [0.5]).reshape(logs.shape[1:])
    overflow = np.isnan(logs).all(axis=-1, keepdims=True).any(axis=0)
    return np.where(overflow, np.nan, median)


def _shade(ax: Axes, edges: tuple, where: np.ndarray, colour: ColorType, hatch: str = "") -> None:
    """Colour the cells (T, L) that have no value to show."""
    if where.any():
        cells = np.ma.masked_where(~where.T, np.zeros(where.T.shape))
        plain = ListedColormap([colour])
        ax.pcolor(*edges, cells, cmap=plain, edgecolor="0.6", hatch=hatch or None, lw=0)
