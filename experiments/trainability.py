"""Does theory predict which recurrent networks can be trained?

The first input is a digit, the others up to step T are noise, and the last state must tell which
digit it was. Networks are drawn from priors along one line (vanilla: sigma_w; MinimalRNN: mu_b).
All are trained in the same way at each T, all priors in one program. The longest T at which
training succeeds is compared with the timescale xi. It is the time in which a network of infinite
width forgets, measured by two copies of it that see different noise. xi is computed in closed form,
and by following a population with redrawn weights and one with tied weights.

Claim (arXiv:1806.05394): the longest T that is trained rises with xi. MinimalRNN trains over a wide
range of priors, while the vanilla network needs sigma_w near its critical value. Spearman's rank
correlation of the longest T with the closed form is .98 for MinimalRNN and .90 for the vanilla
network. 33 % of MinimalRNN's line of priors train T >= 32, and 2 % of the vanilla network's.

The claim is the paper's figure 2. A T counts as trained from 90 % of the best accuracy on. For the
vanilla network, the order by xi holds on either side of the peak of xi. But at equal xi, a shorter
T is trained above the peak than below.

The theory describes initial weights, so training must not lead far from them. With rate .03 instead
of .01 and T from 2 to 128, the rank correlations rho of the two cells were .99 and .74. With rates
.03 and .3 at T = 4, 16 and 64 (one seed, 400 updates) they were .98 and .93, .84 and -.19. Adam,
for which no gradient is too small, gave .98 and .43.

A fixed random projection maps an image, less the mean image, to the n inputs, which have mean
square R. MinimalRNN's sigma_w 6.88 and sigma_v 1.39 are the paper's. The vanilla network's sigma_v
.25 with this noise gives sigma_v^2 R = 3.1e-4, near the paper's 2.9e-4. The noise is weaker than
the image, so that it is not the limit. Width, updates and rate are ours.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import data, harness
from experiments.parts import last_state, timescales
from experiments.parts.timescales import CELLS, THEORIES
from recur import plot as picture
from recur import tasks
from recur.core import Prior

AXES = {"vanilla": r"$\sigma_w$", "minimal": r"$\mu_b$"}
GOAL = 0.9  # share of the best accuracy from which a T counts as trained
LONG = 32  # steps: the T at which the widths of the trained regions are compared


@dataclass(frozen=True)
class Config(last_state.Config):
    """Accuracy over prior x T, and theory."""

    sigma_w: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4, 1.7, 2.0)
    """Values of sigma_w, the priors of the vanilla network."""
    mu_b: tuple[float, ...] = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
    """Values of mu_b, the priors of MinimalRNN; as many as of sigma_w."""
    T: tuple[int, ...] = (3, 6, 12, 24, 48, 96)
    """Lengths T of the sequences, in rising order."""
    learning_rate: float = 0.01
    """Initial learning rate; it falls to zero along a cosine."""
    R: float = 0.46
    """Mean square of the first input."""
    noise: float = 0.005
    """Mean square of the noise."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        super().__post_init__()
        if len(self.sigma_w) != len(self.mu_b):
            raise ValueError(
                f"need as many sigma_w as mu_b, got {len(self.sigma_w)} and {len(self.mu_b)}"
            )
        for name in ("sigma_w", "mu_b", "T"):
            values = getattr(self, name)
            if len(values) < 2 or list(values) != sorted(set(values)):
                raise ValueError(f"{name} must rise, and have two or more values; got {values}")


NEAR_ONE = (*np.linspace(0.5, 0.9, 8), *np.linspace(0.92, 1.2, 15), *np.linspace(1.25, 2.0, 9))
PAPER = Config(
    preset="paper",
    sigma_w=tuple(round(float(value), 4) for value in NEAR_ONE),
    mu_b=tuple(round(float(value), 4) for value in np.linspace(-4, 8, len(NEAR_ONE))),
    T=(10, 18, 32, 56, 100, 178, 316, 562, 1000),
    n=300,
    seeds=3,
    updates=10_000,
    every=500,
    batch=200,
    learning_rate=0.01,
)


class Result(NamedTuple):
    """C cells, P priors, S seeds, K values of T; F points of a fine line over the priors."""

    cells: np.ndarray  # (C,) names
    priors: np.ndarray  # (C, P) sigma_w or mu_b
    T: np.ndarray  # (K,)
    accuracies: np.ndarray  # (C, P, S, K) on the test digits
    diverged: np.ndarray  # (C, P, S, K) update at which the loss first was not finite, or -1
    xi: np.ndarray  # (C, 3, P) steps, by timescales.THEORIES
    fine: np.ndarray  # (C, F) priors
    xi_fine: np.ndarray  # (C, F) closed form


