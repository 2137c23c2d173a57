"""Forward passes and training steps of one layer, beside Flax and cuDNN.

A step is the mean square of all outputs and its gradient with respect to the parameters. d = n. The
results are checked: "difference" is how far the last outputs, or the loss, are from those of the
plain scan, relative to the largest of these.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks import flops, peers
from benchmarks.on_device import draws
from benchmarks.on_device.jobs import Job, Program, Skip, alone, program
from recur import cells, scan

What = Literal["forward", "training step"]
Shape = tuple[int, int, int]  # batch, T, n

OURS = {"recur, plain scan": "scan", "recur, chunked": "chunked"}
FIRST: tuple[Shape, ...] = ((16, 1024, 768), (64, 512, 512))
THEN: tuple[Shape, ...] = ((1, 10_000, 256), (256, 256, 128))
TOY: Shape = (2, 40, 8)


def jobs(toy: bool) -> Iterator[Job]:
    """The most important jobs come first."""
    if toy:
        yield from rows(["vanilla"], [TOY], ["float32"], [*OURS, "linen", "torch", "cudnn"])
        return
    both = ["bfloat16", "float32"]
    yield from rows(["lstm", "gru"], FIRST, both, [*OURS, "torch", "cudnn", "linen"])
    yield from rows(["minimal", "cfn", "vanilla"], FIRST[:1], both, OURS)
    yield from rows(["lstm", "gru"], THEN, both, [*OURS, "torch"])
    yield from rows(["lstm", "gru"], FIRST, both, ["nnx"])
    yield from rows(["minimal", "cfn", "vanilla"], [FIRST[1], *THEN], both, OURS)
    yield from rows(["vanilla"], FIRST, both, ["torch", "linen"])


def rows(names: Any, shapes: Any, dtypes: Any, contestants: Any) -> Iterator[Job]:
    """Every contestant on every cell, shape and dtype, forward and backward."""
    for shape in shapes:
        for dtype in dtypes:
            for name in names:
                for what in ("forward", "training step"):
                    for contestant in contestants:
                        yield job(name, shape, dtype, what, contestant)


_expected: dict[tuple, np.ndarray] = {}  # by cell, shape, dtype and pass: what the plain scan gave


def job(name: str, shape: Shape, dtype: str, what: What, contestant: str) -> Job:
    """One contestant's pass."""
    batch, T, n = shape
    row = {
        "cell": name,
        "batch, T, n": f"{batch}, {T}, {n}",
        "dtype": dtype,
        "pass": what,
        "by": contestant,
    }
    time_axis = int(contestant == "cudnn")

    def read(result: Any) -> list[dict[str, Any]]:
        value = result if what == "forward" else result[0] if isinstance(result, tuple) else result
        value = _numbers(value)
        last = np.take(value, -1, axis=time_axis) if what == "forward" else value
        key = (name, shape, dtype, what)
        if contestant == "recur, plain scan":
            _expected[key] = last
        if (expected := _expected.get(key)) is None:
            return [{"difference": None}]
        apart = np.abs(last - expected).max() / np.abs(expected).max()
        return [{"difference": float(apart)}]

    return Job(row, partial(make, name, shape, dtype, what, contestant), read)


def make(name: str, shape: Shape, dtype: str, what: What, contestant: str) -> Program:
    """The program of a contestant. Raises Skip if it has no such layer."""
    batch, T, n = shape
    cell = cells.named(name)
    params = draws.parameters(cell, n, n, jnp.dtype(dtype))
    xs = draws.inputs(dtype, T, batch, n)
    work = float(T * _step_flops(name, batch, n)[what == "training step"])
    if contestant == "torch":
        if name not in peers.TRANSFERRED:
            raise Skip(f"torch has no {name}")
        layer = peers.Torch(name, jax.tree.map(jnp.asarray, params), xs)
        return Program(layer.forward if what == "forward" else layer.step, flops=work)
    if contestant in OURS:
        weights: Any = params
        forward: Callable = partial(run, cell, OURS[contestant])
    else:
        params = jax.tree.map(jnp.asarray, params)
        if (peer := peers.PEERS[contestant](name, params)) is None:
            raise Skip(f"{contestant} has no {name} in {dtype} on {jax.default_backend()}")
        weights, forward = peer.weights, peer.forward
        xs = jnp.swapaxes(xs, 0, 1) if peer.batch_first else xs
    function = forward if what == "forward" else jax.value_and_grad(partial(loss, forward))
    return program(function, weights, xs)._replace(flops=work)


def run(cell: Any, engine: Any, params: Any, xs: Array) -> Array:
    """All outputs, by one of our engines."""
    return scan.run(cell, params, xs, engine=engine)[1]


def loss(forward: Callable[[Any, Array], Array], weights: Any, xs: Array) -> Array:
    """The mean square of all outputs."""
    return jnp.mean(forward(weights, xs) ** 2)


@cache
def _step_flops(name: str, batch: int, n: int) -> tuple[float, float]:
    params = draws.parameters(cells.named(name), n, n)
    with alone:
        return flops.step_flops(name, params, np.zeros((1, batch, n), np.float32))


def _numbers(value: Any) -> np.ndarray:
    """A JAX or PyTorch array, or a number, as a NumPy array of float32."""
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    return np.asarray(value, np.float32)
