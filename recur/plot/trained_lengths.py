"""Which priors can be trained at which length?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from recur.plot.style import MAP, axes_or_new, finite, note_gaps, numbers, require


def trainability(
    accuracies: Any,
    priors: Any,
    T: Any,
    ax: Axes | None = None,
    chance: float = 0.0,
    bar: bool = True,
) -> Axes:
    """The accuracy after training over a line of priors (P,) and over the length T (K,), log scale.

    `accuracies` (P, K) are shares of right answers, coloured from `chance` to 1. The vertical axis
    is in steps: draw a timescale into it by `ax.plot(priors, xi)`. Raises ValueError where the
    sizes do not fit, and unless priors and T rise.
    """
    priors, T = numbers("priors", priors, "P"), numbers("T", T, "K")
    accuracies = numbers("accuracies", accuracies, "P, K")
    require(
        accuracies.shape == (len(priors), len(T)),
        f"accuracies have a row for each prior and a column for each T, ({len(priors)}, {len(T)});"
        f" got {accuracies.shape}",
    )
    for name, values in (("priors", priors), ("T", T)):
        require(
            len(values) > 1 and bool((np.diff(values) > 0).all()),
            f"{name} must rise, and have two values or more; got {values}",
        )
    require(T[0] > 0, f"T is a number of steps, 1 or more; got {T}")
    ax = axes_or_new(ax)
    edges = _edges(priors), np.exp(_edges(np.log(T)))
    shown = finite(accuracies).T
    image = ax.pcolormesh(*edges, shown, cmap=MAP, vmin=chance, vmax=1, rasterized=True)
    note_gaps(ax, accuracies, "accuracies")
    ax.set_yscale("log")
    ax.set(xlabel="prior", ylabel="T (steps)", ylim=edges[1][[0, -1]])
    ax.set_yticks(T, [f"{value:g}" for value in T])
    ax.set_yticks([], minor=True)
    if bar:
        ax.figure.colorbar(image, ax=ax, label="accuracy")
    return ax


def _edges(centres: np.ndarray) -> np.ndarray:
    """Borders between cells of these centres, one more than there are."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