def line_of(name: str, values: np.ndarray) -> Prior:
    """The priors at values (P,) of sigma_w or mu_b; their fields are (P,)."""
    if name == "vanilla":
        return Prior(*np.broadcast_arrays(values, 0.25, 0.0, 0.0))
    return Prior(*np.broadcast_arrays(6.88, 1.39, values, 0.0))


def run(config: Config, record: harness.Record) -> Result:
    """Compute the theory and train, for both cells."""
    training, test = projected(config)
    rows = []
    for name, values in (("vanilla", config.sigma_w), ("minimal", config.mu_b)):
        priors, fine = line_of(name, np.array(values)), np.linspace(values[0], values[-1], 300)
        xi = timescales.timescales(name, priors, config.noise)
        xi_fine = timescales.closed(name, line_of(name, fine), config.noise)
        trained = [fit(name, priors, T, training, test, config, record) for T in config.T]
        accuracies, diverged = (np.stack(a, axis=-1) for a in zip(*trained, strict=True))
        rows.append((name, values, accuracies, diverged, xi, fine, xi_fine))
    names, lines, accuracies, diverged, xi, fine, xi_fine = map(np.array, zip(*rows, strict=True))
    return Result(names, lines, np.array(config.T), accuracies, diverged, xi, fine, xi_fine)


# --- training -------------------------------------------------------------------------------------


def projected(config: Config) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Digits for training and for testing: first inputs (N, n) and labels (N,)."""
    images = data.digits(config.data_dir)
    embed = np.random.default_rng(config.seed).normal(size=(images.train_x[0].size, config.n))
    mean = images.train_x.mean(0)
    train_x, test_x = (
        ((x - mean).reshape(len(x), -1) @ embed).astype(np.float32)
        for x in (images.train_x, images.test_x)
    )
    scale = np.sqrt(config.R / np.mean(train_x**2)).astype(np.float32)
    labels = jnp.asarray(images.train_y), jnp.asarray(images.test_y)
    return (jnp.asarray(scale * train_x), labels[0]), (jnp.asarray(scale * test_x), labels[1])


def fit(
    name: str,
    priors: Prior,
    T: int,
    training: tuple[Array, Array],
    test: tuple[Array, Array],
    config: Config,
    record: harness.Record,
) -> tuple[np.ndarray, np.ndarray]:
    """Train; returns accuracies and updates of divergence, (P, S) each."""
    task, asked = (tasks.padded(*part, T, config.noise**0.5) for part in (training, test))
    draws, probe = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), T))
    xs = task.sample(probe, 64).xs

    def begin(key: Array, prior: Prior) -> last_state.Members:
        return last_state.draw(key, CELLS[name], prior, config.n, xs)

    S = config.seeds
    keys = jnp.tile(jax.random.split(draws, S), np.asarray(priors.mu_b).size)
    repeated = jax.tree.map(lambda a: jnp.repeat(jnp.asarray(a, jnp.float32), S), priors)
    members = jax.jit(jax.vmap(begin))(keys, repeated)
    label = f"{name}, T = {T}"
    accuracies, diverged = last_state.fit(
        label, CELLS[name], members, task, asked, config.learning_rate, config, record
    )
    return accuracies[:, -1].reshape(-1, S), diverged.reshape(-1, S)


# --- what it shows --------------------------------------------------------------------------------


def longest(accuracies: np.ndarray, T: np.ndarray) -> np.ndarray:
    """The longest T that reaches GOAL of the best accuracy, (P,), from accuracies (P, K).

    Between two T of the grid, accuracy is interpolated linearly in log T. The result is 1 if no T
    is trained.
    """
    goal, found = GOAL * accuracies.max(), []
    for row in accuracies:
        trained = np.flatnonzero(row >= goal)
        k = trained[-1] if trained.size else -1
        if k in (-1, len(T) - 1):
            found.append(1.0 if k < 0 else float(T[-1]))
            continue
        share = (row[k] - goal) / (row[k] - row[k + 1])
        found.append(float(T[k] * (T[k + 1] / T[k]) ** share))
    return np.array(found)


def reached(result: Result) -> np.ndarray:
    """The longest T trained, by the mean accuracy over seeds, (C, P)."""
    return np.stack([longest(a.mean(axis=1), result.T) for a in result.accuracies])


def rho(result: Result) -> np.ndarray:
    """Spearman's rank correlation of xi and the longest T trained, (C, 3)."""
    from scipy.stats import spearmanr  # takes half a second to import

    return np.array(
        [
            [spearmanr(xi, long).statistic for xi in theories]
            for theories, long in zip(result.xi, reached(result), strict=True)
        ]
    )


