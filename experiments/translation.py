"""Can a network read dates in thirty languages, and in languages that it has never seen?

"martes, 4 de mayo de 2021" -> "2021-05-04": a recurrence reads the characters in both directions.
Another writes the date in ISO form, character by character; each depends on the characters before
it. The writer sees the input as one vector, or by attention, which looks at every character again
before it writes one. The baseline is a bag of characters, which ignores order. No network is told
the language. Babel, a library with the formats of CLDR (the Unicode repository of locale data),
writes the dates in full, long and medium form ("4 may 2021"), with and without the day of the week.
No day is both in training and in the test.

Some languages are held out of training, and shown apart. For those with relatives in training
(Portuguese, Norwegian, Ukrainian, Slovak), some names of months are known except for spelling. Days
and years are numerals everywhere. Hungarian has no relative here. All characters that do not occur
in training become one unknown character.

Claim: in the languages of training both networks read 99 % of the dates, and a bag of characters 9
%. In languages that were held out attention reads 68 % and one vector 57 %: attention finds the
numerals where they are (the year is right in 99 %, from one vector in 80 %), and misses the month.
It reads Norwegian, Portuguese and Slovak (93 % and more); not Ukrainian, whose months are Slavic
words of its own (7 %); and 40 % of the Hungarian dates.

Attention needs fewer updates: after 200, it reads 94 % of the dates, and one vector 52 %. One
network of each kind is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from flax import nnx
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.typing import ColorType

from experiments import data, harness
from experiments.parts import writers
from experiments.parts.seeds import band, broken, mean_error
from experiments.parts.writers import Pairs
from recur import cells
from recur.flax.models import AttentiveDecoder, EncoderDecoder

SYMBOLS = "0123456789-"  # of an ISO date
PARTS = {"year": slice(0, 4), "month": slice(5, 7), "day": slice(8, 10)}
UNKNOWN = 0
EXAMPLES = ("en", "fr", "ru", "pt", "hu")  # languages whose attention is plotted
LATIN, OTHER = "en de fr es it ca nl da sv is pl cs hr ro fi et tr id vi", "ru bg el ja zh he"


@dataclass(frozen=True)
class Config(harness.Sized):
    """Translation of dates in many languages to ISO form."""

    networks: tuple[str, ...] = writers.KINDS
    """What the writer sees: a bag of characters, one vector, or all characters (attention)."""
    languages: tuple[str, ...] = (*LATIN.split(), *OTHER.split())
    """Languages for training, by their CLDR names."""
    held_out: tuple[str, ...] = ("pt", "nb", "uk", "sk", "hu")
    """Languages for testing only."""
    each: int = 600
    """Training dates per language."""
    test: int = 60
    """Test dates per language."""
    cell: str = "gru"
    """Name of the cell of the reader and of the writer."""
    d: int = 32
    """Size of the embedding of a character."""
    n: int = 64
    """Units of each direction of the reader, and of the writer."""
    seeds: int = 1
    """Networks of each kind, with different seeds, trained as one vmapped program."""
    updates: int = 1000
    """Updates of each network."""
    every: int = 200
    """Updates between two measurements; a checkpoint follows each."""
    batch: int = 64
    """Dates per update."""
    learning_rate: float = 5e-3
    """Adam's initial rate; it falls to zero along a cosine. Gradients are clipped to norm 1."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        cells.named(self.cell)
        writers.require_kinds(self.networks)
        self.require_counts("each", "test", "seeds", "batch")
        self.require_divides("every", "updates")


