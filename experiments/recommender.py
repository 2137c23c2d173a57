"""What will a user choose next?

MovieLens-100k has the histories of 943 users: their films in the order in which they rated them.
Histories are cut to the latest 500 films. The last film of each user is for the test, the one
before it for validation, and the rest for training. All films that the user has not rated yet are
ranked; no films are sampled. Recurrent networks with tied item embeddings are compared at equal
width, and at equal numbers of parameters of the recurrence. Baselines are the popularity of the
films, and item-kNN, which sums over the history the cosine of the films' users. It does so once
with equal weights, as usual, and once with smaller weights for older films, which it thus forgets.
Its number of neighbours and its forgetting are chosen on the validation films.

The histories, of 20 to 737 films, are packed end to end into rows of one length. The state is reset
where a user begins, and masked after a row's end. One causal pass gives the predictions for
training, validation and test. Each network is taken at its best validation NDCG (a score that
weighs the true film by its rank).

Claim: every recurrent network beats popularity (Recall@20 .12, NDCG@20 .054) and item-kNN (.19,
.076). At equal width MinimalRNN (.325, .136), CFN (.319, .136) and GRU (.316, .133) also beat the
item-kNN that forgets (.276, .128); vanilla (.290, .123) and LSTM (.297, .128) do so in recall
alone.

To equal quality, MinimalRNN and CFN take 150 updates and GRU 200. The ratio of times is 1 : 1.1 :
1.4; in the study of MinimalRNN (arXiv:1711.06788) it was 1 : 1.2 : 1.53. The vanilla network's
gradients are two to three times as large as the others', but do not explode.

In that study, the vanilla network blew up early in training. Here this takes plain gradient descent
without clipping, and large steps (length 500, 64 units, two rows per update, one seed). At a rate
of 100, the gradient's norm is 0.6, 7, 1.5e3, 4e7 and 3e11, and at the sixth update the loss is NaN.
With ReLU at a rate of 10, the norm is 2.6, 2.4 and 38, and at the fourth update the loss is NaN. At
rates of 3 and 10 (tanh) and of 1 (ReLU) the loss falls from the start. With AdamW, unclipped,
nothing diverges. With ReLU, the norm falls from 2.6 to below 1 in 60 updates at rates of 4e-3 and
3e-2. At 0.2 it grows to 600 and the loss to 200, but both stay finite.
"""

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
from experiments.parts.dropout import drop
from experiments.parts.placing import placed
from experiments.parts.ranking import (
    FORGETTING,
    SCORES,
    TRAIN,
    Packed,
    neighbours,
    pack,
    popularity,
    rate,
    wanted,
)
from experiments.parts.seeds import broken, mean_error
from experiments.parts.sizes import count, width
from experiments.parts.timing import timed
from recur import cells, scan, train
from recur.core import Recurrence
from recur.flax.models import LanguageModel

BASELINES = ("popularity", "item-kNN", "item-kNN that forgets")
SIZINGS = ("equal width", "equal parameters")


