"""Do networks learn faster if they start at criticality, or with orthogonal weights?

Digits are read a few pixels per step (784 pixels over T steps). Vanilla networks and MinimalRNNs
start from a critical or an off-critical prior, with orthogonal or Gaussian W. All are trained in
the same way, and all networks of a cell in one program. The experiment measures test accuracy
against the number of updates.

Claim (arXiv:1806.05394): critical networks learn faster, orthogonal ones fastest. This holds for
the vanilla network: after 600 updates it names 61 % of the test digits at criticality with
orthogonal W and 47 % with Gaussian W, 15 and 27 % off criticality. It does not hold for MinimalRNN:
25 and 38 % at criticality, 39 and 41 % off it, and seeds differ by 8 points.

The claim is the paper's figure 3. At MinimalRNN's critical point, perturbations keep their size if
two copies see the same inputs. With different inputs they are forgotten within a step (xi = .7; see
`trainability`, where mu_b lengthens memory).

Criticality means chi = 1 by the theory of redrawn weights and equal inputs. For MinimalRNN this is
sigma_w 6.88 and sigma_v 1.39 at R .46 and mu_b = 0, as in the paper; for the vanilla network it is
sigma_w 1. Off criticality, sigma_w is `off` times as large. The vanilla network's sigma_v .25, the
width, updates and rates are ours. A fixed random projection maps the pixels, less the mean image,
to n inputs with mean square R.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments import data, harness
from experiments.parts import last_state
from experiments.parts.timescales import CELLS
from recur import compose, tasks
from recur.core import Prior, Unitwise

CRITICAL = {"vanilla": Prior(1.0, 0.25, 0.0, 0.0), "minimal": Prior(6.88, 1.39, 0.0, 0.0)}
STARTS = ("critical, orthogonal", "critical, Gaussian", "off, orthogonal", "off, Gaussian")
GOAL = 0.4  # the accuracy whose time is in the table


@dataclass(frozen=True)
class Config(last_state.Config):
    """Accuracy against updates, {critical, off} x {orthogonal, Gaussian}."""

    updates: int = 600
    every: int = 50
    rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    """Learning rates. Each start is shown at its best rate."""
    pixels: int = 4
    """Pixels per step: 4 gives 196 steps, 1 gives 784."""
    off: float = 0.5
    """sigma_w off criticality, as a multiple of the critical one."""
    R: float = 0.46
    """Mean square of the inputs."""


PAPER = Config(
    preset="paper",
    pixels=1,
    n=300,
    seeds=3,
    updates=20_000,
    every=200,
    batch=200,
    rates=(0.003, 0.01, 0.03, 0.1),
)


class Result(NamedTuple):
    """C cells, L rates, 4 starts as in STARTS, S seeds, K measurements."""

    cells: np.ndarray  # (C,) names
    rates: np.ndarray  # (L,)
    updates: np.ndarray  # (K,)
    accuracies: np.ndarray  # (C, L, 4, S, K) on the test digits
    diverged: np.ndarray  # (C, L, 4, S) update at which the loss first was not finite, or -1


def run(config: Config, record: harness.Record) -> Result:
    """Train both cells at all rates."""
    task, asked = read(config)
    curves = []
    for name, cell in CELLS.items():
        members = start(name, task, config)
        for rate in config.rates:
            label = f"{name}, rate {rate:g}"
            curves.append(last_state.fit(label, cell, members, task, asked, rate, config, record))
    accuracies, diverged = map(np.stack, zip(*curves, strict=True))
    shape = (len(CELLS), len(config.rates), len(STARTS), config.seeds)
    updates = np.arange(config.every, config.updates + 1, config.every)
    return Result(
        np.array(list(CELLS)),
        np.array(config.rates),
        updates,
        accuracies.reshape(*shape, -1),
        diverged.reshape(shape),
    )


def read(config: Config) -> list[tasks.Task]:
    """Training and test digits as sequences (T, B, n)."""
    images = data.digits(config.data_dir)
    mean, deviation = images.train_x.mean(0), (images.train_x - images.train_x.mean(0)).std()
    embed = np.random.default_rng(config.seed).normal(size=(config.pixels, config.n))
    # scaled so that the mean square of the inputs is R
    embed *= np.sqrt(config.R / config.pixels) / deviation
    projection = jnp.asarray(embed, jnp.float32)

    def projected(x: np.ndarray, y: np.ndarray) -> tasks.Task:
        task = tasks.unrolled(jnp.asarray(x - mean), jnp.asarray(y), config.pixels)

        def sample(key: Array, batch: int) -> tasks.Batch:
            pixels, labels = task.sample(key, batch)
            return tasks.Batch(pixels @ projection, labels)

        return replace(task, sample=sample, inputs=config.n)

    return [projected(images.train_x, images.train_y), projected(images.test_x, images.test_y)]


def start(name: str, task: tasks.Task, config: Config) -> last_state.Members:
    """Draw networks for each of STARTS, all seeds of one start after another."""
    draws, probe = jax.random.split(jax.random.key(config.seed))
    xs, S = task.sample(probe, 64).xs, config.seeds
    keys = jnp.tile(jax.random.split(draws, S), 2)
    critical = CRITICAL[name]
    off = critical._replace(sigma_w=config.off * np.asarray(critical.sigma_w))
    priors = jax.tree.map(lambda *values: jnp.repeat(jnp.array(values), S), critical, off)

    def draw(cell: Unitwise) -> last_state.Members:
        def one(now: tuple[Array, Prior]) -> last_state.Members:
            return last_state.draw(now[0], cell, now[1], config.n, xs)

        return jax.lax.map(one, (keys, priors))  # one QR at a time, see analysis/numerics/qr.py

    kinds = draw(compose.orthogonal(CELLS[name])), draw(CELLS[name])
    order = np.arange(4 * S).reshape(2, 2, S).swapaxes(0, 1).ravel()  # as STARTS has them
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[order], *kinds)


def best(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Each start's best rate (C, 4) by final accuracy, and its curves (C, 4, S, K)."""
    chosen = result.accuracies[..., -1].mean(axis=-1).argmax(axis=1)
    curves = np.take_along_axis(result.accuracies, chosen[:, None, :, None, None], axis=1)
    return result.rates[chosen], curves[:, 0]


