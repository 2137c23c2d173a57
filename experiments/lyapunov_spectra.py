"""What does training do to the Lyapunov spectrum?

Recurrences of equal parameter count, drawn from one prior, learn to name real digits that they read
row by row. Before and after training, all Lyapunov exponents of the state (the rates at which small
perturbations grow) are measured along a stream of test digits, in float64. Between these digits the
state is not reset. In training every digit starts from the zero state.

Claim: of networks drawn at sigma_w = 1 all exponents are negative. Training stretches the spectrum
of every cell: its first exponents rise towards zero, and its last ones fall. After training, hardly
a direction of the vanilla network and of CFN keeps 1/e of itself over a quarter of a digit. GRU and
LSTM have a few such directions, and MinimalRNN has the most. Drawn at sigma_w = 3, only the vanilla
network is chaotic, with dimension 12. Training lowers its largest exponent and its dimension, but
so short a training leaves it chaotic and wrong about most digits. The gated cells are still stable,
and lose at most some ten points of accuracy. The dimension of all others is 0: they follow only
their inputs.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import gradient_reach, harness
from experiments.gradient_reach import WHEN
from experiments.parts.seeds import mean_error
from experiments.parts.sizes import width
from recur import analysis, cells, scan, tasks
from recur import plot as picture
from recur.core import Prior
from recur.flax.models import Classifier

SLOW = 4  # a slow direction keeps 1/e of itself over 1 / SLOW of a digit, 7 of 28 rows


@dataclass(frozen=True)
class Config(gradient_reach.Config):
    """Lyapunov spectra before and after training on digits. Most flags concern training."""

    parameters: int = 5000
    """Parameters of each recurrence. They determine its width."""
    steps: int = 400
    """Updates of each network."""
    sigmas: tuple[float, ...] = (1.0, 3.0)
    """Values of sigma_w in the priors of the networks."""
    stream: int = 40
    """Number of test digits in the stream along which exponents are measured."""
    discard: int = 10
    """Digits at the beginning of the stream that are not measured."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        super().__post_init__()
        if not 0 <= self.discard < self.stream:
            raise ValueError(f"discard ({self.discard}) must be less than stream ({self.stream})")


class Result(NamedTuple):
    """G sigmas, C cells, S seeds, largest state of size m; 2: at initialisation, after training."""

    cells: np.ndarray  # (C,) names
    widths: np.ndarray  # (C,) n
    sizes: np.ndarray  # (C,) size of the state
    sigmas: np.ndarray  # (G,)
    exponents: np.ndarray  # (2, G, C, S, m) nats per step, descending; NaN beyond the state's size
    errors: np.ndarray  # (2, G, C, S, m) their standard errors, from blocks of time
    dimensions: np.ndarray  # (2, G, C, S) Kaplan-Yorke dimension of the attractor
    accuracies: np.ndarray  # (2, G, C, S) on the test digits
    rows: np.ndarray  # () steps per digit


class Measured(NamedTuple):
    """Fields as in Result, for one cell from one prior, before or after training."""

    exponents: np.ndarray  # (S, m)
    errors: np.ndarray  # (S, m)
    dimensions: np.ndarray  # (S,)
    accuracies: np.ndarray  # (S,)


def run(config: Config, record: harness.Record) -> Result:
    """Measure each cell from each prior, train it, and measure it again."""
    training, test = gradient_reach.sequences(config)
    T, _, d = test[0].shape
    chosen = np.random.default_rng(config.seed).choice(len(test[1]), config.stream)
    stream = test[0][:, chosen].swapaxes(0, 1).reshape(-1, d)
    keys = jax.random.split(jax.random.key(config.seed), (2, config.seeds))
    probe = partial(measure, test=test, stream=stream, discard=config.discard * T)
    widths = [width(cells.named(name), d, config.parameters) for name in config.cells]
    found = []
    for sigma in config.sigmas:
        for name, n in zip(config.cells, widths, strict=True):
            models = gradient_reach.draw(cells.named(name), d, n, keys[0], Prior(sigma))
            before = probe(models)
            label = f"{name}-{sigma:g}"
            models, _ = gradient_reach.fit(label, models, keys[1], training, test, config, record)
            found.append((before, probe(models)))
    sizes = [before.exponents.shape[-1] for before, _ in found[: len(widths)]]

    def gather(field: str) -> np.ndarray:
        shape = (2, len(config.sigmas), len(widths), config.seeds)
        values = [[getattr(part, field) for part in pair] for pair in zip(*found, strict=True)]
        if values[0][0].ndim == 1:
            return np.array(values).reshape(shape)
        m = max(sizes)
        padded = [
            [np.pad(a, [(0, 0), (0, m - a.shape[-1])], constant_values=np.nan) for a in part]
            for part in values
        ]
        return np.array(padded).reshape(*shape, m)

    return Result(
        np.array(config.cells),
        np.array(widths),
        np.array(sizes),
        np.array(config.sigmas),
        gather("exponents"),
        gather("errors"),
        gather("dimensions"),
        gather("accuracies"),
        np.array(T),
    )


def measure(
    models: Classifier, test: gradient_reach.Batch, stream: np.ndarray, discard: int
) -> Measured:
    """Measure exponents, in float64, and accuracy."""
    right = np.asarray(score(models, *test))
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (models, stream))
        found, errors, dimensions = map(np.asarray, spectra(*double, discard))
    return Measured(found, errors, dimensions, right)


@jax.jit
def score(models: Classifier, xs: jax.Array, labels: jax.Array) -> jax.Array:
    """Share of correct answers, (S,)."""
    return jax.vmap(lambda model: tasks.accuracy(model(xs), labels))(models)


