"""What does each step do to perturbations?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType

from recur.plot import bands
from recur.plot.style import COLOURS, axes_or_new, clock, legend, note_gaps, numbers, require


def one_step_spectra(
    values: Any,
    ax: Axes | None = None,
    colour: ColorType = COLOURS[0],
    label: str | None = "largest",
    dt: float | None = None,
) -> Axes:
    """What does each step do? The singular values of d state_t / d state_{t-1} over time.

    The largest is in colour, with its median over the batch and 10-90 % of the batch. The same for
    all m values is in grey. Above the horizontal line, at 1, a perturbation grows in that step.

    Args:
        values: From `analysis.one_step_spectra`, (..., T, m), any batch axes first.
        ax: Axes to draw in; a new figure if None.
        colour: The colour of the largest value.
        label: The name of the largest value in the legend; None draws no legend.
        dt: Seconds per step: time is in seconds; in steps if None.

    Returns:
        The axes.

    Raises:
        ValueError: The values are not numbers with at least two axes, a value is below 0, or dt is
            not positive.

    Example:
        >>> values = np.array([[1.2, 0.5], [0.9, 0.4], [1.1, 0.6]])
        >>> ax = plot.one_step_spectra(values)
        >>> print(ax.get_xlabel(), ax.get_legend_handles_labels()[1])
        t (steps) ['all of them', 'largest']
    """
    values, (length, unit, _) = numbers("values", values, "..., T, m"), clock(dt)
    least = np.nanmin(values, initial=0)
    require(
        least >= 0,
        f"singular values must be 0 or more, and the least is {least:.3g}. Logarithms, of a long "
        "product, are drawn by plot.singular_values",
    )
    ax, t = axes_or_new(ax), length * np.arange(1, values.shape[-2] + 1)
    if values.shape[-1] > 1:
        name = None if label is None else "all of them"
        bands.draw(ax, t, np.moveaxis(values, -1, 0), "linear", "0.5", name, lw=1, ls=":")
    bands.draw(ax, t, values[..., 0], "linear", colour, label, lw=1.5)
    ax.axhline(1, color="k", lw=0.7)
    note_gaps(ax, values)
    ax.set(xlabel=f"t ({unit})", ylabel=r"singular values of $ds_t/ds_{t-1}$")
    ax.set_ylim(bottom=0)
    legend(ax)
    return ax
