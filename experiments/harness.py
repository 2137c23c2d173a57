"""Turns a config into command-line flags, progress reports and a folder of results.

An experiment has a frozen `Config(harness.Config)`, and three functions

    run(config, record) -> Result       a NamedTuple of arrays
    plot(result) -> Figure              one picture
    table(result) -> Table              a few rows

and ends with `harness.main(Config, run, plot, table)`. The run writes config.json, result.npz,
metrics.jsonl, figure.png, figure.pdf and summary.md into its folder, each atomically, and
engine.log, which says how each pass over time was computed. Only one run at a time may use a
folder. Its files record the flags and the code that made them, and `--resume` refuses files that
another run made.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see recur/analysis/numerics/qr.py

import dataclasses
import json
import logging
import platform
import re
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import rich
import rich.box
import rich.table
import tyro
from matplotlib.figure import Figure

import recur
from experiments import lock
from experiments.data import cache
from experiments.origin import (
    code_version,
    differences,
    fingerprint,
    origin,
    read,
    strangers,
    version,
)
from experiments.record import Record, first, sweep, write, writing
from recur.atomic_files import replace
from recur.checkpoint import Mismatch, WriteError


@dataclass(frozen=True)
class Config:
    """The flags that every experiment has."""

    seed: int = 0
    """Seed of all random numbers."""
    results: Path = Path("results")
    """Folder for results. The run writes to a subfolder named after the experiment."""
    resume: bool = False
    """Continue a killed run from its checkpoints. The result is the same as without the kill."""
    other_code: bool = False
    """Resume even if the code has changed. The result is then a mixture of old and new code."""
    save_every: float = 10.0
    """Minimum time between two checkpoints in seconds. A killed run loses about this much work."""
    keep: int = 2
    """Number of checkpoints to keep on disk."""
    devices: int | None = None
    """Number of devices to split the CPU into, for sweeps; by default one per core."""
    coordinator: str | None = None
    """host:port of process 0, if several processes share a run. Not needed under SLURM."""
    processes: int | None = None
    """Number of processes that share the run."""
    process_id: int | None = None
    """Index of this process, from 0. Only process 0 writes results."""

    def require_counts(self, *names: str) -> None:
        """Raise ValueError for the first of these flags that is not 1 or more."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")

    def require_shares(self, *names: str) -> None:
        """Raise ValueError for the first of these flags that is not in [0, 1)."""
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be a share in [0, 1), got {getattr(self, name)}")

    def require_divides(self, part: str, whole: str) -> None:
        """Raise ValueError unless the first of these flags divides the second."""
        small, large = getattr(self, part), getattr(self, whole)
        if small < 1 or large % small:
            raise ValueError(f"{part} ({small}) must divide {whole} ({large})")


@dataclass(frozen=True)
class Sized(Config):
    """The flags of an experiment that has two sizes."""

    preset: Literal["quick", "paper"] = "quick"
    """Sizes: quick takes minutes on two cores, paper has the paper's. Other flags override them."""


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
    """Read the flags, run the experiment, and write results/<name>/, <name> being its module's.

    `paper` is the config for `--preset paper`, if config_type is `Sized`.
    """
    module = sys.modules[run.__module__]
    name = Path(module.__file__ or "experiment").stem
    start: Any = paper if wants_paper(sys.argv[1:]) else None
    config = tyro.cli(
        config_type,
        prog=f"python -m experiments.{name}",
        description=unwrapped(module.__doc__ or ""),
        default=start,
    )
    start_devices(config)
    keep_programs()
    if jax.process_count() > 1:  # known from SLURM even without a flag
        config = dataclasses.replace(config, processes=jax.process_count())
    folder, begin = config.results / name, time.perf_counter()
    try:
        with claimed(folder) if first() else nullcontext():
            about = describe(config, module)
            record = open_folder(folder, config, about)
            with log_engines(folder / "engine.log" if first() else Path(os.devnull)):
                result = run(config, record)
            if first():
                made_by = origin(about["config"], about["code"])
                save(folder, result, plot(result), table(result), made_by)
    except WriteError as error:
        raise SystemExit(f"error: {error}") from error
    except Mismatch as error:
        code = "\n--other-code resumes with code that has changed" * ("  code: " in str(error))
        raise SystemExit(f"error: {error}{code}") from error
    except KeyboardInterrupt as stop:
        raise SystemExit("stopped; --resume continues from the last checkpoint") from stop
    if first():
        seconds = time.perf_counter() - begin
        print(f"{seconds:.0f} s on {jax.devices()[0].device_kind}; see {folder / 'figure.png'}")


@contextmanager
def log_engines(path: Path) -> Iterator[None]:
    """Append to a file which engine computes each pass over time (`scan.plan`), as it is traced."""
    with writing(path):
        logger, handler = logging.getLogger("recur.scan"), logging.FileHandler(path)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False  # keep it off the terminal, if something has set up logging there
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
        handler.close()