class Result(NamedTuple):
    """C networks, S seeds, K measurements, Y languages, N test dates, E examples."""

    networks: np.ndarray  # (C,) names
    languages: np.ndarray  # (Y,) names, those held out last
    held_out: np.ndarray  # (Y,) whether a language was held out
    updates: np.ndarray  # (K,) updates before each measurement
    losses: np.ndarray  # (C, S, K) training loss, nats per symbol, mean since the last measurement
    watched: np.ndarray  # (C, S, K, 2) share of correct test dates, in languages trained, held out
    right: np.ndarray  # (C, S, N, 3) whether year, month and day are correct
    language: np.ndarray  # (N,) index of each test date's language
    texts: np.ndarray  # (N,) test dates, as text
    isos: np.ndarray  # (N,) test dates in ISO form
    written: np.ndarray  # (C, S, N) what the networks write
    examples: np.ndarray  # (E,) indices of the test dates in the figure
    looks: np.ndarray  # (E, 10, T) attention of the first attentive network to them
    seconds: np.ndarray  # (C, K) of training, all seeds together; the first includes compilation
    diverged: np.ndarray  # (C, S) update at which the loss first was not finite, or -1


class Corpus(NamedTuple):
    """Dates in arrays, the number of different characters in training, and the dates as text."""

    train: Pairs
    test: Pairs
    characters: int  # including the unknown one
    found: data.Dates


def pairs(texts: Sequence[str], isos: Sequence[str], number: dict[str, int]) -> Pairs:
    """Put texts and ISO dates into arrays. A character without a number becomes UNKNOWN."""
    read = np.full((max(map(len, texts)), len(texts)), UNKNOWN, np.int32)
    for i, text in enumerate(texts):
        read[: len(text), i] = [number.get(character, UNKNOWN) for character in text]
    written = np.array([[SYMBOLS.index(symbol) for symbol in iso] for iso in isos], np.int32).T
    lengths = np.array([len(text) for text in texts], np.int32)
    counts = np.full(len(isos), len(written), np.int32)
    return Pairs(*map(jnp.asarray, (read, written, lengths, counts)))


def corpus(config: Config) -> Corpus:
    """The dates of all languages, with held-out languages in the test only."""
    every = (*config.languages, *config.held_out)
    found = data.dates(every, config.each, config.test, config.seed)
    learnt = len(config.languages) * config.each
    texts, isos = found.train_x[:learnt], found.train_y[:learnt]
    number = {character: 1 + i for i, character in enumerate(sorted(set("".join(texts))))}
    test = pairs(found.test_x, found.test_y, number)
    return Corpus(pairs(texts, isos, number), test, 1 + len(number), found)


def parts_right(written: np.ndarray, part: Pairs) -> np.ndarray:
    """Whether year, month and day of the dates written (S, N, 10) are correct: (S, N, 3)."""
    same = np.equal(written, np.asarray(part.targets).T)
    return np.stack([same[..., where].all(axis=-1) for where in PARTS.values()], axis=-1)


