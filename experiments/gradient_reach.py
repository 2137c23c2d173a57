"""How far back can each recurrence see?

Recurrences of equal parameter count, drawn from one prior, read real digits as sequences
(28 rows of 28 pixels, or fewer pixels per step). At initialisation and after training, the
experiment measures the singular values of dh_T/dx_{T-lag} against the lag, and |dloss/dh_t|, the
gradient of the loss, against t.

Claim: drawn from one prior, the Jacobian of every cell shrinks exponentially with the lag, so that
the first rows of a digit hardly reach the last state. Training lengthens the reach of every cell.
The reach is the lag at which the median top singular value falls below 1e-3 of its value at lag 0.

All Jacobians are measured in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import ColorType

from experiments import data, harness
from experiments.parts.compiling import jit_lightly
from experiments.parts.seeds import band, broken
from experiments.parts.sizes import count, width
from experiments.parts.timing import timed
from recur import analysis, cells, scan, tasks, train
from recur import plot as picture
from recur.core import Prior, Recurrence
from recur.flax.models import Classifier

FORGOTTEN = np.log(1e-3)  # beyond the reach, singular values are this far below those of lag 0
WHEN = ("at initialisation", "after training")
Batch = tuple[np.ndarray, np.ndarray]  # sequences (T, N, d) and labels (N,)


@dataclass(frozen=True)
class Config(harness.Config):
    """How far back each recurrence sees, on real digits."""

    cells: tuple[str, ...] = ("vanilla", "minimal", "cfn", "gru", "lstm")
    """Names of the cells to compare: gru is cells.gru.cell, gru.reset_before a variant."""
    pixels: int = 28
    """Pixels per step: 28 gives 28 steps (rows), 4 gives 196 steps, 1 gives 784."""
    parameters: int = 20_000
    """Parameters of each recurrence. They determine its width."""
    seeds: int = 3
    """Networks of each cell, with different seeds, trained as one vmapped program."""
    steps: int = 600
    """Updates of each network."""
    every: int = 50
    """Updates between two measurements of the test accuracy; a checkpoint follows each."""
    batch: int = 100
    """Digits per update."""
    learning_rate: float = 3e-3
    """Learning rate of Adam. Gradients are clipped to norm 1."""
    accuracy: float = 0.9
    """Test accuracy for which the training time is reported."""
    examples: int = 8
    """Number of test digits whose Jacobians are measured, for each seed."""
    data_dir: Path | None = None
    """Folder of IDX files (MNIST, Fashion-MNIST), instead of the 5,000 digits that pip fetches."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        for name in self.cells:
            cells.named(name)
        if self.pixels < 1 or 784 % self.pixels:
            raise ValueError(f"pixels must divide the 784 of an image, got {self.pixels}")
        self.require_divides("every", "steps")


class Result(NamedTuple):
    """C cells, S seeds, E examples, L lags, K = steps / every measurements, d pixels a step."""

    cells: np.ndarray  # (C,) names
    widths: np.ndarray  # (C,) n
    parameters: np.ndarray  # (C,) of the recurrence
    lags: np.ndarray  # (L,)
    spectra: np.ndarray  # (2, C, S, E, L, d) log singular values, nats; NaN beyond min(n, d)
    gradients: np.ndarray  # (2, C, S, E, T) log |dloss/dh_t|, nats
    updates: np.ndarray  # (K,) updates before each measurement
    losses: np.ndarray  # (C, S, K) mean training loss since the measurement before
    accuracies: np.ndarray  # (C, S, K) on the test digits
    seconds: np.ndarray  # (C, K) spent in the updates of all seeds, without compilation
    diverged: np.ndarray  # (C, S) update at which the loss first was not finite, or -1
    target: np.ndarray  # () the accuracy whose time is reported


