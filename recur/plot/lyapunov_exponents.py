"""Which directions grow, which decay, and was the trajectory long enough to converge?"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from recur.analysis import Lyapunov
from recur.plot.style import (
    COLOURS,
    axes_or_new,
    clock,
    finite,
    legend,
    note,
    note_gaps,
    numbers,
    require,
)

VISIBLE = 0.01  # of the largest exponent: the legend explains longer bars


def lyapunov(
    found: Lyapunov,
    ax: Axes | None = None,
    colour: ColorType = COLOURS[0],
    label: str | None = None,
    ls: str = "-",
    dt: float | None = None,
) -> Axes:
    """Which directions grow, which fade? The exponents, largest first.

    Bars are two standard errors. Wide bars are the effect of one rounding.

    Args:
        found: From `analysis.lyapunov_details`. With a batch axis first, each member is a line.
            Fields that are None are left out.
        ax: Axes to draw in; a new figure if None.
        colour: The colour of the line and its bars.
        label: In the legend; None for no legend.
        ls: The style of the line.
        dt: The seconds of a step, if the analysis was given them.

    Returns:
        The axes.

    Raises:
        ValueError: found is not a result of `analysis.lyapunov_details`, or dt is not positive.

    Example:
        >>> exponents = np.array([0.1, -0.2, -0.9])
        >>> found = analysis.Lyapunov(exponents, exponents * 0.1, None, 1.5, 0.1, exponents * 0)
        >>> print(plot.lyapunov(found).get_ylabel())
        exponent (nats per step)
    """
    _require(found)
    per = clock(dt)[2]
    values, ax = numbers("exponents", found.exponents, "..., k"), axes_or_new(ax)
    k = values.shape[-1]
    rows, direction = finite(values).reshape(-1, k), np.arange(1, k + 1)
    bars = (
        ("effect of rounding", found.rounding, 4, 1),
        ("2 standard errors", found.error, 1.2, 2),
    )
    for name, field, width, factor in bars:
        if field is None:
            continue
        sizes = factor * finite(numbers(name, field, "..., k")).reshape(-1, k)
        for row, size in zip(rows, sizes, strict=True):
            ax.vlines(direction, row - size, row + size, color=colour, lw=width, alpha=0.35)
        visible = np.nanmax(sizes, initial=0) > VISIBLE * np.nanmax(np.abs(rows), initial=0)
        if label is not None and visible and name not in ax.get_legend_handles_labels()[1]:
            ax.plot([], [], color=colour, lw=width, alpha=0.35, label=name)
    marker = "." if values.ndim == 1 else None
    for i, row in enumerate(rows):
        ax.plot(
            direction, row, ls=ls, marker=marker, color=colour, lw=1, label=None if i else label
        )
    ax.axhline(0, color="k", lw=0.7)
    if values.ndim == 1 and found.dimension is not None and np.isfinite(found.dimension):
        note(ax, f"Kaplan-Yorke dimension {float(found.dimension):.2f}")
    note_gaps(ax, values, "exponents")
    ax.set(xlabel="direction", ylabel=f"exponent (nats per {per})")
    legend(ax)
    return ax


def lyapunov_convergence(
    found: Lyapunov,
    ax: Axes | None = None,
    colour: ColorType = COLOURS[0],
    discard: int = 0,
    dt: float | None = None,
) -> Axes:
    """Was the trajectory long enough? The estimate of each exponent after each step.

    The largest is in colour, and the band is two standard errors about its last value. Once the
    line stays within the band, more steps only narrow it. Steps before the first factorisation have
    no estimate, and are left out without a note.

    Args:
        found: From `analysis.lyapunov_details`, one trajectory.
        ax: Axes to draw in; a new figure if None.
        colour: The colour of the largest.
        discard: The `discard` of the analysis: time begins after these steps.
        dt: The seconds of a step, if the analysis was given them: time is in seconds, too.

    Returns:
        The axes.

    Raises:
        ValueError: found is not a result of `analysis.lyapunov_details` for one trajectory, or dt
            is not positive.

    Example:
        >>> history = np.array([[0.3, -1.0], [0.2, -0.9], [0.1, -0.9]])
        >>> found = analysis.Lyapunov(history[-1], np.array([0.01, 0.01]), history, 1.1, 0.1, None)
        >>> print(plot.lyapunov_convergence(found).get_legend_handles_labels()[1])
        ['others', 'largest: 0.1000 +- 0.0100']
    """
    _require(found)
    history, (length, unit, per) = numbers("history", found.history, "S, k"), clock(dt)
    ax, S = axes_or_new(ax), len(history)
    steps = length * (np.arange(1, S + 1) + discard)
    last = np.where(np.isnan(history[-1]), -np.inf, history[-1])
    first = int(last.argmax())
    others = np.delete(history, first, axis=1)
    if others.size:
        lines = ax.plot(steps, finite(others), color="0.6", lw=0.7)
        lines[0].set_label("others")
    top, error = float(last[first]), float(np.asarray(found.error)[0])
    known = bool(np.isfinite([top, error]).all())
    label = f"largest: {top:.4f} +- {error:.4f}" if known else "largest"
    ax.plot(steps, finite(history[:, first]), color=colour, lw=2, label=label)
    if known:
        ax.axhspan(top - 2 * error, top + 2 * error, color=colour, alpha=0.2, lw=0)
    ax.axhline(0, color="k", lw=0.7)
    begun = np.maximum.accumulate(~np.isnan(history).all(axis=1))
    note_gaps(ax, history[begun] if begun.any() else history[-1])
    ax.set(
        xlabel="steps" if dt is None else f"t ({unit})",
        ylabel=f"estimated exponent (nats per {per})",
    )
    legend(ax, loc="lower right")  # the note is above
    return ax


def _require(found: Lyapunov) -> None:
    require(
        isinstance(found, Lyapunov),
        f"this draws the result of analysis.lyapunov_details; got {type(found).__name__}",
    )
