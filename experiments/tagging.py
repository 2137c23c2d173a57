"""Which words of a request fill which slot?

People ask for flights ("from boston to denver on monday"). Each word belongs to a slot of one of
many kinds, such as the destination, or to none. The requests are generated from a grammar
(`data.requests`), or come from the ATIS corpus (`--data-dir`). Word embeddings, a recurrence and a
softmax name the tag of every word. Networks of equal parameter count are compared: Elman's
(`vanilla`), Jordan's, the LSTM, and Elman's and the LSTM in both directions. Jordan's network feeds
back the probabilities of the tags, which are its output. It remembers nothing else, and so almost
nothing of a word without a slot. `taught.` reads the true tags in training, and its own outputs
only in the test.

The baseline is the most frequent tag of each word, which ignores order. The score is F1, the
harmonic mean of precision and recall, by the rule of CoNLL-2000: a slot counts as found if its
kind, its first and its last word are correct. All words that do not occur in training become one
unknown word. Networks learn this word by word dropout, which puts it in place of some training
words. Each network is taken at the epoch of best F1 on sentences held out from training.

Claim: a slot depends on the words that follow, so both directions beat one at equal parameters,
whatever the cell. On the generated requests, F1 is 98.7 to 99.0 % in both directions, and 92.9 to
93.3 % for Elman's network and the LSTM in one direction. The slots that these miss are dates, since
the words that tell departure from arrival often follow the date. Jordan's network is far behind
Elman's: 48.6 %, and 51.3 % if it is taught, little more than the most frequent tag of each word,
which has 45.4 %.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import jax
import matplotlib as mpl
import numpy as np
import optax
from flax import nnx
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import data, harness
from experiments.parts.dropout import drop, lose
from experiments.parts.placing import placed
from experiments.parts.seeds import band, broken
from experiments.parts.sentences import (
    BOTH,
    UNKNOWN,
    Sentences,
    divide,
    most_frequent,
    network,
    ragged,
    there,
)
from experiments.parts.sizes import count, width
from experiments.parts.timing import timed
from recur import train
from recur.cells import jordan
from recur.core import Recurrence
from recur.flax.models import Embedded, Tagger, cross_entropy

TAUGHT = "taught."  # in training, the true tags are fed back
JORDAN = re.compile(rf"({TAUGHT})?jordan")


@dataclass(frozen=True)
class Config(harness.Sized):
    """Slot filling on requests from a grammar, on ATIS, or on a folder of the same format."""

    data_dir: Path | None = None
    """Folder of the ATIS CSV files: *.dict.vocab.csv, *.train.query.csv, *.train.slots.csv, ...
    Without it, requests are generated."""
    requests: int = 3000
    """Number of training requests, if they are generated; a fifth as many are for testing."""
    cells: tuple[str, ...] = (
        "vanilla",
        "jordan.softmax",
        "taught.jordan.softmax",
        "lstm",
        "bidirectional.vanilla",
        "bidirectional.lstm",
    )
    """Names of cells; prefix "bidirectional." gives both directions. Also taught.jordan.softmax."""
    d: int = 64
    """Size of the embedding of a word."""
    parameters: int = 40_000
    """Parameters of each recurrence, both directions together. They determine its width."""
    seeds: int = 2
    """Networks of each kind, with different seeds, trained as one vmapped program."""
    epochs: int = 12
    """Passes over the training sentences; a measurement and a checkpoint follow each."""
    batch: int = 32
    """Sentences per update."""
    longest: int = 24
    """Most words of a training sentence; the rest is cut off. Test sentences stay whole."""
    held_out: int = 500
    """Training sentences that are held out to choose the epoch."""
    learning_rate: float = 1e-2
    """Adam's initial rate; it falls to zero along a cosine. Gradients are clipped to norm 1."""
    dropout: float = 0.4
    """Dropout rate of the features of words in training."""
    word_dropout: float = 0.03
    """Share of the training words that are replaced by the unknown word."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        for name in self.cells:
            recurrence(name, 2)
        self.require_shares("dropout", "word_dropout")
        self.require_counts("epochs", "batch", "longest", "held_out", "seeds")
        if self.requests < 5:
            raise ValueError(
                f"requests must be 5 or more, so that one is for testing; got {self.requests}"
            )


class Result(NamedTuple):
    """C networks, S seeds, K epochs, Q kinds of slot."""

    cells: np.ndarray  # (C,) names
    widths: np.ndarray  # (C,) n of each direction
    parameters: np.ndarray  # (C,) of the recurrence
    kinds: np.ndarray  # (Q,) names of the slots
    losses: np.ndarray  # (C, S, K) training loss, nats per word, mean over the epoch
    held_out: np.ndarray  # (C, S, K) F1 after each epoch
    counts: np.ndarray  # (C, S, Q, 3) test slots correct, answered and true, at the best epoch
    accuracies: np.ndarray  # (C, S) share of test words with the correct tag, at the best epoch
    seconds: np.ndarray  # (C, K) of training per epoch, all seeds; the first includes compilation
    diverged: np.ndarray  # (C, S) update at which the loss first was not finite, or -1
    baseline: (
        np.ndarray
    )  # (Q, 3) counts of the most frequent tag of each word, which knows no order
    baseline_accuracy: np.ndarray  # () its share of test words with the correct tag


def corpus(config: Config) -> data.Tagged:
    """The requests of a folder, or generated ones."""
    if config.data_dir is None:
        return data.requests(config.requests, config.requests // 5, config.seed)
    return data.slots(config.data_dir)


def parts(found: data.Tagged, config: Config) -> tuple[Sentences, Sentences, Sentences, int]:
    """Training, held-out and test sentences, and the number of different words in training."""
    fit, held = divide(len(found.train_x), config.held_out, config.seed)
    known = np.unique(np.concatenate([found.train_x[i] for i in fit]))
    index = np.full(len(found.words), UNKNOWN, np.int32)
    index[known] = 1 + np.arange(len(known))

    def part(xs: list, ys: list, longest: int) -> Sentences:
        return ragged([index[x] for x in xs], ys, longest)

    def chosen(rows: np.ndarray) -> tuple[list, list]:
        return [found.train_x[i] for i in rows], [found.train_y[i] for i in rows]

    whole = max(map(len, found.train_x + found.test_x))
    return (
        part(*chosen(fit), min(config.longest, whole)),
        part(*chosen(held), whole),
        part(found.test_x, found.test_y, whole),
        1 + len(known),
    )


def spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Slots (kind, first word, word after the last) of a sentence, by the rules of conlleval.

    A slot begins at B, and at an I that does not continue a slot of its kind, that is, after O or
    another kind.
    """
    found, begin = set(), 0
    for t, (before, tag) in enumerate(zip(["O", *tags], [*tags, "O"], strict=True)):
        kind, (mark, _, now) = before[2:], tag.partition("-")
        goes_on = mark == "I" and now == kind
        if kind and not goes_on:
            found.add((kind, begin, t))
        if not goes_on:
            begin = t
    return found


