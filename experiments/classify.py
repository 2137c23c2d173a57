"""Who is speaking?

In the data set JapaneseVowels, nine speakers say two vowels. An utterance has 7 to 29 steps of 12
coefficients. 270 utterances are for training, 370 for testing. Utterances of all lengths share a
batch, and each is read to its own end. A linear layer reads the mean output of a recurrence over
the steps of the utterance. The baseline needs no recurrence: it is a linear discriminant of the
utterance's mean coefficients. No setting is chosen on the test utterances, and all networks are
trained for the same number of updates.

Claim: every cell names the speaker of more than 95 % of the test utterances (mean of the seeds:
LSTM 95.2, vanilla 96.2, GRU 96.6, MinimalRNN 97.2, CFN 97.3), but so does the linear discriminant,
with 96.8. Only MinimalRNN and CFN do better than it, by one or two utterances in 370.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from flax import nnx
from jax import Array, lax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import data, harness
from experiments.parts import discriminant
from experiments.parts.placing import placed
from experiments.parts.seeds import band, broken, mean_error
from recur import cells, tasks, train
from recur.flax.models import Classifier, last, mean

POOLS = {"last": last, "mean": mean}


@dataclass(frozen=True)
class Config(harness.Sized):
    """The speakers of short utterances, or the classes of any signals of different lengths."""

    cells: tuple[str, ...] = ("vanilla", "minimal", "cfn", "gru", "lstm")
    """Names of the cells to compare."""
    n: int = 64
    """Units of each network."""
    pool: Literal["last", "mean"] = "mean"
    """What the linear layer reads: h at the end of an utterance, or the mean of h over it."""
    seeds: int = 5
    """Networks of each cell, with different seeds, trained as one vmapped program."""
    updates: int = 300
    """Updates of each network."""
    every: int = 25
    """Updates between two measurements; a checkpoint follows each."""
    batch: int = 54
    """Utterances per update."""
    learning_rate: float = 3e-3
    """AdamW's initial rate; it falls to zero along a cosine. Gradients are clipped to norm 1."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW."""
    noise: float = 0.3
    """Standard deviation of the noise added to the training inputs, whose own is 1."""
    data_dir: Path | None = None
    """Folder with <name>_TRAIN.ts and <name>_TEST.ts to read instead of JapaneseVowels."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        for name in self.cells:
            cells.named(name)
        self.require_divides("every", "updates")


class Result(NamedTuple):
    """C cells, S seeds, K measurements, T steps of the longest utterance, Y classes."""

    cells: np.ndarray  # (C,) names
    classes: np.ndarray  # (Y,) names
    lengths: np.ndarray  # (test utterances,)
    updates: np.ndarray  # (K,) updates before each measurement
    losses: np.ndarray  # (C, S, K) training loss, nats, mean since the last measurement
    accuracies: np.ndarray  # (C, S, K) on the test utterances
    heard: np.ndarray  # (C, S, T) final accuracies if utterances ended after 1 .. T steps
    confusion: np.ndarray  # (C, Y, Y) number of test utterances by class and answer, all seeds
    diverged: np.ndarray  # (C, S) update at which the loss first was not finite, or -1
    linear: np.ndarray  # () accuracy of the linear discriminant


class Ragged(NamedTuple):
    """Signals in one array."""

    xs: Array  # (T, N, d), zero beyond a signal's end
    lengths: Array  # (N,)
    labels: Array  # (N,)


def ragged(signals: list[np.ndarray], labels: np.ndarray, T: int) -> Ragged:
    """Put signals (T_i, d), T_i <= T, into one array of T steps."""
    xs = np.zeros((T, len(signals), signals[0].shape[1]), np.float32)
    for i, signal in enumerate(signals):
        xs[: len(signal), i] = signal
    lengths = np.array([len(signal) for signal in signals], np.int32)
    return Ragged(jnp.asarray(xs), jnp.asarray(lengths), jnp.asarray(labels))


def standardised(found: data.Signals) -> tuple[Ragged, Ragged]:
    """Training and test parts, with each channel scaled to mean 0 and variance 1 in training."""
    steps = np.concatenate(found.train_x)
    centre, spread = steps.mean(axis=0), np.maximum(steps.std(axis=0), 1e-6)
    T = max(map(len, found.train_x + found.test_x))
    parts = ((found.train_x, found.train_y), (found.test_x, found.test_y))
    training, test = (ragged([(x - centre) / spread for x in xs], ys, T) for xs, ys in parts)
    return training, test


def loss(model: Classifier, batch: Ragged) -> Array:
    """Mean cross-entropy, nats."""
    logits = model(batch.xs, batch.lengths)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()


def accuracy(model: Classifier, part: Ragged) -> Array:
    """Share of correct answers."""
    return tasks.accuracy(model(part.xs, part.lengths), part.labels)


class Fitted(NamedTuple):
    """The results of one cell; fields as in Result."""

    losses: np.ndarray
    accuracies: np.ndarray
    heard: np.ndarray
    confusion: np.ndarray
    diverged: np.ndarray


def fit(
    name: str, training: Ragged, test: Ragged, Y: int, config: Config, record: harness.Record
) -> Fitted:
    """Train all seeds of a cell as one program; a checkpoint follows each measurement."""
    S, K = config.seeds, config.updates // config.every
    decay = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(decay, weight_decay=config.weight_decay)
    )

    def sample(key: Array) -> Ragged:
        rows, noise = jax.random.split(key)
        drawn = jax.random.randint(rows, (config.batch,), 0, len(training.labels))
        xs = training.xs[:, drawn]
        xs = xs + config.noise * jax.random.normal(noise, xs.shape, xs.dtype)
        return Ragged(xs, training.lengths[drawn], training.labels[drawn])

    def draw(key: Array) -> train.State:
        own, batches = jax.random.split(key)
        d, pool = training.xs.shape[-1], POOLS[config.pool]
        model = Classifier(cells.named(name), d, config.n, Y, pool=pool, rngs=nnx.Rngs(own))
        return train.start(batches, model, optimizer)

    learn = jax.vmap(
        lambda s: train.advance(loss, optimizer, sample, s, config.every, config.every)
    )
    advance = jax.jit(train.over_devices(learn))
    score = jax.jit(train.over_devices(jax.vmap(lambda model: accuracy(model, test))))
    close = jax.jit(train.over_devices(jax.vmap(lambda model: _ends(model, test))))

    def measured(k: int, state: train.State, kept: tuple) -> tuple[train.State, dict]:
        state, found = advance(state)
        losses, accuracies = kept
        losses[:, k], accuracies[:, k] = found[:, 0], score(state.params)
        return state, {"loss": losses[:, k], "accuracy": accuracies[:, k]}

    state, (losses, accuracies) = record.rounds(
        name,
        config.updates,
        config.every,
        placed(jax.vmap(draw)(jax.random.split(jax.random.key(config.seed), S))),
        (np.zeros((S, K)), np.zeros((S, K))),
        measured,
    )
    heard, answers = map(np.asarray, close(state.params))
    confusion = np.zeros((Y, Y), int)
    np.add.at(confusion, (np.broadcast_to(test.labels, answers.shape), answers), 1)
    return Fitted(losses, accuracies, heard, confusion, np.asarray(state.diverged))


def _ends(model: Classifier, test: Ragged) -> tuple[Array, Array]:
    """The accuracies if the utterances ended after 1 .. T steps, and the answers at their ends."""

    def early(t: Array) -> Array:
        return accuracy(model, test._replace(lengths=jnp.minimum(test.lengths, t)))

    times = jnp.arange(1, len(test.xs) + 1, dtype=test.lengths.dtype)
    return lax.map(early, times), model(test.xs, test.lengths).argmax(axis=-1)


def run(config: Config, record: harness.Record) -> Result:
    """Train and measure every cell, and the linear discriminant."""
    found = data.japanese_vowels(config.data_dir)
    training, test = standardised(found)
    fits = [fit(name, training, test, len(found.classes), config, record) for name in config.cells]
    losses, accuracies, heard, confusion, diverged = map(np.array, zip(*fits, strict=True))
    return Result(
        np.array(config.cells),
        np.array(found.classes),
        np.asarray(test.lengths),
        np.arange(config.every, config.updates + 1, config.every),
        losses,
        accuracies,
        heard,
        confusion,
        diverged,
        np.array(without_a_recurrence(training, test)),
    )


def without_a_recurrence(training: Ragged, test: Ragged) -> float:
    """Test accuracy of a linear discriminant of each signal's mean."""
    both = (
        (
            np.asarray(part.xs.sum(axis=0) / part.lengths.astype(part.xs.dtype)[:, None], float),
            np.asarray(part.labels),
        )
        for part in (training, test)
    )
    return discriminant.accuracy(*next(both), *next(both))


