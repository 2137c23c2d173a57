"""What does a training step of a long sequence keep, and does its time stay linear in T?

    python -m benchmarks.memory --batch 16 --n 256 --lengths 1000 10000 100000

It reads the temporary memory of compiled programs, without running them: of autodiff through the
plain scan, and of `run` with each `memory`. The loss reads the final state, every output at once,
or every output piece by piece (`by_pieces`), so that they never all exist. Then it times steps at
some lengths.
"""

import math
import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import rich.progress
from jax import Array, lax
from matplotlib.figure import Figure

from benchmarks import harness
from experiments.harness import Table
from recur import Prior, Recurrence, cells, scan

Kept = Literal["scan", "mix", "states", "chunks", "sqrt"]
KEPT: dict[Kept, dict] = {
    "scan": {"engine": "scan"},
    "mix": {"memory": "mix"},
    "states": {"memory": "states"},
    "chunks": {"memory": "chunks"},
    "sqrt": {"memory": "sqrt"},
}


@dataclass(frozen=True)
class Config(harness.Config):
    """The flags."""

    cell: str = "lstm"
    """The cell."""
    batch: int = 16
    """Sequences."""
    n: int = 256
    """Units."""
    d: int = 32
    """Inputs."""
    lengths: tuple[int, ...] = (100, 1000, 10_000, 100_000)
    """Lengths T of the programs that are compiled."""
    timed: tuple[int, ...] = (250, 500, 1000, 2000)
    """Lengths T of the steps that are run."""
    kept: tuple[Kept, ...] = tuple(KEPT)
    """What the derivative keeps: "scan" is autodiff, the others are settings of `scan.run`."""
    reads: tuple[Literal["final state", "every output", "every output, by pieces"], ...] = (
        "final state",
    )
    """Which losses to run; all of them are compiled."""


def final(cell: Recurrence, how: dict, params: Any, xs: Array) -> Array:
    """A loss that reads the final state."""
    state, _ = scan.run(cell, params, xs, **how)
    return sum(jnp.mean(leaf**2) for leaf in jax.tree.leaves(state))


def every(cell: Recurrence, how: dict, params: Any, xs: Array) -> Array:
    """A loss that reads all outputs, which exist at once."""
    return jnp.mean(scan.run(cell, params, xs, **how)[1] ** 2)


def by_pieces(cell: Recurrence, how: dict, params: Any, xs: Array) -> Array:
    """The same loss, summed over about sqrt(T) pieces, one after another."""
    T = len(xs)
    size = max(k for k in range(1, math.isqrt(T) + 1) if T % k == 0)

    @partial(jax.checkpoint, prevent_cse=False)
    def piece(params: Any, state: Any, xs: Array) -> tuple[Any, Array]:
        state, hs = scan.run(cell, params, xs, state, **how)
        return state, jnp.mean(hs**2)

    state = cell.start(params, xs.shape[1:-1])
    pieces = xs.reshape(T // size, size, *xs.shape[1:])
    return jnp.mean(lax.scan(partial(piece, params), state, pieces)[1])


LOSSES = {"final state": final, "every output": every, "every output, by pieces": by_pieces}


def main(config: Config, folder: Path) -> None:
    """Compile all programs, and run some."""
    cell = cells.named(config.cell)
    params = cell.init(jax.random.key(config.seed), Prior(1.0, 1.0), config.d, config.n)
    contestants = [(reads, how) for reads in LOSSES for how in config.kept]
    kept = [
        {
            "loss": reads,
            "memory": how,
            "bytes": [
                temporaries(step(cell, reads, how), params, config, T) for T in config.lengths
            ],
        }
        for reads, how in rich.progress.track(contestants, "compiled")
    ]
    timed = {(reads, how): [] for reads in config.reads for how in config.kept}
    for T in rich.progress.track(config.timed, "timed"):
        xs = jax.random.normal(jax.random.key(1), (T, config.batch, config.d), jnp.float32)
        field = {c: harness.compiled(step(cell, *c), params, xs) for c in timed}
        for c, seconds in harness.race(field, config.rounds).items():
            timed[c].append(statistics.median(seconds.tolist()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # KB on Linux
    records = {
        "memory": kept,
        "timed": [{"loss": r, "memory": h, "seconds": s} for (r, h), s in timed.items()],
        "resident MB": peak,
    }
    tables = {
        "Temporary memory, MB": memory(config, kept),
        f"Microseconds a step; this process held {peak:.0f} MB at most": pace(config, timed),
    }
    harness.publish(folder, config, records, tables, plot(config, kept, timed))


def step(cell: Recurrence, reads: str, how: str) -> Callable[[Any, Array], tuple]:
    """A loss and its gradient with respect to the parameters."""
    return jax.value_and_grad(partial(LOSSES[reads], cell, KEPT[how]))


def temporaries(function: Callable, params: Any, config: Config, T: int) -> int:
    """Bytes of temporaries of the program for T steps, without running it."""
    xs = jax.ShapeDtypeStruct((T, config.batch, config.d), jnp.float32)
    return jax.jit(function).lower(params, xs).compile().memory_analysis().temp_size_in_bytes


def memory(config: Config, kept: list[dict]) -> Table:
    """A row for each loss and memory."""
    rows = [(r["loss"], r["memory"], *(f"{b / 1e6:.1f}" for b in r["bytes"])) for r in kept]
    return Table(("loss on", "memory", *(f"T = {T}" for T in config.lengths)), rows)


def pace(config: Config, timed: dict[tuple[str, str], list[float]]) -> Table:
    """A row for each loss and memory; equal numbers in a row mean linear time."""
    rows = [
        (*c, *(f"{1e6 * s / T:.0f}" for s, T in zip(seconds, config.timed, strict=True)))
        for c, seconds in timed.items()
    ]
    return Table(("loss on", "memory", *(f"T = {T}" for T in config.timed)), rows)


def plot(config: Config, kept: list[dict], timed: dict[tuple[str, str], list[float]]) -> Figure:
    """Memory against T for each loss, time against T."""
    figure = Figure(figsize=(15, 4), layout="constrained")
    axes = figure.subplots(1, len(LOSSES) + 1)
    for ax, reads in zip(axes, LOSSES, strict=False):
        for row in kept:
            if row["loss"] == reads:
                ax.loglog(
                    config.lengths, [b / 1e6 for b in row["bytes"]], "o-", label=row["memory"]
                )
        ax.set(xlabel="steps T", ylabel="temporary memory, MB", title=f"Loss on {reads}")
        ax.sharey(axes[0])
    for (reads, how), seconds in timed.items():
        axes[-1].loglog(config.timed, seconds, "o-", label=f"{how}, {reads}")
    axes[-1].set(xlabel="steps T", ylabel="seconds", title="Forward and backward")
    axes[0].legend()
    axes[-1].legend()
    return figure


if __name__ == "__main__":
    harness.main(Config, main)
