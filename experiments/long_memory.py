"""Which recurrences, from which initial weights, learn to remember for a hundred steps?

There are two tasks. Copy: the network reads five symbols and, after T = 100 blanks, repeats them.
Adding: two of a hundred numbers are marked, and the network gives their sum. Every recurrence
starts from Gaussian and from other initial weights, at a few learning rates. Losses are shown in
units of the baseline, the loss of the best answer that knows the step but not the inputs.

Claim (arXiv:1602.06662), for the network whose state is linear, h = W h + relu(V x + b): started
from a random rotation, it learns to copy but not to add. Started from the identity, it learns to
add but hardly to copy. Started from a Gaussian W, it learns neither. Losses at the best rate, as
shares of the baseline, are: copy 0.13 from a rotation, 0.79 from the identity, 1.00 from a
Gaussian; adding 1.02, 0.24 and 1.02. With ReLU at every step (IRNN) the rotation does not copy
either. Gated cells learn from Gaussian weights: GRU and MinimalRNN solve adding, and copy at 0.5
and 0.8 of the baseline; a critical MinimalRNN copies at 0.6.

Over 300 steps (`--T 300`) a Gaussian LSTM learns neither task (1.00 and 1.01). With chrono biases,
which give its memory timescales of up to T steps, it learns adding (0.003; copy 0.96). MinimalRNN
learns adding from either prior. It copies at 0.78 from the critical one, at 0.86 from the other.

Which activation learns best? The following is over ten steps (three symbols, 32 units, 800 updates,
two seeds, the better rate), as shares of the baseline. From weights of variance 1, sigmoid learns
neither task (1.00). With weights four times as large, which make up for its slope of 1/4, it learns
adding (0.03) but hardly copy (0.76). tanh learns both (0.03 and 0.05), and so does ReLU, from a
Gaussian (0.02 and 0.12) and from the identity (0.01 and 0.27). ReLU is worse than sigmoid only with
plain gradient descent and no clipping. At a rate of 1, in copy over 30 steps, ReLU diverges within
five updates from a Gaussian and at once from the identity, while sigmoid does not diverge. The
identity helps to keep memories, but does not prevent explosions.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import harness
from experiments.parts.placing import placed
from recur import cells, compose, scan, tasks, theory, train
from recur.core import Prior, Recurrence, Tree

Draws = dict[str, tuple[Recurrence, Prior]]  # one recurrence, by the name of its initial weights
COLOURS = {
    "Gaussian": "0.4",
    "orthogonal": "C0",
    "identity": "C1",
    "critical": "C3",
    "chrono": "C2",
}
TASKS = ("copy", "adding")
RECURRENCES = ("linear", "sigmoid", "tanh", "ReLU", "MinimalRNN", "LSTM", "GRU")
SOLVED = 0.25  # share of the baseline below which a task counts as solved
BEATEN = 0.9


def drive(params: cells.vanilla.Params, x: Array) -> Array:
    """relu(V x + b)."""
    return jax.nn.relu(cells.vanilla.drive(params, x))


sigmoid = cells.vanilla.elman(jax.nn.sigmoid)
accumulator = replace(cells.vanilla.linear, drive=drive)  # h = W h + relu(V x + b)


def networks(T: int) -> dict[str, Draws]:
    """All RECURRENCES and their draws. The draws of a recurrence are trained as one program."""
    vanilla = {
        name: {
            "Gaussian": (cell, prior),
            "orthogonal": (compose.orthogonal(cell), Prior()),
            "identity": (compose.identity(cell), Prior()),
        }
        for name, cell, prior in (
            ("linear", accumulator, Prior()),
            ("sigmoid", sigmoid, Prior(sigma_w=4.0, sigma_v=4.0)),  # its slope is 1/4 at most
            ("tanh", cells.vanilla.cell, Prior()),
            ("ReLU", cells.vanilla.relu, Prior(sigma_w=2**0.5)),  # keeps E[h^2]
        )
    }
    minimal, lstm, gru = cells.minimal.cell, cells.lstm.cell, cells.gru.cell
    # R = 0.12 is E[z^2] of the embedded inputs of both tasks
    critical = theory.critical_minimal(mu_b=4.0, q=4.0, R=0.12)
    gated = {
        "MinimalRNN": {"Gaussian": (minimal, Prior()), "critical": (minimal, critical)},
        "LSTM": {"Gaussian": (lstm, Prior()), "chrono": (compose.chrono(lstm, T), Prior())},
        "GRU": {"Gaussian": (gru, Prior())},
    }
    return vanilla | gated


@dataclass(frozen=True)
class Config(harness.Sized):
    """Copy and adding, for every recurrence and all its initial weights."""

    recurrences: tuple[str, ...] = ("linear", "ReLU", "MinimalRNN", "LSTM", "GRU")
    """Recurrences to compare, from linear, sigmoid, tanh, ReLU, MinimalRNN, LSTM and GRU;
    `sigmoid tanh ReLU` compares activations."""
    T: int = 100
    """Blanks between reading and repeating (copy), or length of the sequence (adding)."""
    symbols: int = 4
    """Size of the alphabet of the copy task."""
    length: int = 5
    """Number of symbols to copy."""
    n: int = 32
    """Units of each network."""
    updates: int = 1000
    """Updates of each network."""
    every: int = 100
    """Updates per point of a curve, which is their mean loss; a checkpoint follows each point."""
    batch: int = 20
    """Sequences per update, all new."""
    rates: tuple[float, ...] = (3e-3, 1e-2)
    """Learning rates of Adam; the best is shown. Gradients are clipped to norm 1."""
    seeds: int = 2
    """Networks of each kind and rate, with different seeds."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        self.require_divides("every", "updates")
        for name in self.recurrences:
            if name not in RECURRENCES:
                raise ValueError(f"no recurrence {name!r}; there are {', '.join(RECURRENCES)}")


