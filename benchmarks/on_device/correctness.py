"""Is what the device computes right? float32 and bfloat16 against float64 on the same device.

All variants compute from the same numbers, which bfloat16 can hold, so a difference is due to
arithmetic only. On a GPU, float32 products are TF32 by default, with ten bits of each factor;
HIGHEST asks for all bits. float64 itself is compared with float64 on the CPU. Errors of arrays are
|a - b| / |b|, by the norm, the largest over the arrays of the gradient. Errors of analyses are in
nats, the largest over the known values.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks.on_device import draws
from benchmarks.on_device.jobs import Job, Program, program
from recur import analysis, cells, scan
from recur.core import Tree

NAMES = ("lstm", "gru", "vanilla", "minimal", "cfn")
REFERENCE, HOST = "float64", "float64 on the CPU"
ROUNDING = {HOST: 2.0**-53, "float32": 2.0**-24, "float32, HIGHEST": 2.0**-24, "bfloat16": 2.0**-9}
TF32 = 2.0**-11
ALLOWED = 20  # roundings: on a CPU, passes of these sizes are wrong by at most 6
NATS = 0.25  # a value is known where one rounding of each step moves it by less than 1/16


def jobs(toy: bool) -> Iterator[Job]:
    """Passes of all cells, then analyses."""
    if toy:
        yield passes("vanilla", 4, 40, 2, ("float32", "bfloat16"))
        yield analyses("vanilla", 3, 20)
        return
    yield from (passes(name, 64, 200, 4, tuple(ROUNDING)) for name in NAMES)
    yield tf32("gru", 64, 10)
    yield from (analyses(name, 16, 60) for name in NAMES)
    yield standstill("gru", 16)


def together(programs: dict[str, Program]) -> Program:
    """Several programs, run one after another; their results by name."""
    return Program(
        lambda: {name: made.run() for name, made in programs.items()},
        sum(made.traced or 0.0 for made in programs.values()),
        sum(made.compiled or 0.0 for made in programs.values()),
    )


def in_precision(precision: str | None, function: Callable) -> Callable:
    """The function with products of this precision, unless it sets its own."""

    def run(*args: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args)

    return run


def as_dtype(dtype: Any, tree: Tree) -> Tree:
    """Floating-point arrays in another dtype; flags as they are."""
    return jax.tree.map(lambda a: a if a.dtype == bool else draws.rounded(a, dtype), tree)


def variants(function: Callable, args: Tree, names: tuple[str, ...]) -> Program:
    """The function in float64 and in its other variants, as programs that run together."""
    names = (REFERENCE, *(n for n in names if n != HOST or jax.default_backend() != "cpu"))

    def make(name: str) -> Program:
        if name in (REFERENCE, HOST):
            device = jax.devices("cpu")[0] if name == HOST else None
            return program(function, *as_dtype(np.float64, args), x64=True, device=device)
        dtype = jnp.bfloat16 if name == "bfloat16" else np.float32
        precision = "highest" if name.endswith("HIGHEST") else None
        return program(in_precision(precision, function), *as_dtype(dtype, args))

    with ThreadPoolExecutor() as pool:
        return together(dict(zip(names, pool.map(make, names), strict=True)))


def error(a: Tree, b: Tree) -> float:
    """The largest |a - b| / |b| of the arrays, by the norm."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    wide = ((np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in wide)


def allowed(name: str) -> float:
    """The largest error that counts as rounding: several roundings of the variant's products."""
    gpu = jax.default_backend() == "gpu"
    return ALLOWED * (TF32 if gpu and name == "float32" else ROUNDING[name])


# --- passes ---------------------------------------------------------------------------------------


def passes(name: str, n: int, T: int, batch: int, numbers: tuple[str, ...]) -> Job:
    """Outputs and gradients by both engines, and of sequences of different lengths."""
    cell = cells.named(name)

    def everything(params: Tree, xs: Array, mask: Array) -> dict[str, Tree]:
        def outputs(params: Tree, engine: Any, present: Array | None) -> tuple[Array, Array]:
            hs = scan.run(cell, params, xs, mask=present, engine=engine)[1]
            return jnp.mean(hs**2), hs

        ways = {"scan": ("scan", None), "chunked": ("chunked", None), "masked": ("chunked", mask)}
        found = {}
        for how, (engine, present) in ways.items():
            slope, hs = jax.grad(outputs, has_aux=True)(params, engine, present)
            found |= {f"outputs, {how}": hs, f"gradient, {how}": slope}
        return found

    def make() -> Program:
        source = np.random.default_rng(2)
        ends = source.integers(1, T + 1, batch)
        xs = draws.rounded(source.normal(size=(T, batch, n)), np.float64)
        args = draws.parameters(cell, n, n, np.float64), xs, np.arange(T)[:, None] < ends
        return variants(everything, args, numbers)

    def read(results: dict[str, Any]) -> list[dict[str, Any]]:
        expected, rows = results.pop(REFERENCE), []
        for numbers, found in results.items():
            errors = {what: error(found[what], expected[what]) for what in expected}
            limit = allowed(numbers)
            verdict = "yes" if max(errors.values()) <= limit else "NO"
            rows.append({"numbers": numbers, "right": verdict, "allowed": limit, **errors})
        return rows

    return Job({"cell": name, "what": f"passes, n = {n}, T = {T}"}, make, read, timed=False)


