"""Can a vanilla network learn a longer delay if its gradients are flossed first?

The network reads one bit per step. At every step it says whether the bits of `delay` and of
`delay / 2` steps ago differ. Gradient flossing comes before training: it is gradient descent on the
sum of squares of the k largest Lyapunov exponents, so that gradients neither vanish nor explode in
k directions. Three methods are compared: networks drawn at sigma_w = 1 and trained; the same with
an orthogonal W; and networks drawn like the first ones, flossed, and trained on the same batches.

Claim (arXiv:2312.17306): flossing makes a longer delay learnable. As drawn, the first 16 exponents
lie between -.4 and -.7. Flossing brings them above -.1, and takes as long as some 200 updates of
training. At a delay of 10 all 4 flossed networks learn, but so do the drawn ones and 3 of 4
orthogonal ones, and flossing only just repays its time. At 20 all flossed networks learn within 600
updates, while the others still answer by chance after 1500. At 30 flossed networks are right in
78 % of the answers and the others at chance: none of them has learned it by then.

Two things are not tested: priors whose exponents start nearer to zero, such as a larger sigma_w,
and repeated flossing during training, which the paper uses for longer delays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import harness
from experiments.parts.timing import timed
from recur import analysis, cells, compose, scan, tasks, train
from recur import plot as picture
from recur.core import Prior

CELL = cells.vanilla.cell
METHODS = ("drawn", "orthogonal", "flossed")
SOLVED = 0.95  # share of correct answers from which a task counts as solved
TESTED = 256  # test sequences
STAGES = ("as drawn", "as training starts", "as it ends")


@dataclass(frozen=True)
class Config(harness.Config):
    """Gradient flossing before training, on delayed temporal XOR."""

    delays: tuple[int, ...] = (10, 20, 30)
    """Steps back to the earlier of the two bits. Sequences are three times as long."""
    n: int = 64
    """Units."""
    sigma_w: float = 1.0
    """sigma_w of the initial weights."""
    k: int = 16
    """Number of Lyapunov exponents that flossing moves towards zero."""
    flossings: int = 200
    """Flossing updates before training."""
    seeds: int = 4
    """Networks of each method, with different seeds, trained as one vmapped program."""
    updates: int = 1500
    """Training updates."""
    every: int = 100
    """Updates between two measurements of the accuracy; a checkpoint follows each."""
    batch: int = 32
    """Sequences per update."""
    learning_rate: float = 1e-3
    """Learning rate of Adam for flossing and training. Gradients are clipped to norm 1."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        self.require_divides("every", "updates")
        if not 1 <= self.k <= self.n:
            raise ValueError(f"k must lie in 1 .. n; got k={self.k} and n={self.n}")


class Result(NamedTuple):
    """D delays, M methods, S seeds, K = updates / every measurements."""

    delays: np.ndarray  # (D,)
    methods: np.ndarray  # (M,) names
    updates: np.ndarray  # (K,) updates before each measurement
    accuracies: np.ndarray  # (D, M, S, K)
    exponents: np.ndarray  # (D, M, 3, S, k) nats per step, as in STAGES
    seconds: np.ndarray  # (D, M, 2) of flossing and of training, all seeds, without compilation
    flossings: np.ndarray  # () number of flossing updates


class Network(NamedTuple):
    """A recurrence and its readout."""

    rnn: cells.vanilla.Params
    W: Array  # (n, 2)
    b: Array  # (2,)


class Curves(NamedTuple):
    """The curves of training; fields as in Result."""

    accuracies: np.ndarray  # (S, K)
    seconds: np.ndarray  # (2,)
    exponents: np.ndarray  # (3, S, k)


@cache
def delayed_xor(delay: int) -> tasks.Task:
    """Whether the bits (-1 or 1) of `delay` and of `delay / 2` steps ago differ, at every step."""
    T, half = 3 * delay, delay // 2

    def sample(key: Array, batch: int) -> tasks.Batch:
        bits = jax.random.bernoulli(key, shape=(T, batch))
        differ = bits[: T - delay] != bits[delay - half : T - half]
        return tasks.Batch(jnp.where(bits, 1.0, -1.0)[..., None], differ.astype(int))

    return tasks.Task(sample, 1, 2, tasks.Baseline(log(2), 1 / 2))


def draw(key: Array, method: str, config: Config) -> Network:
    """Draw a network for a method, before any update."""
    cell = compose.orthogonal(CELL) if method == "orthogonal" else CELL
    one, two = jax.random.split(key)
    readout = jax.random.normal(two, (config.n, 2)) / np.sqrt(config.n)
    return Network(cell.init(one, Prior(config.sigma_w), 1, config.n), readout, jnp.zeros(2))


def outputs(network: Network, xs: Array) -> Array:
    """Logits at every step."""
    _, hs = scan.run(CELL, network.rnn, xs)
    return hs @ network.W + network.b


