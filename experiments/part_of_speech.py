"""Which part of speech is each word of a sentence?

The data are sentences of a Brazilian newspaper, where each word is a noun, a verb, ... (16 parts of
speech), or any treebank of Universal Dependencies. Two embeddings represent a word: that of the
word in lower case, and that of its ending. They are added. All words that do not occur in training
become one unknown word, which the network must judge by its ending. It learns this by word dropout,
which replaces some training words by the unknown word. A recurrence in one direction, or one in
each direction, reads the sentence, and a softmax names the part of speech.

All networks have the same number of parameters. The baseline is the most frequent part of speech of
each word or, if training does not contain the word, of its ending. Each network is taken at the
epoch of best accuracy on sentences held out from training.

Claim: the part of a word depends on the words that follow it. With any cell, two directions beat
one at equal parameters. Correct test words, mean of the seeds: LSTM in both directions 94.7 %,
MinimalRNN in both 94.5 %; in one direction vanilla and LSTM 93.0 %, MinimalRNN 92.8 %; most
frequent part 90.8 %. For words that training does not contain: 76.6 and 75.4 %, 73 and 71 %, 59 %.

The best network's most frequent mistakes are to take proper nouns for nouns, and foreign words for
either.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
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
from experiments.parts.seeds import band, broken, mean_error
from experiments.parts.sentences import BOTH, UNKNOWN, Sentences, divide, network, ragged, there
from experiments.parts.sizes import count, width
from experiments.parts.timing import timed
from recur import train
from recur.flax.models import Tagger, cross_entropy


@dataclass(frozen=True)
class Config(harness.Sized):
    """Parts of speech of a newspaper, or of a treebank."""

    data_dir: Path | None = None
    """Folder with one *train.conllu and one *test.conllu to read instead of the newspaper."""
    cells: tuple[str, ...] = (
        "vanilla",
        "minimal",
        "lstm",
        "bidirectional.minimal",
        "bidirectional.lstm",
    )
    """Networks to compare: the name of a cell, with prefix "bidirectional." for both directions."""
    ending: int = 3
    """Letters of a word's ending; 0 for no ending."""
    d: int = 64
    """Size of the embedding of a word."""
    parameters: int = 40_000
    """Parameters of each recurrence, both directions together. They determine its width."""
    seeds: int = 2
    """Networks of each kind, with different seeds, trained as one vmapped program."""
    epochs: int = 4
    """Passes over the training sentences; a measurement and a checkpoint follow each."""
    batch: int = 32
    """Sentences per update."""
    longest: int = 30
    """Most words of a training sentence; the rest is cut off. Test sentences stay whole."""
    held_out: int = 500
    """Training sentences that are held out to choose the epoch."""
    learning_rate: float = 1e-2
    """Adam's initial rate; it falls to zero along a cosine. Gradients are clipped to norm 1."""
    word_dropout: float = 0.15
    """Share of the training words that are replaced by the unknown word. Endings stay."""
    dropout: float = 0.3
    """Dropout rate of the features of words in training."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        for name in self.cells:
            network(name)
        self.require_shares("dropout", "word_dropout")
        self.require_counts("epochs", "batch", "longest", "held_out", "seeds")
        if self.ending < 0:
            raise ValueError(f"ending is a number of letters, 0 or more; got {self.ending}")


class Result(NamedTuple):
    """C networks, S seeds, K epochs, Q parts of speech; accuracies of all and of unknown words."""

    cells: np.ndarray  # (C,) names
    widths: np.ndarray  # (C,) n of each direction
    parameters: np.ndarray  # (C,) of the recurrence
    tags: np.ndarray  # (Q,) names
    losses: np.ndarray  # (C, S, K) training loss, nats per word, mean over the epoch
    held_out: np.ndarray  # (C, S, K) accuracy after each epoch
    accuracies: np.ndarray  # (C, S, 2) on the test, at the best epoch
    confusion: np.ndarray  # (C, Q, Q) number of test words by part and answer, all seeds
    seconds: np.ndarray  # (C, K) of training per epoch, all seeds; the first includes compilation
    diverged: np.ndarray  # (C, S) update at which the loss first was not finite, or -1
    baseline: np.ndarray  # (2,) of the most frequent part


class Lexicon(NamedTuple):
    """The number of every word and of its ending; UNKNOWN for those not in training."""

    word: np.ndarray  # (words,) number of the word in lower case
    ending: np.ndarray  # (words,) number of its ending
    sizes: tuple[int, int]  # how many words and endings there are


class Parts(NamedTuple):
    """Sentences as numbers of words, before conversion to lower case."""

    training: Sentences
    held: Sentences
    test: Sentences
    lexicon: Lexicon


class Speech(nnx.Module):
    """A tagger that reads words and their endings."""

    def __init__(self, name: str, n: int, lexicon: Lexicon, tags: int, d: int, rngs: nnx.Rngs):
        scale = jax.nn.initializers.normal(0.5**0.5)  # the sum of both has variance 1
        self.word, self.ending = (
            nnx.Embed(size, d, embedding_init=scale, rngs=rngs) for size in lexicon.sizes
        )
        self.tagger = Tagger(network(name), d, n, tags, rngs=rngs)

    def embed(self, words: Array, endings: Array) -> Array:
        """Features (T, N, d)."""
        return self.word(words) + self.ending(endings)


def parts(found: data.Tagged, config: Config) -> Parts:
    """The sentences, and the numbers of their words and endings."""
    fit, held = divide(len(found.train_x), config.held_out, config.seed)
    seen = np.unique(np.concatenate([found.train_x[i] for i in fit]))
    small = [word.lower() for word in found.words]
    word, words = _numbered(small, seen)
    last = [word[-config.ending :] if config.ending else "" for word in small]
    ending, endings = _numbered(last, seen)
    whole = max(map(len, found.train_x + found.test_x))

    def chosen(rows: np.ndarray, longest: int) -> Sentences:
        xs, ys = ([part[i] for i in rows] for part in (found.train_x, found.train_y))
        return ragged(xs, ys, longest)

    return Parts(
        chosen(fit, min(config.longest, whole)),
        chosen(held, whole),
        ragged(found.test_x, found.test_y, whole),
        Lexicon(word, ending, (words, endings)),
    )


def _numbered(names: Sequence[str], seen: Iterable[int]) -> tuple[np.ndarray, int]:
    """Number the names seen in training from 1, the others as UNKNOWN; returns also their count."""
    known = {name: 1 + i for i, name in enumerate(sorted({names[i] for i in seen}))}
    return np.array([known.get(name, UNKNOWN) for name in names], np.int32), 1 + len(known)


def most_frequent(parts: Parts, tags: int) -> np.ndarray:
    """Answers (T, N): the most frequent tag of each word, or else of its ending, or else of all."""
    words, y = (np.asarray(a)[there(parts.training)] for a in parts.training[:2])
    asked = np.asarray(parts.test.words)
    answers = np.full(asked.shape, np.bincount(y, minlength=tags).argmax())
    for number in (parts.lexicon.ending, parts.lexicon.word):
        counts = np.zeros((number.max() + 1, tags), int)
        np.add.at(counts, (number[words], y), 1)
        known = counts.sum(axis=1) > 0
        answers = np.where(known[number[asked]], counts.argmax(axis=1)[number[asked]], answers)
    return answers


def scores(parts: Parts, answers: np.ndarray) -> np.ndarray:
    """Share of correct test answers (T, N): of all words, and of words that are not in training."""
    right = answers == np.asarray(parts.test.tags)
    unknown = parts.lexicon.word[np.asarray(parts.test.words)] == UNKNOWN
    inside = there(parts.test)
    return np.array(
        [right[chosen].mean() if chosen.any() else np.nan for chosen in (inside, inside & unknown)]
    )


class Fitted(NamedTuple):
    """The results of one network; fields as in Result."""

    losses: np.ndarray
    held_out: np.ndarray
    accuracies: np.ndarray
    confusion: np.ndarray  # (S, Q, Q)
    seconds: np.ndarray
    diverged: np.ndarray


def fit(
    name: str, n: int, parts: Parts, tags: int, config: Config, record: harness.Record
) -> Fitted:
    """Train all seeds of a network as one program; a checkpoint follows each epoch."""
    training, lexicon = parts.training, parts.lexicon
    S, K, N = config.seeds, config.epochs, len(training.lengths)
    updates = -(-N // config.batch)  # per epoch
    decay = optax.cosine_decay_schedule(config.learning_rate, K * updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(decay))
    word, ending = jnp.asarray(lexicon.word), jnp.asarray(lexicon.ending)

    def sample(key: Array) -> tuple[Sentences, Array]:
        rows, dropout = jax.random.split(key)
        drawn = jax.random.randint(rows, (config.batch,), 0, N)
        return jax.tree.map(lambda a: a[..., drawn], training), dropout

    def loss(model: Speech, batch: tuple[Sentences, Array]) -> Array:
        part, key = batch
        lose_word, lose_feature = jax.random.split(key)
        known = lose(lose_word, word[part.words], config.word_dropout, UNKNOWN)
        xs = drop(lose_feature, model.embed(known, ending[part.words]), config.dropout)
        logits = model.tagger(xs, part.lengths)
        return cross_entropy(logits, part.tags, part.lengths)

    def answer(model: Speech) -> tuple[Array, ...]:
        return tuple(
            model.tagger(model.embed(word[part.words], ending[part.words]), part.lengths).argmax(
                axis=-1
            )
            for part in (parts.held, parts.test)
        )

    def draw(key: Array) -> train.State:
        own, batches = jax.random.split(key)
        model = Speech(name, n, lexicon, tags, config.d, nnx.Rngs(own))
        return train.start(batches, model, optimizer)

    def learn(state: train.State) -> tuple[train.State, Array]:
        return train.advance(loss, optimizer, sample, state, updates, updates)

    fitted = Fitted(
        np.zeros((S, K)),
        np.full((S, K), np.nan),
        np.zeros((S, 2)),
        np.zeros((S, tags, tags), int),
        np.zeros(K),
        np.full(S, -1),
    )
    advance = jax.jit(train.over_devices(jax.vmap(learn)))
    answers = jax.jit(train.over_devices(jax.vmap(answer)))

    def epoch(k: int, state: train.State, fitted: Fitted) -> tuple[train.State, dict]:
        (state, losses), fitted.seconds[k] = timed(advance, state)
        fitted.losses[:, k], fitted.diverged[:] = losses[:, 0], state.diverged
        _keep(fitted, k, parts, *map(np.asarray, answers(state.params)))
        return state, {"loss": fitted.losses[:, k], "held_out": fitted.held_out[:, k]}

    state = placed(jax.vmap(draw)(jax.random.split(jax.random.key(config.seed), S)))
    return record.rounds(name, K * updates, updates, state, fitted, epoch)[1]


def _keep(fitted: Fitted, k: int, parts: Parts, held: np.ndarray, test: np.ndarray) -> None:
    """Store the accuracy of epoch k on held-out sentences and, if it is the best, test results."""
    inside, true = there(parts.test), np.asarray(parts.test.tags)
    for s, (chooses, answered) in enumerate(zip(held, test, strict=True)):
        score = np.mean((chooses == np.asarray(parts.held.tags))[there(parts.held)])
        if k == 0 or score > np.nanmax(fitted.held_out[s]):
            fitted.accuracies[s] = scores(parts, answered)
            fitted.confusion[s] = 0
            np.add.at(fitted.confusion[s], (true[inside], answered[inside]), 1)
        fitted.held_out[s, k] = score


def run(config: Config, record: harness.Record) -> Result:
    """Train and measure every network, and the most frequent part of speech."""
    found = data.parts_of_speech(config.data_dir)
    divided = parts(found, config)
    chosen = [network(name) for name in config.cells]
    widths = [width(cell, config.d, config.parameters) for cell in chosen]
    sizes = [count(cell, config.d, n) for cell, n in zip(chosen, widths, strict=True)]
    fits = [
        fit(name, n, divided, len(found.tags), config, record)
        for name, n in zip(config.cells, widths, strict=True)
    ]
    losses, held, accuracies, confusion, seconds, diverged = map(np.array, zip(*fits, strict=True))
    return Result(
        np.array(config.cells),
        np.array(widths),
        np.array(sizes),
        np.array(found.tags),
        losses,
        held,
        accuracies,
        confusion.sum(axis=1),
        seconds,
        diverged,
        scores(divided, most_frequent(divided, len(found.tags))),
    )


def claims(result: Result) -> dict[str, float]:
    """Correct test words in per cent, mean over the seeds: of all words, and of unknown words."""
    of = {}
    for name, (everywhere, unknown) in zip(
        ("most frequent part", *result.cells),
        (result.baseline, *result.accuracies.mean(axis=1)),
        strict=True,
    ):
        of[f"{name}: words right, %"] = 100 * everywhere
        of[f"{name}: unknown words right, %"] = 100 * unknown
    return of


def table(result: Result) -> harness.Table:
    """One row per network, and one for the most frequent part of speech."""
    everywhere, unknown = (f"{100 * share:.2f}" for share in result.baseline)
    rows: list[Sequence[str]] = [("most frequent part", "", "", everywhere, unknown, "", "", "")]
    for c, name in enumerate(result.cells):
        rows.append(
            (
                str(name),
                str(result.widths[c]),
                f"{result.parameters[c]:,}",
                *(mean_error(each, ".2f") for each in 100 * result.accuracies[c].T),
                f"{100 * result.held_out[c].max(axis=-1).mean():.2f}",
                f"{np.median(result.seconds[c]) * len(result.seconds[c]):.0f}",
                broken(result.diverged[c]),
            )
        )
    columns = (
        "network",
        "n",
        "params",
        "test words right %",
        "unknown words right %",
        "held-out %",
        "seconds",
        "diverged",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot accuracy against epochs, errors on all and unknown words, and confusions of parts."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    epochs = np.arange(1, result.held_out.shape[-1] + 1)
    for c, name in enumerate(result.cells):
        colour, style = mpl.color_sequences["tab10"][c], "-" if name.startswith(BOTH) else "--"
        band(axes[0], epochs, 100 * result.held_out[c], colour, name, style)
    axes[0].set(
        xlabel="epochs",
        ylabel="words right %, held-out sentences",
        xticks=epochs,
        title="Training: median and range of seeds",
    )
    axes[0].legend(fontsize=8, loc="lower right")
    _words(axes[1], result)
    _confused(figure, axes[2], result)
    return figure


def _words(ax: Axes, result: Result) -> None:
    """Plot errors on all and on unknown words, also those of the most frequent part of speech."""
    C = len(result.cells)
    for c, name in enumerate(["most frequent part", *result.cells]):
        share = result.baseline if c == 0 else result.accuracies[c - 1].mean(axis=0)
        colour = "0.5" if c == 0 else mpl.color_sequences["tab10"][c - 1]
        ax.barh(
            np.arange(2) + (c - C / 2) * 0.8 / (C + 1),
            100 * (1 - share),
            0.8 / (C + 1),
            color=colour,
            label=name if c == 0 else None,
        )
    ax.set_yticks(range(2), ["all words", "unknown\nwords"])
    ax.invert_yaxis()
    ax.set(xlabel="test words wrong %", title="Test, in the same colours")
    ax.legend(fontsize=8, loc="center right")


def _confused(figure: Figure, ax: Axes, result: Result) -> None:
    """Plot the errors of the best network, as shares of the words of each part of speech."""
    best = result.accuracies[..., 0].mean(axis=1).argmax()
    counts = result.confusion[best].astype(float)
    wrong = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(wrong, 0)
    image = ax.imshow(wrong, cmap="Blues", vmax=min(wrong.max(), 30))
    figure.colorbar(image, ax=ax, label="% of the words of a part, at most 30")
    places = range(len(result.tags))
    ax.set_xticks(places, result.tags, rotation=90, fontsize=7)
    ax.set_yticks(places, result.tags, fontsize=7)
    ax.set(xlabel="answer", ylabel="part of speech", title=f"Errors of {result.cells[best]}")


PAPER = Config(preset="paper", d=100, parameters=160_000, seeds=5, epochs=12, longest=60)

if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
