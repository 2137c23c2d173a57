"""How is this word spoken, and do mistakes feed on themselves?

Networks turn the letters of a word into its phones (the sounds of a language), with words from the
CMU Pronouncing Dictionary. A recurrence reads the word in both directions. Another writes phones
until it writes an end symbol; each phone depends on the phones before it. The writer sees the word
as one vector, or by attention, which looks at every letter again at each step. In training, the
previous phones are the true ones (teacher forcing), or more and more often the network's own
(scheduled sampling). For test words the network reads its own phones and always writes the
likeliest next phone. Forms of a test word may occur in training: "reader's" may be a test word, and
"reader" a training word.

The phone error rate is the number of edits to the nearest pronunciation of a word, divided by its
phones. A word is correct if there are no edits. Up to its first mistake, a network reads the same
symbols with and without a teacher. Afterwards, with a teacher it reads the correct phones, and
without one it reads its own mistake. The additional errors are the effect of the mistake.

Yao and Zweig 2015, arXiv:1506.00196. Scheduled sampling: Bengio et al. 2015, arXiv:1506.03099.

Claim: attention lowers the phone errors from 24 to 15 %, and the more the longer the words are (10
letters or more: from 35 to 17 %). Mistakes feed on themselves, but less with attention, which looks
at the word again: after a first mistake 31 % of the next phones are wrong, 20 % if the mistake is
corrected; with attention 17 and 14 %. Scheduled sampling narrows that gap (31 and 25 %; 17 and
15 %), by more mistakes after true phones and not by fewer in free running. In so short a training
it helps neither network (25 and 15 % phone errors).

Only the first phone is predicted better from one vector, because attention starts with nothing to
look for. One network of each kind is trained. After longer training (`--networks attention
--teacher 1.0 --n 128 --updates 4000 --every 400`, 5 minutes), 10.3 % of the phones and 41 % of the
words are wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
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
from experiments.parts import writers
from experiments.parts.edits import ended, judge, mistakes
from experiments.parts.placing import placed
from experiments.parts.seeds import band, broken, mean_error
from experiments.parts.timing import timed
from recur import cells, train
from recur.flax.models import AttentiveDecoder, EncoderDecoder, cross_entropy, greedy
from recur.generate import scheduled

BLOCK = 20  # consecutive updates on words of one size
CHUNK = 500  # words written at a time


@dataclass(frozen=True)
class Config(harness.Sized):
    """Pronunciations from spellings, with the CMU dictionary or one of the same format."""

    networks: tuple[Literal["vector", "attention"], ...] = ("vector", "attention")
    """What the writer sees of the word: one vector, or all letters (attention)."""
    teacher: tuple[float, ...] = (1.0, 0.5)
    """Share of true inputs at the end of training; it falls linearly from 1. 1 is teacher forcing,
    less is scheduled sampling. One network is trained for each share."""
    cell: str = "gru"
    """Name of the cell of all recurrences."""
    d: int = 32
    """Size of the embeddings of letters and phones."""
    n: int = 96
    """Units of each direction of the reader, and of the writer."""
    seeds: int = 1
    """Networks of each kind, with different seeds, trained as one vmapped program."""
    updates: int = 1200
    """Updates of each network."""
    every: int = 200
    """Updates between two measurements; a checkpoint follows each."""
    batch: int = 128
    """Words per update."""
    sizes: int = 3
    """Parts of the training words, by size. A batch comes from one part, so padding is short."""
    longest: int = 14
    """Most letters or phones of a training word; test words may be longer."""
    learning_rate: float = 3e-3
    """Adam's initial rate; it falls to zero along a cosine. Gradients are clipped to norm 1."""
    validation: int = 500
    """Number of validation words, on which training is measured."""
    test: int = 6000
    """Number of test words."""
    dictionary: Path | None = None
    """A file with lines "word phone phone ..." to read instead of the CMU dictionary."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        cells.named(self.cell)
        self.require_counts("seeds", "batch", "sizes", "validation", "test", "updates")
        if self.every < 1 or self.every % BLOCK or self.updates % self.every:
            raise ValueError(
                f"every ({self.every}) must be a multiple of {BLOCK} that divides updates "
                f"({self.updates})"
            )
        if not all(0 <= share <= 1 for share in self.teacher):
            raise ValueError(f"teacher must hold shares from 0 to 1, got {self.teacher}")


class Result(NamedTuple):
    """C networks, H shares of the teacher, S seeds, K measurements, N test words, L places."""

    networks: np.ndarray  # (C,) names
    teacher: np.ndarray  # (H,) its share at the end of training
    updates: np.ndarray  # (K,) updates before each measurement
    losses: np.ndarray  # (C, H, S, K) training loss, nats per phone, since the last measurement
    validation: np.ndarray  # (C, H, S, K) phone error rate on the validation words
    words: np.ndarray  # (N,) spellings
    spoken: np.ndarray  # (N,) their first pronunciations
    written: np.ndarray  # (C, H, S, N) the networks' pronunciations
    errors: np.ndarray  # (C, H, S, N) edits to the nearest pronunciation
    phones: np.ndarray  # (C, H, S, N) number of phones of that pronunciation
    places: (
        np.ndarray
    )  # (L,) words of one pronunciation that have that place, the end counts as one
    free: np.ndarray  # (C, H, S, L) edits there, after the network's own phones
    forced: np.ndarray  # (C, H, S, L) mistakes there, after the true phones
    after: np.ndarray  # (C, H, S, 3, A) 1 .. A places after a first mistake: free, forced, words
    word: np.ndarray  # () a long test word
    looks: np.ndarray  # (phones + 1, letters) attention of the first attentive network to it
    as_written: np.ndarray  # () what that network writes
    seconds: np.ndarray  # (C, K) of training, all of a kind; the first includes compilation
    diverged: np.ndarray  # (C, H, S) update at which the loss first was not finite, or -1


class Pairs(NamedTuple):
    """Words and pronunciations in arrays. Pronunciations end with an end symbol."""

    letters: Array  # (T, N)
    phones: Array  # (L, N)
    letter_lengths: Array  # (N,)
    phone_lengths: Array  # (N,) including the end


def pairs(found: Sequence[tuple[str, tuple[int, ...]]], letters: str, end: int) -> Pairs:
    """Put words, each with one pronunciation, into arrays, padded to the longest."""
    T, L = (max(len(pair[i]) for pair in found) for i in (0, 1))
    read = np.zeros((T, len(found)), np.int32)
    spoken = np.full((L + 1, len(found)), end, np.int32)
    for i, (word, phones) in enumerate(found):
        read[: len(word), i] = [letters.index(letter) for letter in word]
        spoken[: len(phones), i] = phones
    lengths = np.array([(len(word), len(phones) + 1) for word, phones in found], np.int32)
    return Pairs(*map(jnp.asarray, (read, spoken, *lengths.T)))


def by_size(found: data.Pronunciations, config: Config) -> list[Pairs]:
    """All training words with all their pronunciations, in parts from short to long."""
    every = [(word, phones) for word, spoken in found.train.items() for phones in spoken]
    length = np.array([max(len(word), len(phones) + 1) for word, phones in every])
    order = np.argsort(length, kind="stable")
    order = order[length[order] <= config.longest]
    if len(order) < config.sizes:
        raise ValueError(
            f"{len(order)} training words have at most longest={config.longest} letters or phones; "
            f"that is too few for sizes={config.sizes} parts"
        )
    return [
        pairs([every[i] for i in part], found.letters, len(found.phones))
        for part in np.array_split(order, config.sizes)
    ]


def network(kind: str, config: Config, found: data.Pronunciations, key: Array) -> EncoderDecoder:
    """Draw a network, see `writers.network`."""
    sizes = (len(found.letters), len(found.phones) + 1), config.d, config.n
    return writers.network(kind, cells.named(config.cell), *sizes, nnx.Rngs(key))


def loss(model: EncoderDecoder, batch: tuple[Pairs, Array], share: Array) -> Array:
    """Mean cross-entropy, nats per phone. A `share` of the writer's inputs is true."""
    part, key = batch
    speaks, draws = jax.random.split(key)
    look = model.look(model.read(part.letters, part.letter_lengths), part.letter_lengths)
    inputs, writer = model.decoder.inputs(part.phones), model.decoder
    teacher = jax.random.bernoulli(speaks, share, inputs.shape[:-1])
    feed, start = writer.feed(jax.random.categorical), writer.start(inputs.shape[1:-1])
    _, hs, _ = scheduled(draws, writer.body(look), feed, start, inputs, teacher)
    return cross_entropy(writer.readout(hs), part.phones, part.phone_lengths)


