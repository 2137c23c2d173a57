"""How long do spectra of Jacobian products take, compared with autodiff of the unrolled map?

    python -m benchmarks.jacobian --n 128 --d 32 --T 1000

`input_output` at each of 64 lags races against `jax.jacrev` of the last output with respect to all
T inputs and a dense SVD of each block. jacrev is cheaper for shorter sequences, and its small
singular values are lost to rounding: where T is no longer than the lags, the difference is the
price of accuracy. The floor is the products back over 64 steps without a spectrum. A second race
pushes a frame by the structure of a Unitwise cell, and by forward mode. Differences are the
largest, over lags, of the log of the largest singular value from the dense one, in nats; and the
largest of a number of the frame, whose norm is 1.
"""

import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import rich.progress
from jax import Array, lax

from benchmarks import harness, medians
from benchmarks.harness import Contestant, compiled
from experiments.harness import Table
from recur import Prior, analysis, cells, scan
from recur.analysis.numerics.flat_state import flatten
from recur.analysis.numerics.step_jacobian import Push, generic, unitwise

LAGS = 64
FEW = (0, 1, 3, 7, 15, 31, 63)
BLOCKS, DENSE = "jacrev, no SVD", "jacrev, an SVD a lag"
EVERY, SOME = f"input_output, {LAGS} lags", f"input_output, {len(FEW)} lags"
FORWARD, STRUCTURE = "forward mode", "structure"
STEPS = 200  # that a frame is pushed


@dataclass(frozen=True)
class Config(harness.Config):
    """The flags."""

    n: int = 128
    """Units."""
    d: int = 32
    """Inputs."""
    T: int = 1000
    """Steps of the longer sequences; the shorter have 64, the number of lags."""


def main(config: Config, folder: Path) -> None:
    """Race for spectra, then for frames."""
    if LAGS > config.T:
        raise ValueError(f"T must be {LAGS}, the number of lags, or more, got {config.T}")
    spectra = dict.fromkeys((("gru", config.T), ("lstm", config.T), ("gru", LAGS)))
    races = [partial(reach, config, cell, T) for cell, T in spectra]
    frames = ("gru", "lstm", "minimal")
    for k in dict.fromkeys((8, config.n)):
        races += [partial(pushes, config, cell, k) for cell in frames]
    records: list[dict] = []
    for run in rich.progress.track(races, "races"):
        records.append(run())
        harness.keep(folder, config, records)
    apart = len(spectra)
    tables = {record["title"]: medians.table(record, (BLOCKS,)) for record in records[:apart]}
    tables[f"A frame through {STEPS} steps"] = pushed(records[apart:])
    wide = range(apart, len(records), len(frames))
    rows = [records[:apart], *(records[i : i + len(frames)] for i in wide)]
    harness.publish(folder, config, records, tables, medians.plot(rows))


def reach(config: Config, cell: str, T: int) -> dict:
    """The race for spectra of dh_T/dx_{T-lag}."""
    body, state, xs = trajectory(config, cell, T)

    def blocks(xs: Array) -> Array:
        return jax.jacrev(lambda xs: lax.scan(body, state, xs)[1][-1])(xs)

    def dense(xs: Array) -> Array:
        last = jnp.moveaxis(blocks(xs), 1, 0)[-LAGS:]
        return lax.map(lambda J: jnp.linalg.svd(J, compute_uv=False), last)

    def products(xs: Array) -> Array:
        step, start = flatten(body, state, xs)

        def back(C: Array, x: Array) -> tuple[Array, Array]:
            CJ, CB = jax.vmap(jax.vjp(lambda s, x: step(s, x)[0], start, x)[1])(C)
            return CJ / jnp.linalg.norm(CJ), CB

        return lax.scan(back, jnp.eye(config.n, start.size), xs[-LAGS:])[1]

    contestants = {
        BLOCKS: compiled(blocks, xs),
        DENSE: compiled(dense, xs),
        EVERY: compiled(lambda xs: analysis.input_output(body, state, xs, range(LAGS)), xs),
        SOME: compiled(lambda xs: analysis.input_output(body, state, xs, FEW), xs),
        f"floor: products, {LAGS} lags": compiled(products, xs),
    }
    expected = jnp.log(contestants[DENSE].run()[::-1, 0])  # lag 0 is its last
    differ = {
        name: abs(contestants[name].run()[:, 0] - expected[jnp.array([*lags])]).max()
        for name, lags in ((EVERY, range(LAGS)), (SOME, FEW))
    }
    return medians.record(f"{cell}: spectra, T = {T}", contestants, config.rounds, differ)


def pushes(config: Config, cell: str, k: int) -> dict:
    """The race for k directions through STEPS steps."""
    body, state, xs = trajectory(config, cell, STEPS)
    step, start = flatten(body, state, xs)
    Q = jax.random.normal(jax.random.key(config.seed + 2), (k, start.size))

    def by(push: Push) -> Contestant:
        def advance(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], None]:
            s, Q = push(*carry, x)
            return (s, Q / jnp.linalg.norm(Q)), None

        return compiled(lambda start, Q, xs: lax.scan(advance, (start, Q), xs)[0], start, Q, xs)

    contestants = {
        FORWARD: by(generic(step)),
        STRUCTURE: by(unitwise(body.cell, body.params, state, k)),
    }
    differ = {STRUCTURE: abs(contestants[STRUCTURE].run()[1] - contestants[FORWARD].run()[1]).max()}
    return medians.record(f"{cell}: {k} directions", contestants, config.rounds, differ)


def trajectory(config: Config, cell: str, T: int) -> tuple[scan.Tied, Any, Array]:
    """A cell with its parameters, its first state, and T inputs."""
    made = cells.named(cell)
    params = made.init(jax.random.key(config.seed), Prior(1.0, 1.0), config.d, config.n)
    xs = jax.random.normal(jax.random.key(config.seed + 1), (T, config.d))
    return scan.tied(made, params), made.start(params), xs


def pushed(records: list[dict]) -> Table:
    """A row for each cell and number of directions."""
    rows = []
    for record in records:
        forward, structure = (record["seconds"][name] for name in (FORWARD, STRUCTURE))
        ratio = statistics.median(forward) / statistics.median(structure)
        rows.append(
            (
                record["title"],
                medians.spread(forward, 1e3),
                medians.spread(structure, 1e3),
                f"{ratio:.2f}",
                f"{record['difference'][STRUCTURE]:.1e}",
            )
        )
    heads = (f"{FORWARD}, ms", f"{STRUCTURE}, ms", f"{FORWARD} / {STRUCTURE}", "difference")
    return Table(("", *heads), rows)


if __name__ == "__main__":
    harness.main(Config, main)
