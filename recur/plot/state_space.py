"""Where are the fixed points, and along which directions are they unstable?"""

import math
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes

from recur.analysis import Points, Stability
from recur.plot.style import COLOURS, axes_or_new, legend, note, require

LENGTH = 0.12  # of an unstable direction's line, as a share of the picture


def fixed_points(
    points: Points, about: Stability | None = None, paths: Any = None, ax: Axes | None = None
) -> Axes:
    """Where are the fixed points, and which directions are unstable? In principal components.

    The components are those of the trajectories, or without trajectories, of the points. The axes
    say what share of the variance each component has. Full discs are stable fixed points, open
    circles are unstable ones, such as saddles, and diamonds are slow points. A line through a point
    is a direction in which the network leaves it. Points that are not finite are left out, with a
    note.

    Args:
        points: P points, of `analysis.fixed_points` or `distinct`.
        about: From `analysis.modes` (with unstable directions) or `stability` (without); None:
            neither.
        paths: States along trajectories, arrays (..., T, *shape); None for none.
        ax: Axes to draw in; a new figure if None. With projection "3d" there is a third component.

    Returns:
        The axes.

    Raises:
        ValueError: The sizes do not fit, or no point and no path is finite.

    Example:
        >>> states = np.array([[0.0, 0.0], [1.0, 1.0]])
        >>> points = analysis.Points(states, np.zeros(2), np.zeros(2), np.zeros(2, int))
        >>> ax = plot.fixed_points(points)
        >>> print(ax.get_xlabel(), ax.get_legend_handles_labels()[1])
        PC 1 (100%) ['fixed (2)']
    """
    s = _flat(points.states, 1)
    P, m = s.shape
    along = _flat(paths, None if paths is None else _leading(points.states, paths))
    if along is not None:
        require(
            along.shape[-1] == m,
            f"paths and points must have states of the same size; got {along.shape[-1]} and {m}",
        )
    if about is not None:
        require(
            len(np.asarray(about.stable)) == P,
            f"about must describe the same points; it describes {len(np.asarray(about.stable))}, "
            f"and there are {P}",
        )
    finite = np.isfinite(s).all(axis=1)
    cloud = s[finite] if along is None else along.reshape(-1, m)
    cloud = cloud[np.isfinite(cloud).all(axis=1)]
    require(len(cloud) > 0, "there is nothing to draw: no point and no path is finite")
    if ax is None:
        ax = axes_or_new(None)
    D = min(3 if ax.name == "3d" else 2, m)
    centre, axes, shares = _components(cloud, D)
    if along is not None:
        for path in along.reshape(-1, along.shape[-2], m):
            ax.plot(*_shown(path, centre, axes, ax), color="0.75", lw=0.6, zorder=1)
    _points(ax, points, about, finite, lambda s: _shown(s, centre, axes, ax))
    if about is not None and about.right is not None:
        size = LENGTH * np.ptp((cloud - centre) @ axes.T, axis=0).max()
        _directions(ax, s, about, finite, size, centre, axes)
    if not finite.all():
        note(ax, f"left out: {np.sum(~finite)} of {P} points, not finite")
    labels = [f"PC {i + 1} ({share:.0%})" for i, share in enumerate(shares)]
    for name, label in zip("xyz", labels, strict=False):
        ax.set(**{f"{name}label": label})
    legend(ax)
    return ax


def _points(ax: Axes, points: Points, about: Any, finite: np.ndarray, shown: Any) -> None:
    """A mark for each point, by its kind."""
    s = _flat(points.states, 1)
    fixed = finite if points.distance is None else finite & np.asarray(points.fixed)
    stable = np.zeros(len(s), bool) if about is None else np.asarray(about.stable)
    kinds = (
        (finite & ~fixed, "D", COLOURS[5], "k", "slow"),
        (fixed & ~stable, "o", "w", COLOURS[1], "fixed" if about is None else "unstable"),
        (fixed & stable, "o", COLOURS[0], COLOURS[0], "stable"),
    )
    for where, marker, face, edge, label in kinds:
        if where.any():
            marks: dict[str, Any] = {"mfc": face, "mec": edge, "ms": 7, "ls": "none", "zorder": 3}
            ax.plot(*shown(s[where]), marker, label=f"{label} ({where.sum()})", **marks)


def _directions(
    ax: Axes,
    s: np.ndarray,
    about: Stability,
    finite: np.ndarray,
    size: float,
    centre: np.ndarray,
    axes: np.ndarray,
) -> None:
    """A line through each point for every mode that grows there; a pair spans two."""
    values, right = np.asarray(about.eigenvalues), np.asarray(about.right)
    label: str | None = "it leaves along"
    for p in np.flatnonzero(finite):
        for i in np.flatnonzero((np.abs(values[p]) > 1) & (values[p].imag >= 0)):
            vector = right[p, i]
            for part in (vector.real, vector.imag) if values[p, i].imag > 0 else (vector.real,):
                unit = part / max(float(np.linalg.norm(part)), 1e-300)
                ends = s[p] + size * np.array([[-1], [1]]) * unit
                line: dict[str, Any] = {"color": COLOURS[4], "lw": 1.5, "zorder": 2, "label": label}
                ax.plot(*_shown(ends, centre, axes, ax), **line)
                label = None


def _flat(states: Any, lead: int | None) -> Any:
    """States (*lead axes, ...) as arrays (*lead axes, m)."""
    if lead is None:
        return None
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(states)]
    sizes = [math.prod(leaf.shape[lead:]) for leaf in leaves]
    flat = [a.reshape(*a.shape[:lead], size) for a, size in zip(leaves, sizes, strict=True)]
    return np.concatenate(flat, axis=-1)


def _leading(states: Any, paths: Any) -> int:
    """The number of axes of the paths that come before those of a state."""
    one, many = jax.tree.leaves(states), jax.tree.leaves(paths)
    lead = {np.ndim(b) - np.ndim(a) + 1 for a, b in zip(one, many, strict=False)}
    require(
        len(one) == len(many) and len(lead) == 1 and min(lead) >= 1,
        "paths must hold states along time, leaves (..., T, *shape), for points (P, *shape); got "
        f"{[np.shape(leaf) for leaf in many]} for {[np.shape(leaf) for leaf in one]}",
    )
    return lead.pop()


def _components(cloud: np.ndarray, D: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean, the first D principal axes (D, m) and their shares of the variance."""
    centre = cloud.mean(axis=0)
    _, sizes, axes = np.linalg.svd(cloud - centre, full_matrices=True)
    variances = np.zeros(cloud.shape[1])
    variances[: len(sizes)] = sizes**2
    axes = axes[:D] * np.where(axes[:D].sum(axis=1, keepdims=True) < 0, -1, 1)  # an arbitrary sign
    return centre, axes, variances[:D] / max(variances.sum(), 1e-300)


def _shown(s: np.ndarray, centre: np.ndarray, axes: np.ndarray, ax: Axes) -> np.ndarray:
    """Coordinates of states (..., m) in the picture, (2 or 3, ...); zeros beyond m of them."""
    coordinates = np.moveaxis((s - centre) @ axes.T, -1, 0)
    wanted = 3 if ax.name == "3d" else 2
    return np.pad(coordinates, [(0, wanted - len(coordinates)), *[(0, 0)] * (s.ndim - 1)])