def claims(result: Result) -> dict[str, float]:
    """Correct test utterances in per cent, mean over the seeds."""
    of = {
        "linear discriminant": 100 * result.linear,
        "test utterances": result.confusion[0].sum() / result.accuracies.shape[1],
    }
    return of | {
        f"{name}: test utterances right, %": 100 * result.accuracies[c, :, -1].mean()
        for c, name in enumerate(result.cells)
    }


def table(result: Result) -> harness.Table:
    """One row per cell, and one for the linear discriminant."""
    rows = [("linear discriminant", f"{100 * result.linear:.1f}", "", "", "", "")]
    for c, name in enumerate(result.cells):
        final = result.accuracies[c, :, -1]
        heard = result.heard[c].mean(axis=0)
        rows.append(
            (
                name,
                mean_error(100 * final),
                f"{100 * final.min():.1f}-{100 * final.max():.1f}",
                str(1 + int((heard >= 0.9 * heard[-1]).argmax())),
                f"{result.losses[c, :, -1].mean():.3f}",
                broken(result.diverged[c]),
            )
        )
    steps = "steps to 90 % of that"
    columns = ("cell", "test acc. %", "range %", steps, "training loss", "diverged")
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot training, accuracy against the steps heard, and confusions of speakers."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    colours = mpl.color_sequences["tab10"]
    for c, name in enumerate(result.cells):
        for ax, x, each in (
            (axes[0], result.updates, result.accuracies[c]),
            (axes[1], np.arange(1, result.heard.shape[-1] + 1), result.heard[c]),
        ):
            band(ax, x, each, colours[c], name)
    for ax in axes[:2]:
        ax.axhline(result.linear, color="k", lw=0.8, ls="--", label="linear discriminant")
        ax.set(ylabel="test accuracy", ylim=(min(0.6, result.linear), 1.005))
    axes[0].set(xlabel="updates", title="Training: median and range of seeds")
    axes[1].set(xlabel="steps heard", title="If the utterance ended there")
    axes[0].legend(fontsize=8, loc="lower right")
    _confused(figure, axes[2], result)
    return figure


def _confused(figure: Figure, ax: Axes, result: Result) -> None:
    wrong = result.confusion.sum(axis=0) / (result.confusion.shape[0] * result.losses.shape[1])
    np.fill_diagonal(wrong, 0)
    image = ax.imshow(wrong, cmap="Blues")
    figure.colorbar(image, ax=ax, label="test utterances, mean of all networks")
    places = range(len(result.classes))
    ax.set_xticks(places, result.classes)
    ax.set_yticks(places, result.classes)
    ax.set(xlabel="answer", ylabel="speaker", title="Confusions of speakers")


PAPER = Config(preset="paper", seeds=20, n=128, updates=1000, every=50)

if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