def share(right: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The share of dates `which` (N,) that are right (..., N), or NaN if there are none."""
    return right[..., which].mean(axis=-1) if which.any() else np.full(right.shape[:-1], np.nan)


def chosen(found: data.Dates, languages: Sequence[str]) -> np.ndarray:
    """Test dates for the figure: one in full form for each of EXAMPLES among the languages.

    If none is among them, a date in the first language.
    """
    names = [name for name in EXAMPLES if name in languages] or list(languages[:1])
    return np.array(
        [
            max(
                np.flatnonzero(found.test_language == languages.index(name))[:30],
                key=lambda i: len(found.test_x[i]),
            )
            for name in names
        ]
    )


def run(config: Config, record: harness.Record) -> Result:
    """Train and measure every network."""
    every, languages = corpus(config), (*config.languages, *config.held_out)
    found = every.found
    held = np.asarray(found.test_language >= len(config.languages))
    examples = chosen(found, languages)
    looks = np.zeros((len(examples), len(every.test.targets), max(map(len, found.test_x))))
    cell, vocabularies = cells.named(config.cell), (every.characters, len(SYMBOLS))

    def sample(key: Array) -> Pairs:
        drawn = jax.random.randint(key, (config.batch,), 0, len(every.train.lengths))
        return jax.tree.map(lambda a: a[..., drawn], every.train)

    def watch(written: np.ndarray) -> np.ndarray:
        right = np.all(parts_right(written, every.test), axis=-1)
        return np.stack([share(right, which) for which in (~held, held)], axis=-1)

    kept: list[tuple] = []
    for kind in config.networks:

        def draw(key: Array, kind: str = kind) -> EncoderDecoder:
            rngs = nnx.Rngs(key)
            return writers.network(kind, cell, vocabularies, config.d, config.n, rngs)

        fitted, state, written = writers.fit(kind, draw, sample, every.test, watch, config, record)
        isos = ["".join(SYMBOLS[symbol] for symbol in row) for row in written.reshape(-1, 10)]
        as_written = np.array(isos).reshape(written.shape[:2])
        right = parts_right(written, every.test)
        kept.append((*fitted, right, as_written, np.asarray(state.diverged)))
        if kind == "attention":
            model = jax.tree.map(lambda a: a[0], jax.device_get(state.params))
            looks = _looks(model, every.test, examples, written[0])
    losses, watched, seconds, right, texts, diverged = map(np.array, zip(*kept, strict=True))
    return Result(
        np.array(config.networks),
        np.array(languages),
        np.arange(len(languages)) >= len(config.languages),
        np.arange(config.every, config.updates + 1, config.every),
        losses,
        watched,
        right,
        found.test_language,
        np.array(found.test_x),
        np.array(found.test_y),
        texts,
        examples,
        looks,
        seconds,
        diverged,
    )


def _looks(
    model: AttentiveDecoder, test: Pairs, examples: np.ndarray, written: np.ndarray
) -> np.ndarray:
    """Attention of each symbol to each character of these dates, (E, 10, T)."""
    found = np.zeros((len(examples), written.shape[1], len(test.source)))
    read = jax.jit(lambda model, text, iso: writers.looks(model, writers.read(model, text), iso))
    for e, i in enumerate(examples):
        T = int(test.lengths[i])
        found[e, :, :T] = read(model, test.source[:T, i], jnp.asarray(written[i]))
    return found


def claims(result: Result) -> dict[str, float]:
    """Correct dates and parts of dates, in per cent."""
    right, held = np.all(result.right, axis=-1), result.held_out[result.language]
    of = {}
    for c, name in enumerate(result.networks):
        of[f"{name}: dates right, %"] = 100 * share(right[c], ~held).mean()
        of[f"{name}: dates right, languages held out, %"] = 100 * share(right[c], held).mean()
        pieces = share(result.right[c].mean(axis=0).T, held)
        of |= {
            f"{name}: {part} right, held out, %": 100 * p
            for part, p in zip(PARTS, pieces, strict=True)
        }
        for y in np.flatnonzero(result.held_out):
            mine = right[c].mean(axis=0)[result.language == y].mean()
            of[f"{name}: {result.languages[y]} right, %"] = 100 * mine
    return of


def table(result: Result) -> harness.Table:
    """One row per network."""
    right = np.all(result.right, axis=-1)  # (C, S, N)
    held = result.held_out[result.language]
    rows = []
    for c, name in enumerate(result.networks):
        mine = right[c].mean(axis=0)
        each = np.array([mine[result.language == y].mean() for y in range(len(result.languages))])
        order = np.argsort(each[~result.held_out], kind="stable")[:3]
        worst = " ".join(f"{result.languages[y]} {100 * each[y]:.0f}" for y in order)
        apart = " ".join(
            f"{result.languages[y]} {100 * each[y]:.0f}" for y in np.flatnonzero(result.held_out)
        )
        pieces = share(result.right[c].mean(axis=0).T, held)  # (3,)
        rows.append(
            (
                str(name),
                mean_error(100 * share(right[c], ~held)),
                worst,
                mean_error(100 * share(right[c], held)),
                apart,
                " ".join(f"{part} {100 * of:.0f}" for part, of in zip(PARTS, pieces, strict=True)),
                f"{result.losses[c, :, -1].mean():.4f}",
                f"{result.seconds[c].sum():.0f}",
                broken(result.diverged[c]),
            )
        )
    columns = (
        "writer sees",
        "dates right %",
        "worst trained languages %",
        "held out: right %",
        "held out: each %",
        "held out: parts %",
        "training loss",
        "seconds",
        "diverged",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot training, every language, the parts of held-out dates, and where attention looks."""
    figure = Figure(figsize=(15, 10), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 0.9))[:, 0]
    training, every, pieces = top.subplots(1, 3, width_ratios=(1, 2.6, 1))
    colours = dict(zip(result.networks, mpl.color_sequences["tab10"], strict=False))
    for c, name in enumerate(result.networks):
        for column, style in enumerate(("-", ":")):
            band(
                training,
                result.updates,
                100 * result.watched[c, ..., column],
                colours[name],
                None,
                style,
            )
    training.set(
        xlabel="updates",
        ylabel="test dates right, %",
        ylim=(0, 101),
        title="Training (dotted: held out)",
    )
    _languages(every, result, colours)
    _pieces(pieces, result, colours)
    _attention(bottom, result)
    return figure