# --- analyses -------------------------------------------------------------------------------------


def differ(found: Array, expected: Array) -> dict[str, Any]:
    """The largest difference of values that are known in both, and how many are known in one."""
    a, b = (np.asarray(v, np.float64).ravel() for v in (found, expected))
    both = np.isfinite(a) & np.isfinite(b)
    apart = float(np.abs(a - b)[both].max()) if both.any() else None
    return {"apart": apart, "known": f"{int(both.sum())} of {int(np.isfinite(b).sum())}"}


def analyses(name: str, n: int, T: int) -> Job:
    """The main analyses, which all set HIGHEST precision themselves."""
    cell = cells.named(name)

    def everything(params: Tree, xs: Array) -> dict[str, Array]:
        body, state = scan.tied(cell, params), cell.start(params)
        exponents = analysis.lyapunov(jax.random.key(0), body, state, xs, every=1)
        return {
            "singular values": analysis.log_singular_values(body, state, xs),
            "dh_T/dx_{T-lag}": analysis.input_output(body, state, xs, (0, 1, T // 2)),
            "gradient norms": analysis.gradient_norms(lambda hs: hs[-1].sum(), body, state, xs),
            "sum of Lyapunov exponents": exponents.sum(),  # that of log |det J|: of no first frame
        }

    def make() -> Program:
        xs = draws.rounded(np.random.default_rng(3).normal(size=(T, n)), np.float64)
        args = draws.parameters(cell, n, n, np.float64), xs
        return variants(everything, args, (HOST, "float32"))

    def read(results: dict[str, Any]) -> list[dict[str, Any]]:
        expected, rows = results.pop(REFERENCE), []
        for numbers, found in results.items():
            limit = 1e-6 if numbers == HOST else NATS
            row: dict[str, Any] = {"numbers": numbers, "allowed": limit}
            for what in expected:
                one = differ(found[what], expected[what])
                row |= {f"{what}, nats": one["apart"], f"{what}, known": one["known"]}
            apart = [v for k, v in row.items() if k.endswith("nats") and v is not None]
            verdict = "yes" if apart and max(apart) <= limit else "NO"
            rows.append({"right": verdict, **row})
        return rows

    return Job({"cell": name, "what": f"analyses, n = {n}, T = {T}"}, make, read, timed=False)


def tf32(name: str, n: int, T: int) -> Job:
    """Singular values of a product of Jacobians, with TF32 products and with full precision."""
    cell = cells.named(name)

    def values(params: Tree, xs: Array) -> Array:
        def step(carry: tuple, x: Array) -> tuple[tuple, None]:
            state, P = carry
            J = jax.jacfwd(lambda s: cell.step(params, s, x)[0])(state)
            return (cell.step(params, state, x)[0], J @ P), None

        carry = cell.start(params), jnp.eye(n, dtype=xs.dtype)
        return jnp.linalg.svd(lax.scan(step, carry, xs)[0][1], compute_uv=False)

    def make() -> Program:
        xs = draws.rounded(np.random.default_rng(4).normal(size=(T, n)), np.float64)
        args = draws.parameters(cell, n, n, np.float64), xs
        return variants(values, args, ("float32", "float32, HIGHEST"))

    def read(results: dict[str, Any]) -> list[dict[str, Any]]:
        expected, rows = np.log(results.pop(REFERENCE)), []
        for numbers, found in results.items():
            apart = np.abs(np.log(np.asarray(found, np.float64)) - expected)
            rows.append(
                {
                    "numbers": numbers,
                    "largest value, nats": float(apart[0]),
                    "median value, nats": float(np.median(apart)),
                    "smallest value, nats": float(apart[-1]),
                }
            )
        return rows

    what = f"singular values of {T} Jacobians in a plain product, n = {n}"
    return Job({"cell": name, "what": what}, make, read, timed=False)


def standstill(name: str, n: int) -> Job:
    """Fixed points and their eigenvalues, which not every device can compute."""
    cell = cells.named(name)

    def moduli(params: Tree, starts: Array, x: Array) -> Array:
        body = scan.tied(cell, params)
        points = analysis.fixed_points(body, starts, x)
        return jnp.log(jnp.abs(analysis.stability(body, points.states, x).eigenvalues))

    def make() -> Program:
        source = np.random.default_rng(5)
        args = (
            draws.parameters(cell, n, n, np.float64),
            source.normal(size=(4, n)) / 4,
            source.normal(size=n),
        )
        return variants(moduli, args, ("float32",))

    def read(results: dict[str, Any]) -> list[dict[str, Any]]:
        one = differ(results["float32"], results[REFERENCE])
        apart = one["apart"]
        verdict = "yes" if apart is not None and apart <= NATS else "NO"
        return [
            {
                "numbers": "float32",
                "right": verdict,
                "allowed": NATS,
                "log |eigenvalues| at fixed points, nats": apart,
            }
        ]

    return Job({"cell": name, "what": f"fixed points, n = {n}"}, make, read, timed=False)
