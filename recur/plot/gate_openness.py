"""When is each gate open?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from recur.plot import bands
from recur.plot.style import (
    COLOURS,
    STYLES,
    axes_or_new,
    clock,
    legend,
    note_gaps,
    numbers,
    require,
)


def gates(
    openness: Sequence[Any],
    names: Sequence[str],
    ax: Axes | None = None,
    dt: float | None = None,
) -> Axes:
    """When is each gate open? The median over units and batch, and 10-90 % of them, over time.

    Args:
        openness: From `analysis.openness`, an array (T, ..., n) for each gate; 0 is closed, 1 open.
        names: The name of each gate.
        ax: Axes to draw in; a new figure if None.
        dt: Seconds per step: time is in seconds; in steps if None.

    Returns:
        The axes.

    Raises:
        ValueError: There is not one name per gate, a value is outside 0 .. 1, or dt is not
            positive.

    Example:
        >>> ax = plot.gates([np.linspace(0, 1, 12).reshape(4, 3)], names=["update"])
        >>> print(ax.get_ylabel(), ax.get_legend_handles_labels()[1])
        openness of a gate ['update']
    """
    length, unit, _ = clock(dt)
    require(
        len(openness) == len(names) > 0,
        f"names must hold one name per gate; got {len(openness)} gates and the names {list(names)}",
    )
    each = [numbers(f"openness of {n}", o, "T, ...") for n, o in zip(names, openness, strict=True)]
    for name, values in zip(names, each, strict=True):
        least, most = np.nanmin(values, initial=0), np.nanmax(values, initial=1)
        require(
            least >= 0 and most <= 1,
            f"the openness of a gate must be between 0 and 1; {name} goes from {least:.3g} to "
            f"{most:.3g}",
        )
    ax = axes_or_new(ax)
    for i, (name, values) in enumerate(zip(names, each, strict=True)):
        curves, t = values.reshape(len(values), -1).T, length * np.arange(1, len(values) + 1)
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
        bands.draw(ax, t, curves, "linear", colour, name, ls=style)
        note_gaps(ax, values, f"values of {name}")
    ax.set(xlabel=f"t ({unit})", ylabel="openness of a gate", ylim=(-0.02, 1.02))
    legend(ax)
    return ax