def run(config: Config, record: harness.Record) -> Result:
    """Train every cell, and measure it before and after."""
    training, test = sequences(config)
    T, _, d = test[0].shape
    lags = np.unique(np.linspace(0, T - 1, 28).round().astype(int))
    chosen = np.random.default_rng(config.seed).choice(len(test[1]), config.examples, False)
    probes = test[0][:, chosen], test[1][chosen]

    rows = []
    for name in record.parts("cells", config.cells):
        cell = cells.named(name)
        n = width(cell, d, config.parameters)
        keys = jax.random.split(jax.random.key(config.seed), (2, config.seeds))
        with record.progress(f"{name}: compiling what measures its Jacobians"):
            models = jit_lightly(partial(draw, cell, d, n))(keys[0])
            measured = compiled_measure(models, *probes, lags)
        with record.progress(f"{name}: measuring Jacobians"):
            before = measured(models)
        models, curves = fit(name, models, keys[1], training, test, config, record)
        with record.progress(f"{name}: measuring Jacobians after training"):
            after = measured(models)
        both = [np.stack(pair) for pair in zip(before, after, strict=True)]
        rows.append((name, n, count(cell, d, n), *both, *curves))
    columns = map(np.array, zip(*rows, strict=True))
    names, widths, counts, spectra, gradients, losses, accuracies, seconds, diverged = columns
    return Result(
        names,
        widths,
        counts,
        lags,
        spectra.swapaxes(0, 1),
        gradients.swapaxes(0, 1),
        np.arange(config.every, config.steps + 1, config.every),
        losses,
        accuracies,
        seconds,
        diverged,
        np.array(config.accuracy),
    )


def sequences(config: Config) -> tuple[Batch, Batch]:
    """Digits for training and testing: (T, N, d) with mean 0 and variance 1, and labels (N,)."""
    images = data.digits(config.data_dir)
    mean, deviation = images.train_x.mean(), images.train_x.std()
    train_xs, test_xs = (
        ((x - mean) / deviation).reshape(len(x), -1, config.pixels).swapaxes(0, 1)
        for x in (images.train_x, images.test_x)
    )
    return (train_xs, images.train_y), (test_xs, images.test_y)


def draw(
    cell: Recurrence, d: int, n: int, keys: jax.Array, prior: Prior | None = None
) -> Classifier:
    """Draw a network for each key; returns them stacked."""
    return jax.vmap(lambda key: Classifier(cell, d, n, 10, prior=prior, rngs=nnx.Rngs(key)))(keys)


