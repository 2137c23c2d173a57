"""Is a sweep faster as one program than as members trained one after another?

    python -m benchmarks.sweep --members 32 --steps 200 --n 32

The plain loop is what one would write with Flax and Optax: one jitted update, compiled once for all
members, and called from Python. recur trains all members in one scan, on one device and shared
among all devices. All train the same members on the same batches, drawn on the device, as their
first losses show. Times are from the first trace to the last loss, compilation included: no
compiled program is kept after its turn.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import rich.progress
from matplotlib.figure import Figure

from benchmarks import harness, layers, medians, sweep_members
from experiments.harness import Table
from recur import train

LOOP, ONE, ALL = "Flax and Optax, in a loop", "one program", "one program, all devices"
UPDATES = 10  # after which losses are compared


def main(config: sweep_members.Config, folder: Path) -> None:
    """Train the members in all ways, in turns."""
    field = {LOOP: sweep_members.plain_loop, ONE: sweep_members.one_program}
    if jax.device_count() > 1:
        field[ALL] = partial(sweep_members.one_program, over=train.over_devices)
    record: dict[str, Any] = {
        "title": f"{config.members} members, {config.steps} updates, n = {config.n}, "
        f"T = {config.T}, batch {config.batch}",
        "seconds": {name: [] for name in field},
    }
    for i in rich.progress.track(range(config.rounds), "rounds"):
        losses = {}
        for name in list(field)[:: -1 if i % 2 else 1]:
            seconds, losses[name] = timed(partial(field[name], config))
            record["seconds"][name].append(seconds)
        record["difference"] = {name: difference(name, losses) for name in field}
        record["last losses"] = {name: losses[name][:, -1].tolist() for name in field}
        harness.keep(folder, config, record)
    harness.publish(folder, config, record, {record["title"]: table(record)}, plot(config, record))


def timed(train_all: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Seconds from the first trace to the last loss, and the losses."""
    jax.clear_caches()
    begin = time.perf_counter()
    losses = train_all()
    return time.perf_counter() - begin, losses


def difference(name: str, losses: dict[str, np.ndarray]) -> float:
    """The largest difference of the losses (members, steps) from those of recur, up to UPDATES.

    Raises ArithmeticError for 1e-4 of the largest loss. Sums in another order leave 2e-7, also
    after Adam, which divides a gradient by its own size: where the gradient is all rounding the
    update is too, but the loss hardly feels it. A learning rate that is off by a hundredth leaves
    1e-3, other draws 1e-1.
    """
    found, expected = (losses[which][:, : UPDATES + 1] for which in (name, ONE))
    layers.require_equal(name, found, expected)
    return float(np.abs(found - expected).max())


def table(record: dict) -> Table:
    """A row for each contestant."""
    median = {name: statistics.median(values) for name, values in record["seconds"].items()}
    unit, scale = medians.unit_of(record)
    rows = [
        (
            name,
            medians.spread(seconds, scale),
            f"{scale * min(seconds):.3g}",
            f"{median[LOOP] / median[name]:.2f}",
            f"{record['difference'][name]:.1e}",
            f"{statistics.median(record['last losses'][name]):.3f}",
        )
        for name, seconds in record["seconds"].items()
    ]
    heads = (f"median, {unit}", f"least, {unit}", f"{LOOP} / it")
    compared = f"difference in {UPDATES} updates"
    return Table(("contestant", *heads, compared, "median of last losses"), rows)


def plot(config: sweep_members.Config, record: dict) -> Figure:
    """Times; the last loss of each member."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    times, losses = figure.subplots(1, 2)
    medians.panel(times, record)
    for (name, last), marker in zip(record["last losses"].items(), "ox+", strict=False):
        losses.semilogy(
            sweep_members.grid(config.members)[0], last, marker, fillstyle="none", label=name
        )
    losses.set(xlabel="mean bias of the gate, mu_b", ylabel="last loss", title="The same members")
    losses.legend()
    return figure


if __name__ == "__main__":
    harness.main(sweep_members.Config, main)