def updates_to(result: Result, accuracy: float) -> np.ndarray:
    """Updates until the mean over seeds reaches an accuracy, (C, 4); inf if it never does."""
    there = best(result)[1].mean(axis=2) >= accuracy
    return np.where(there.any(axis=-1), result.updates[there.argmax(axis=-1)], np.inf)


def claims(result: Result) -> dict[str, float]:
    """Final test accuracies at the best rate in per cent, mean over the seeds."""
    curves = best(result)[1]
    of = {"updates": result.updates[-1]}
    for (c, name), (s, start) in product(enumerate(result.cells), enumerate(STARTS)):
        of[f"{name}, {start}: test digits right, %"] = 100 * curves[c, s, :, -1].mean()
    spread = np.ptp(curves[..., -1], axis=-1)
    return of | {"MinimalRNN: mean difference of two seeds, points": 100 * spread[-1].mean()}


def table(result: Result) -> harness.Table:
    """One row per cell and start."""
    rates, curves = best(result)
    rows = []
    for c, name in enumerate(result.cells):
        for s, start in enumerate(STARTS):
            last, need = curves[c, s, :, -1], updates_to(result, GOAL)[c, s]
            rows.append(
                (
                    str(name),
                    start,
                    f"{rates[c, s]:g}",
                    f"{last.mean():.1%}",
                    f"{last.min():.1%}-{last.max():.1%}",
                    f"{need:.0f}" if np.isfinite(need) else "never",
                    f"{np.sum(result.diverged[c, :, s] >= 0)}",
                )
            )
    columns = (
        "cell",
        "start",
        "best rate",
        "accuracy",
        "range",
        f"updates to {GOAL:.0%}",
        "diverged",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """One panel per cell, each start at its best rate; a line is a mean, a band all seeds."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, len(result.cells), sharey=True, squeeze=False)[0]
    for name, starts, ax in zip(result.cells, best(result)[1], axes, strict=True):
        for s, (start, curves) in enumerate(zip(STARTS, starts, strict=True)):
            colour, style = f"C{s // 2}", ("-", "--")[s % 2]
            ax.fill_between(result.updates, curves.min(0), curves.max(0), color=colour, alpha=0.15)
            ax.semilogx(result.updates, curves.mean(0), style, color=colour, label=start)
        ax.axhline(0.1, color="0.6", lw=0.8, zorder=0)
        ax.set(xlabel="updates", title=str(name))
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("test accuracy")
    axes[-1].legend()
    figure.suptitle("Digits read pixel by pixel: which starts learn fast?")
    return figure


if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
