"""How well does each recurrence say what comes next in a text?

The text is the Penn Treebank, by words or by characters, or a text of one's own (`--text`).
Networks of equal parameter count, embeddings included, read 20 stretches of the text in parallel.
The state is carried from one piece of 35 symbols to the next, but gradients are not. Weights are
drawn from U[-.07, .07]. Biases are +1 at the gate that keeps the old state, and -1 at the gate that
writes to it. Towards the end, the learning rate is repeatedly divided by 3. There is no dropout.
The baseline is a Kneser-Ney n-gram model of the same text.

In the quick preset, Adam passes through the text three times, input and output embeddings are tied,
and training estimates the softmax's sum over 10,000 words from 1,000 of them. Measurements use the
whole sum. `--preset paper` has the protocol of Laurent and von Brecht 2016, arXiv:1612.06212: two
layers, 5 million parameters, separate output embeddings, the whole softmax, and steps of a fixed
length, w <- w - lr g/|g|.

Claim: at equal parameters MinimalRNN is no worse than an LSTM, and every gated cell predicts the
next word better than a 5-gram. Test perplexity in the quick preset: 5-gram 141.1; GRU 117.3,
MinimalRNN 125.4, CFN 125.8, LSTM 134.2. The vanilla network, at the learning rate of the others,
gets no further than 334.

The paper's trained networks are closer together (LSTM 105 to 110, CFN 106, GRU 108, vanilla 123).
After only three passes through the text, the scores also depend on which cell learns fast. By
characters (`--level characters`), the same number of updates covers half of the text. That is not
enough to reach a 5-gram's 1.69 bits per character: GRU 1.81, CFN 1.86, LSTM 1.88, vanilla 1.90,
MinimalRNN 1.92.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments import data, harness
from experiments.parts import next_symbol as net
from experiments.parts import ngram
from experiments.parts.timing import timed
from recur import cells


@dataclass(frozen=True)
class Config(harness.Sized):
    """The next word or character of a text."""

    level: data.Level = "words"
    """Whether symbols are words or characters."""
    text: Path | None = None
    """UTF-8 text file to read instead of the Penn Treebank. Its last tenth is held out."""
    cells: tuple[str, ...] = ("vanilla", "minimal", "cfn", "gru", "lstm")
    """Names of the cells to compare."""
    d: int = 128
    """Size of the embedding of a symbol."""
    n: int = 128
    """Units per layer of the cell named by `like`."""
    like: str = "lstm"
    """Name of the cell whose network with n units sets the number of parameters of all."""
    layers: int = 1
    """Layers of each network."""
    tied: bool = True
    """Whether input and output embeddings are tied."""
    batch: int = 20
    """Number of stretches of the text that are read in parallel."""
    truncate: int = 35
    """Symbols of each stretch per update. Gradients do not reach further back."""
    updates: int = 3960
    """Updates of each network; 1,327 are one pass through the words of the treebank."""
    every: int = 660
    """Updates between two measurements; a checkpoint follows each."""
    rule: Literal["adam", "normalised"] = "adam"
    """Update rule: Adam with gradients clipped to norm 1, or normalised, w <- w - lr g/|g|."""
    learning_rate: float = 4e-3
    """Learning rate of either rule before it decays."""
    steady: float = 0.5
    """Share of the updates before the learning rate decays."""
    decays: int = 4
    """How many times the learning rate is then divided by 3, at equal intervals."""
    scale: float = 0.07
    """Weights are drawn uniformly from -scale to scale."""
    samples: int = 1000
    """Symbols from which training estimates the softmax's sum; all, if there are no more."""
    validate: int = 20_000
    """Validation symbols that are read at each measurement."""
    order: int = 5
    """Order of the n-gram model."""
    temperature: float = 0.7
    """Temperature at which trained networks write text. Lower values give likelier text."""
    write: int = 60
    """Symbols that each network writes."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        for name in (*self.cells, self.like):
            cells.named(name)
        self.require_divides("every", "updates")
        self.require_counts("d", "n", "layers", "batch", "truncate", "samples", "write", "order")
        if self.decays < 0 or not 0 <= self.steady <= 1:
            raise ValueError(
                f"steady must be a share in [0, 1], and decays 0 or more; got "
                f"{self.steady} and {self.decays}"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")


class Result(NamedTuple):
    """C cells, K measurements; losses in nats per symbol."""

    level: np.ndarray  # () words or characters
    cells: np.ndarray  # (C,) names
    widths: np.ndarray  # (C,) n
    parameters: np.ndarray  # (C,) of the whole network
    updates: np.ndarray  # (K,) updates before each measurement
    epochs: np.ndarray  # (K,) passes through the training part before each
    losses: np.ndarray  # (C, K) of training, mean since the last measurement; as estimated
    validation: np.ndarray  # (C, K)
    seconds: np.ndarray  # (C, K) of the updates; the first includes compilation
    test: np.ndarray  # (C,) after training
    diverged: np.ndarray  # (C,) update at which the loss first was not finite, or -1
    written: np.ndarray  # (C,) what the network writes
    order: np.ndarray  # () of the n-gram model
    ngram: np.ndarray  # (2,) its loss on the validation and on the test symbols


class Fitted(NamedTuple):
    """The results of one cell; fields as in Result."""

    losses: np.ndarray
    validation: np.ndarray
    seconds: np.ndarray


def decaying(config: Config) -> optax.Schedule:
    """The learning rate as a function of the number of updates."""
    first = round(config.steady * config.updates)
    left = config.updates - first
    cuts = [first + round(i * left / config.decays) for i in range(config.decays)]
    return optax.piecewise_constant_schedule(config.learning_rate, dict.fromkeys(cuts, 1 / 3))


def reading(text: data.Text, config: Config) -> net.Reading:
    """How every network learns. Raises ValueError if the text is too short for one update."""
    needed = config.batch * config.truncate + 1
    if len(text.train) < needed or min(len(text.valid), len(text.test)) <= config.batch:
        raise ValueError(
            f"an update reads {config.batch} stretches of {config.truncate} {config.level}, and "
            f"the training part has {len(text.train)}, validation and test {len(text.valid)} and "
            f"{len(text.test)}; take a longer text or a smaller batch"
        )
    often = np.bincount(text.train, minlength=len(text.symbols)) / len(text.train)
    log_q = jnp.log(jnp.maximum(jnp.asarray(often, jnp.float32), 1e-12))
    rule = {
        "adam": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(decaying(config))),
        "normalised": optax.chain(optax.normalize_by_update_norm(), optax.sgd(decaying(config))),
    }[config.rule]
    rows = net.stretches(text.train, config.batch)
    return net.Reading(rows, config.truncate, rule, log_q, config.samples)


def fit(
    kind: net.Kind, n: int, text: data.Text, config: Config, record: harness.Record
) -> tuple[net.Network, Fitted]:
    """Train a network; a checkpoint follows each measurement."""
    how, K = reading(text, config), config.updates // config.every
    held = net.stretches(text.valid[: config.validate], config.batch)
    draw, samples = jax.random.split(jax.random.key(config.seed))
    model = jax.jit(lambda key: kind.draw(n, config.scale, key))(draw)
    network = net.start(model, how, samples)
    fitted = Fitted(*(np.full(K, np.nan) for _ in Fitted._fields))
    advance = jax.jit(lambda network: net.advance(how, network, config.every))
    surprise = jax.jit(lambda model: net.surprise(model, held))

    def measured(k: int, network: net.Network, fitted: Fitted) -> tuple[net.Network, dict]:
        (network, value), fitted.seconds[k] = timed(advance, network)
        fitted.losses[k], fitted.validation[k] = value, surprise(network.model)
        return network, {"loss": fitted.losses[k], "validation": fitted.validation[k]}

    return record.rounds(kind.cell, config.updates, config.every, network, fitted, measured)


def written(model: net.LanguageModel, text: data.Text, config: Config) -> str:
    """Text that a network writes after it has read the first piece of the test part."""
    begin = jnp.asarray(text.test[: config.truncate])
    key = jax.random.key(config.seed)
    write = jax.jit(lambda model: model.generate(key, begin, config.write, config.temperature))
    return ("" if config.level == "characters" else " ").join(
        text.symbols[symbol] for symbol in np.asarray(write(model))
    )


def run(config: Config, record: harness.Record) -> Result:
    """Fit the n-gram model, and train and measure every cell."""
    text = data.text(config.text, config.level) if config.text else data.penn(config.level)
    V, pieces = len(text.symbols), reading(text, config).pieces
    model = ngram.fit(text.train, V, config.order)
    ngrams = [
        -ngram.log_probabilities(model, part, V).mean()
        for part in (text.valid[: config.validate], text.test)
    ]
    kinds = [
        net.Kind(name, config.layers, V, config.d, config.tied)
        for name in (*config.cells, config.like)
    ]
    size = kinds.pop().parameters(config.n)
    widths = [kind.width(size) for kind in kinds]
    rows = net.stretches(text.test, config.batch)
    surprise = jax.jit(lambda model: net.surprise(model, rows))
    fits, ends = [], []
    for kind, n in zip(kinds, widths, strict=True):
        network, fitted = fit(kind, n, text, config, record)
        fits.append(fitted)
        learned = network.model
        wrote = written(learned, text, config)
        ends.append((surprise(learned), network.training.diverged, wrote))
    losses, validation, seconds = map(np.array, zip(*fits, strict=True))
    test, diverged, texts = map(np.array, zip(*ends, strict=True))
    updates = np.arange(config.every, config.updates + 1, config.every)
    return Result(
        np.array(config.level),
        np.array(config.cells),
        np.array(widths),
        np.array([kind.parameters(n) for kind, n in zip(kinds, widths, strict=True)]),
        updates,
        updates / pieces,
        losses,
        validation,
        seconds,
        test,
        diverged,
        texts,
        np.array(config.order),
        np.array(ngrams),
    )


def unit(result: Result) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """The name of the measure for this level, and a function that computes it from nats."""
    if result.level == "words":
        return "perplexity", np.exp
    return "bits per character", lambda nats: nats / np.log(2)


def claims(result: Result) -> dict[str, float]:
    """Perplexities of the test words."""
    of = {f"{int(result.order)}-gram: test perplexity": np.exp(result.ngram[1])}
    return of | {
        f"{name}: test perplexity": np.exp(loss)
        for name, loss in zip(result.cells, result.test, strict=True)
    }


def table(result: Result) -> harness.Table:
    """One row for the n-gram model, and one per cell."""
    name, measure = unit(result)
    valid, test = measure(result.ngram)
    best = np.nanmin(measure(result.test), initial=np.inf)
    rows = [(f"{result.order}-gram", "", "", f"{valid:.4g}", f"{test:.4g}", "", "", "", "")]
    for c, cell in enumerate(result.cells):
        score = measure(result.test[c])
        pace = np.median(result.seconds[c]) / result.updates[0]
        text = str(result.written[c]).replace("|", "/").replace("\n", " \u23ce ")
        rows.append(
            (
                cell,
                str(result.widths[c]),
                f"{result.parameters[c]:,}",
                f"{measure(result.validation[c, -1]):.4g}",
                f"{score:.4g}",
                f"{score / best - 1:+.1%}",
                f"{1e3 * pace:.0f}",
                "no" if result.diverged[c] < 0 else f"at {result.diverged[c]}",
                text,
            )
        )
    columns = (
        "",
        "n",
        "params",
        f"validation {name}",
        f"test {name}",
        "above the best test",
        "ms per update",
        "diverged",
        "text it writes",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot validation against epochs, and the test scores."""
    name, measure = unit(result)
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=(1.5, 1))
    valid, test = measure(result.ngram)
    colours = mpl.color_sequences["tab10"][: len(result.cells)]
    for colour, cell, curve in zip(colours, result.cells, result.validation, strict=True):
        axes[0].plot(result.epochs, measure(curve), ".-", color=colour, label=cell)
    axes[1].bar(result.cells, measure(result.test), color=colours)
    for c, score in enumerate(measure(result.test)):
        if np.isfinite(score):
            axes[1].annotate(f"{score:.4g}", (c, score), ha="center", va="top", color="w")
    for ax, level in zip(axes, (valid, test), strict=True):
        ax.axhline(level, color="k", ls="--", lw=0.9, label=f"Kneser-Ney {result.order}-gram")
    low = np.nanmin(measure(result.validation), initial=valid)
    axes[0].set(
        xlabel="passes through the training text",
        ylabel=f"validation {name}",
        yscale="log",
        ylim=(0.95 * low, 2.5 * valid),
        title="Training",
    )
    axes[0].yaxis.set_major_formatter("{x:.4g}")
    axes[0].yaxis.set_minor_formatter("{x:.4g}")
    axes[0].legend()
    axes[1].set(ylabel=f"test {name}", title=f"{result.parameters.max():,} parameters each")
    axes[1].legend(loc="upper right")
    return figure


PAPER = Config(
    preset="paper",
    d=224,
    n=224,
    like="cfn",
    layers=2,
    tied=False,
    samples=10_000,
    rule="normalised",
    learning_rate=5.5,
    updates=26_600,
    every=1330,
    validate=73_760,
)

if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
