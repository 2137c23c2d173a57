"""From a config to flags, progress, and a folder of results. No framework: a page.

An experiment has a frozen `Config(harness.Config)`, and three functions

    run(config, record) -> Result       a NamedTuple of arrays
    plot(result) -> Figure              one picture
    table(result) -> Table              a few rows

and ends in `harness.main(Config, run, plot, table)`. Its folder then holds config.json,
result.npz, metrics.jsonl, figure.png, figure.pdf and summary.md, each written atomically, and
engine.log, which says how each pass over time was computed.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see recur/analysis/qr.py

import dataclasses
import importlib.metadata
import json
import logging
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import rich
import rich.box
import rich.table
import tyro
from matplotlib.figure import Figure

from experiments.data import cache
from experiments.record import Record, first, replace, write, writing
from recur.checkpoint import WriteError


@dataclass(frozen=True)
class Config:
    """The flags that every experiment has."""

    seed: int = 0
    """Seed of all random numbers."""
    results: Path = Path("results")
    """Folder that gets a subfolder named after the experiment."""
    resume: bool = False
    """Go on from the checkpoints of a run that was killed, to the same end."""
    save_every: float = 10.0
    """Seconds between two checkpoints, at least: what a killed run loses."""
    keep: int = 2
    """Checkpoints that stay on disk."""
    devices: int | None = None
    """Devices that a CPU is divided into, for sweeps to share; one a core without it."""
    coordinator: str | None = None
    """host:port of process 0, where several processes share a run; not needed under SLURM."""
    processes: int | None = None
    """How many processes share the run."""
    process_id: int | None = None
    """Which of them this one is, from 0; the first alone writes results."""

    def require_counts(self, *names: str) -> None:
        """Raise ValueError for the first of these flags that is not 1 or more."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")

    def require_shares(self, *names: str) -> None:
        """Raise ValueError for the first of these flags that is not in [0, 1)."""
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a share in [0, 1), got {getattr(self, name)}")

    def require_divides(self, part: str, whole: str) -> None:
        """Raise ValueError unless the first of these flags divides the second."""
        small, large = getattr(self, part), getattr(self, whole)
        if small < 1 or large % small:
            raise ValueError(f"{part} ({small}) must divide {whole} ({large})")


ASIDE = ("results", "resume", "save_every", "keep", "coordinator", "process_id")  # may change


@dataclass(frozen=True)
class Sized(Config):
    """The flags of an experiment that comes in two sizes."""

    preset: Literal["quick", "paper"] = "quick"
    """Minutes on two cores, or the sizes of the paper; other flags override either."""


