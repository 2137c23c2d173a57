"""One layer from every library on the same work: what `forward` and `train_step` share.

A row is one cell at one shape. Peers run on one device with all cores, as their users run them.
"all" is the batch spread over all local devices, for recur and for the scan by hand, so that this
gain is not attributed to the engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress
from jax import Array

from benchmarks import harness, peers, report
from recur import Prior, cells, scan

SHAPES = ((1, 1000, 64, 16), (32, 512, 128, 32), (64, 256, 256, 64), (128, 128, 512, 128))


@dataclass(frozen=True)
class Config(harness.Config):
    """The flags of both benchmarks."""

    shapes: tuple[tuple[int, int, int, int], ...] = SHAPES
    """Batch, steps T, units n, inputs d; several shapes one after another."""
    cells: tuple[str, ...] = tuple(peers.STEPS)
    """Cells: vanilla, gru and lstm race all peers; others race the scan by hand."""
    peers: tuple[str, ...] = (*peers.PEERS, "torch")
    """Packages that take part if they are installed."""


def race(config: Config, folder: Path, field: Callable[..., dict], work: Callable) -> None:
    """Race field(config, cell, params, xs) in every row, whose floor is that of work(...)."""
    records = []
    rows = [(shape, cell) for shape in config.shapes for cell in config.cells]
    for shape, cell in rich.progress.track(rows, "rows"):
        batch, T, n, d = shape
        params = cells.named(cell).init(jax.random.key(config.seed), Prior(1.0, 1.0), d, n)
        xs = jax.random.normal(jax.random.key(config.seed + 1), (T, batch, d), jnp.float32)
        contestants = field(config, cell, params, xs)
        machine, unit = harness.rates()
        seconds = harness.race(contestants | machine, config.rounds)
        records.append(
            {
                "cell": cell,
                "shape": shape,
                "plan": scan.plan(cells.named(cell), xs)._asdict(),
                "floor": harness.floor(work(cell, params, xs), unit, seconds),
                "seconds": {name: seconds[name].tolist() for name in contestants},
                "memory": {name: c.memory for name, c in contestants.items()},
                "compiling": {name: c.compiling for name, c in contestants.items()},
            }
        )
        harness.keep(folder, config, records)
    tables = {
        "Milliseconds": report.times(records),
        "Ratios of medians": report.ratios(records),
        "Temporary memory, MB": report.memory(records),
        "Seconds to compile": report.compiling(records),
    }
    harness.publish(folder, config, records, tables, report.plot(records))


def installed(config: Config, cell: str, params: Any) -> dict[str, peers.Peer]:
    """The scan by hand, and the JAX packages that are installed and have this cell."""
    makers = {"scan": peers.by_hand}
    if cell in peers.TRANSFERRED:
        makers |= {name: peers.PEERS[name] for name in config.peers if name in peers.PEERS}
    found = {}
    for name, make in makers.items():
        try:
            peer = make(cell, params)
        except ModuleNotFoundError:
            continue
        if peer is not None:
            found[name] = peer
    return found


def torch(config: Config, cell: str, params: Any, xs: Array) -> peers.Torch | None:
    """The layer of PyTorch, if it takes part, is installed and has this cell."""
    if "torch" not in config.peers or cell not in peers.TRANSFERRED:
        return None
    try:
        return peers.Torch(cell, params, xs)
    except ModuleNotFoundError:
        return None


def require_equal(name: str, found: Any, expected: Any, tolerance: float = 1e-4) -> None:
    """Raise ArithmeticError if a peer does different work, by the largest difference; float32.

    On a GPU, whose products keep ten bits of their factors, the tolerance is a hundred times
    larger.
    """
    tolerance *= 1 if jax.default_backend() == "cpu" else 100
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        error = np.abs(np.asarray(a) - np.asarray(b)).max() / max(1e-30, np.abs(b).max())
        if not error < tolerance:
            raise ArithmeticError(f"{name} differs from recur by {error:.1e} of the largest")


def spread_over_devices(xs: Array) -> bool:
    """Whether there are several devices and they divide the batch."""
    return jax.local_device_count() > 1 and xs.shape[1] % jax.local_device_count() == 0


def state_bytes(cell: str, params: Any, xs: Array) -> int:
    """Bytes of the states of all steps."""
    state = cells.named(cell).start(params, xs.shape[1:-1])
    return len(xs) * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