@dataclass(frozen=True)
class Config(harness.Sized):
    """Next-item prediction on MovieLens-100k."""

    cells: tuple[str, ...] = ("vanilla", "minimal", "cfn", "gru", "lstm")
    """Names of the cells to compare."""
    n: int = 64
    """Units of every cell at equal width, and size of the embedding of an item."""
    like: str = "gru"
    """Name of the cell whose number of parameters at n units all cells get at equal parameters."""
    seeds: int = 3
    """Networks of each cell and size, with different seeds, trained as one vmapped program."""
    longest: int = 500
    """Most items of a history; older items are cut off."""
    rows: int = 8
    """Rows of packed histories per update."""
    updates: int = 400
    """Maximum number of updates of a network."""
    every: int = 50
    """Updates between two validations; a checkpoint follows each."""
    patience: int = 3
    """Number of validations without improvement after which a network stops."""
    learning_rate: float = 4e-3
    """Learning rate of Adam. Gradients are clipped to norm 1."""
    dropout: float = 0.4
    """Dropout rate of the features of inputs and outputs in training."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW."""
    rounds: int = 6
    """How many times the time of an update is measured. The fastest counts."""
    ratings: Path | None = None
    """Tab-separated file of user, item, rating and time to read instead of MovieLens-100k."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        for name in (*self.cells, self.like):
            cells.named(name)
        self.require_divides("every", "updates")
        if self.longest < 4:
            raise ValueError(f"a history needs 4 items or more, got longest={self.longest}")
        self.require_shares("dropout")


class Result(NamedTuple):
    """2 SIZINGS, C cells, S seeds, K validations, 3 baselines; scores in the order of SCORES."""

    cells: np.ndarray  # (C,) names
    widths: np.ndarray  # (2, C) n
    parameters: np.ndarray  # (2, C) of the recurrence
    scores: np.ndarray  # (2, C, S, 4) on the test items
    baselines: np.ndarray  # (3, 4) of BASELINES on the test items; NaN: no likelihood
    neighbours: np.ndarray  # (2,) number of neighbours of item-kNN, as chosen
    forgetting: np.ndarray  # (2,) weight of an item relative to the one after it, as chosen
    updates: np.ndarray  # (K,) updates before each validation
    validation: np.ndarray  # (2, C, S, K) NDCG@20; NaN once stopped
    losses: np.ndarray  # (2, C, S, K) training loss, nats, mean since the last validation
    norms: np.ndarray  # (2, C, S, K) largest gradient norm, before clipping, since then
    diverged: np.ndarray  # (2, C, S) update at which the loss first was not finite, or -1
    seconds: np.ndarray  # (C, rounds) of one update of one network of equal width


class Recommender(nnx.Module):
    """Logits of the next item, E (A h_t + a) + c, where x_t = sqrt(n) E[item].

    c starts as the log of the items' popularity.
    """

    def __init__(self, cell: Recurrence, log_popularity: Array, d: int, n: int, *, rngs: nnx.Rngs):
        self.model = LanguageModel(cell, len(log_popularity), d, n, rngs=rngs)
        self.bias = nnx.Param(log_popularity)

    def features(self, packed: Packed, dropout: float = 0.0, key: Array | None = None) -> Array:
        """A h + a of every step, (T, R, d). With a key, dropout acts on inputs and outputs."""
        model = self.model
        keys = (None, None) if key is None else jax.random.split(key)
        xs = drop(keys[0], model.embed(packed.items), dropout)
        xs = xs * xs.shape[-1] ** 0.5
        there = packed.part > 0
        _, hs = scan.run(model.rnn.cell, model.rnn.values, xs, mask=there, reset=packed.reset)
        return drop(keys[1], model.project(hs), dropout)

    def logits(self, features: Array) -> Array:
        """Features (..., d) -> logits (..., count)."""
        return self.model.embed.attend(features) + self.bias[...]


def loss(model: Recommender, batch: tuple[Packed, Array], dropout: float) -> Array:
    """Mean cross-entropy of the training steps, nats."""
    packed, key = batch
    logits = model.logits(model.features(packed, dropout, key))
    each = optax.softmax_cross_entropy_with_integer_labels(logits, packed.targets)
    return each.mean(where=packed.part == TRAIN)


def predict(model: Recommender, packed: Packed) -> Array:
    """Logits (2, U, count) for the validation and the test item of every user."""
    features = model.features(packed)
    time, row = packed.ends.T
    return model.logits(jnp.stack([features[time - 1, row], features[time, row]]))


class Largest(NamedTuple):
    """The largest gradient norm so far."""

    norm: Array


def watched() -> optax.GradientTransformation:
    """Pass gradients on unchanged, and store their largest norm in the state."""

    def update(gradient: Recommender, state: Largest, params: Recommender | None = None) -> tuple:
        del params
        return gradient, Largest(jnp.maximum(state.norm, optax.tree.norm(gradient)))

    return optax.GradientTransformation(lambda _: Largest(jnp.zeros(())), update)


class Training(NamedTuple):
    """How networks learn, the same for all of them."""

    loss: train.Loss
    optimizer: optax.GradientTransformation
    sample: train.Sample


def training(packed: Packed, config: Config) -> Training:
    """AdamW on clipped gradients, with rows drawn at random."""

    def sample(key: Array) -> tuple[Packed, Array]:
        rows, dropout = jax.random.split(key)
        drawn = jax.random.randint(rows, (config.rows,), 0, packed.items.shape[1])
        steps = {
            name: getattr(packed, name)[:, drawn] for name in ("items", "targets", "part", "reset")
        }
        return packed._replace(**steps), dropout

    optimizer = optax.chain(
        watched(),
        optax.clip_by_global_norm(1.0),
        optax.adamw(config.learning_rate, weight_decay=config.weight_decay),
    )
    return Training(lambda model, batch: loss(model, batch, config.dropout), optimizer, sample)


def draw(cell: Recurrence, packed: Packed, d: int, n: int, keys: Array) -> Recommender:
    """Draw a network for each key; returns them stacked."""
    start = popularity(packed, packed.seen.shape[-1])
    return jax.vmap(lambda key: Recommender(cell, start, d, n, rngs=nnx.Rngs(key)))(keys)


class Curves(NamedTuple):
    """The curves of training; fields as in Result, of one cell and size."""

    validation: np.ndarray  # (S, K)
    losses: np.ndarray  # (S, K)
    norms: np.ndarray  # (S, K)
    scores: np.ndarray  # (S, 4) on the test items, where validation was best
    diverged: np.ndarray  # (S,)


def fit(name: str, n: int, packed: Packed, config: Config, record: harness.Record) -> Curves:
    """Train all seeds of a cell until none improves; a checkpoint follows each validation."""
    how, S, K = training(packed, config), config.seeds, config.updates // config.every
    keys = jax.random.split(jax.random.key(config.seed), (2, S))
    models = draw(cells.named(name), packed, config.n, n, keys[0])
    state = placed(
        jax.vmap(lambda key, model: train.start(key, model, how.optimizer))(keys[1], models)
    )
    missing = np.full((S, K), np.nan)
    curves = Curves(
        missing, missing.copy(), missing.copy(), np.full((S, 4), np.nan), np.full(S, -1)
    )
    learn = jax.vmap(lambda s: train.advance(*how, forget_norm(s), config.every, config.every))
    advance = jax.jit(train.over_devices(learn))
    score = jax.jit(train.over_devices(jax.vmap(lambda model: _score(model, packed))))

    def measured(k: int, state: train.State, curves: Curves) -> tuple[train.State, dict] | None:
        if not np.asarray(train.training(state)).any():
            return None
        state, losses = advance(state)
        _keep(curves, k, state, losses, score(state.params))
        state = placed(train.finish(state, stale(curves.validation, config.patience)))
        now = {"ndcg": curves.validation, "loss": curves.losses, "norm": curves.norms}
        return state, {key: curve[:, k] for key, curve in now.items()}

    part = f"{name} of {n}"
    return record.rounds(part, config.updates, config.every, state, curves, measured)[1]


def _score(model: Recommender, packed: Packed) -> Array:
    logits = predict(model, packed)
    return rate(logits, wanted(packed), packed.seen, jax.nn.log_softmax(logits))


def _keep(curves: Curves, k: int, state: train.State, losses: Array, scores: Array) -> None:
    """Write measurement k into the curves, for networks that have not stopped."""
    learns = np.asarray(train.training(state))
    validation, test = np.asarray(scores).swapaxes(0, 1)
    best = np.nan_to_num(curves.validation, nan=-1.0).max(axis=1)
    for curve, values in (
        (curves.validation, validation[:, 2]),
        (curves.losses, losses[:, 0]),
        (curves.norms, state.opt[0].norm),
    ):
        curve[learns, k] = np.asarray(values)[learns]
    better = learns & (validation[:, 2] > best)
    curves.scores[better] = test[better]
    curves.diverged[:] = state.diverged


def stale(validation: np.ndarray, patience: int) -> np.ndarray:
    """Whether each seed's best validation (S, K) is `patience` or more before its last, (S,)."""
    made = np.isfinite(validation).sum(axis=1)
    return made - 1 - np.nan_to_num(validation, nan=-1.0).argmax(axis=1) >= patience


