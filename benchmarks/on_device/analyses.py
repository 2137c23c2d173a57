"""Lyapunov exponents, spectra of Jacobians, a sweep as one program, 100,000 steps of an LSTM."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from benchmarks.on_device import draws
from benchmarks.on_device.jobs import Job, Program, program
from recur import Prior, analysis, cells, scan, tasks, train

KEPT = ("sqrt", "chunks", "states", "mix")


def jobs(toy: bool) -> Iterator[Job]:
    """One of each kind first."""
    if toy:
        yield lyapunov("vanilla", 4, 20, 4)
        yield sweep(4, 5, 8)
        yield long("sqrt", 2, 4, 8, 300)
        return
    yield lyapunov("gru", 512, 256, 512)
    yield sweep(1000, 200, 32)
    yield spectrum("gru", 128, 256)
    yield long("sqrt", 16, 32, 256, 100_000)
    yield product("gru", 128, 256)
    yield lyapunov("gru", 512, 256, 8)
    yield lyapunov("vanilla", 512, 256, 512)
    for kept in KEPT[1:]:
        yield long(kept, 16, 32, 256, 100_000)


def trajectory(name: str, n: int, T: int) -> tuple[Any, Any, Any, Array]:
    """A cell, its parameters and first state, and T inputs, a fourth as many as units."""
    cell, d = cells.named(name), max(1, n // 4)
    params = draws.parameters(cell, d, n)
    return cell, params, cell.start(params), draws.inputs("float32", T, d)


def lyapunov(name: str, n: int, T: int, k: int) -> Job:
    """The k largest exponents."""

    def make() -> Program:
        cell, params, state, xs = trajectory(name, n, T)
        return program(
            lambda params, state, xs: analysis.lyapunov(
                jax.random.key(0), scan.tied(cell, params), state, xs, k
            ),
            params,
            state,
            xs,
        )

    return Job({"what": f"{k} of {n} Lyapunov exponents, {name}", "T": T}, make, known)


def spectrum(name: str, n: int, T: int) -> Job:
    """Spectra of dh_T/dx_{T-lag} at 64 lags."""

    def make() -> Program:
        cell, params, state, xs = trajectory(name, n, T)
        return program(
            lambda params, state, xs: analysis.input_output(
                scan.tied(cell, params), state, xs, range(64)
            ),
            params,
            state,
            xs,
        )

    return Job({"what": f"spectra at 64 lags, n = {n}, {name}", "T": T}, make, known)


def product(name: str, n: int, T: int) -> Job:
    """The singular values of the product of all Jacobians."""

    def make() -> Program:
        cell, params, state, xs = trajectory(name, n, T)
        return program(
            lambda params, state, xs: analysis.log_singular_values(
                scan.tied(cell, params), state, xs
            ),
            params,
            state,
            xs,
        )

    return Job({"what": f"spectrum of the whole product, n = {n}, {name}", "T": T}, make, known)


def known(values: Array) -> list[dict[str, Any]]:
    """How many of the numbers are known, that is, not lost to rounding."""
    return [{"known": f"{int(np.isfinite(values).sum())} of {values.size}"}]


def sweep(members: int, updates: int, n: int) -> Job:
    """MinimalRNNs that learn to add, each from its own prior, as one program."""
    task, cell = tasks.adding(50), cells.minimal.cell
    optimizer = optax.adam(1e-3)

    def loss(networks: Any, batch: tasks.Batch) -> Array:
        params, readout = networks
        hs = scan.run(cell, params, batch.xs)[1]
        return tasks.loss(hs[-len(batch.targets) :] @ readout, batch.targets)

    def member(mu_b: Array) -> Array:
        key = jax.random.key(0)
        networks = cell.init(key, Prior(mu_b=mu_b), task.inputs, n), jnp.zeros((n, task.outputs))
        state = train.start(key, networks, optimizer)
        return train.advance(loss, optimizer, lambda key: task.sample(key, 20), state, updates)[1]

    def make() -> Program:
        return program(jax.vmap(member), np.linspace(-2, 6, members, dtype=np.float32))

    def read(losses: Array) -> list[dict[str, Any]]:
        return [{"last loss, median": float(np.median(losses[:, -1]))}]

    return Job({"what": f"{updates} updates of {members} networks, n = {n}", "T": 50}, make, read)


def long(kept: str, batch: int, d: int, n: int, T: int) -> Job:
    """A training step on the last state of a long sequence, and what its derivative keeps.

    Only the variant that keeps least is run.
    """
    cell = cells.lstm.cell

    def loss(params: Any, xs: Array) -> Array:
        state, _ = scan.run(cell, params, xs, memory=kept)
        return jnp.mean(state.h**2) + jnp.mean(state.c**2)

    def make() -> Program:
        params = draws.parameters(cell, d, n)
        if kept == "sqrt":
            xs: Any = draws.inputs("float32", T, batch, d)
            return program(jax.value_and_grad(loss), params, xs)
        xs = jax.ShapeDtypeStruct((T, batch, d), np.float32)
        made = program(jax.value_and_grad(loss), params, xs)
        return made._replace(run=lambda: None)

    what = f'an LSTM, batch {batch}, n = {n}, memory="{kept}"'
    return Job(
        {"what": what + ("" if kept == "sqrt" else ", compiled alone"), "T": T},
        make,
        timed=kept == "sqrt",
    )