def answer(model: EncoderDecoder, part: Pairs) -> tuple[Array, Array]:
    """Phones (L, N) written after the network's own phones, and after the true ones."""
    look = model.look(model.read(part.letters, part.letter_lengths), part.letter_lengths)
    L, N = part.phones.shape
    free = model.decoder.write(jax.random.key(0), look, (N,), L, greedy)  # draws nothing
    return free, model.decoder.follow(look, part.phones).argmax(axis=-1)


def weights(model: AttentiveDecoder, letters: Array) -> tuple[Array, Array]:
    """Phones (L,) that a network writes for one word (T,), and the attention (L, T) of each."""
    memory = model.read(letters)
    steps, writer = 2 * len(letters), model.decoder
    written = writer.write(jax.random.key(0), model.look(memory, None), (), steps, greedy)
    return written, writers.looks(model, memory, written)


class Fitted(NamedTuple):
    """The results of one kind of network; fields as in Result, (H, S, ...)."""

    losses: np.ndarray
    validation: np.ndarray
    seconds: np.ndarray


def fit(
    kind: str, found: data.Pronunciations, config: Config, record: harness.Record
) -> tuple[Fitted, train.State]:
    """Train a network for each share and seed as one program; checkpoints follow measurements."""
    H, S, K = len(config.teacher), config.seeds, config.updates // config.every
    decay = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(decay))

    def draw(key: Array) -> train.State:
        own, batches = jax.random.split(key)
        return train.start(batches, network(kind, config, found, own), optimizer)

    keys = jnp.tile(jax.random.split(jax.random.key(config.seed), S), H)  # the same for all shares
    state = placed(jax.vmap(draw)(keys))
    learners = [learner(part, optimizer, config.batch) for part in by_size(found, config)]
    write = writer(found.validation, found)
    fitted = Fitted(np.zeros((H, S, K)), np.zeros((H, S, K)), np.zeros(K))

    def measured(k: int, state: train.State, fitted: Fitted) -> tuple[train.State, dict]:
        (state, losses), fitted.seconds[k] = timed(learn, k, learners, state, config)
        fitted.losses[..., k] = losses.reshape(H, S)
        written = np.asarray(write(state.params)[0])
        wrong, phones = judge(found.validation, written, len(found.phones))
        fitted.validation[..., k] = (wrong.sum(-1) / phones.sum(-1)).reshape(H, S)
        return state, {"loss": fitted.losses[..., k], "validation": fitted.validation[..., k]}

    state, fitted = record.rounds(kind, config.updates, config.every, state, fitted, measured)
    return fitted, state


