"""Which modes of a fixed point last, and for how long?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from recur.analysis import Stability
from recur.plot.style import COLOURS, axes_or_new, legend, note, note_gaps, require

LASTING = (1, 3, 10)  # steps of the circles; more would lie on the unit circle


def eigenvalues(about: Stability, ax: Axes | None = None, dt: float | None = None) -> Axes:
    """Which modes of a fixed point last, and for how long? Eigenvalues of the Jacobian at P points.

    It also shows the unit circle and circles of constant timescale. Full discs are modes that
    fade, and open triangles are modes that grow.

    Args:
        about: From `analysis.stability` or `analysis.modes`.
        ax: Axes to draw in; a new figure if None.
        dt: Seconds per step, as given to the analysis; None: steps.

    Returns:
        The axes.

    Raises:
        ValueError: about is not a result of these functions, or they had another dt.

    Example:
        >>> values = np.array([[0.9, 1.2]])
        >>> times = 1 / abs(np.log(values))
        >>> ax = plot.eigenvalues(analysis.Stability(values, np.array([False]), times))
        >>> print(ax.get_legend_handles_labels()[1])
        ['fades (1)', 'grows (1)']
    """
    require(
        isinstance(about, Stability),
        f"this draws the result of analysis.stability; got {type(about).__name__}",
    )
    values, times = np.asarray(about.eigenvalues).ravel(), np.asarray(about.timescales).ravel()
    moduli, length = np.abs(values), 1.0 if dt is None else float(dt)
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = times * np.abs(np.log(moduli))
    known = np.isfinite(lengths) & (lengths > 0)
    require(
        np.allclose(lengths[known], length, rtol=1e-2),
        "the timescales were computed with dt = "
        f"{np.median(lengths[known]) if known.any() else 0:.4g}, and this plot has dt = {dt}: "
        "give both functions the same dt",
    )
    ax, unit = axes_or_new(ax), "steps" if dt is None else "s"
    angle = np.linspace(0, 2 * np.pi, 400)
    ax.plot(np.cos(angle), np.sin(angle), "k-", lw=1)
    for steps in LASTING:
        radius = np.exp(-1 / steps)
        ax.plot(radius * np.cos(angle), radius * np.sin(angle), color="0.8", lw=0.6, zorder=0)
        label = f"{steps * length:.3g}"
        behind = {"fc": "w", "ec": "none", "pad": 0.5}
        ax.text(
            -0.6 * radius,
            0.8 * radius,
            label,
            fontsize=7,
            color="0.4",
            ha="center",
            va="center",
            bbox=behind,
        )
    for grows, marker, face, colour, label in (
        (False, "o", COLOURS[0], COLOURS[0], "fades"),
        (True, "^", "none", COLOURS[1], "grows"),
    ):
        chosen = values[((moduli > 1) == grows) & np.isfinite(values)]
        if chosen.size:
            marks: dict[str, Any] = {"mfc": face, "mec": colour, "ms": 5, "ls": "none"}
            ax.plot(chosen.real, chosen.imag, marker, label=f"{label} ({chosen.size})", **marks)
    shown = times[np.isfinite(values)]
    if shown.size:
        note(ax, f"slowest: {shown.max():.3g} {unit}")
    note_gaps(ax, np.where(np.isnan(values), np.nan, moduli), "eigenvalues")
    ax.set(xlabel=f"real part (circles: timescale, {unit})", ylabel="imaginary part")
    ax.set_aspect("equal", adjustable="datalim")
    legend(ax, loc="lower right")
    return ax
