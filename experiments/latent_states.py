"""Does each state coordinate stay a memory of one input coordinate?

Digits are read row by row. Every network maps a row x to n features, z_t = tanh(E x_t + a), which
do not depend on the state. Then comes a MinimalRNN (`minimal.bare`), a GRU or an LSTM of n units,
and a linear readout of the last state. In the MinimalRNN, each coordinate of the state averages the
same coordinate of z over time. Chen 2017, arXiv:1711.06788, says that its latent states therefore
stay closer to the features of its inputs than those of other cells. Two numbers measure this here.
Neither presumes which unit belongs to which feature.

Disentanglement, from gradients: E_ij(lag) is the mean over digits of (dh_T,i / dz_{T-lag},j)^2,
p_ij is its share among all features j, at one lag or summed over all lags, and

    D = mean over units i of 1 - H(p_i) / log n        H the entropy of a distribution, nats

So D = 1 if each unit remembers one feature, and D = 0 if each remembers all features equally.

Correlation: r^2 of a unit with the feature and lag that it is most correlated with, over the test
digits, mean over units. It says how far a unit is a copy of one number read before.

Chance is the value that the same network gives after its state is rotated, h' = Q h, where Q is a
random rotation. The memory is then the same, but in arbitrary coordinates. A matrix of independent
Gaussian numbers has D = 0.73 / log n for a single digit, and less in the mean of many. The same
networks before training are a second control.

Claim, as far as D measures it: the MinimalRNN's states are memories of single features, because of
its equations rather than its training. Before training its D is 0.95 (chance 0.18), while the GRU
and the LSTM, with 0.14 and 0.13, are at chance. After training D is 0.58 (chance 0.11) for
MinimalRNN, 0.05 (0.03) for GRU and 0.04 (0.01) for LSTM. In MinimalRNN this holds for the rows just
read: D of the last row is 0.67 (chance 0.33), and D ten rows back is 0.32 (0.25). It is almost lost
in the pixels of a row, which the features mix (D = 0.09, 0.07 and 0.06, chance 0.05, 0.06 and
0.03). Few units are copies of one number (r^2 = 0.35, 0.31 and 0.29, chance 0.29, 0.28 and 0.27).
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from jax import Array, lax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import data, harness
from experiments.parts.placing import placed
from experiments.parts.seeds import mean_error
from recur import Prior, cells, scan, tasks, train
from recur.analysis.numerics.qr import qr
from recur.core import Tree

WHEN = ("before training", "after training")


@dataclass(frozen=True)
class Config(harness.Sized):
    """What the state coordinates of trained networks remember."""

    cells: tuple[str, ...] = ("minimal.bare", "gru", "lstm")
    """Names of the cells to compare. All read n features."""
    n: int = 64
    """Units of each network, and number of features of a row."""
    seeds: int = 3
    """Networks of each cell, with different seeds, trained as one vmapped program."""
    updates: int = 600
    """Updates of each network."""
    every: int = 50
    """Updates between two measurements of the test accuracy; a checkpoint follows each."""
    batch: int = 100
    """Digits per update."""
    learning_rate: float = 3e-3
    """Learning rate of Adam. Gradients are clipped to norm 1."""
    examples: int = 100
    """Test digits whose gradients are measured. Correlations use all test digits."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        for name in self.cells:
            cells.named(name)
        self.require_divides("every", "updates")
        if self.n < 2 or self.examples < 1 or self.seeds < 1:
            raise ValueError("n must be 2 or more, examples and seeds 1 or more")


class Measured(NamedTuple):
    """Measures of one network, in its own coordinates and in rotated ones, at T lags from 0."""

    pooled: Array  # (2,) D, gradients of all lags together
    lags: Array  # (2, T) D of each lag
    pixels: Array  # (2,) D with respect to the pixels of a row instead of its features
    correlation: Array  # (2,) r^2 with the best feature and lag
    reach: Array  # (T,) share of each lag in the squared gradients
    shares: Array  # (n, n) p_ij of all lags together, own coordinates