PAPER = Config(
    preset="paper",
    recurrences=RECURRENCES,
    symbols=8,
    length=10,
    n=128,
    updates=50_000,
    every=500,
    seeds=5,
    rates=(1e-4, 1e-3, 1e-2),
)


class Result(NamedTuple):
    """2 tasks, N networks, L rates, S seeds, M = updates / every points."""

    networks: np.ndarray  # (N,) names: recurrence, draw
    rates: np.ndarray  # (L,)
    updates: np.ndarray  # (M,) updates before each point
    losses: np.ndarray  # (2, N, L, S, M) means since the last point; NaN after a divergence
    diverged: np.ndarray  # (2, N, L, S) update at which the loss first was not finite, or -1
    baselines: np.ndarray  # (2,) nats, mean squared error


def both(config: Config) -> tuple[tasks.Task, tasks.Task]:
    """The two tasks, in the order of TASKS."""
    return tasks.copy(config.T, config.symbols, config.length), tasks.adding(config.T)


def run(config: Config, record: harness.Record) -> Result:
    """Train every recurrence on both tasks; all its draws, rates and seeds are one program."""
    kinds = {name: networks(config.T)[name] for name in config.recurrences}
    names = [f"{name}, {draw}" for name, draws in kinds.items() for draw in draws]
    losses, diverged = [], []
    for name, task in zip(TASKS, both(config), strict=True):
        fits = [
            fit(f"{name}, {kind}", task, draws, config, record) for kind, draws in kinds.items()
        ]
        losses.append(np.concatenate([fit[0] for fit in fits]))
        diverged.append(np.concatenate([fit[1] for fit in fits]))
    return Result(
        np.array(names),
        np.array(config.rates),
        np.arange(config.every, config.updates + 1, config.every),
        np.array(losses),
        np.array(diverged),
        np.array([task.baseline.loss for task in both(config)]),
    )


class Params(NamedTuple):
    """The parameters of a recurrence and of the linear readout of its outputs."""

    rnn: Tree
    R: Array  # (n, k)
    c: Array  # (k,)


def descent(rate: float | Array) -> optax.GradientTransformation:
    """Adam on clipped gradients. The rate is part of its state, so networks can differ in it."""
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.adam)(learning_rate=rate)
    )


def start(task: tasks.Task, draws: Draws, config: Config) -> train.State:
    """Networks for all draws, rates and seeds, stacked in this order."""
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    keys = jnp.tile(keys, len(config.rates))
    rates = jnp.repeat(jnp.array(config.rates), config.seeds)

    def members(cell: Recurrence, prior: Prior) -> train.State:
        def one(key_and_rate: tuple[Array, Array]) -> train.State:
            key, rate = key_and_rate
            rnn, readout, batches = jax.random.split(key, 3)
            R = jax.random.normal(readout, (config.n, task.outputs)) / config.n**0.5
            params = Params(
                cell.init(rnn, prior, task.inputs, config.n), R, jnp.zeros(task.outputs)
            )
            return train.start(batches, params, descent(rate))

        return jax.lax.map(one, (keys, rates))  # one QR at a time, see analysis/numerics/qr.py

    stacks = [members(cell, prior) for cell, prior in draws.values()]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *stacks)


