"""How long does it take to compile a pass and its gradient, and to import the package?

    python -m benchmarks.compile --cells gru lstm

It traces and compiles a loss and its gradient, by the engine of `run` and by the plain scan, again
in every round. It also imports recur and jax in turns, each in a fresh process.
"""

import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import rich.progress
from jax import Array
from matplotlib.figure import Figure

from benchmarks import harness
from experiments.harness import Table
from recur import Prior, cells, scan

IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


@dataclass(frozen=True)
class Config(harness.Config):
    """The flags."""

    shapes: tuple[int, int, int, int] = (8, 100, 32, 16)
    """Batch, steps T, units n, inputs d; compile times hardly depend on them."""
    cells: tuple[str, ...] = ("vanilla", "gru", "lstm", "lstm.peephole", "minimal", "cfn", "ugrnn")
    """Names of cells."""


def main(config: Config, folder: Path) -> None:
    """Compile everything, then import."""
    records = []
    for name in rich.progress.track(config.cells, "cells"):
        seconds: dict[str, list[float]] = {"scan": [], "auto": []}
        for _ in range(config.rounds):
            for engine, values in seconds.items():
                values.append(once(config, name, engine))
        records.append({"cell": name, "seconds": seconds})
    imports = importing(config.rounds)
    tables = {"Seconds to compile": compiling(records), "Seconds to import": imported(imports)}
    harness.publish(folder, config, {"cells": records, "import": imports}, tables, plot(records))


def once(config: Config, name: str, engine: Any) -> float:
    """Seconds from trace to program, with nothing kept from before."""
    batch, T, n, d = config.shapes
    cell = cells.named(name)
    params = cell.init(jax.random.key(config.seed), Prior(1.0, 1.0), d, n)
    xs = jnp.zeros((T, batch, d), jnp.float32)

    def loss(params: object, xs: Array) -> Array:
        return jnp.mean(scan.run(cell, params, xs, engine=engine)[1] ** 2)

    jax.clear_caches()
    return harness.compiled(jax.value_and_grad(loss), params, xs).compiling or 0.0


def importing(rounds: int) -> dict[str, list[float]]:
    """Seconds to import each, in separate processes."""
    seconds: dict[str, list[float]] = {"jax": [], "recur": []}
    for _ in range(rounds):
        for package, values in seconds.items():
            command = [sys.executable, "-c", IMPORT.format(package)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            values.append(float(done.stdout))
    return seconds


def compiling(records: list[dict]) -> Table:
    """Medians, their ratio, and its geometric mean over cells."""
    rows, ratios = [], []
    for record in records:
        plain, ours = (statistics.median(record["seconds"][e]) for e in ("scan", "auto"))
        ratios.append(ours / plain)
        rows.append((record["cell"], f"{plain:.3f}", f"{ours:.3f}", f"{ratios[-1]:.2f}"))
    rows.append(("geometric mean", "", "", f"{harness.geometric_mean(ratios):.2f}"))
    return Table(("cell", "plain scan", "recur", "recur / plain scan"), rows)


def imported(seconds: dict[str, list[float]]) -> Table:
    """Medians and their ratio."""
    jax_seconds, ours = (statistics.median(seconds[name]) for name in ("jax", "recur"))
    row = (f"{jax_seconds:.2f}", f"{ours:.2f}", f"{ours / jax_seconds:.2f}")
    return Table(("jax", "recur (with jax)", "ratio"), [row])


def plot(records: list[dict]) -> Figure:
    """Both medians for each cell."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    ax = figure.subplots()
    for shift, engine, label in ((-0.2, "scan", "plain scan"), (0.2, "auto", "recur")):
        medians = [statistics.median(record["seconds"][engine]) for record in records]
        ax.bar([i + shift for i in range(len(records))], medians, 0.4, label=label)
    ax.set(
        xticks=range(len(records)),
        xticklabels=[record["cell"] for record in records],
        ylabel="seconds to compile a loss and its gradient",
    )
    ax.legend()
    return figure


if __name__ == "__main__":
    harness.main(Config, main)
