"""Watch the process that measures, and leave a complete record however it ends."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Any

from benchmarks.on_device import __doc__ as about
from benchmarks.on_device import record as files

GRACE = 20.0  # seconds after its share in which a part may finish the call it is in
TRIES = 3  # processes that one part may kill
TOY = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiles faster
NO_DEVICE = 3  # see worker.py
ROOT = Path(__file__).parent.parent.parent


def flags() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.on_device",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [part.name for part in files.PARTS]
    parser.add_argument("--minutes", type=float, default=8.0, help="of the whole run (8)")
    parser.add_argument("--rehearse", action="store_true", help="toy sizes, on a CPU")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="all, in order")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results/benchmarks"),
        help="gets a folder on_device (results/benchmarks)",
    )
    return parser.parse_args()


def main(config: argparse.Namespace) -> int:
    """Measure; returns the exit status."""
    folder = (config.results / "on_device").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    head = {"rehearsal": config.rehearse, "began (UTC)": began, "minutes": config.minutes}
    files.save(folder, files.blank(files.PARTS, head))
    with told_to_stop():
        try:
            ended = attend(config, folder)
        except SystemExit as stop:
            ended = str(stop.code)
    files.sweep_up(folder)
    record = files.read(folder)
    record |= {"ended": ended, "running": None}
    files.save(folder, record)
    print(f"{ended}; see {folder / files.MARKDOWN}")
    return 0 if ended == "finished" else 1


def attend(config: argparse.Namespace, folder: Path) -> str:
    """Start a worker, and another if one dies or hangs, until all parts have had their turn."""
    chosen, begin = [part for part in files.PARTS if part.name in config.parts], time.time()
    ends = {n: begin + end for n, end in files.deadlines(chosen, 60 * config.minutes).items()}
    left = [part.name for part in chosen]
    died: dict[str, int] = {}
    while left:
        arguments = {"folder": str(folder), "parts": left, "ends": ends, "toy": config.rehearse}
        worker = start(arguments, config.rehearse)
        try:
            while (code := worker.poll()) is None and not late(folder, left, ends):
                time.sleep(0.2)
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        if code == NO_DEVICE:
            return "there is no accelerator, so nothing was measured: --rehearse runs on a CPU"
        if code == 0:
            return "finished"
        files.sweep_up(folder)
        name = blame(folder, left, code)
        died[name] = died.get(name, 0) + 1
        if code is None or time.time() >= ends[name] or died[name] >= TRIES:
            left = left[left.index(name) + 1 :]
        if time.time() >= max(ends.values()):
            break
    return "finished, with a part that was ended"


def start(arguments: dict[str, Any], toy: bool) -> subprocess.Popen:
    """The process that measures. PyTorch gets the GPU memory that JAX does not take."""
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.6", "OPENBLAS_NUM_THREADS": "1"}
    environment |= os.environ | (TOY if toy else {})
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    command = [sys.executable, "-u", "-m", "benchmarks.on_device.worker", dumps(arguments)]
    return subprocess.Popen(command, env=environment | {"PYTHONPATH": path}, cwd=ROOT)


def current(record: dict[str, Any], left: list[str]) -> str:
    """The part that is being measured, or the first that waits."""
    if record["running"]:
        return record["running"]["part"]
    unfinished = ("waiting", "running")
    return next((n for n in left if record["parts"][n]["state"] in unfinished), left[-1])


def late(folder: Path, left: list[str], ends: dict[str, float]) -> bool:
    """Whether the part has used more than its share."""
    name = current(files.read(folder), left)
    return time.time() > ends[name] + GRACE


def blame(folder: Path, left: list[str], code: int | None) -> str:
    """Record where the process ended; the job is not tried again."""
    record = files.read(folder)
    name = current(record, left)
    part = record["parts"][name]
    how = "was ended: it did not return" if code is None else f"died with exit status {code}"
    if record["running"]:
        job = record["running"]["job"]
        what = "while this was measured (or another compiled)"
        part["rows"].append({**job, "error": f"the process {how} {what}"})
        part["done"].append(job)
    part["state"] = f"the process {how}"
    record["running"] = None
    files.save(folder, record)
    return name


@contextmanager
def told_to_stop() -> Iterator[None]:
    """SIGTERM and Ctrl-C raise SystemExit, which names the signal."""

    def stop(number: int, frame: Any) -> None:
        del frame
        raise SystemExit(f"cut off by {signal.Signals(number).name}")

    before = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(flags()))