class Result(NamedTuple):
    """C cells, S seeds, K measurements; before and after training, own and rotated: (2, 2)."""

    cells: np.ndarray  # (C,) names
    updates: np.ndarray  # (K,) updates before each measurement
    losses: np.ndarray  # (C, S, K) training loss, nats, mean since the last measurement
    accuracies: np.ndarray  # (C, S, K) on the test digits
    diverged: np.ndarray  # (C, S) update at which the loss first was not finite, or -1
    pooled: np.ndarray  # (C, S, 2, 2) D, gradients of all lags together
    lags: np.ndarray  # (C, S, 2, 2, T) D of each lag
    pixels: np.ndarray  # (C, S, 2, 2) D with respect to the pixels of a row
    correlation: np.ndarray  # (C, S, 2, 2) r^2 with the best feature and lag
    reach: np.ndarray  # (C, S, 2, T) share of each lag in the squared gradients
    shares: np.ndarray  # (C, S, 2, n, n) p_ij of units i and features j


class Network(NamedTuple):
    """E (d, n), a (n,) of the features; the cell's own; R (n, 10), c (10,) of the readout."""

    E: Array
    a: Array
    own: Tree
    R: Array
    c: Array


def draw(name: str, n: int, d: int, key: Array) -> Network:
    """Draw a network from one prior. Features and readout have sigma 1."""
    own, features, readout = jax.random.split(key, 3)
    E = jax.random.normal(features, (d, n)) / d**0.5
    R = jax.random.normal(readout, (n, 10)) / n**0.5
    return Network(E, jnp.zeros(n), cells.named(name).init(own, Prior(), n, n), R, jnp.zeros(10))


def features(network: Network, xs: Array) -> Array:
    """z (T, ..., n) of rows xs (T, ..., d)."""
    return jnp.tanh(xs @ network.E + network.a)


def last(name: str, network: Network, zs: Array) -> Array:
    """h_T (..., n) of features zs (T, ..., n)."""
    return scan.run(cells.named(name), network.own, zs)[1][-1]


def logits(name: str, network: Network, xs: Array) -> Array:
    """xs (T, ..., d) -> (..., 10)."""
    return last(name, network, features(network, xs)) @ network.R + network.c


def disentanglement(energy: Array) -> Array:
    """Mean over units i of 1 - H(p_i) / log n, for squared gradients (..., units, n)."""
    p = energy / jnp.maximum(energy.sum(axis=-1, keepdims=True), jnp.finfo(energy.dtype).tiny)
    entropy = jnp.sum(jax.scipy.special.entr(p), axis=-1)
    return jnp.mean(1 - entropy / jnp.log(energy.shape[-1]), axis=-1)


def gradients(name: str, network: Network, rotations: Array, xs: Array) -> tuple[Array, Array]:
    """Mean squares over digits xs (T, N, d) of dQh_T/dz and dQh_T/dx, for rotations Q (B, n, n).

    Returns arrays (B, lags, n, n) and (B, lags, n, d).
    """

    def one(x: Array) -> tuple[Array, Array]:
        zs = features(network, x)
        J = jnp.moveaxis(jax.jacrev(partial(last, name, network))(zs), 1, 0)[::-1]  # lags first
        J = rotations[:, None] @ J
        to_pixels = (J * (1 - zs[::-1, None] ** 2)) @ network.E.T
        return J**2, to_pixels**2

    def add(total: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], None]:
        return jax.tree.map(jnp.add, total, one(x)), None

    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(one, xs[:, 0]))
    total, _ = lax.scan(add, zeros, xs.swapaxes(0, 1))
    return jax.tree.map(lambda a: a / xs.shape[1], total)


def best_correlation(hs: Array, zs: Array) -> Array:
    """Mean over units of the largest r^2 of hs (N, n) with any of zs (T, N, n)."""

    def standard(a: Array) -> Array:
        a = a - a.mean(axis=-2, keepdims=True)
        size = jnp.linalg.norm(a, axis=-2, keepdims=True)
        return a / jnp.where(size > 1e-6, size, jnp.inf)  # constants correlate with nothing

    r = jnp.swapaxes(standard(zs), -1, -2) @ standard(hs)  # (T, n of z, n of h)
    return jnp.mean(jnp.max(r**2, axis=(0, 1)))