@partial(jax.jit, static_argnums=2)
def spectra(
    models: Classifier, stream: jax.Array, discard: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Exponents (S, m), their errors (S, m) and the dimension (S,)."""

    def one(model: Classifier) -> tuple[jax.Array, jax.Array, jax.Array]:
        cell, params = model.rnn.cell, model.rnn.values
        body, start = scan.tied(cell, params), cell.start(params)
        found = analysis.lyapunov_details(jax.random.key(0), body, start, stream, discard=discard)
        return found.exponents, found.error, found.dimension

    return jax.lax.map(one, models)  # one by one, because each chooses how often to factorise


def slow(result: Result) -> np.ndarray:
    """Number of directions that keep 1/e of themselves over a quarter of a digit, (2, G, C, S)."""
    return np.sum(result.exponents > -SLOW / result.rows, axis=-1)  # NaN does not count


def claims(result: Result) -> dict[str, float]:
    """The numbers that the docstring states: means over seeds."""
    low, high = result.sigmas
    dimension = result.dimensions[0, -1, list(result.cells).index("vanilla")].mean()
    others = np.delete(result.dimensions[:, -1], list(result.cells).index("vanilla"), axis=1)
    return {
        "sigma_w, low": low,
        "sigma_w, high": high,
        "vanilla, sigma_w high, before training: dimension": dimension,
        "other cells, largest dimension": max(others.max(), result.dimensions[:, 0].max()),
    }


def table(result: Result) -> harness.Table:
    """One row per cell and prior; means over seeds with their standard errors."""
    counts, rows = slow(result), []
    for g, sigma in enumerate(result.sigmas):
        for c, name in enumerate(result.cells):
            at = np.s_[:, g, c]
            rows.append(
                (
                    f"{sigma:g}",
                    str(name),
                    str(result.sizes[c]),
                    f"{result.accuracies[1, g, c].mean():.1%}",
                    *(mean_error(top, ".3f") for top in result.exponents[at][..., 0]),
                    " -> ".join(f"{count.mean():.1f}" for count in counts[at]),
                    *(mean_error(dimension, ".1f") for dimension in result.dimensions[at]),
                    f"{result.errors[at][..., 0].max():.3f}",
                )
            )
    columns = (
        "sigma_w",
        "cell",
        "state size",
        "test acc.",
        "largest, init",
        "largest, trained",
        "slow directions",
        "dimension, init",
        "dimension, trained",
        "standard error",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot a row of spectra for each prior, and below three summaries of each spectrum."""
    C, G = len(result.cells), len(result.sigmas)
    figure = Figure(figsize=(2.6 * C + 0.6, 3 * G + 3.4), layout="constrained")
    grid = figure.add_gridspec(G + 1, 3 * C)
    for g, sigma in enumerate(result.sigmas):
        for c, name in enumerate(result.cells):
            ax = figure.add_subplot(grid[g, 3 * c : 3 * c + 3])
            _spectrum(ax, result, g, c)
            ax.set_title(f"{name}, " + rf"$\sigma_w$ = {sigma:g}", fontweight="bold", fontsize=11)
            if c == g == 0:
                ax.legend(loc="lower left", fontsize=8)
    below = (
        (result.exponents[..., 0], "largest exponent (nats per row)"),
        (slow(result), f"slow directions: 1/e over {result.rows / SLOW:g} rows"),
        (result.dimensions, "Kaplan-Yorke dimension"),
    )
    for i, (values, label) in enumerate(below):
        ax = figure.add_subplot(grid[G, C * i : C * (i + 1)])
        _change(ax, result, values)
        ax.set_title(label, fontsize=11)
    figure.suptitle(
        "Lyapunov spectra along a stream of digits, at initialisation (dashed, open) "
        "and after training (full)"
    )
    return figure


def _spectrum(ax: Axes, result: Result, g: int, c: int) -> None:
    m = result.sizes[c]
    for when, style in enumerate(("--", "-")):
        at = np.s_[when, g, c, :, :m]
        found = analysis.Lyapunov(result.exponents[at], result.errors[at], *[None] * 4)
        label = None if c or g else WHEN[when]
        picture.lyapunov(found, ax, picture.COLOURS[c % len(picture.COLOURS)], label, style)
    ax.axhline(
        -SLOW / float(result.rows),
        color="k",
        lw=0.7,
        ls=":",
        label=None if c or g else "slow above this",
    )
    ax.set(xlabel="direction", ylabel="" if c else "exponent (nats per row)", ylim=(-4, 1))


def _change(ax: Axes, result: Result, values: np.ndarray) -> None:
    G, C = values.shape[1:3]
    for g in range(G):
        for c in range(C):
            colour = picture.COLOURS[c % len(picture.COLOURS)]
            ends = np.array([-0.12, 0.12]) + c * (G + 0.5) + g
            ax.plot(ends, values[:, g, c], "-", lw=1, color=colour)
            ax.plot(ends[[0] * values.shape[-1]], values[0, g, c], "o", mfc="white", color=colour)
            ax.plot(ends[[1] * values.shape[-1]], values[1, g, c], "o", color=colour)
    ax.axhline(0, color="k", lw=0.7)
    ticks = [c * (G + 0.5) + g for c in range(C) for g in range(G)]
    names = [
        f"{name}\n{sigma:g}" if g == (G - 1) // 2 else f"\n{sigma:g}"
        for name in result.cells
        for g, sigma in enumerate(result.sigmas)
    ]
    ax.set_xticks(ticks, names, fontsize=8)
    ax.set_xlabel(r"cell and $\sigma_w$")


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
