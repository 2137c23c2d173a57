"""From a config to flags, progress, and a folder of results. No framework: a page.

An experiment has a frozen `Config(harness.Config)`, and three functions

    run(config, record) -> Result       a NamedTuple of arrays
    plot(result) -> Figure              one picture
    table(result) -> Table              a few rows

and ends in `harness.main(Config, run, plot, table)`. Its folder then holds config.json,
result.npz, metrics.jsonl, figure.png, figure.pdf and summary.md, each written atomically, and
engine.log, which says how each pass over time was computed. One run at a time works there, and
what it writes says by which flags and code; `--resume` refuses what another run left.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see recur/analysis/numerics/qr.py

import dataclasses
import json
import logging
import platform
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
    """Folder that gets a subfolder named after the experiment."""
    resume: bool = False
    """Go on from the checkpoints of a run that was killed, to the same end."""
    other_code: bool = False
    """Resume although the code has changed since: the end is that of neither code alone."""
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
    start: Any = paper if wants_paper(sys.argv[1:]) else None
    config = tyro.cli(
        config_type,
        prog=f"python -m experiments.{name}",
        description=module.__doc__,
        default=start,
    )
    start_devices(config)
    keep_programs()
    if jax.process_count() > 1:  # which SLURM says without a flag
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
        raise SystemExit("stopped; --resume goes on from the last checkpoint") from stop
    if first():
        seconds = time.perf_counter() - begin
        print(f"{seconds:.0f} s on {jax.devices()[0].device_kind}; see {folder / 'figure.png'}")


@contextmanager
def log_engines(path: Path) -> Iterator[None]:
    """Append to a file by which engine each pass is computed (`scan.plan`), as it is traced."""
    with writing(path):
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
    chosen |= jax.config.values["jax_num_cpu_devices"] > 0
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
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache() / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cores() -> int:
    """The cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def open_folder(folder: Path, config: Config, about: dict[str, Any]) -> Record:
    """The record of a run in its folder, and config.json. Leaves if the run to resume is another.

    What killed processes left half made is cleared away.
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


def wants_paper(flags: Sequence[str]) -> bool:
    """Whether the flags ask for the sizes of the paper; they are read before all others."""
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

    The result carries its origin, as JSON in the array `origin`; `load` reads both.
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
    """The result that a run of this config left in its folder.

    Leaves, naming the differences, if another run left it or config.json, or if it is damaged.
    """
    path, (then, _) = folder / "result.npz", read(folder / "config.json")
    asked = origin(flags(config), then["code"])
    require(folder / "config.json", then, asked, "run the experiment anew with the flags of now")
    try:
        with path.open("rb") as file, np.load(file) as saved:
            arrays = dict(saved)
        made_by = json.loads(str(arrays.pop("origin"))) if "origin" in arrays else then
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise SystemExit(
            f"error: {path} is missing or damaged ({error}); --resume makes it again"
        ) from error
    require(path, made_by, then, "--resume makes it again, by the config.json beside it")
    return result_type(**arrays)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The folder made, found writable now rather than after hours of work, and locked."""
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
    """Leave, with both values of each difference and what to do, if two origins differ."""
    if then != now:
        lines = "\n".join(differences(then, now))
        raise SystemExit(f"error: {path} is of another configuration; {what_to_do}\n{lines}")


def require_same(folder: Path, now: dict[str, str], other_code: bool) -> list[str]:
    """The fingerprints of all that worked on the run to be resumed, and of this process.

    Leaves, naming the differences, if it had another config or, unless that is allowed, code.
    """
    path, metrics = folder / "config.json", folder / "metrics.jsonl"
    if not path.exists():
        return [fingerprint(now)]
    then, runs = read(path)
    if other_code:
        then["code"] = now["code"]
    code = " (--other-code goes on where the code has changed)" * (then["code"] != now["code"])
    require(path, then, now, f"resume it with the same flags{code}, or start anew without --resume")
    runs = [run for run in runs if run != fingerprint(now)] + [fingerprint(now)]
    if strange := strangers(metrics, runs):
        raise SystemExit(
            f"error: {metrics} has lines of run {', '.join(sorted(strange))}, and this run is "
            f"{', '.join(runs)}. Move that file away: --resume writes the lines of this run again"
        )
    return runs


def flags(config: Config) -> dict[str, Any]:
    """A config as config.json has it."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def describe(config: Config, module: ModuleType | None = None) -> dict[str, Any]:
    """The config with all that is needed to run it again: code, versions, device, commit."""
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
