"""The process that measures: takes the parts in order and writes the record after each job.

    python -m benchmarks.on_device.worker '{"folder": ..., "parts": [...], ...}'

`__main__` starts it, ends it if it hangs, and starts another if it dies.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.on_device import record as files
from benchmarks.on_device.jobs import Job, Program, Skip, measured

NO_DEVICE = 3  # what the process ends with where there is no accelerator
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


class Entry(NamedTuple):
    """A job whose program is being compiled."""

    job: Job
    making: "Future[Program]"


class Run:
    """The record, the pool of compilers, and when to write what."""

    def __init__(self, folder: Path, ends: dict[str, float], toy: bool):
        self.folder, self.ends, self.toy = folder, ends, toy
        self.record = files.read(folder)
        # half of the cores compile; tracing is one thread's at a time
        self.pool = ThreadPoolExecutor(max(1, min(8, (os.cpu_count() or 2) // 2)))
        self.making: list[Future] = []

    def compiling(self) -> int:
        """How many programs are being compiled now."""
        return sum(future.running() for future in self.making)

    def save(self) -> None:
        """Write the record."""
        files.save(self.folder, self.record)

    def prepare(self, name: str) -> list[Entry]:
        """Send the programs of a part to the compilers, except those that are in the record."""
        part = self.record["parts"][name]
        done = [json.dumps(row) for row in part["done"]]
        jobs = importlib.import_module(f"benchmarks.on_device.{name}").jobs(self.toy)
        new = [job for job in jobs if json.dumps(job.row) not in done]
        entries = [Entry(job, self.pool.submit(job.make)) for job in new]
        self.making += [entry.making for entry in entries]
        return entries

    def take(self, name: str, entries: list[Entry]) -> None:
        """Measure the jobs of a part in order, as they get ready, until its time is over."""
        part, until, began = self.record["parts"][name], self.ends[name], time.time()
        part["state"] = "running"
        again: list[tuple[Entry, int]] = []
        while entries:
            if time.time() >= until:
                part["state"] = f"stopped at its share with {len(entries)} jobs to do"
                for entry in entries:
                    entry.making.cancel()
                break
            ready = next((entry for entry in entries if entry.making.done()), None)
            if ready is None:
                pending = [entry.making for entry in entries]
                wait(pending, min(1.0, max(0.0, until - time.time())), FIRST_COMPLETED)
                continue
            entries.remove(ready)
            place = len(part["rows"])
            rows = self.one(name, ready, until)
            part["rows"] += rows
            part["done"].append(ready.job.row)
            self.finish(name, rows)
            if rows and rows[0].get("compiling beside"):
                again.append((ready, place))
        else:
            part["state"] = "done"
        for entry, place in again:  # in the quiet, where there is time
            if time.time() >= until or self.compiling():
                break
            rows = self.one(name, entry, until)
            if "error" not in rows[0]:
                part["rows"][place] = rows[0]
            self.finish(name, rows)
        part["seconds"] += time.time() - began
        self.save()

    def finish(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Write the record, and print what is new in it."""
        self.record["running"] = None
        self.save()
        for row in rows:
            print(name, *(f"{k}={files.shown(v)}" for k, v in row.items() if v is not None))

    def one(self, name: str, entry: Entry, until: float) -> list[dict[str, Any]]:
        """The rows of one job; an error that it raises is a row, too."""
        part, job = self.record["parts"][name], entry.job
        self.record["running"] = {"part": name, "job": job.row}
        self.save()
        try:
            return measured(job, entry.making.result(), until, self.compiling)
        except (Skip, ModuleNotFoundError) as why:
            note = f"skipped: {why}"
            part["notes"] += [note] if note not in part["notes"] else []
            return []
        except Exception as error:  # out of memory, unsupported: the next one may do
            return [{**job.row, "error": f"{type(error).__name__}: {error}"[:600]}]


def main(arguments: dict[str, Any]) -> int:
    """Run the requested parts."""
    watch_parent(os.getppid())
    folder, toy = Path(arguments["folder"]), arguments["toy"]
    run = Run(folder, arguments["ends"], toy)
    run.record["about"] |= about()
    run.save()
    if jax.default_backend() == "cpu" and not toy:
        return NO_DEVICE
    prepared: dict[str, list[Entry]] = {}
    for name in arguments["parts"]:
        part = run.record["parts"][name]
        try:
            prepared[name] = run.prepare(name)
        except Skip as why:
            part["state"] = f"skipped: {why}"
        except Exception as error:
            part["state"] = f"failed: {type(error).__name__}: {error}"[:600]
    run.save()
    for name, entries in prepared.items():
        run.take(name, entries)
    return 0


def about() -> dict[str, Any]:
    """Where this runs."""
    device = jax.devices()[0]
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    memory = (device.memory_stats() or {}).get("bytes_limit")
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "memory, GB": None if memory is None else round(memory / 1e9, 1),
        "cores": os.cpu_count(),
        **found,
    }


def watch_parent(parent: int) -> None:
    """End this process when its parent is gone."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    code = main(json.loads(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # compilers may still be at work on what nobody waits for
