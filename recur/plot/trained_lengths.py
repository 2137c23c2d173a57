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
    """Which priors can be trained at which length? The accuracy over both, T on a log scale.

    The vertical axis is in steps, so `ax.plot(priors, xi)` adds a timescale.

    Args:
        accuracies: Shares of right answers after training, (P, K).
        priors: Values of a field of the prior, (P,), increasing.
        T: Lengths, (K,), steps, increasing.
        ax: Axes to draw in; a new figure if None.
        chance: The accuracy at which the colours begin; they end at 1.
        bar: Whether to draw a colour bar.

    Returns:
        The axes.

    Raises:
        ValueError: The sizes do not fit, priors or T do not increase, or T is not positive.

    Example:
        >>> accuracies = np.array([[1.0, 0.5], [1.0, 0.9], [0.6, 0.5]])
        >>> ax = plot.trainability(accuracies, priors=[0.5, 1.0, 1.5], T=[10, 100], bar=False)
        >>> print(ax.get_ylabel())
        T (steps)
    """
    priors, T = numbers("priors", priors, "P"), numbers("T", T, "K")
    accuracies = numbers("accuracies", accuracies, "P, K")
    require(
        accuracies.shape == (len(priors), len(T)),
        f"accuracies must have a row for each prior and a column for each T, ({len(priors)}, "
        f"{len(T)}); got {accuracies.shape}",
    )
    for name, values in (("priors", priors), ("T", T)):
        require(
            len(values) > 1 and bool((np.diff(values) > 0).all()),
            f"{name} must increase, and have at least two values; got {values}",
        )
    require(T[0] > 0, f"T must hold numbers of steps, 1 or more; got {T}")
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
    """Borders between cells with these centres: one more than there are centres."""
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
