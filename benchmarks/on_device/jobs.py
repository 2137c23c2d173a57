"""A job: a program that a thread compiles ahead of its turn, and how its calls are timed.

While the clock runs, no other thread runs Python code, since a finished call would have to wait for
the interpreter. So tracing, drawing and timing hold the same lock. The row says what XLA compiles
meanwhile ("compiling beside"): this takes cores, and on a GPU the search for fast kernels takes the
GPU.
"""

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax

from benchmarks.on_device.launches import launches

CALLS, SECONDS, LONGEST = 5, 0.25, 3.0  # timed calls and their time, at least; where calls are long
MOST = 200  # calls

alone = threading.Lock()


class Skip(Exception):
    """Raised for a job that is skipped for a reason; not an error."""


class Program(NamedTuple):
    """A function to be called, and what is known about it before the first call."""

    run: Callable[[], Any]  # returns the result when the work is done
    traced: float | None = None  # seconds
    compiled: float | None = None  # seconds
    memory: int | None = None  # bytes of temporaries
    launches: int | None = None
    flops: float | None = None  # of its matrix products


class Job(NamedTuple):
    """A row of a part's table, to be, or several."""

    row: dict[str, Any]  # what is measured; no other job of the part has the same
    make: Callable[[], Program]
    read: Callable[[Any], list[dict[str, Any]]] = lambda _: [{}]  # columns of each row, by a result
    timed: bool = True


def program(
    function: Callable,
    *args: Any,
    options: dict | None = None,
    x64: bool = False,
    device: jax.Device | None = None,
) -> Program:
    """`function(*args)` as a program; `options` are those of XLA's compiler.

    If the program is not run, an argument can be only a shape.
    """
    with jax.enable_x64(True) if x64 else nullcontext():
        args = jax.tree.map(lambda a: _placed(a, device), args)
        with alone:
            begin = time.perf_counter()
            lowered = jax.jit(function).lower(*args)
            traced = time.perf_counter() - begin
        begin = time.perf_counter()
        executable = lowered.compile(compiler_options=options)
        compiled = time.perf_counter() - begin
    analysis = executable.memory_analysis()

    def run() -> Any:
        with jax.enable_x64(True) if x64 else nullcontext():
            return jax.block_until_ready(executable(*args))

    memory = None if analysis is None else analysis.temp_size_in_bytes
    with alone:
        kernels = launches(executable.as_text())
    return Program(run, traced, compiled, memory, kernels)


def _placed(a: Any, device: jax.Device | None) -> Any:
    return a if isinstance(a, jax.ShapeDtypeStruct) else jax.device_put(a, device)


def measured(
    job: Job, made: Program, until: float, beside: Callable[[], int]
) -> list[dict[str, Any]]:
    """The rows of a job; one if it is timed: the median of single calls, each waited for.

    The first call warms up. It counts if it is the only one that fits before `until`, a
    time.time().
    """
    begin = time.perf_counter()
    result = made.run()
    first = time.perf_counter() - begin
    rows = [{**job.row, **columns} for columns in job.read(result)]
    del result
    known = {
        "launches": made.launches,
        "temporaries, MB": _million(made.memory),
        "traced, s": made.traced,
        "compiled, s": made.compiled,
    }
    if job.timed:
        with alone:
            before, calls = beside(), timed(made.run, until)
            others = max(before, beside())
        typical = statistics.median(calls or [first])
        known = {
            "ms": 1e3 * typical,
            "least ms": 1e3 * min(calls or [first]),
            "calls": len(calls),
            "TFLOP/s": made.flops / typical / 1e12 if made.flops else None,
            "compiling beside": others,
            "first call, ms": 1e3 * first,
            **known,
        }
    return [row | known for row in rows]


def timed(run: Callable[[], Any], until: float) -> list[float]:
    """Seconds of single calls: fewer if they are long, and none after `until`."""
    calls: list[float] = []
    while time.time() < until and len(calls) < MOST:
        begin = time.perf_counter()
        run()
        calls.append(time.perf_counter() - begin)
        if sum(calls) >= (SECONDS if len(calls) >= CALLS else LONGEST):
            break
    return calls


def _million(number: int | None) -> float | None:
    return None if number is None else number / 1e6