def loss(network: Network, batch: tasks.Batch) -> Array:
    """Cross-entropy of the answers, nats."""
    return tasks.loss(outputs(network, batch.xs)[-len(batch.targets) :], batch.targets)


def floss(k: int, network: Network, batch: tasks.Batch) -> Array:
    """Sum of squares of the k largest Lyapunov exponents along one sequence."""
    body = scan.tied(CELL, network.rnn)
    start = CELL.start(network.rnn)
    return analysis.flossing(jax.random.key(0), body, start, batch.xs[:, 0], k, every=5)


def optimizer(config: Config) -> optax.GradientTransformation:
    """The optimizer for flossing and for training."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate))


@partial(jax.jit, static_argnums=(0, 1))
def flossed(config: Config, delay: int, states: train.State) -> train.State:
    """Floss the states (S,); returns the states from which training starts."""
    rule = optimizer(config)

    def sample(key: Array) -> tasks.Batch:
        return delayed_xor(delay).sample(key, 1)

    def one(state: train.State) -> train.State:
        floss_k = partial(floss, config.k)
        network = train.advance(floss_k, rule, sample, state, config.flossings)[0].params
        return train.start(state.key, network, rule)

    return jax.vmap(one)(states)


@partial(jax.jit, static_argnums=(0, 1))
def trained(config: Config, delay: int, states: train.State) -> train.State:
    """The states (S,) after another `every` training updates."""
    rule = optimizer(config)

    def sample(key: Array) -> tasks.Batch:
        return delayed_xor(delay).sample(key, config.batch)

    return jax.vmap(lambda state: train.advance(loss, rule, sample, state, config.every)[0])(states)


@partial(jax.jit, static_argnums=(0, 1))
def exponents(config: Config, delay: int, networks: Network, key: Array) -> Array:
    """The k largest exponents along ten sequences, (S, k)."""
    xs = jnp.concatenate([*delayed_xor(delay).sample(key, 10).xs.swapaxes(0, 1)])

    def one(network: Network) -> Array:
        body = scan.tied(CELL, network.rnn)
        start = CELL.start(network.rnn)
        return analysis.lyapunov(key, body, start, xs, config.k, discard=3 * delay, every=5)

    return jax.vmap(one)(networks)


@partial(jax.jit, static_argnums=0)
def accuracy(delay: int, networks: Network, key: Array) -> Array:
    """Share of correct answers, (S,)."""
    xs, targets = delayed_xor(delay).sample(key, TESTED)

    def one(network: Network) -> Array:
        return tasks.accuracy(outputs(network, xs)[-len(targets) :], targets)

    return jax.vmap(one)(networks)


def begin(method: str, config: Config) -> train.State:
    """Training states (S,) for a method, before any update."""

    def one(key: Array) -> train.State:
        drawn, trained = jax.random.split(key)
        return train.start(trained, draw(drawn, method, config), optimizer(config))

    return jax.vmap(one)(jax.random.split(jax.random.key(config.seed), config.seeds))


def run(config: Config, record: harness.Record) -> Result:
    """Train with each method at each delay."""
    found = []
    for delay in config.delays:
        shapes = jax.eval_shape(lambda: begin(METHODS[0], config))
        programs = [f.lower(config, delay, shapes).compile() for f in (flossed, trained)]
        found.append([fit(delay, method, programs, config, record) for method in METHODS])
    accuracies, seconds, spectra = (
        np.array([[getattr(curves, field) for curves in row] for row in found])
        for field in Curves._fields
    )
    updates = np.arange(config.every, config.updates + 1, config.every)
    return Result(
        np.array(config.delays),
        np.array(METHODS),
        updates,
        accuracies,
        spectra,
        seconds,
        np.array(config.flossings),
    )


def fit(
    delay: int, method: str, programs: Sequence[Callable], config: Config, record: harness.Record
) -> Curves:
    """Draw networks, floss them if the method does, and train; checkpoints follow measurements."""
    K, S = config.updates // config.every, config.seeds
    test, probe = jax.random.split(jax.random.key(config.seed + 1))
    states = begin(method, config)
    curves = Curves(np.zeros((S, K)), np.zeros(2), np.zeros((3, S, config.k)))

    def measured(k: int, states: train.State, curves: Curves) -> tuple[train.State, dict]:
        if k == 0:
            curves.exponents[0] = exponents(config, delay, states.params, probe)
            if method == "flossed":
                states, curves.seconds[0] = timed(programs[0], states)
            curves.exponents[1] = exponents(config, delay, states.params, probe)
        states, spent = timed(programs[1], states)
        curves.seconds[1] += spent
        curves.accuracies[:, k] = accuracy(delay, states.params, test)
        if k == K - 1:
            curves.exponents[2] = exponents(config, delay, states.params, probe)
        return states, {"accuracy": curves.accuracies[:, k]}

    part = f"{method}-{delay}"
    return record.rounds(part, config.updates, config.every, states, curves, measured)[1]


def solved(result: Result) -> np.ndarray:
    """The update at which each network was first found to solve its task, or inf: (D, M, S)."""
    right = result.accuracies >= SOLVED
    return np.where(right.any(axis=-1), result.updates[right.argmax(axis=-1)], np.inf)


def cost(result: Result) -> np.ndarray:
    """The number of training updates that take as long as flossing, (D, M)."""
    flossing, training = np.moveaxis(result.seconds, -1, 0)
    return flossing / training * result.updates[-1]


def claims(result: Result) -> dict[str, float]:
    """How many networks solve each delay, and when; the effect of flossing, and its cost."""
    first, costs = solved(result), cost(result)
    of = {"networks of a kind": first.shape[-1], "updates of training": result.updates[-1]}
    for (i, delay), (j, name) in product(enumerate(result.delays), enumerate(result.methods)):
        at = f"delay {delay}, {name}"
        of[f"{at}: solved"] = np.isfinite(first[i, j]).sum()
        of[f"{at}: answers right, %"] = 100 * np.median(result.accuracies[i, j, :, -1])
        if name == "flossed":
            of[f"{at}: all solved at update"] = first[i, j].max()
            of[f"{at}: flossing took updates"] = costs[i, j]
            spectra = result.exponents[i, j, :2].mean(axis=1)
            for when, spectrum in zip(("before", "after"), spectra, strict=True):
                of[f"{at}: exponent 1 of 16, {when} flossing, negative"] = -spectrum[0]
                of[f"{at}: exponent 16, {when} flossing, negative"] = -spectrum[-1]
    return of


def table(result: Result) -> harness.Table:
    """One row per delay and method."""
    first, costs, rows = solved(result), cost(result), []
    for i, delay in enumerate(result.delays):
        for j, method in enumerate(result.methods):
            last, when = result.accuracies[i, j, :, -1], np.median(first[i, j])
            spectra = result.exponents[i, j].mean(axis=1)
            rows.append(
                (
                    str(delay),
                    str(method),
                    f"{np.isfinite(first[i, j]).sum()} of {last.size}",
                    f"{np.median(last):.1%}",
                    f"{100 * last.min():.0f}-{100 * last.max():.0f}",
                    f"{when:.0f}" if np.isfinite(when) else "never",
                    f"{costs[i, j]:.0f}",
                    *(f"{one[0]:.3f} .. {one[-1]:.3f}" for one in spectra[:2]),
                )
            )
    k = result.exponents.shape[-1]
    columns = (
        "delay",
        "network",
        "solved",
        "correct",
        "range %",
        "solved at update",
        "cost of flossing (updates)",
        f"exponents 1 .. {k}, drawn",
        "at start",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot accuracy for each delay, exponents for the longest, and updates until solved."""
    D = len(result.delays)
    figure = Figure(figsize=(3.8 * D + 0.4, 7), layout="constrained")
    grid = figure.add_gridspec(2, 6 * D)
    for i, delay in enumerate(result.delays):
        ax = figure.add_subplot(grid[0, 6 * i : 6 * i + 6])
        _accuracy(ax, result, i)
        ax.set(title=f"delay {delay}", xlabel="updates of training", ylim=(0.45, 1.02))
        if i == 0:
            ax.set_ylabel("share of right answers")
            ax.legend(fontsize=8)
    for stage, when in enumerate(STAGES):
        ax = figure.add_subplot(grid[1, 2 * D * stage : 2 * D * (stage + 1)])
        for j, method in enumerate(result.methods):
            found = analysis.Lyapunov(result.exponents[-1, j, stage], *[None] * 5)
            picture.lyapunov(found, ax, picture.COLOURS[j], None if stage else method)
        title = f"exponents {when} (delay {result.delays[-1]})"
        ax.set(title=title, ylabel="" if stage else ax.get_ylabel(), ylim=(-1, 0.2))
    figure.suptitle("Delayed temporal XOR: a vanilla network with and without gradient flossing")
    return figure


def _accuracy(ax: Axes, result: Result, i: int) -> None:
    costs = cost(result)[i]
    for j, method in enumerate(result.methods):
        for s, one in enumerate(result.accuracies[i, j]):
            ax.plot(
                result.updates, one, color=picture.COLOURS[j], lw=1, label=None if s else method
            )
        if costs[j]:
            later = result.updates + costs[j]
            median = np.median(result.accuracies[i, j], axis=0)
            label = "median, shifted by the time of flossing"
            ax.plot(later, median, ":", color=picture.COLOURS[j], label=label)
    ax.axhline(0.5, color="k", lw=0.7, ls="--")


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
