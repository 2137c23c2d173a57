"""Which directions grow, which fade, and was the trajectory long enough to say so?"""

import numpy as np
from matplotlib.axes import Axes

from recur.analysis import Lyapunov
from recur.plot.style import COLOURS, axes_or_new, finite, legend, note, note_gaps, numbers, require

VISIBLE = 0.01  # of the largest exponent: bars that are longer are named in the legend


def lyapunov(
    found: Lyapunov,
    ax: Axes | None = None,
    colour: str = COLOURS[0],
    label: str | None = None,
    ls: str = "-",
) -> Axes:
    """The exponents, largest first, with two standard errors, and what one rounding moves (wide).

    `found` is what `analysis.lyapunov_details` returned, with any batch axis before: then each of
    the batch is a line. Fields that are None are left out.
    """
    _require(found)
    values, ax = numbers("exponents", found.exponents, "..., k"), axes_or_new(ax)
    k = values.shape[-1]
    rows, direction = finite(values).reshape(-1, k), np.arange(1, k + 1)
    bars = (("moved by rounding", found.rounding, 4, 1), ("2 standard errors", found.error, 1.2, 2))
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
    ax.set(xlabel="direction", ylabel="exponent (nats per step)")
    legend(ax)
    return ax


def lyapunov_convergence(
    found: Lyapunov, ax: Axes | None = None, colour: str = COLOURS[0], discard: int = 0
) -> Axes:
    """The estimate of each exponent after each step of one trajectory; the largest in colour.

    `found` is what `analysis.lyapunov_details` returned; `discard` is the number of steps that it
    did not count, with which time begins here. The band is two standard errors about the largest
    exponent: where the line has long been within it, more steps only narrow it. What comes before
    the first factorisation has no estimate, and is left out without a note.
    """
    _require(found)
    history = numbers("history", found.history, "S, k")
    ax, S = axes_or_new(ax), len(history)
    steps = np.arange(1, S + 1) + discard
    last = np.where(np.isnan(history[-1]), -np.inf, history[-1])
    first = int(last.argmax())
    others = np.delete(history, first, axis=1)
    if others.size:
        lines = ax.plot(steps, finite(others), color="0.6", lw=0.7)
        lines[0].set_label("the others")
    top, error = float(last[first]), float(np.asarray(found.error)[0])
    known = bool(np.isfinite([top, error]).all())
    label = f"largest: {top:.4f} +- {error:.4f}" if known else "largest"
    ax.plot(steps, finite(history[:, first]), color=colour, lw=2, label=label)
    if known:
        ax.axhspan(top - 2 * error, top + 2 * error, color=colour, alpha=0.2, lw=0)
    ax.axhline(0, color="k", lw=0.7)
    begun = np.maximum.accumulate(~np.isnan(history).all(axis=1))
    note_gaps(ax, history[begun] if begun.any() else history[-1])
    ax.set(xlabel="steps", ylabel="exponent so far (nats per step)")
    legend(ax, loc="lower right")  # the note is above
    return ax


def _require(found: Lyapunov) -> None:
    require(
        isinstance(found, Lyapunov),
        f"this draws what analysis.lyapunov_details returned; got {type(found).__name__}",
    )
