"""Contestants take turns; their times are compared with the best peer and with the machine's floor.

A benchmark builds contestants, `race`s them, and `publish`es tables, numbers and a picture in
results/benchmarks/<name>/. Programs are compiled ahead of time, outside the timed part. The floor
of a pass is measured in the same rounds:

    floor = max(flops of its products / rate of one large product,
                bytes that it must move / rate of a copy in place)

as if one were completely hidden behind the other.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see recur/analysis/numerics/qr.py

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich.box
import rich.console
import rich.table
import tyro
from matplotlib.figure import Figure

from experiments.harness import Table, claimed, describe, write
from recur.atomic_files import replace


@dataclass(frozen=True)
class Config:
    """The flags that every benchmark has."""

    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; JAX chooses unless given."""
    cpu_devices: int = 2
    """How many devices to make of the cores of a CPU, to spread the batch over."""
    rounds: int = 5
    """Rounds in which every contestant has its turn."""
    seed: int = 0
    """Seed of weights and inputs."""
    results: Path = Path("results/benchmarks")
    """Folder for a subfolder named after the benchmark."""


class Contestant(NamedTuple):
    """Something to be timed."""

    run: Callable[[], Any]  # returns when the work is done
    compiling: float | None = None  # seconds from trace to program
    memory: int | None = None  # bytes of temporaries, all devices together


class Work(NamedTuple):
    """The work that a pass must do."""

    flops: float  # of its matrix products
    bytes: float  # read and written at least once


def main(config_type: type[Config], run: Callable[[Any, Path], None]) -> None:
    """Flags -> config -> run(config, folder)."""
    module = sys.modules[run.__module__]
    name = Path(module.__file__ or "benchmark").stem
    config = tyro.cli(config_type, prog=f"python -m benchmarks.{name}", description=module.__doc__)
    choose(config)
    with claimed(config.results / name):
        run(config, config.results / name)


def choose(config: Config) -> None:
    """Tell JAX which devices there are; before its first computation."""
    if config.device is not None:
        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda,cpu"}[config.device])
    jax.config.update("jax_num_cpu_devices", config.cpu_devices)


def compiled(function: Callable, *args: Any) -> Contestant:
    """`function(*args)` as a program, with its arguments placed where it expects them."""
    begin = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    compiling = time.perf_counter() - begin
    shardings = program.input_shardings[0]
    args = jax.device_put(args, shardings)
    devices = max((len(s.device_set) for s in jax.tree.leaves(shardings)), default=1)
    memory = program.memory_analysis().temp_size_in_bytes * devices
    return Contestant(lambda: jax.block_until_ready(program(*args)), compiling, memory)


def race(contestants: dict[str, Contestant], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each contestant in each round, (rounds,).

    A turn repeats short calls until it takes about 50 ms. Every other round runs in reverse order,
    so that no contestant always runs after the same one.
    """
    turns = [(name, c.run, _repeats(c.run)) for name, c in contestants.items()]
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(rounds):
        for name, run, repeats in turns[:: -1 if i % 2 else 1]:
            begin = time.perf_counter()
            for _ in range(repeats):
                run()
            seconds[name].append((time.perf_counter() - begin) / repeats)
    return {name: np.array(values) for name, values in seconds.items()}


def _repeats(run: Callable[[], Any]) -> int:
    """Turns of about 50 ms, by a second run: the first warms up."""
    run()
    begin = time.perf_counter()
    run()
    return min(100, math.ceil(0.05 / (time.perf_counter() - begin)))


def rates(size: int = 2048, megabytes: int = 256) -> tuple[dict[str, Contestant], Work]:
    """Contestants "product" and "copy" that measure the machine, and what each of them does."""
    a = jnp.ones((size, size), jnp.float32)
    words = megabytes * 2**18
    add = jax.jit(lambda a: a + 1, donate_argnums=0)  # in place: no page is touched first
    held = [jnp.zeros(words, jnp.float32)]

    def copy() -> None:
        held[0] = jax.block_until_ready(add(held[0]))

    both = {"product": compiled(jnp.matmul, a, a), "copy": Contestant(copy)}
    return both, Work(2.0 * size**3, 8.0 * words)


def floor(work: Work, unit: Work, seconds: dict[str, np.ndarray]) -> dict[str, Any]:
    """The least seconds for this work at the measured rates, and which rate sets them."""
    flops = unit.flops / np.median(seconds["product"])
    bandwidth = unit.bytes / np.median(seconds["copy"])
    arithmetic, traffic = work.flops / flops, work.bytes / bandwidth
    return {
        "seconds": max(arithmetic, traffic),
        "arithmetic": arithmetic,
        "traffic": traffic,
        "flops_per_second": flops,
        "bytes_per_second": bandwidth,
    }


def geometric_mean(ratios: Sequence[float]) -> float:
    """exp of the mean log."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def keep(folder: Path, config: Config, records: Any) -> dict:
    """Write results.json, so that a run that is cut short keeps its measurements."""
    about = describe(config)
    write(folder / "results.json", json.dumps({**about, "records": records}, indent=1) + "\n")
    return about


def publish(
    folder: Path, config: Config, records: Any, tables: dict[str, Table], figure: Figure
) -> None:
    """Print the tables; write summary.md, results.json and figure.png, each atomically."""
    about = keep(folder, config, records)
    head = f"{about['device']}; JAX {about['versions']['jax']}; {config.rounds} rounds\n"
    parts = [head]
    console = rich.console.Console()
    if not console.is_terminal:
        console.width = 200  # a log has no edge
    for title, table in tables.items():
        parts.append(f"{title}\n\n{table.markdown()}")
        shown = rich.table.Table(
            *table.columns,
            title=title,
            title_justify="left",
            box=rich.box.SIMPLE,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    console.print(head.strip())
    write(folder / "summary.md", "\n".join(parts))
    replace(folder / "figure.png", lambda new: figure.savefig(new, dpi=150))
