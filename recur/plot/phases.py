"""Which priors remember, and where is the edge?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from recur.plot.style import MAP, Decades, axes_or_new, note, numbers, power, require

SHOWN = 0.3, 300.0  # steps, the ends of the colours


def phase_diagram(xi: Any, x: Any, y: Any, ax: Axes | None = None, bar: bool = True) -> Axes:
    """Which priors remember, and where is the edge? The timescale over two parameters of a prior.

    The critical line, chi = 1, where 1/xi changes its sign, is black. White lines are at 10 and 100
    steps. Where perturbations grow, the picture is grey. NaN is left white, with a note.

    Args:
        xi: The `xi` of a `theory.MeanField`, (Y, X), steps; negative where perturbations grow.
        x: Values of one parameter, (X,).
        y: Values of the other, (Y,).
        ax: Axes to draw in; a new figure if None.
        bar: Whether to draw a colour bar.

    Returns:
        The axes.

    Raises:
        ValueError: xi, x and y do not fit, or there are fewer than two of x or of y.

    Example:
        >>> x, y = np.linspace(0.5, 1.5, 6), np.linspace(0, 1, 5)
        >>> chi = x * np.ones((5, 1)) * 0.99
        >>> ax = plot.phase_diagram(-1 / np.log(chi), x, y, bar=False)
        >>> print(len(ax.collections) > 1)
        True
    """
    xi, x, y = numbers("xi", xi, "Y, X"), numbers("x", x, "X"), numbers("y", y, "Y")
    require(
        xi.shape == (len(y), len(x)),
        f"xi must have a row for each y and a column for each x, ({len(y)}, {len(x)}); got "
        f"{xi.shape}",
    )
    require(min(xi.shape) >= 2, f"lines need at least two points along each axis; got {xi.shape}")
    ax = axes_or_new(ax)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(xi == 0, np.inf, 1 / xi)  # -log chi; 0 at the edge
        fades = np.log(np.where(rate > 0, np.clip(xi, 1e-3, 1e30), np.nan))
    grows = np.where(rate < 0, 1.0, np.nan)
    cells: dict[str, Any] = {"shading": "nearest", "rasterized": True}
    if np.isfinite(grows).any():
        ax.pcolormesh(x, y, grows, cmap="Greys", vmin=0, vmax=3, **cells)
    least, most = np.log(SHOWN)
    known = np.ma.masked_invalid(fades)
    image = ax.pcolormesh(x, y, known, cmap=MAP, vmin=least, vmax=most, **cells)
    levels = [level for level in np.log([10, 100]) if _crossed(fades, level)]
    if levels:
        ax.contour(x, y, fades, levels=levels, colors="w", linewidths=0.8)
    bounded = np.clip(rate, -1, 1)
    if _crossed(bounded, 0.0):
        ax.contour(x, y, bounded, levels=[0], colors="k", linewidths=2)
    if np.isnan(xi).any():
        note(ax, f"left out: {np.isnan(xi).sum()} of {xi.size} points NaN (not known)")
    if bar:
        scale = ax.figure.colorbar(image, ax=ax, ticks=Decades(), format=power, extend="both")
        scale.set_label(r"timescale $\xi$ (steps)")
    return ax


def _crossed(values: np.ndarray, level: float) -> bool:
    """Whether there are known values on both sides of the level."""
    known = values[np.isfinite(values)]
    return bool(known.size) and bool(known.min() < level < known.max())
