"""Why are gradients clipped? The error surface of one recurrent unit has a wall.

The unit x_t = w sigmoid(x_{t-1}) + b starts at x_0 = 1/2 and has the error
E = (sigmoid(x_T) - 0.7)^2. Its two parameters are trained by gradient descent with the plain
gradient g, and with the clipped one, which is g theta / |g| if |g| > theta. The figure also shows
the states in which the unit settles at w = 5, against b, and the response w^(T-1) of a linear unit
to a single input, for T = 1000.

Claim (arXiv:1211.5063): the surface is flat except for a wall, where the gradient is larger by
orders of magnitude. Plain descent meets the wall and is thrown off the picture, by one step of
12.4. Clipped descent stays beside the wall, crosses it again and again, and passes points of small
error. The wall is where x_0 lies between the basins of two settled states, b = 1/2 - w
sigmoid(1/2). At w = 5 there are two such states for b between -2.65 and -2.35, and one elsewhere.

For the linear unit, 1.01^999 is 2e4 and 0.99^999 is 4e-5. The start is one of several that were
tried, all of which met the wall. Clipped descent keeps crossing it, so its last error says only
where it stopped.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from jax import Array
from jax.nn import sigmoid
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import harness

WEIGHT = 5.0  # of the unit whose settled states are drawn
POWER = 999


@dataclass(frozen=True)
class Config(harness.Config):
    """The error surface of one recurrent unit."""

    points: int = 300
    """Points along each axis of the surface."""
    T: int = 50
    """Steps of the unit."""
    updates: int = 400
    """Updates of gradient descent."""
    learning_rate: float = 0.1
    """Learning rate of gradient descent."""
    clip: float = 0.1
    """Largest norm of the clipped gradient."""
    start: tuple[float, float] = (5.2, -2.2)
    """(w, b) at which the descent starts."""


class Result(NamedTuple):
    """G points along each axis, U updates, B biases."""

    w: np.ndarray  # (G,)
    b: np.ndarray  # (G,)
    errors: np.ndarray  # (G, G) over (b, w)
    slopes: np.ndarray  # (G, G) norm of the gradient, over (b, w)
    paths: np.ndarray  # (2, U + 1, 2) (w, b) along the plain and the clipped descent
    losses: np.ndarray  # (2, U + 1) errors along the paths
    biases: np.ndarray  # (B,)
    settled: np.ndarray  # (2, B) state after 2000 steps at weight 5, from -10 and from 10
    weights: np.ndarray  # (G,)
    powers: np.ndarray  # (G,) weights^999


def settle(w: Array, b: Array, x: Array, T: int) -> Array:
    """x after T steps."""
    return jax.lax.fori_loop(0, T, lambda _, x: w * sigmoid(x) + b, x)


def error(point: Array, T: int) -> Array:
    """E at (w, b)."""
    w, b = point
    return (sigmoid(settle(w, b, jnp.full_like(w, 0.5), T)) - 0.7) ** 2


@partial(jax.jit, static_argnums=1)
def surface(points: Array, T: int) -> tuple[Array, Array]:
    """Errors (N,) and norms of the gradient (N,) at points (N, 2)."""
    errors, slopes = jax.vmap(jax.value_and_grad(partial(error, T=T)))(points)
    return errors, jnp.linalg.norm(slopes, axis=-1)


@partial(jax.jit, static_argnums=(1, 2))
def descend(start: Array, T: int, updates: int, rate: float, clip: float) -> tuple[Array, Array]:
    """The path of a descent (updates + 1, 2) and the errors along it (updates + 1,)."""

    def update(point: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        E, g = jax.value_and_grad(error)(point, T)
        g = g * jnp.minimum(1, clip / jnp.maximum(jnp.linalg.norm(g), 1e-300))
        return point - rate * g, (point, E)

    return jax.lax.scan(update, start, length=updates + 1)[1]


def run(config: Config, record: harness.Record) -> Result:
    """Compute the surface, two descents on it, the settled states, and the powers of w."""
    w, b = np.linspace(4.4, 6.0, config.points), np.linspace(-3.2, -2.0, config.points)
    grid = np.stack(np.meshgrid(w, b), axis=-1).reshape(-1, 2)
    biases = np.linspace(-3.2, -1.8, 701)
    weights = np.linspace(0.985, 1.015, config.points)
    with jax.enable_x64(True):
        errors, slopes = surface(jnp.asarray(grid), config.T)
        runs = [
            descend(
                jnp.array(config.start, float), config.T, config.updates, config.learning_rate, clip
            )
            for clip in (np.inf, config.clip)
        ]
        ends = [
            settle(jnp.array(WEIGHT), jnp.asarray(biases), jnp.full(len(biases), x), 2000)
            for x in (-10.0, 10.0)
        ]
    paths, losses = (np.array(parts) for parts in zip(*runs, strict=True))
    record.metrics(plain=float(losses[0, -1]), clipped=float(losses[1, -1]))
    shape = (config.points, config.points)
    return Result(
        w,
        b,
        np.asarray(errors).reshape(shape),
        np.asarray(slopes).reshape(shape),
        paths,
        losses,
        biases,
        np.array(ends),
        weights,
        weights**POWER,
    )


def claims(result: Result) -> dict[str, float]:
    """The numbers that the docstring states."""
    steps = np.linalg.norm(np.diff(result.paths[0], axis=0), axis=1)
    both = result.biases[np.abs(np.diff(result.settled, axis=0)[0]) > 0.1]
    return {
        "w = 5": WEIGHT,
        "x_0 = 1/2, b = 1/2 - w sigmoid(1/2)": 0.5,
        "plain descent: longest step": steps.max(),
        "two settled states: least b, negative": -both.min(),
        "two settled states: largest b, negative": -both.max(),
        "largest gradient over the median": result.slopes.max() / np.median(result.slopes),
    }


def table(result: Result) -> harness.Table:
    """One row per descent."""
    rows = [
        (
            name,
            f"{losses[0]:.4f}",
            f"{losses.min():.1e}",
            f"{losses[-1]:.1e}",
            f"{np.linalg.norm(np.diff(path, axis=0), axis=1).max():.2f}",
            f"({path[-1, 0]:.2f}, {path[-1, 1]:.2f})",
        )
        for name, path, losses in zip(
            ("plain", "clipped"), result.paths, result.losses, strict=True
        )
    ]
    columns = ("gradient", "first E", "least E", "last E", "longest step", "last (w, b)")
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot the surface with both paths, the errors along them, settled states, and powers of w."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    colours = dict(zip(("plain", "clipped"), mpl.color_sequences["tab10"][1::2], strict=False))
    _surface(figure, axes[0, 0], result, colours)
    for losses, (name, colour) in zip(result.losses, colours.items(), strict=True):
        axes[0, 1].semilogy(np.maximum(losses, 1e-16), color=colour, label=f"{name} gradient")
    axes[0, 1].set(xlabel="updates", ylabel="error E", title="Error along the two paths")
    axes[0, 1].legend()
    _settled(axes[1, 0], result)
    axes[1, 1].semilogy(result.weights, result.powers, color="C0")
    for w in (0.99, 1.0, 1.01):
        axes[1, 1].plot(w, w**POWER, "o", color="C0")
        axes[1, 1].annotate(
            f"{w:g}: {w**POWER:.0e}", (w, w**POWER), (8, -12), textcoords="offset points"
        )
    axes[1, 1].set(
        xlabel="recurrent weight w of a linear unit",
        ylabel="$w^{999}$",
        title="What is left of an input after 999 steps",
    )
    return figure


def _surface(figure: Figure, ax: Axes, result: Result, colours: dict) -> None:
    grid = result.w, result.b
    image = ax.pcolormesh(*grid, result.errors, cmap="Greys", shading="nearest", rasterized=True)
    figure.colorbar(image, ax=ax, label="error E")
    for path, (name, colour) in zip(result.paths, colours.items(), strict=True):
        ax.plot(*path.T, ".-", color=colour, lw=1, ms=4, label=f"{name} gradient")
    ax.plot(*result.paths[0, 0], "*", color="C2", ms=14, label="start")
    ax.set(
        xlim=grid[0][[0, -1]],
        ylim=grid[1][[0, -1]],
        xlabel="weight w",
        ylabel="bias b",
        title="Error surface of one unit: the wall is the sharp edge",
    )
    ax.legend(loc="upper right")


def _settled(ax: Axes, result: Result) -> None:
    low, high = result.settled
    ax.plot(result.biases, high, ".", ms=3, color="C0", label="from a high state")
    ax.plot(result.biases, low, ".", ms=3, color="C4", label="from a low state")
    both = result.biases[np.abs(high - low) > 0.1]
    if both.size:
        ax.axvspan(both[0], both[-1], color="0.9", label="two settled states")
    ax.set(
        xlabel="bias b", ylabel="state after 2000 steps", title="Where the unit settles at w = 5"
    )
    ax.legend()


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