def measure(name: str, network: Network, key: Array, xs: Array, examples: int) -> Measured:
    """All measures of one network, on digits xs (T, N, d)."""
    n = len(network.a)
    Q, _ = qr(jax.random.normal(key, (n, n)))
    bases = jnp.stack([jnp.eye(n), Q])
    zs = features(network, xs)
    hs = last(name, network, zs)
    energy, of_pixels = gradients(name, network, bases, xs[:, :examples])
    correlation = jax.vmap(lambda Q: best_correlation(hs @ Q.T, zs))(bases)
    total = energy.sum(axis=1)  # over lags
    reach = energy[0].sum(axis=(1, 2)) / energy[0].sum()
    return Measured(
        disentanglement(total),
        disentanglement(energy),
        disentanglement(of_pixels.sum(axis=1)),
        correlation,
        reach,
        total[0] / total[0].sum(axis=1, keepdims=True),
    )


def fit(
    name: str,
    xs: tuple[Array, Array],
    labels: tuple[Array, Array],
    config: Config,
    record: harness.Record,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], Measured]:
    """Train all seeds of a cell as one program; returns curves, and measures before and after."""
    S, K = config.seeds, config.updates // config.every
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate))

    def loss(network: Network, batch: tuple[Array, Array]) -> Array:
        answers = logits(name, network, batch[0])
        return optax.softmax_cross_entropy_with_integer_labels(answers, batch[1]).mean()

    def sample(key: Array) -> tuple[Array, Array]:
        drawn = jax.random.randint(key, (config.batch,), 0, len(labels[0]))
        return xs[0][:, drawn], labels[0][drawn]

    def start(key: Array) -> train.State:
        own, batches = jax.random.split(key)
        return train.start(batches, draw(name, config.n, xs[0].shape[-1], own), optimizer)

    def learn(state: train.State) -> tuple[train.State, Array]:
        return train.advance(loss, optimizer, sample, state, config.every, config.every)

    def score(network: Network) -> Array:
        return tasks.accuracy(logits(name, network, xs[1]), labels[1])

    keys = jax.random.split(jax.random.key(config.seed), S)
    state = placed(jax.vmap(start)(keys))
    look = jax.jit(
        train.over_devices(
            jax.vmap(lambda network, key: measure(name, network, key, xs[1], config.examples))
        )
    )
    before = look(state.params, keys)
    advance = jax.jit(train.over_devices(jax.vmap(learn)))
    scores = jax.jit(train.over_devices(jax.vmap(score)))

    def measured(k: int, state: train.State, kept: tuple) -> tuple[train.State, dict]:
        state, found = advance(state)
        losses, accuracies = kept
        losses[:, k], accuracies[:, k] = found[:, 0], scores(state.params)
        return state, {"loss": losses[:, k], "accuracy": accuracies[:, k]}

    state, (losses, accuracies) = record.rounds(
        name, config.updates, config.every, state, (np.zeros((S, K)), np.zeros((S, K))), measured
    )
    after = look(state.params, keys)
    both = jax.tree.map(lambda *ends: np.stack(ends, axis=1), before, after)
    return (losses, accuracies, np.asarray(state.diverged)), both


def run(config: Config, record: harness.Record) -> Result:
    """Train and measure every cell, on one set of digits."""
    images = data.digits()
    mean, deviation = images.train_x.mean(), images.train_x.std()
    train_xs, test_xs = (
        jnp.asarray((x - mean) / deviation).swapaxes(0, 1) for x in (images.train_x, images.test_x)
    )
    labels = jnp.asarray(images.train_y), jnp.asarray(images.test_y)
    curves, measured = zip(
        *(fit(name, (train_xs, test_xs), labels, config, record) for name in config.cells),
        strict=True,
    )
    losses, accuracies, diverged = map(np.array, zip(*curves, strict=True))
    updates = np.arange(config.every, config.updates + 1, config.every)
    return Result(
        np.array(config.cells),
        updates,
        losses,
        accuracies,
        diverged,
        *jax.tree.map(lambda *each: np.stack(each), *measured),
    )


def table(result: Result) -> harness.Table:
    """Two rows per cell, before and after training: own coordinates, then rotated ones."""
    rows = []
    for c, name in enumerate(result.cells):
        for when, label in enumerate(WHEN):
            pairs = (
                mean_error(each[c, :, when, basis], ".3f")
                for each in (result.pooled, result.pixels, result.correlation)
                for basis in (0, 1)
            )
            accuracy = mean_error(100 * result.accuracies[c, :, -1]) if when else ""
            rows.append((str(name), label.split()[0], accuracy, *pairs))
    columns = (
        "cell",
        "training",
        "test acc. %",
        "D of features",
        "rotated",
        "D of pixels",
        "rotated",
        "best r^2",
        "rotated",
    )
    return harness.Table(columns, rows)