def learner(part: Pairs, optimizer: optax.GradientTransformation, batch: int) -> Callable:
    """A function (states, shares of the teacher) -> (states, losses): BLOCK updates on one part."""

    def sample(key: Array) -> tuple[Pairs, Array]:
        rows, draws = jax.random.split(key)
        drawn = jax.random.randint(rows, (batch,), 0, len(part.letter_lengths))
        return jax.tree.map(lambda a: a[..., drawn], part), draws

    def block(state: train.State, share: Array) -> tuple[train.State, Array]:
        taught = partial(loss, share=share)
        return train.advance(taught, optimizer, sample, state, BLOCK, BLOCK)

    return jax.jit(train.over_devices(jax.vmap(block)))


def learn(
    k: int, learners: list[Callable], state: train.State, config: Config
) -> tuple[train.State, np.ndarray]:
    """Make the updates before measurement k, equally many on each part, and return mean losses."""
    blocks, total = config.every // BLOCK, config.updates // BLOCK
    parts = np.resize(np.arange(len(learners)), blocks)
    losses = []
    for j, part in enumerate(np.random.default_rng((config.seed, k)).permutation(parts)):
        past = (k * blocks + j) / total
        shares = [1 - past * (1 - share) for share in config.teacher]
        state, found = learners[part](state, jnp.repeat(jnp.array(shares), config.seeds))
        losses.append(found[:, 0])
    return state, np.mean(losses, axis=0)