def _languages(ax: Axes, result: Result, colours: dict[str, ColorType]) -> None:
    right = result.right.all(axis=-1).mean(axis=1)  # (C, N)
    each = np.array(
        [right[:, result.language == y].mean(axis=1) for y in range(len(result.languages))]
    )  # (Y, C)
    order = np.lexsort((-each[:, -1], result.held_out))
    for c, name in enumerate(result.networks):
        ax.plot(100 * each[order, c], "o", color=colours[name], label=name)
    ax.set_xticks(range(len(order)), result.languages[order], fontsize=9)
    first = (~result.held_out).sum()
    if first < len(order):
        ax.axvspan(first - 0.5, len(order) - 0.5, color="0.9", zorder=0)
        ax.text(len(order) - 0.6, 103, "held out", ha="right", fontsize=9)
    ax.grid(axis="x", lw=0.3)
    ax.set(ylabel="test dates right, %", ylim=(-2, 108), title="Each language")
    ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=3, frameon=False)


def _pieces(ax: Axes, result: Result, colours: dict[str, ColorType]) -> None:
    held = result.held_out[result.language]
    width = 0.8 / len(result.networks)
    for c, name in enumerate(result.networks):
        shares = share(result.right[c].mean(axis=0).T, held)
        places = np.arange(3) + (c - (len(result.networks) - 1) / 2) * width
        ax.bar(places, 100 * shares, width, color=colours[name], label=name)
    ax.set_xticks(range(3), PARTS)
    ax.set(ylabel="right, %", ylim=(0, 101), title="Held out: by part")


def _attention(figure: SubFigure, result: Result) -> None:
    """Plot where the first attentive network looks before it writes each symbol of the examples."""
    best = list(result.networks).index("attention") if "attention" in result.networks else 0
    for ax, i, looks in zip(
        figure.subplots(1, len(result.examples), squeeze=False)[0],
        result.examples,
        result.looks,
        strict=True,
    ):
        text, iso = result.texts[i], result.written[best, 0, i]
        name = result.languages[result.language[i]]
        apart = ", held out" * bool(result.held_out[result.language[i]])
        right = "right" if iso == result.isos[i] else f"is {result.isos[i]}"
        ax.imshow(looks[:, : len(text)].T, cmap="Greys", vmin=0, aspect="auto")
        ax.set_yticks(range(len(text)), list(text), fontsize=8)
        ax.set_xticks(range(len(iso)), list(iso))
        ax.set_title(f"{name}{apart}: {right}", fontsize=10)
    figure.suptitle("Attention: characters read (down), symbols written (across)")


PAPER = Config(preset="paper", each=3000, test=300, d=64, n=128, seeds=3, updates=12_000, every=600)

if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