def loss(model: Classifier, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Mean cross-entropy, nats."""
    xs, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(model(xs), labels).mean()


class Curves(NamedTuple):
    """The curves of training, K measurements each; fields as in Result."""

    losses: np.ndarray
    accuracies: np.ndarray
    seconds: np.ndarray
    diverged: np.ndarray


def fit(
    name: str,
    models: Classifier,
    keys: jax.Array,
    training: Batch,
    test: Batch,
    config: Config,
    record: harness.Record,
) -> tuple[Classifier, Curves]:
    """Train all seeds of a cell as one program; a checkpoint follows each measurement."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate))
    xs, labels = jax.tree.map(jnp.asarray, training)

    def sample(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        picked = jax.random.randint(key, (config.batch,), 0, len(labels))
        return xs[:, picked], labels[picked]

    def accuracy(model: Classifier) -> jax.Array:
        return tasks.accuracy(model(jnp.asarray(test[0])), jnp.asarray(test[1]))

    K, S = config.steps // config.every, config.seeds
    state = jax.vmap(lambda key, model: train.start(key, model, optimizer))(keys, models)
    curves = Curves(np.zeros((S, K)), np.zeros((S, K)), np.zeros(K), np.zeros(S, int))
    updates = jax.jit(jax.vmap(lambda s: train.advance(loss, optimizer, sample, s, config.every)))
    with record.progress(f"{name}: compiling the training"):
        advance = updates.lower(state).compile()
        score = jax.jit(jax.vmap(accuracy)).lower(state.params).compile()

    def measured(k: int, state: train.State, curves: Curves) -> tuple[train.State, dict]:
        (state, losses), spent = timed(advance, state)
        curves.losses[:, k] = losses.mean(axis=1)
        curves.accuracies[:, k] = score(state.params)
        curves.seconds[k] = curves.seconds[k - 1] + spent if k else spent
        curves.diverged[:] = state.diverged
        return state, {
            "seconds": curves.seconds[k],
            "loss": curves.losses[:, k],
            "accuracy": curves.accuracies[:, k],
        }

    state, curves = record.rounds(name, config.steps, config.every, state, curves, measured)
    return state.params, curves


Measured = tuple[np.ndarray, np.ndarray]


def compiled_measure(
    models: Classifier, xs: np.ndarray, labels: np.ndarray, lags: np.ndarray
) -> Callable[[Classifier], Measured]:
    """Compile a program that applies `_measure` to models like these and digits xs, in float64.

    It returns log singular values (S, E, L, d) and log gradient norms (S, E, T).
    """

    def double(tree: Any) -> Any:
        return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)

    with jax.enable_x64(True):
        inputs, of = double(xs), jit_lightly(_measure, static_argnums=3)
        program = of.lower(double(models), inputs, labels, tuple(lags.tolist())).compile()

    def measured(models: Classifier) -> Measured:
        with jax.enable_x64(True):
            spectra, gradients = map(np.asarray, program(double(models), inputs, labels))
        pad = [(0, 0)] * 3 + [(0, xs.shape[-1] - spectra.shape[-1])]
        return np.pad(spectra, pad, constant_values=np.nan), gradients

    return measured


def _measure(
    models: Classifier, xs: jax.Array, labels: jax.Array, lags: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    def one(model: Classifier, xs: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        cell, params = model.rnn.cell, model.rnn.values
        body, start = scan.tied(cell, params), cell.start(params)

        def last_loss(hs: jax.Array) -> jax.Array:
            logits = model.readout(hs[-1])
            return optax.softmax_cross_entropy_with_integer_labels(logits, label)

        spectrum = analysis.input_output(body, start, xs, lags)
        return spectrum, analysis.gradient_norms(last_loss, body, start, xs)

    return jax.vmap(jax.vmap(one, (None, 1, 0)), (0, None, None))(models, xs, labels)


def reach(result: Result, when: int, cell: int) -> float:
    """The first lag at which the median top singular value is forgotten, or inf."""
    top = np.median(result.spectra[when, cell, ..., 0], axis=(0, 1))
    below = np.flatnonzero(top < top[0] + FORGOTTEN)
    return float(result.lags[below[0]]) if below.size else np.inf


def claims(result: Result) -> dict[str, float]:
    """How far back each cell sees, in lags, and its test accuracy."""
    of = {}
    for c, name in enumerate(result.cells):
        for when, word in enumerate(("at initialisation", "after training")):
            of[f"{name}: lag at which 1e-3 of lag 0 is left, {word}"] = reach(result, when, c)
        of[f"{name}: test digits right, %"] = 100 * np.median(result.accuracies[c, :, -1])
    return of


def table(result: Result) -> harness.Table:
    """One row per cell."""
    rows = []
    for c, name in enumerate(result.cells):
        final = result.accuracies[c, :, -1]
        reached = np.flatnonzero(np.median(result.accuracies[c], axis=0) >= result.target)
        seconds = f"{result.seconds[c, reached[0]]:.1f}" if reached.size else "never"
        lags = [reach(result, when, c) for when in (0, 1)]
        rows.append(
            (
                name,
                str(result.widths[c]),
                f"{result.parameters[c]:,}",
                f"{np.median(final):.1%}",
                f"{100 * final.min():.0f}-{100 * final.max():.0f}",
                seconds,
                *(f"{lag:.0f}" if np.isfinite(lag) else f"> {result.lags[-1]}" for lag in lags),
                broken(result.diverged[c]),
            )
        )
    columns = (
        "cell",
        "n",
        "params",
        "test acc.",
        "range %",
        f"seconds to {result.target:.0%}",
        "reach, init",
        "reach, trained",
        "diverged",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot spectra before and after training, gradients against time, training, and the reach."""
    C = len(result.cells)
    colours = [picture.COLOURS[c % len(picture.COLOURS)] for c in range(C)]
    figure = Figure(figsize=(2.6 * C + 0.6, 11), layout="constrained")
    grid = figure.add_gridspec(4, 2 * C, height_ratios=(1, 1, 0.8, 1.1))
    first: list[Axes] = []
    for row in range(3):
        for c, name in enumerate(result.cells):
            share = first[row] if c else (first[0] if row == 1 else None)
            ax = figure.add_subplot(grid[row, 2 * c : 2 * c + 2], sharey=share)
            ax.tick_params(labelleft=c == 0)
            if c == 0:
                first.append(ax)
            if row < 2:
                _spectrum(ax, result, row, c, colours[c])
            else:
                _gradient(ax, result, c, colours[c])
            if row == 0:
                ax.set_title(f"{name}  (n = {result.widths[c]})", fontweight="bold")
    for when, ax in enumerate(first[:2]):
        ax.set_ylabel(f"{WHEN[when]}\nsingular values of $dh_T/dx_{{T-lag}}$")
    first[0].set_ylim(*np.log([1e-12, 1e2]))
    first[0].legend(loc="lower left", fontsize=7)
    first[2].legend(loc="upper left", fontsize=7)
    _training(figure.add_subplot(grid[3, :C]), result, colours)
    _reach(figure.add_subplot(grid[3, C:]), result, colours)
    figure.suptitle(
        "How far back can each recurrence see? Digits read in "
        f"{result.gradients.shape[-1]} steps, recurrences of equal size"
    )
    return figure


def _spectrum(ax: Axes, result: Result, when: int, c: int, colour: ColorType) -> None:
    spectra = result.spectra[when, c]
    picture.input_output(spectra, result.lags, ax, colour, None if c or when else "largest")
    floor = np.median(spectra[..., 0, 0]) + FORGOTTEN
    ax.axhline(floor, color="k", lw=0.7, ls="--", label=None if c or when else "1e-3 of lag 0")
    if c:
        ax.set_ylabel("")


def _gradient(ax: Axes, result: Result, c: int, colour: ColorType) -> None:
    for when, style in enumerate(("--", "-")):
        label = None if c else WHEN[when]
        picture.gradient_norms(result.gradients[when, c], ax, colour, label, ls=style)
    if c:
        ax.set_ylabel("")


def _training(ax: Axes, result: Result, colours: list) -> None:
    for c, name in enumerate(result.cells):
        band(ax, result.updates, result.accuracies[c], colours[c], name)
        for s, t in enumerate(result.diverged[c]):
            if t >= 0:
                ax.plot(t, result.accuracies[c, s, -1], "x", color=colours[c], ms=9)
    ax.axhline(float(result.target), color="k", lw=0.7, ls="--")
    ax.set(xlabel="updates", ylabel="test accuracy", title="Training: median and range of seeds")
    ax.legend(fontsize=8, loc="lower right")


def _reach(ax: Axes, result: Result, colours: list) -> None:
    T = result.lags[-1] + 1
    for c in range(len(result.cells)):
        lags = [min(reach(result, when, c), T) for when in (0, 1)]
        ax.plot(lags, [c, c], color=colours[c], lw=3, alpha=0.5)
        ax.plot(lags[0], c, "o", mfc="white", color=colours[c], ms=9)
        ax.plot(lags[1], c, ">" if lags[1] == T else "o", color=colours[c], ms=9)
    ax.set_yticks(range(len(result.cells)), result.cells)
    ax.invert_yaxis()
    ax.set(
        xlim=(0, T * 1.05),
        xlabel="lag (steps); a triangle reaches beyond the sequence",
        title="Reach: where the top singular value has fallen by a factor of 1000\n"
        "(open: at initialisation, full: after training)",
    )


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