def tally(
    part: Sentences, answers: np.ndarray, tags: Sequence[str], kinds: list[str]
) -> np.ndarray:
    """Number of correct, answered and true slots of each kind, (Q, 3), for answered tags (T, N)."""
    counts = np.zeros((len(kinds), 3), int)
    for i, length in enumerate(np.asarray(part.lengths)):
        true, answered = (
            spans([tags[y] for y in np.asarray(rows)[:length, i]]) for rows in (part.tags, answers)
        )
        for column, those in enumerate((true & answered, answered, true)):
            for kind, _, _ in those:
                counts[kinds.index(kind), column] += 1
    return counts


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 = 2 correct / (answered + true), from counts (..., 3)."""
    right, answered, true = np.moveaxis(counts, -1, 0)
    return 2 * right / np.maximum(answered + true, 1)


def accuracy(part: Sentences, answers: np.ndarray) -> float:
    """Share of words whose answered tag (T, N) is correct."""
    return float(np.mean((answers == np.asarray(part.tags))[there(part)]))


def recurrence(name: str, tags: int) -> Recurrence:
    """The recurrence of a network. Jordan's has one output for each tag, which it feeds back."""
    if name.startswith(TAUGHT) and name != TAUGHT + "jordan.softmax":
        raise ValueError(f"only jordan.softmax can be taught the tags it feeds back; got {name}")
    cell = network(name.removeprefix(TAUGHT))
    return jordan.outputs(cell, tags) if JORDAN.match(name) else cell


def loss(model: Embedded, batch: tuple[Sentences, Array], config: Config, taught: bool) -> Array:
    """Mean cross-entropy, nats per word, with dropout of features and of words."""
    part, key = batch
    lose_word, lose_feature = jax.random.split(key)
    xs = model.embed(lose(lose_word, part.words, config.word_dropout, UNKNOWN))
    xs = drop(lose_feature, xs, config.dropout)
    if taught:
        values = cast(Tagger, model.model).rnn.values  # `Embedded` takes any function
        truth = jax.nn.one_hot(part.tags, values.Y.shape[-1])
        logits = jordan.logits(values, jordan.taught(values, xs, truth))
    else:
        logits = model.model(xs, part.lengths)
    return cross_entropy(logits, part.tags, part.lengths)