def forget_norm(state: train.State) -> train.State:
    """Reset the largest gradient norm in the state."""
    largest, *others = state.opt
    return state._replace(opt=(Largest(jnp.zeros_like(largest.norm)), *others))


def pace(packed: Packed, config: Config, record: harness.Record) -> np.ndarray:
    """Seconds per update of one network of each cell at equal width, (C, rounds), in turn.

    The times are saved, so that a resumed run has the times of the killed one.
    """

    def measured(_: int, nothing: tuple, seconds: np.ndarray) -> tuple[tuple, dict]:
        seconds[:] = _measure(packed, config)
        return nothing, {"seconds": seconds}

    empty = np.zeros((len(config.cells), config.rounds))
    return record.rounds("pace", 1, 1, (), empty, measured)[1]


def _measure(packed: Packed, config: Config) -> np.ndarray:
    how, key = training(packed, config), jax.random.key(config.seed)
    steps, runs = 5, []
    for name in config.cells:
        model = draw(cells.named(name), packed, config.n, config.n, key[None])
        state = train.start(key, jax.tree.map(lambda a: a[0], model), how.optimizer)
        advance = jax.jit(lambda s: train.advance(*how, s, steps, steps)).lower(state).compile()
        jax.block_until_ready(advance(state))
        runs.append((advance, state))
    seconds = np.zeros((len(runs), config.rounds))
    for i in range(config.rounds):
        for c, (advance, state) in enumerate(runs):
            seconds[c, i] = timed(advance, state)[1] / steps
    return seconds