def fit(
    label: str, task: tasks.Task, draws: Draws, config: Config, record: harness.Record
) -> tuple[np.ndarray, np.ndarray]:
    """Losses (D, L, S, M) and divergences (D, L, S) of D draws; a checkpoint follows each point."""
    cell, _ = next(iter(draws.values()))  # draws differ in initial weights only

    def loss(params: Params, batch: tasks.Batch) -> Array:
        hs = scan.run(cell, params.rnn, batch.xs)[1][-len(batch.targets) :]
        return tasks.loss(hs @ params.R + params.c, batch.targets)

    def sample(key: Array) -> tasks.Batch:
        return task.sample(key, config.batch)

    def learn(state: train.State) -> tuple[train.State, Array]:
        return train.advance(loss, descent(0.0), sample, state, config.every, config.every)

    state = placed(start(task, draws, config))
    losses = np.full((len(state.step), config.updates // config.every), np.nan)
    advance = jax.jit(train.over_devices(jax.vmap(learn)))

    def measured(k: int, state: train.State, losses: np.ndarray) -> tuple[train.State, dict]:
        state, now = advance(state)
        losses[:, k] = now[:, 0]
        return state, {"losses": losses[:, k]}

    state, losses = record.rounds(label, config.updates, config.every, state, losses, measured)
    shape = (len(draws), len(config.rates), config.seeds)
    return losses.reshape(*shape, -1), np.array(state.diverged).reshape(shape)


def best(result: Result) -> np.ndarray:
    """Curves (2, N, S, M) in units of the baseline, each network at its best rate.

    The best rate has the least median of final losses. The loss of a diverged network is infinite.
    """
    relative = result.losses / result.baselines[:, None, None, None, None]
    last = np.median(np.nan_to_num(relative[..., -1], nan=np.inf), axis=-1)  # (2, N, L)
    chosen = last.argmin(axis=-1)[:, :, None, None, None]
    return np.take_along_axis(relative, chosen, axis=2)[:, :, 0]


def claims(result: Result) -> dict[str, float]:
    """Final loss / baseline at the best rate, median over the seeds."""
    last = np.median(np.nan_to_num(best(result)[..., -1], nan=np.inf), axis=-1)
    of = {"updates, for a memory of 100 steps": result.updates[-1]}
    for (t, task), (k, name) in product(enumerate(TASKS), enumerate(result.networks)):
        of[f"{task}: {name}"] = last[t, k]
    return of


def table(result: Result) -> harness.Table:
    """One row per network."""
    curves = best(result)
    rows = []
    for k, name in enumerate(result.networks):
        cells = [str(name)]
        for t in range(2):
            last = np.nan_to_num(curves[t, k, :, -1], nan=np.inf)
            middle = np.median(last)
            verdict = "solved" if middle < SOLVED else "beaten" if middle < BEATEN else "no"
            cells += [f"{middle:.3f}", f"{last.min():.2f}-{last.max():.2f}", verdict]
        rows.append(cells)
    columns = (
        "network",
        *(f"{task}{what}" for task in TASKS for what in (" loss / baseline", " range", "")),
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot a row for each task, a column for each recurrence, and a colour for each draw."""
    curves = best(result)
    kinds = list(dict.fromkeys(name.split(", ")[0] for name in result.networks))
    figure = Figure(figsize=(2.7 * len(kinds) + 0.6, 6), layout="constrained")
    axes = figure.subplots(2, len(kinds), sharex=True, sharey="row", squeeze=False)
    for (t, c), ax in np.ndenumerate(axes):
        _panel(ax, result, curves[t], kinds[c])
        if t == 0:
            ax.set_title(kinds[c], fontweight="bold")
        if c == 0:
            ax.set_ylabel(f"{TASKS[t]}\nloss / baseline")
        if t == 1:
            ax.set_xlabel("updates")
    figure.suptitle("Recurrences from different initial weights: best rate, each seed and median")
    return figure


def _panel(ax: Axes, result: Result, curves: np.ndarray, kind: str) -> None:
    for name, seeds in zip(result.networks, curves, strict=True):
        recurrence, draw = name.split(", ")
        if recurrence == kind:
            ax.plot(result.updates, seeds.T, color=COLOURS[draw], lw=0.8, alpha=0.6)
            ax.plot(result.updates, np.median(seeds, axis=0), color=COLOURS[draw], lw=2, label=draw)
    ax.axhline(1, color="k", lw=0.8, ls="--", label="without memory")
    ax.set(yscale="log", ylim=(0.003, 5))
    ax.legend(fontsize=7, loc="lower left")


if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