def writer(spoken: data.Spoken, found: data.Pronunciations) -> Callable:
    """A function from networks (M, ...) to the phones they write, free and forced: (M, N, L)."""
    first = [(word, ways[0]) for word, ways in spoken.items()]
    every = pairs(first, found.letters, len(found.phones))
    N, size = len(first), min(CHUNK, len(first))
    rows = jnp.arange(-(-N // size) * size).reshape(-1, size) % N

    def write(model: EncoderDecoder) -> tuple[Array, Array]:
        both = lax.map(lambda r: answer(model, jax.tree.map(lambda a: a[..., r], every)), rows)
        free, forced = (a.swapaxes(1, 2).reshape(-1, a.shape[1])[:N] for a in both)
        return free, forced

    return jax.jit(train.over_devices(jax.vmap(write)))


def run(config: Config, record: harness.Record) -> Result:
    """Train and measure every network."""
    found = data.pronunciations(config.validation, config.test, config.seed, config.dictionary)
    end, (H, S) = len(found.phones), (len(config.teacher), config.seeds)
    write = writer(found.test, found)
    kept: list[tuple] = []
    word, looks, as_written = "", np.zeros((0, 0)), ""
    for kind in config.networks:
        fitted, state = fit(kind, found, config, record)
        free, forced = map(np.asarray, write(state.params))
        wrong, phones = judge(found.test, free, end)
        where = [mistakes(found.test, *both, end) for both in zip(free, forced, strict=True)]
        names = [[_names(ended(row, end), found.phones) for row in rows] for rows in free]
        each = (np.array(names), wrong, phones, *map(np.array, zip(*where, strict=True)))
        kept.append(
            (
                *fitted,
                *(a.reshape(H, S, *a.shape[1:]) for a in each),
                np.asarray(state.diverged).reshape(H, S),
            )
        )
        if kind == "attention":
            word, looks, as_written = _look(
                jax.tree.map(lambda a: a[0], jax.device_get(state.params)), found
            )
    (
        losses,
        validation,
        seconds,
        written,
        errors,
        phones,
        places,
        free,
        forced,
        after,
        diverged,
    ) = map(np.array, zip(*kept, strict=True))
    spoken = [_names(ways[0], found.phones) for ways in found.test.values()]
    return Result(
        np.array(config.networks),
        np.array(config.teacher),
        np.arange(config.every, config.updates + 1, config.every),
        losses,
        validation,
        np.array(list(found.test)),
        np.array(spoken),
        written,
        errors,
        phones,
        places[0, 0, 0],
        free,
        forced,
        after,
        np.array(word),
        looks,
        np.array(as_written),
        seconds,
        diverged,
    )


def _names(phones: Sequence[int], names: list[str]) -> str:
    return " ".join(names[phone] for phone in phones)


def _look(model: AttentiveDecoder, found: data.Pronunciations) -> tuple[str, np.ndarray, str]:
    """A long test word, the attention of each phone and the end to its letters, and the phones."""
    word = max(list(found.test)[:50], key=len)
    letters = jnp.array([found.letters.index(letter) for letter in word])
    written, shares = jax.jit(weights)(model, letters)
    phones = ended(np.asarray(written), len(found.phones))
    return word, np.asarray(shares)[: len(phones) + 1], _names(phones, found.phones)


def claims(result: Result) -> dict[str, float]:
    """Errors of each kind of network at each share of the teacher, in per cent."""
    long = np.char.str_len(result.words) >= 10
    of = {"letters of a long word, at least 10": 10.0}
    for (c, name), (h, share) in product(enumerate(result.networks), enumerate(result.teacher)):
        at = f"{name}, share of the teacher {share:g}"
        errors, phones = result.errors[c, h], result.phones[c, h]
        free, forced, count = result.after[c, h, :, :, 0].sum(axis=0)
        of[f"{at}: phones wrong, %"] = 100 * errors.sum() / phones.sum()
        in_long = errors[:, long].sum() / phones[:, long].sum()
        of[f"{at}: phones wrong in long words, %"] = 100 * in_long
        of[f"{at}: words wrong, %"] = 100 * (errors > 0).mean()
        of[f"{at}: wrong after a mistake, corrected, %"] = 100 * forced / count
        of[f"{at}: wrong after a mistake, free, %"] = 100 * free / count
    return of


def table(result: Result) -> harness.Table:
    """One row per kind of network and share of the teacher; means over seeds."""
    long = np.char.str_len(result.words) >= 10
    rows = []
    for c, name in enumerate(result.networks):
        for h, share in enumerate(result.teacher):
            errors, phones = result.errors[c, h], result.phones[c, h]  # (S, N)
            free, forced, count = result.after[c, h, :, :, 0].sum(axis=0)
            rows.append(
                (
                    str(name),
                    f"{share:g}",
                    mean_error(100 * errors.sum(-1) / phones.sum(-1)),
                    mean_error(100 * (errors > 0).mean(-1)),
                    mean_error(100 * errors[:, long].sum(-1) / phones[:, long].sum(-1)),
                    mean_error(100 * result.forced[c, h].sum(-1) / result.places.sum()),
                    f"{100 * forced / max(count, 1):.1f}",
                    f"{100 * free / max(count, 1):.1f}",
                    f"{result.losses[c, h, :, -1].mean():.3f}",
                    f"{result.seconds[c].sum():.0f}",
                    broken(result.diverged[c, h]),
                )
            )
    columns = (
        "writer sees",
        "teacher's share",
        "phone errors %",
        "word errors %",
        "phones, 10+ letters %",
        "forced mistakes %",
        "after a mistake: forced %",
        "after a mistake: free %",
        "training loss",
        "seconds per kind",
        "diverged",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot training, errors in long words, mistakes by place and after one, attention, examples."""
    figure = Figure(figsize=(15, 8.5), layout="constrained")
    axes = figure.subplots(2, 3)
    colours = iter(mpl.color_sequences["tab10"])
    lengths = np.char.str_len(result.words)
    for c, name in enumerate(result.networks):
        for h, share in enumerate(result.teacher):
            colour, label = next(colours), f"{name}, teacher {share:g}"
            errors, phones = result.errors[c, h].sum(axis=0), result.phones[c, h].sum(axis=0)
            band(axes[0, 0], result.updates, 100 * result.validation[c, h], colour, label)
            sizes = [size for size in range(2, 29) if (lengths == size).sum() >= 20]
            rates = [
                errors[lengths == size].sum() / phones[lengths == size].sum() for size in sizes
            ]
            axes[0, 1].plot(sizes, 100 * np.array(rates), ".-", color=colour, label=label)
            there = result.places >= 100
            for ax, (free, forced, count) in (
                (
                    axes[0, 2],
                    (
                        result.free[c, h].sum(0)[there],
                        result.forced[c, h].sum(0)[there],
                        result.places[there] * len(result.free[c, h]),
                    ),
                ),
                (axes[1, 0], result.after[c, h].sum(axis=0)),
            ):
                x, count = np.arange(1, len(free) + 1), np.maximum(count, 1)
                ax.plot(x, 100 * free / count, ".-", color=colour, label=label)
                ax.plot(x, 100 * forced / count, ".:", color=colour)
    axes[0, 0].set(xlabel="updates", ylabel="phone errors, %", title="Validation words, free")
    axes[0, 1].set(xlabel="letters of the word", ylabel="phone errors, %", title="Test words")
    axes[0, 2].set(
        xlabel="place", ylabel="mistakes, %", title="By place: free (lines), forced (dotted)"
    )
    axes[1, 0].set(
        xlabel="places after a word's first forced mistake",
        ylabel="mistakes, %",
        title="After a mistake: free (lines), forced (dotted)",
    )
    for ax in axes.flat[:4]:
        ax.set_ylim(bottom=0)
    axes[0, 0].legend(fontsize=8)
    _attention(axes[1, 1], result)
    _examples(axes[1, 2], result)
    return figure


def _attention(ax: Axes, result: Result) -> None:
    """Plot where the attentive network looks before it writes each phone of a word."""
    ax.set_title("Attention before each phone of a test word")
    if not result.looks.size:
        ax.set_axis_off()
        return
    ax.imshow(result.looks, cmap="Greys", vmin=0, aspect="auto")
    phones = [*str(result.as_written).split(), "end"]
    ax.set_xticks(range(len(str(result.word))), list(str(result.word)))
    ax.set_yticks(range(len(phones)), phones)


def _examples(ax: Axes, result: Result) -> None:
    """Show test words that the best network gets wrong."""
    best = np.unravel_index((result.errors > 0).mean(-1).argmin(), result.errors.shape[:-1])
    wrong = np.flatnonzero(result.errors[best])[:14]
    lines = [
        f"{result.words[i][:16]:<17}{result.spoken[i][:28]}\n"
        f"{'':<15}> {result.written[best][i][:28]}"
        for i in wrong
    ]
    ax.text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=7.5)
    ax.set_axis_off()
    ax.set_title(f"Words, phones, and > mistakes of {result.networks[best[0]]}", fontsize=11)


PAPER = Config(
    preset="paper", n=256, d=64, seeds=3, updates=12_000, every=600, batch=256, validation=2000
)

if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