def run(config: Config, record: harness.Record) -> Result:
    """Compute the baselines, train every cell at both sizes, and measure the time of an update."""
    histories = data.histories(config.ratings)
    packed = pack(histories, config.longest)
    items, seen = wanted(packed)[1], packed.seen[1]
    popular = jnp.broadcast_to(popularity(packed, histories.catalogue), seen.shape)
    knn = [neighbours(histories, packed, tried) for tried in ((1.0,), FORGETTING)]
    rankings = [popular, *(scores[1] for scores, _, _ in knn)]
    baselines = np.array([rate(scores, items, seen, popular) for scores in rankings])
    baselines[1:, 3] = np.nan

    seconds = pace(packed, config, record)
    size = count(cells.named(config.like), config.n, config.n)
    equal = [width(cells.named(name), config.n, size) for name in config.cells]
    widths = [[config.n] * len(config.cells), equal]
    both = [list(zip(config.cells, row, strict=True)) for row in widths]
    fits = {one: fit(*one, packed, config, record) for one in dict.fromkeys(both[0] + both[1])}
    parameters = [[count(cells.named(name), config.n, n) for name, n in row] for row in both]
    curves = Curves(
        *(
            np.array([[fits[one]._asdict()[field] for one in row] for row in both])
            for field in Curves._fields
        )
    )
    updates = np.arange(config.every, config.updates + 1, config.every)
    return Result(
        np.array(config.cells),
        np.array(widths),
        np.array(parameters),
        curves.scores,
        baselines,
        np.array([k for _, k, _ in knn]),
        np.array([fade for *_, fade in knn]),
        updates,
        curves.validation,
        curves.losses,
        curves.norms,
        curves.diverged,
        seconds,
    )


def so_far(result: Result) -> np.ndarray:
    """The best NDCG up to each validation, mean over the seeds, (2, C, K)."""
    known = np.nan_to_num(result.validation, nan=-1.0)
    return np.maximum.accumulate(known, axis=-1).mean(axis=2)


def reached(result: Result) -> tuple[float, np.ndarray]:
    """A validation NDCG that every gated cell reaches, and the updates until then, (2, C).

    It is 95 % of the worst cell's best NDCG, mean over the seeds. Updates are inf for cells that
    never reach it.
    """
    best = so_far(result)
    gated = result.cells != "vanilla"
    goal = 0.95 * best[:, gated if gated.any() else slice(None), -1].min()
    first = np.where((best >= goal).any(axis=-1), result.updates[(best >= goal).argmax(-1)], np.inf)
    return float(goal), first


def claims(result: Result) -> dict[str, float]:
    """Scores on the test films at equal width, mean over the seeds."""
    of = {}
    recall, ndcg = SCORES.index("Recall@20"), SCORES.index("NDCG@20")
    for name, scores in zip(BASELINES, result.baselines, strict=True):
        of[f"{name}: Recall@20 on MovieLens-100k"] = scores[recall]
        of[f"{name}: NDCG@20"] = scores[ndcg]
    for c, name in enumerate(result.cells):
        scores = result.scores[0, c]
        of[f"{name}: Recall@20"], of[f"{name}: NDCG@20"] = scores.mean(axis=0)[[recall, ndcg]]
    return of


