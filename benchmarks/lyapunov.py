"""How long does a Lyapunov spectrum take, beside jacfwd and a QR at every step in plain JAX?

    OPENBLAS_NUM_THREADS=1 python benchmarks/lyapunov.py [n] [T] [cell] [32|64]

Medians of rounds in which all contestants take turns, seconds; the largest difference of an
exponent from the plain one's; and the floors: one J Q (k = m) and one QR for each step.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see recur/analysis/qr.py

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from recur import Prior, analysis, cells, scan

KEY = jax.random.key(0)
ROUNDS = 5


def plain(body, state, xs, k):
    """What one writes without this package; any state that is one array."""
    Q, _ = jnp.linalg.qr(jax.random.normal(KEY, (state.size, k), state.dtype))

    def advance(carry, x):
        s, Q = carry
        J = jax.jacfwd(lambda s: body(s, x)[0])(s)
        Q, R = jnp.linalg.qr(J @ Q)
        return (body(s, x)[0], Q), jnp.log(jnp.abs(jnp.diagonal(R)))

    logs = jax.lax.scan(advance, (state, Q), xs)[1]
    return jnp.sort(logs.mean(axis=0), descending=True)


def contestants(body, state, xs, k):
    """Name -> a function of nothing that returns the exponents."""
    n, T = state.size, len(xs)

    def ours(every):
        return lambda s, xs: analysis.lyapunov(KEY, body, s, xs, k, every=every)

    def products(s, _):
        J = jax.random.normal(KEY, (n, n), s.dtype) / np.sqrt(n).astype(s.dtype)
        return jax.lax.fori_loop(0, T, lambda _, Q: Q @ J, jnp.eye(n, dtype=s.dtype)[:k])[:, 0]

    def factorisations(s, _):
        A = jax.random.normal(KEY, (n, k), s.dtype)
        return jax.lax.fori_loop(0, T, lambda _, Q: jnp.linalg.qr(Q + A)[0], A)[0]

    return {
        "plain: jacfwd, QR each step": lambda s, xs: plain(body, s, xs, k),
        "ours, every = 1": ours(1),
        "ours, every = 3": ours(3),
        "ours, every measured": ours(None),
        "floor: T products J Q": products,
        "floor: T factorisations": factorisations,
    }


def main(n=256, T=1000, name="gru", bits="32"):
    """Print one table for all exponents and one for eight."""
    jax.config.update("jax_enable_x64", bits == "64")
    n, T, cell = int(n), int(T), cells.named(name)
    params = cell.init(KEY, Prior(1.0, 1.0), n // 4, n)
    body, state = scan.tied(cell, params), cell.start(params)
    xs = jax.random.normal(KEY, (T, n // 4))
    print(f"{name}, n = {n}, T = {T}, {state.dtype}, {jax.devices()[0].device_kind}")
    for k in (n, 8):
        compiled, seconds = {}, {}
        for label, function in contestants(body, state, xs, k).items():
            began = time.perf_counter()
            compiled[label] = jax.jit(function).lower(state, xs).compile()
            seconds[label] = [time.perf_counter() - began]
        for _ in range(ROUNDS):
            for label, function in compiled.items():
                began = time.perf_counter()
                jax.block_until_ready(function(state, xs))
                seconds[label].append(time.perf_counter() - began)
        expected, first = None, None
        print(f"\nk = {k:<26} median s     min s   factor  compile s  difference")
        for label, (compile_time, *runs) in seconds.items():
            found, median = compiled[label](state, xs), np.median(runs)
            first = median if first is None else first
            expected = found if expected is None else expected
            floor = label.startswith("floor")
            error = "" if floor else f"{np.abs(found - expected).max():10.1e}"
            print(
                f"{label:<30} {median:8.3f}  {min(runs):8.3f}  {first / median:6.2f}x "
                f"{compile_time:9.2f}  {error}",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