class Fitted(NamedTuple):
    """The results of one network; fields as in Result."""

    losses: np.ndarray
    held_out: np.ndarray
    counts: np.ndarray
    accuracies: np.ndarray
    seconds: np.ndarray
    diverged: np.ndarray


def fit(
    name: str, n: int, found: data.Tagged, kinds: list[str], config: Config, record: harness.Record
) -> Fitted:
    """Train all seeds of a network as one program; a checkpoint follows each epoch."""
    training, held, test, vocabulary = parts(found, config)
    S, K, N = config.seeds, config.epochs, len(training.lengths)
    updates = -(-N // config.batch)  # per epoch
    decay = optax.cosine_decay_schedule(config.learning_rate, K * updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(decay))

    def sample(key: Array) -> tuple[Sentences, Array]:
        rows, dropout = jax.random.split(key)
        drawn = jax.random.randint(rows, (config.batch,), 0, N)
        return jax.tree.map(lambda a: a[..., drawn], training), dropout

    def draw(key: Array) -> train.State:
        own, batches = jax.random.split(key)
        rngs = nnx.Rngs(own)
        tags, read = len(found.tags), jordan.logits if JORDAN.match(name) else None
        tagger = Tagger(recurrence(name, tags), config.d, n, tags, read=read, rngs=rngs)
        model = Embedded(tagger, vocabulary, config.d, rngs=rngs)
        model.embed.embedding[...] *= config.d**0.5  # to variance 1, as the prior assumes
        return train.start(batches, model, optimizer)

    def learn(state: train.State) -> tuple[train.State, Array]:
        taught = name.startswith(TAUGHT)
        how = (lambda model, batch: loss(model, batch, config, taught)), optimizer, sample
        return train.advance(*how, state, updates, updates)

    def answer(model: Embedded) -> tuple[Array, Array]:
        held_answers, test_answers = (
            model(part.words, part.lengths).argmax(axis=-1) for part in (held, test)
        )
        return held_answers, test_answers

    fitted = Fitted(
        np.zeros((S, K)),
        np.full((S, K), np.nan),
        np.zeros((S, len(kinds), 3), int),
        np.zeros(S),
        np.zeros(K),
        np.full(S, -1),
    )
    advance = jax.jit(train.over_devices(jax.vmap(learn)))
    answers = jax.jit(train.over_devices(jax.vmap(answer)))

    def epoch(k: int, state: train.State, fitted: Fitted) -> tuple[train.State, dict]:
        (state, losses), fitted.seconds[k] = timed(advance, state)
        fitted.losses[:, k], fitted.diverged[:] = losses[:, 0], state.diverged
        _keep(fitted, k, (held, test), answers(state.params), found.tags, kinds)
        return state, {"loss": fitted.losses[:, k], "held_out": fitted.held_out[:, k]}

    state = placed(jax.vmap(draw)(jax.random.split(jax.random.key(config.seed), S)))
    return record.rounds(name, K * updates, updates, state, fitted, epoch)[1]


def _keep(
    fitted: Fitted,
    k: int,
    both: tuple[Sentences, Sentences],
    answers: tuple[Array, Array],
    tags: list[str],
    kinds: list[str],
) -> None:
    """Store F1 of epoch k on held-out sentences, and test scores of seeds for which it is best."""
    held, test = both
    for s, (chooses, answered) in enumerate(zip(*map(np.asarray, answers), strict=True)):
        score = f1(tally(held, chooses, tags, kinds).sum(axis=0))
        if k == 0 or score > np.nanmax(fitted.held_out[s]):
            fitted.counts[s] = tally(test, answered, tags, kinds)
            fitted.accuracies[s] = accuracy(test, answered)
        fitted.held_out[s, k] = score


def run(config: Config, record: harness.Record) -> Result:
    """Train and measure every network."""
    found = corpus(config)
    kinds = sorted({tag[2:] for tag in found.tags if tag != "O"})
    chosen = [recurrence(name, len(found.tags)) for name in config.cells]
    widths = [width(cell, config.d, config.parameters) for cell in chosen]
    sizes = [count(cell, config.d, n) for cell, n in zip(chosen, widths, strict=True)]
    fits = [
        fit(name, n, found, kinds, config, record)
        for name, n in zip(config.cells, widths, strict=True)
    ]
    losses, held_out, counts, accuracies, seconds, diverged = map(np.array, zip(*fits, strict=True))
    training, _, test, _ = parts(found, config)
    simple = most_frequent(training, test, len(found.tags))
    return Result(
        np.array(config.cells),
        np.array(widths),
        np.array(sizes),
        np.array(kinds),
        losses,
        held_out,
        counts,
        accuracies,
        seconds,
        diverged,
        tally(test, simple, found.tags, kinds),
        np.array(accuracy(test, simple)),
    )


def claims(result: Result) -> dict[str, float]:
    """The numbers that the docstring states."""
    found = {
        f"{name}: F1, %": 100 * f1(result.counts[c].sum(axis=1)).mean()
        for c, name in enumerate(result.cells)
    }
    return found | {"most frequent tag: F1, %": 100 * f1(result.baseline.sum(axis=0))}


def table(result: Result) -> harness.Table:
    """One row for the most frequent tag of each word, and one per network."""
    right, answered, true = np.maximum(result.baseline.sum(axis=0), 1e-9)
    rows = [
        (
            "most frequent tag",
            "",
            "",
            f"{100 * f1(result.baseline.sum(axis=0)):.2f}",
            "",
            f"{100 * right / answered:.2f}",
            f"{100 * right / true:.2f}",
            f"{100 * result.baseline_accuracy:.2f}",
            "",
            "",
            "",
        )
    ]
    for c, name in enumerate(result.cells):
        totals = result.counts[c].sum(axis=1)  # (S, 3)
        right, answered, true = np.maximum(totals, 1e-9).T
        rows.append(
            (
                name,
                str(result.widths[c]),
                f"{result.parameters[c]:,}",
                f"{100 * f1(totals).mean():.2f}",
                " ".join(f"{100 * score:.2f}" for score in f1(totals)),
                f"{100 * np.mean(right / answered):.2f}",
                f"{100 * np.mean(right / true):.2f}",
                f"{100 * result.accuracies[c].mean():.2f}",
                f"{result.held_out[c].max(axis=-1).mean() * 100:.2f}",
                f"{np.median(result.seconds[c]) * len(result.seconds[c]):.0f}",
                broken(result.diverged[c]),
            )
        )
    columns = (
        "network",
        "n",
        "params",
        "test F1",
        "each seed",
        "precision",
        "recall",
        "words right %",
        "held-out F1",
        "seconds",
        "diverged",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot F1 against epochs, and the F1 of the most frequent slots."""
    figure = Figure(figsize=(14, 5.6), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=(1, 1.5))
    epochs = np.arange(1, result.held_out.shape[-1] + 1)
    colours = mpl.color_sequences["tab10"]
    for c, name in enumerate(result.cells):
        style = "-" if name.startswith(BOTH) else "--"
        band(axes[0], epochs, 100 * result.held_out[c], colours[c], name, style)
    low = 100 * np.median(result.held_out, axis=1)[:, len(epochs) // 4].min()
    simple = 100 * f1(result.baseline.sum(axis=0))
    axes[0].set(
        xlabel="epochs",
        ylabel="F1 on held-out sentences",
        ylim=(max(low - 8, 0), 100.5),
        title="Training: median and range of seeds\n"
        f"(most frequent tag of each word, test: {simple:.1f})",
    )
    axes[0].legend(fontsize=8, loc="lower right")
    _slots(axes[1], result)
    return figure


def _slots(ax: Axes, result: Result) -> None:
    true = result.counts[0, 0, :, 2]
    often = np.argsort(-true, kind="stable")[:12]
    often = often[true[often] > 0]
    scores = 100 * f1(result.counts[:, :, often].sum(axis=1))  # (C, slots), seeds together
    height = 0.8 / len(scores)
    colours = mpl.color_sequences["tab10"]
    for c, name in enumerate(result.cells):
        alpha = 1.0 if name.startswith(BOTH) else 0.5  # the lines of one direction are dashed
        places = np.arange(len(often)) + (c - (len(scores) - 1) / 2) * height
        ax.barh(places, scores[c], height, color=colours[c], alpha=alpha)
    ax.set_yticks(range(len(often)), [f"{result.kinds[q]} ({true[q]})" for q in often])
    ax.invert_yaxis()
    ax.grid(axis="x", lw=0.4)
    ax.set(
        xlabel="test F1",
        xlim=(max(scores.min() - 5, 0), 100),
        title="The most frequent slots (in the test), in the same colours",
    )


PAPER = Config(preset="paper", parameters=160_000, d=100, seeds=5, epochs=50, longest=50)

if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