def claims(result: Result) -> dict[str, float]:
    """The numbers that the docstring states: means over seeds."""
    found = {}
    for c, name in enumerate(result.cells):
        for basis, label in enumerate(("own", "rotated")):
            for when, time in enumerate(("before", "after")):
                found[f"{name}, {label}, {time}: D"] = result.pooled[c, :, when, basis].mean()
            if name == "minimal.bare":
                last, older = result.lags[c, :, 1, basis, [0, 10]].mean(axis=1)
                found[f"{name}, {label}: D of the last row"] = last
                found[f"{name}, {label}: D ten rows back"] = older
            found[f"{name}, {label}: D of pixels"] = result.pixels[c, :, 1, basis].mean()
            found[f"{name}, {label}: r^2"] = result.correlation[c, :, 1, basis].mean()
    return found


def plot(result: Result) -> Figure:
    """Plot heat maps of what each unit remembers, and disentanglement against the lag."""
    C = len(result.cells)
    figure = Figure(figsize=(4.6 * max(C, 3), 8.6), layout="constrained")
    grid = figure.add_gridspec(2, 3 * C, height_ratios=(1.1, 1))
    axes = [figure.add_subplot(grid[0, 3 * c : 3 * c + 3]) for c in range(C)]
    for c, ax in enumerate(axes):
        shares = result.shares[c, 0, 1]
        shares = shares[np.argsort(shares.argmax(axis=1), kind="stable")]
        n = len(shares)
        image = ax.imshow(np.log10(n * shares), vmin=-1, vmax=np.log10(n), cmap="viridis")
        ax.set(xlabel="feature $j$", title=f"{result.cells[c]}, after training")
        ax.set_xticks([])
        ax.set_yticks([])
    axes[0].set_ylabel("unit $i$, in order of its best feature")
    figure.colorbar(image, ax=axes, label="$\\log_{10} n\\,p_{ij}$ (0: all alike)", shrink=0.8)
    panels = [figure.add_subplot(grid[1, C * k : C * k + C]) for k in range(3)]
    for when, ax in enumerate(panels[:2]):
        _lags(ax, result, when)
    panels[1].sharey(panels[0])
    _summary(panels[2], result)
    return figure


def _lags(ax: Axes, result: Result, when: int) -> None:
    T = result.lags.shape[-1]
    for c, name in enumerate(result.cells):
        colour = mpl.color_sequences["tab10"][c]
        for basis, style in enumerate(("-", ":")):
            each = result.lags[c, :, when, basis]
            label = name if basis == 0 else None
            ax.plot(range(T), each.mean(axis=0), style, color=colour, label=label)
            if basis == 0:
                ax.fill_between(
                    range(T), each.min(axis=0), each.max(axis=0), color=colour, alpha=0.15, lw=0
                )
    ax.plot([], [], "k:", label="rotated: chance")
    ax.set(
        xlabel="lag (rows)",
        ylabel="disentanglement D",
        ylim=(0, None),
        title=f"{WHEN[when].capitalize()}: mean and range of seeds",
    )
    ax.legend(fontsize=8)


def _summary(ax: Axes, result: Result) -> None:
    """Plot r^2 with the best feature, in own and rotated coordinates, before and after training."""
    C = len(result.cells)
    for c in range(C):
        colour = mpl.color_sequences["tab10"][c]
        for k, (when, basis) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            each = result.correlation[c, :, when, basis]
            x = k + (c - (C - 1) / 2) * 0.25
            ax.bar(x, each.mean(), 0.22, color=colour, alpha=0.4 if basis else 1.0)
            ax.plot(np.full(len(each), x), each, "k.", ms=3)
    ax.set_xticks(range(4), ["before", "before,\nrotated", "after", "after,\nrotated"])
    ax.set(ylabel="$r^2$", title="Correlation of a unit with its best feature and lag")


PAPER = Config(preset="paper", n=128, seeds=10, updates=2400, every=100, examples=1000)

if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