def start_devices(config: Config) -> None:
    """Join the other processes and split the CPU into devices. Both must precede JAX's start."""
    chosen = "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    chosen |= jax.config.values["jax_num_cpu_devices"] > 0
    if config.devices or not chosen:
        try:
            jax.config.update("jax_num_cpu_devices", config.devices or cores())
        except RuntimeError as error:  # a larger program has already started JAX
            if config.devices:
                raise SystemExit(
                    "error: --devices has no effect because JAX has already started"
                ) from error
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

    If JAX_COMPILATION_CACHE_DIR names a folder, JAX uses that one.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cores() -> int:
    """Number of cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def open_folder(folder: Path, config: Config, about: dict[str, Any]) -> Record:
    """Open the record of a run and write config.json.

    Exits if the folder to resume belongs to a different run. Deletes the unfinished files of killed
    processes.
    """
    now = origin(about["config"], about["code"])
    if first():
        sweep(folder)
        if config.resume:
            about["runs"] = require_same(folder, now, config.other_code)
    of_any_code = {name: value for name, value in now.items() if name != "code"}
    record = Record(
        folder,
        config.resume,
        config.save_every,
        config.keep,
        of_any_code if config.resume and config.other_code else now,
        fingerprint(now),
    )
    if first():
        write(folder / "config.json", json.dumps(about, indent=2) + "\n")
    return record


def unwrapped(text: str) -> str:
    """Join the lines of each paragraph; tyro does so only if a line begins with a letter."""
    return re.sub(r"(?<=\S)\n(?=\S)", " ", text)


def wants_paper(flags: Sequence[str]) -> bool:
    """Whether the flags include `--preset paper`, which is read before all other flags."""
    joined = "=".join(flags)
    return "--preset=paper" in joined


def save(
    folder: Path,
    result: Any,
    figure: Figure,
    table: Table,
    origin: Mapping[str, str] | None = None,
) -> None:
    """Write result.npz, figure.png, figure.pdf and summary.md, and print the table.

    result.npz also stores the origin, as JSON in the array `origin`. `load` reads both.
    """
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in result._asdict().items()}
    if origin:
        arrays["origin"] = np.array(json.dumps(origin))
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


def load(folder: Path, result_type: Callable[..., Any], config: Config) -> Any:
    """Load the result that a run of this config wrote to its folder.

    Exits if the result is damaged. Exits and lists the differences if it, or config.json, is from
    another run.
    """
    path, (then, _) = folder / "result.npz", read(folder / "config.json")
    asked = origin(flags(config), then["code"])
    require(folder / "config.json", then, asked, "run the experiment again with the current flags")
    try:
        with path.open("rb") as file, np.load(file) as saved:
            arrays = dict(saved)
        made_by = json.loads(str(arrays.pop("origin"))) if "origin" in arrays else then
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise SystemExit(
            f"error: {path} is missing or damaged ({error}); --resume makes it again"
        ) from error
    require(path, made_by, then, "--resume makes it again from the config.json in that folder")
    return result_type(**arrays)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder, check that it is writable before any work is done, and hold its lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mine = lock.take(folder)
    except OSError as error:
        raise SystemExit(
            f"error: cannot write results to {folder} ({error.strerror}). "
            "Name another folder with --results."
        ) from error
    with lock.held(mine):
        yield


def require(path: Path, then: Mapping[str, str], now: Mapping[str, str], what_to_do: str) -> None:
    """Exit if two origins differ; the message lists both values of each difference."""
    if then != now:
        lines = "\n".join(differences(then, now))
        raise SystemExit(f"error: {path} is from another configuration; {what_to_do}\n{lines}")


def require_same(folder: Path, now: dict[str, str], other_code: bool) -> list[str]:
    """The fingerprints of every process that worked on the run to resume, and of this one.

    Exits and lists the differences if the run had another config, or other code without
    `other_code`.
    """
    path, metrics = folder / "config.json", folder / "metrics.jsonl"
    if not path.exists():
        return [fingerprint(now)]
    then, runs = read(path)
    if other_code:
        then["code"] = now["code"]
    code = " (--other-code accepts code that has changed)" * (then["code"] != now["code"])
    require(path, then, now, f"resume it with the same flags{code}, or start over without --resume")
    runs = [run for run in runs if run != fingerprint(now)] + [fingerprint(now)]
    if strange := strangers(metrics, runs):
        raise SystemExit(
            f"error: {metrics} has lines of run {', '.join(sorted(strange))}, and this run is "
            f"{', '.join(runs)}. Move that file away; --resume then rewrites the lines of this run"
        )
    return runs


def flags(config: Config) -> dict[str, Any]:
    """A config in the form in which config.json stores it."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def describe(config: Config, module: ModuleType | None = None) -> dict[str, Any]:
    """The config and everything needed to run it again: code, versions, device and commit."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    versions = {name: version(name) for name in ("jax", "flax", "optax")}
    file = module and module.__file__  # an experiment may lie elsewhere
    code = code_version(*[Path(file)] if file else [])
    return {
        "config": flags(config),
        "code": code,
        "runs": [fingerprint(origin(flags(config), code))],
        "versions": {
            "python": platform.python_version(),
            "recur": recur.__version__,
            **versions,
        },
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores",
        "commit": commit,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