def table(result: Result) -> harness.Table:
    """One row per baseline, and one per cell and size: mean +- standard error over the seeds."""
    rows = [
        (
            name,
            "",
            "",
            *(f"{score:.4f}" if np.isfinite(score) else "" for score in scores),
            "",
            "",
            "",
            "",
            "",
        )
        for name, scores in zip(BASELINES, result.baselines, strict=True)
    ]
    goal, updates = reached(result)
    update = result.seconds.min(axis=1)
    unit = list(result.cells).index("minimal") if "minimal" in result.cells else 0
    spent = updates[0] * update
    for size in range(len(SIZINGS)):
        for c, name in enumerate(result.cells):
            each = result.scores[size, c]
            times = (
                (
                    f"{1e3 * update[c]:.0f}",
                    f"{update[c] / update[unit]:.2f}",
                    f"{spent[c] / spent[unit]:.2f}",
                )
                if size == 0
                else ("", "", "")
            )
            rows.append(
                (
                    name,
                    str(result.widths[size, c]),
                    f"{result.parameters[size, c]:,}",
                    *(mean_error(scores, ".4f") for scores in each.T),
                    broken(result.diverged[size, c]),
                    f"{updates[size, c]:.0f}",
                    *times,
                )
            )
    columns = (
        "",
        "n",
        "params",
        *SCORES,
        "diverged",
        f"updates to NDCG {goal:.3f}",
        "ms per update",
        "relative",
        "relative time to it",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot test scores and baselines, validation against updates and time, and gradient norms."""
    figure = Figure(figsize=(13, 9), layout="constrained")
    axes = figure.subplots(2, 2)
    colours = mpl.color_sequences["tab10"]
    _scores(axes[0, 0], result)
    seconds = result.seconds.min(axis=1)
    for c, name in enumerate(result.cells):
        for ax, x in ((axes[0, 1], result.updates), (axes[1, 0], result.updates * seconds[c])):
            ax.plot(x, so_far(result)[0, c], ".-", color=colours[c], label=name)
        norms = np.nan_to_num(result.norms[0, c]).max(axis=0)  # NaN: stopped
        learns = norms > 0
        axes[1, 1].semilogy(
            result.updates[learns], norms[learns], ".-", color=colours[c], label=name
        )
    goal, _ = reached(result)
    for ax, unit in ((axes[0, 1], "updates"), (axes[1, 0], "seconds of one network's updates")):
        ax.axhline(goal, color="k", lw=0.7, ls="--", label="equal quality")
        ax.set(
            xlabel=unit,
            ylabel="best validation NDCG@20 so far, mean of seeds",
            title=f"Learning, {SIZINGS[0]} (n = {result.widths[0, 0]})",
        )
        ax.legend(fontsize=8)
    axes[1, 1].axhline(1, color="k", lw=0.7, ls="--", label="clipped to")
    axes[1, 1].set(
        xlabel="updates",
        ylabel="largest gradient norm since the point before",
        title=f"Gradients before clipping, {SIZINGS[0]}",
    )
    axes[1, 1].legend(fontsize=8)
    return figure


def _scores(ax: Axes, result: Result) -> None:
    x = np.arange(len(result.cells))
    for i, (score, colour) in enumerate(((0, "C0"), (2, "C1"))):
        for size, name in enumerate(SIZINGS):
            each = result.scores[size, ..., score]
            place = x + 0.2 * (2 * i + size - 1.5)
            ax.bar(
                place,
                each.mean(axis=1),
                0.19,
                color=colour,
                alpha=1 - 0.5 * size,
                label=f"{SCORES[score]}, {name}",
            )
            for seed in each.T:
                ax.plot(place, seed, "k.", ms=3)
        for value, style, baseline in zip(
            result.baselines[:, score], (":", "-.", "--"), BASELINES, strict=True
        ):
            ax.axhline(value, color=colour, ls=style, label=f"{SCORES[score]}, {baseline}")
    ax.set_xticks(x, result.cells)
    ax.set(
        ylim=(0, 1.6 * np.nanmax(result.scores[..., 0])),
        ylabel="on the test items",
        title="The next film among all unseen ones; dots are seeds",
    )
    ax.legend(fontsize=7, ncols=2)


PAPER = Config(preset="paper", n=100, updates=3000, patience=10, seeds=5)

if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