def multiple(result: Result, c: int) -> float:
    """The median ratio of the longest T trained to xi, where that T lies inside the grid."""
    long = reached(result)[c]
    inside = (long > result.T[0]) & (long < result.T[-1])
    return float(np.median(long[inside] / result.xi[c, 0, inside])) if inside.any() else 1.0


def width(result: Result) -> np.ndarray:
    """Share of the line of priors that trains T >= LONG, (C,), interpolated between priors."""
    shares = []
    for line, long in zip(result.priors, reached(result), strict=True):
        points = np.linspace(line[0], line[-1], 2001)
        shares.append(np.mean(np.exp(np.interp(points, line, np.log(long))) >= LONG))
    return np.array(shares)


def claims(result: Result) -> dict[str, float]:
    """How well xi ranks the longest T trained, and how many priors train long sequences."""
    of = {f"long: T >= {LONG}": float(LONG)}
    for c, name in enumerate(result.cells):
        for theory_name, value in zip(THEORIES, rho(result)[c], strict=True):
            of[f"{name}: rank correlation, {theory_name}"] = value
        of[f"{name}: share of the priors that train T >= {LONG}, %"] = 100 * width(result)[c]
        of[f"{name}: longest T, smallest"] = reached(result)[c].min()
        of[f"{name}: longest T, largest"] = reached(result)[c].max()
    return of


def table(result: Result) -> harness.Table:
    """One row per cell."""
    columns = (
        "cell",
        "best accuracy",
        "longest T trained",
        f"priors with T >= {LONG}",
        "T / xi",
        *(f"rho, {name}" for name in THEORIES),
        "diverged",
    )
    rows = []
    for c, name in enumerate(result.cells):
        long = reached(result)[c]
        rows.append(
            (
                str(name),
                f"{result.accuracies[c].mean(axis=1).max():.1%}",
                f"{long.min():.0f} to {long.max():.0f}",
                f"{width(result)[c]:.0%}",
                f"{multiple(result, c):.1f}",
                *(f"{value:.2f}" for value in rho(result)[c]),
                f"{np.mean(result.diverged[c] >= 0):.0%}",
            )
        )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot accuracy over prior x T with lines of theory, and the longest T trained against xi."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for c, name in enumerate(result.cells):
        _grid(axes[c], result, c)
        label = rf"{name}, $\rho$ = {rho(result)[c, 0]:.2f}"
        colour = picture.COLOURS[c]
        axes[2].loglog(result.xi[c, 0], reached(result)[c], "os"[c], color=colour, label=label)
    for T in result.T[[0, -1]]:
        axes[2].axhline(T, color="0.8", lw=0.7, zorder=0)
    axes[2].set(
        xlabel=r"timescale $\xi$, closed form (steps)",
        ylabel="longest T trained",
        title="Theory and training",
    )
    axes[2].legend()
    figure.suptitle("A digit, then noise: which networks still know the digit at step T?")
    return figure


def _grid(ax: Axes, result: Result, c: int) -> None:
    """Plot the accuracies of one cell, with lines of theory and the longest T trained."""
    line, name, ratio = result.priors[c], str(result.cells[c]), multiple(result, c)
    mean = result.accuracies[c].mean(axis=1)
    picture.trainability(mean, line, result.T, ax, chance=0.1, bar=c == 1)
    drawn = [
        (result.fine[c], result.xi_fine[c], "w-", "closed form"),
        (line, result.xi[c, 1], "wo", "redrawn, followed"),
        (line, result.xi[c, 2], "r--", "tied, followed"),
    ]
    for at, xi, style, what in drawn:
        ax.plot(at, ratio * xi, style, ms=4, lw=1.5, label=rf"{ratio:.1f} $\xi$: {what}")
    ax.plot(line, reached(result)[c], "k_", ms=14, mew=2, label="longest T trained")
    ax.set(xlabel=AXES[name], title=name)
    ax.legend(loc="lower right", fontsize=7, facecolor="0.5", labelcolor="w")


if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