class Table(NamedTuple):
    """A small table: column heads and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(
    config_type: type[Config],
    run: Callable[[Any, Record], Any],
    plot: Callable[[Any], Figure],
    table: Callable[[Any], Table],
    paper: Sized | None = None,
) -> None:
    """Flags -> config -> run -> results/<name>/. <name> is that of the experiment's module.

    `paper` is the config that `--preset paper` starts from, where config_type is `Sized`.
    """
    module = sys.modules[run.__module__]
    name = Path(module.__file__ or "experiment").stem
    config = tyro.cli(
        config_type,
        prog=f"python -m experiments.{name}",
        description=module.__doc__,
        default=paper if wants_paper(sys.argv[1:]) else None,
    )
    start_devices(config)
    keep_programs()
    if jax.process_count() > 1:  # which SLURM says without a flag
        config = dataclasses.replace(config, processes=jax.process_count())
    folder = config.results / name
    if first():
        open_folder(claim(folder), config)
    record = Record(folder, config.resume, config.save_every, config.keep)
    begin = time.perf_counter()
    try:
        with log_engines(folder / "engine.log" if first() else Path(os.devnull)):
            result = run(config, record)
    except WriteError as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt as stop:
        raise SystemExit("stopped; --resume goes on from the last checkpoint") from stop
    if first():
        save(folder, result, plot(result), table(result))
        seconds = time.perf_counter() - begin
        print(f"{seconds:.0f} s on {jax.devices()[0].device_kind}; see {folder / 'figure.png'}")


@contextmanager
def log_engines(path: Path) -> Iterator[None]:
    """Append to a file by which engine each pass is computed (`scan.plan`), as it is traced."""
    logger, handler = logging.getLogger("recur.scan"), logging.FileHandler(path)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False  # to the terminal, where something has set logging up
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
        handler.close()


def start_devices(config: Config) -> None:
    """Join the other processes and divide a CPU into devices: both before JAX starts."""
    chosen = "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    chosen |= jax.config.jax_num_cpu_devices > 0
    if config.devices or not chosen:
        try:
            jax.config.update("jax_num_cpu_devices", config.devices or cores())
        except RuntimeError as error:  # JAX has started, within a larger program
            if config.devices:
                raise SystemExit("error: JAX has started, so --devices comes too late") from error
    group = (config.coordinator, config.processes, config.process_id)
    if group != (None, None, None):
        if None in group:
            raise SystemExit("error: --coordinator, --processes and --process-id go together")
        jax.distributed.initialize(*group)
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        jax.distributed.initialize()
    if first() and jax.device_count() > 1:
        rich.print(
            f"{jax.device_count()} x {jax.devices()[0].device_kind} in {jax.process_count()} "
            "process(es), shared by sweeps" + " (--devices 1 for one)" * (not chosen)
        )


def keep_programs() -> None:
    """Keep compiled programs in the cache folder, so that a second run does not compile them again.

    Where JAX was told of a folder (JAX_COMPILATION_CACHE_DIR), that one is taken.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cores() -> int:
    """The cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def open_folder(folder: Path, config: Config) -> None:
    """Write config.json, unless the run to be resumed had another."""
    description = describe(config)
    if config.resume:
        require_same(folder / "config.json", description["config"])
    write(folder / "config.json", json.dumps(description, indent=2) + "\n")


def wants_paper(flags: Sequence[str]) -> bool:
    """Whether the flags ask for the sizes of the paper; they are read before all others."""
    joined = "=".join(flags)
    return "--preset=paper" in joined


def save(folder: Path, result: Any, figure: Figure, table: Table) -> None:
    """Write result.npz, figure.png, figure.pdf and summary.md, and print the table."""
    arrays = {key: np.asarray(value) for key, value in result._asdict().items()}
    with writing(folder):
        replace(folder / "result.npz", lambda path: np.savez_compressed(path, **arrays))
        for form in ("png", "pdf"):
            replace(folder / f"figure.{form}", lambda path: figure.savefig(path, dpi=150))
    write(folder / "summary.md", table.markdown())
    columns = (rich.table.Column(name, overflow="fold") for name in table.columns)
    shown = rich.table.Table(*columns, box=rich.box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for row in table.rows:
        shown.add_row(*row)
    rich.print(shown)


def claim(folder: Path) -> Path:
    """The folder, made and found writable now rather than after hours of work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".probe").write_text("room?")
        (folder / ".probe").unlink()
    except OSError as error:
        raise SystemExit(
            f"error: cannot write results to {folder} ({error.strerror}). "
            "Name another folder with --results."
        ) from error
    return folder


def require_same(path: Path, config: dict) -> None:
    """Leave, naming the differences, if the run to be resumed had another config."""
    if not path.exists():
        return
    before = json.loads(path.read_text())["config"]
    differ = [
        f"  {name}: {before.get(name)} then, {config.get(name)} now"
        for name in sorted(before.keys() | config.keys())
        if name not in ASIDE and before.get(name) != config.get(name)
    ]
    if differ:
        raise SystemExit(
            f"error: the run in {path.parent} had another configuration; resume it with the same "
            "flags, or start anew without --resume\n" + "\n".join(differ)
        )


def describe(config: Config) -> dict:
    """The config with all that is needed to run it again: versions, device, commit."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    versions = {
        name: importlib.metadata.version(name) for name in ("recur", "jax", "flax", "optax")
    }
    return {
        "config": json.loads(json.dumps(dataclasses.asdict(config), default=str)),
        "versions": {"python": platform.python_version(), **versions},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "commit": commit,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
