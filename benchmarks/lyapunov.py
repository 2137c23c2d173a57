"""How long does a Lyapunov spectrum take, compared with jacfwd and a QR at every step in plain JAX?

    python -m benchmarks.lyapunov --n 256 --T 1000 --cell gru --bits 32

It measures all exponents, then the first eight. The eight race against two plain routines. One
computes all exponents. The other pushes only eight directions; there XLA takes the product of
jacfwd with the weights out of the loop, so little but J Q is left to save. The difference is that
of the exponent that differs most from the plain one; compare it with the standard error of an
exponent over the T steps. The floors are the products alone, and `jnp.linalg.qr` at every step
alone. recur can be below the second floor, since it has fewer factorisations, or computes them in
panels (recur/analysis/numerics/qr.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import rich.progress
from jax import Array, lax

from benchmarks import harness, medians
from benchmarks.harness import compiled
from experiments.harness import Table
from recur import Prior, Unitwise, analysis, cells, scan
from recur.core import Body

PLAIN, PLAIN_ALL = "plain: jacfwd and QR", "plain: all exponents"
FEW = 8


@dataclass(frozen=True)
class Config(harness.Config):
    """The flags."""

    n: int = 256
    """Units; there are a quarter as many inputs."""
    T: int = 1000
    """Steps."""
    cell: str = "gru"
    """A Unitwise cell whose state is one array: vanilla, gru, minimal and others."""
    bits: Literal[32, 64] = 32
    """Bits of a floating-point number."""


def main(config: Config, folder: Path) -> None:
    """Race for all exponents and for eight."""
    records: list[dict] = []
    with jax.enable_x64(config.bits == 64):
        for k in rich.progress.track(dict.fromkeys((config.n, min(FEW, config.n))), "races"):
            records.append(measure(config, k))
            harness.keep(folder, config, records)
    tables = {record["title"]: table(record) for record in records}
    harness.publish(folder, config, records, tables, medians.plot([[record] for record in records]))


def measure(config: Config, k: int) -> dict:
    """Race for k exponents."""
    key = jax.random.key(config.seed)
    cell = cells.named(config.cell)
    params = cell.init(key, Prior(1.0, 1.0), config.n // 4, config.n)
    body, state = scan.tied(cell, params), cell.start(params)
    if not isinstance(cell, Unitwise) or not isinstance(state, Array):
        raise ValueError(
            "the plain routines push a state that is one array, and the floor is the products of "
            f"a Unitwise cell: vanilla, gru and minimal are such cells, {config.cell} is not"
        )
    xs = jax.random.normal(jax.random.fold_in(key, 1), (config.T, config.n // 4))
    routines = {
        name: compiled(routine, state, xs)
        for name, routine in field(key, body, k, config.n).items()
    }
    found = {name: routine.run() for name, routine in routines.items()}
    differ = {name: abs(exponents - found[PLAIN]).max() for name, exponents in found.items()}
    details = jax.jit(lambda s, xs: analysis.lyapunov_details(key, body, s, xs, k))
    error = details(state, xs).error
    title = f"{config.cell}, {k} of {config.n} exponents, T = {config.T}, {state.dtype}"
    contestants = routines | floors(key, cell, params, state, k, config.T)
    return {
        **medians.record(title, contestants, config.rounds, differ),
        "standard error": {"median": float(jnp.median(error)), "largest": float(error.max())},
    }


def plain(key: Array, body: Body, state: Array, xs: Array, k: int) -> Array:
    """What one would write without this package."""
    Q, _ = jnp.linalg.qr(jax.random.normal(key, (state.size, k), state.dtype))

    def advance(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        s, Q = carry
        J = jax.jacfwd(lambda s: body(s, x)[0])(s)
        Q, R = jnp.linalg.qr(J @ Q)
        return (body(s, x)[0], Q), jnp.log(jnp.abs(jnp.diagonal(R)))

    logs = lax.scan(advance, (state, Q), xs)[1]
    return jnp.sort(logs.mean(axis=0), descending=True)


def field(key: Array, body: Body, k: int, n: int) -> dict[str, Callable[..., Array]]:
    """Name -> a function of a state and inputs that returns k of the n exponents."""

    def ours(every: int | None) -> Callable[..., Array]:
        return lambda s, xs: analysis.lyapunov(key, body, s, xs, k, every=every)

    few = k < n
    return {
        **({PLAIN_ALL: lambda s, xs: plain(key, body, s, xs, n)[:k]} if few else {}),
        PLAIN: lambda s, xs: plain(key, body, s, xs, k),
        "recur, default": ours(None),
        "recur, every = 1": ours(1),
        **({} if few else {"recur, every = 2": ours(2)}),
        "recur, every = 5": ours(5),
    }


def floors(key: Array, cell: Unitwise, params: Any, state: Array, k: int, T: int) -> dict:
    """Name -> a contestant that does only one part of the work, T times."""
    n = state.size
    A = jax.random.normal(key, (n, k), state.dtype)
    J = jax.random.normal(key, (n, n), state.dtype) / jnp.sqrt(n).astype(state.dtype)

    def push(_: int, Q: Array) -> Array:
        """One product for each array of weights, or one with their sum, whichever is less."""
        return sum(jax.tree.leaves(cell.mix(params, Q)), jnp.zeros_like(Q)) if k < n else Q @ J

    def factorise(_: int, Q: Array) -> Array:
        return jnp.linalg.qr(Q + A)[0]

    return {
        "floor: products with Q": compiled(lambda Q: lax.fori_loop(0, T, push, Q), A.T),
        "floor: factorisations": compiled(lambda Q: lax.fori_loop(0, T, factorise, Q), A),
    }


def table(record: dict) -> Table:
    """A row for each contestant, and the standard error with which to compare differences."""
    bases = [name for name in (PLAIN_ALL, PLAIN) if name in record["seconds"]]
    made = medians.table(record, bases)
    rest = [""] * (len(made.columns) - 2)
    errors = record["standard error"].items()
    rows = [(f"standard error: {name}", *rest, f"{value:.1e}") for name, value in errors]
    return Table(made.columns, [*made.rows, *rows])


if __name__ == "__main__":
    harness.main(Config, main)
