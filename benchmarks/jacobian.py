"""How long do spectra of Jacobian products take, beside autodiff of the unrolled map?

    OPENBLAS_NUM_THREADS=1 python benchmarks/jacobian.py [n] [d] [T]

`input_output` at every lag of 64 against `jax.jacrev` of the last output in all T inputs, which is
the cheaper the shorter the sequence, and a dense SVD of each block, whose small values are lost to
rounding: where T is no longer than the lags, that is what the accuracy costs. The floor is the
products back over 64 steps without a spectrum. And a frame pushed by the structure of a Unitwise
cell against forward mode. Medians of rounds in which all take turns, seconds.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see recur/analysis/qr.py

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from recur import Prior, analysis, cells, scan
from recur.analysis import push
from recur.analysis.flat import flatten

KEY = jax.random.key(0)
ROUNDS = 5


def race(title, contestants):
    """Compile all, let them take turns, print medians; the first is the base of the factors."""
    print(f"\n{title:<40} median s     min s   factor  compile s")
    compiled, seconds = {}, {}
    for label, function in contestants.items():
        began = time.perf_counter()
        compiled[label] = jax.jit(function).lower().compile()
        seconds[label] = [time.perf_counter() - began]
    for _ in range(ROUNDS):
        for label, function in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(function())
            seconds[label].append(time.perf_counter() - began)
    base = np.median(next(iter(seconds.values()))[1:])
    for label, (compile_time, *runs) in seconds.items():
        median = np.median(runs)
        print(
            f"{label:<40} {median:8.4f}  {min(runs):8.4f}  {base / median:6.2f}x "
            f"{compile_time:9.2f}",
            flush=True,
        )


def reach(cell, n, d, T):
    """dh_T/dx_{T-lag} for 64 lags."""
    params = cell.init(KEY, Prior(1.0, 1.0), d, n)
    body, state = scan.tied(cell, params), cell.start(params)
    xs = jax.random.normal(KEY, (T, d))

    def blocks():
        return jax.jacrev(lambda xs: jax.lax.scan(body, state, xs)[1][-1])(xs)

    def dense():
        return jax.lax.map(
            lambda J: jnp.linalg.svd(J, compute_uv=False), jnp.moveaxis(blocks(), 1, 0)[-64:]
        )

    def products():
        step, start = flatten(body, state, xs)

        def back(C, x):
            CJ, CB = jax.vmap(jax.vjp(lambda s, x: step(s, x)[0], start, x)[1])(C)
            return CJ / jnp.linalg.norm(CJ), CB

        return jax.lax.scan(back, jnp.eye(n, start.size), xs[-64:])[1]

    return {
        "jacrev of the unrolled map, no SVD": blocks,
        "jacrev and an SVD a lag": dense,
        "input_output, 64 lags": lambda: analysis.input_output(body, state, xs, range(64)),
        "input_output, 7 lags": lambda: analysis.input_output(
            body, state, xs, [0, 1, 3, 7, 15, 31, 63]
        ),
        "floor: products over 64 steps": products,
    }


def pushes(cell, n, d, k, T=200):
    """k directions through T steps."""
    params = cell.init(KEY, Prior(1.0, 1.0), d, n)
    body, state = scan.tied(cell, params), cell.start(params)
    xs = jax.random.normal(KEY, (T, d))
    step, start = flatten(body, state, xs)
    Q = jax.random.normal(KEY, (k, start.size))

    def run(push):
        def advance(carry, x):
            s, Q = push(*carry, x)
            return (s, Q / jnp.linalg.norm(Q)), None

        return lambda: jax.lax.scan(advance, (start, Q), xs)[0]

    return {
        "forward mode": run(push.generic(step)),
        "structure": run(push.unitwise(cell, params, state, k)),
    }


def main(n=128, d=32, T=1000):
    """Print all tables."""
    n, d, T = int(n), int(d), int(T)  # T = 64 at least
    print(f"n = {n}, d = {d}, T = {T}, {jax.devices()[0].device_kind}")
    for name, steps in (("gru", T), ("lstm", T), ("gru", 64)):
        race(f"{name}: reach, T = {steps}", reach(cells.named(name), n, d, steps))
    for name in ("gru", "lstm", "minimal"):
        cell = cells.named(name)
        for k in (8, n):
            race(f"{name}: {k} directions, 200 steps", pushes(cell, n, d, k))


if __name__ == "__main__":
    main(*sys.argv[1:])
