"""What the loop of a plain scan costs: unrolled, in command buffers, `drive` ahead of it or within.

A command buffer is a CUDA graph: XLA launches its contents at once. "in loops, too" also puts whole
loops into command buffers, which XLA does not do by default.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from benchmarks.on_device import draws, passes
from benchmarks.on_device.jobs import Job, Program, program
from recur import Unitwise, cells, scan
from recur.core import hidden
from recur.scan.engine import rows

KINDS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
BUFFERS: dict[str, dict[str, Any]] = {
    "command buffers off": {"xla_gpu_graph_min_graph_size": 1_000_000},
    "command buffers on": {"xla_gpu_graph_min_graph_size": 1},
    "command buffers in loops, too": {
        "xla_gpu_graph_min_graph_size": 1,
        "xla_gpu_enable_command_buffer": KINDS,
    },
}


def jobs(toy: bool) -> Iterator[Job]:
    """Each variant of the plain scan, then the command buffers of the chunked engine."""
    shape = passes.TOY if toy else passes.FIRST[0]
    dtype = "float32" if toy else "bfloat16"
    names = ["vanilla"] if toy else ["lstm", "gru"]
    for name in names:
        for what in ("training step",) if toy else ("training step", "forward"):
            one = partial(job, name, shape, dtype, what)
            for unroll in (2,) if toy else (1, 2, 4, 8, 16):
                yield one(f"unrolled {unroll}", partial(unrolled, unroll))
            yield one("drive ahead of the loop", ahead)
            for label, options in list(BUFFERS.items())[-1 if toy else 0 :]:
                yield one(label, partial(unrolled, 1), options)
            for label, options in () if toy else BUFFERS.items():
                yield one(f"chunked, {label}", chunked, options)


def job(
    name: str,
    shape: passes.Shape,
    dtype: str,
    what: passes.What,
    label: str,
    forward: Callable,
    options: dict | None = None,
) -> Job:
    """One variant of a pass."""
    batch, T, n = shape
    row = {"cell": name, "batch, T, n": f"{batch}, {T}, {n}", "dtype": dtype, "pass": what}
    cell = cells.named(name)

    def make() -> Program:
        run = partial(forward, cell)
        function = run if what == "forward" else jax.value_and_grad(partial(passes.loss, run))
        params = draws.parameters(cell, n, n, jnp.dtype(dtype))
        return program(function, params, draws.inputs(dtype, T, batch, n), options=options)

    return Job({**row, "how": label}, make)


def unrolled(unroll: int, cell: Unitwise, params: Any, xs: Array) -> Array:
    """The plain scan with several steps per turn of the loop."""
    return scan.run(cell, params, xs, engine="scan", unroll=unroll)[1]


def chunked(cell: Unitwise, params: Any, xs: Array) -> Array:
    """The chunked engine."""
    return scan.run(cell, params, xs, engine="chunked")[1]


def ahead(cell: Unitwise, params: Any, xs: Array) -> Array:
    """The plain scan with `drive` of all steps as one product ahead of the loop."""

    def step(state: Any, z: Any) -> tuple[Any, Array]:
        state = cell.update(params, state, cell.mix(params, hidden(state)), z)
        return state, hidden(state)

    return lax.scan(step, cell.start(params, xs.shape[1:-1]), rows(cell.drive, 2)(params, xs))[1]
