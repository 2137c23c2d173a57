"""How long does a Lyapunov spectrum take, beside jacfwd and a QR at every step in plain JAX?

    OPENBLAS_NUM_THREADS=1 python benchmarks/lyapunov.py [n] [T] [cell] [32|64]

Medians of rounds in which all contestants take turns, seconds; the largest difference of an
exponent from the plain one's, to be seen beside the standard error of an exponent over the T steps;
and the floors: of the products alone and of one QR at every step. Eight exponents race against two
plain routines: one that computes all of them, and one that pushes eight directions only, where XLA
takes jacfwd's product with the weights out of the loop, so that little but J Q is left to save.
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


def contestants(cell, params, k, T):
    """Name -> a function of a state and inputs that returns the exponents; floors return others."""
    body = scan.tied(cell, params)
    n = params.W.shape[0]
    eight = k < n

    def ours(every):
        return lambda s, xs: analysis.lyapunov(KEY, body, s, xs, k, every=every)

    def products(s, _):
        """One product for each array of weights, or one with their sum, whichever is less."""
        J = jax.random.normal(KEY, (n, n), s.dtype) / np.sqrt(n).astype(s.dtype)

        def push(_, Q):
            return sum(jax.tree.leaves(cell.mix(params, Q))) if eight else Q @ J

        return jax.lax.fori_loop(0, T, push, jnp.eye(n, dtype=s.dtype)[:k])[:, 0]

    def factorisations(s, _):
        A = jax.random.normal(KEY, (n, k), s.dtype)
        return jax.lax.fori_loop(0, T, lambda _, Q: jnp.linalg.qr(Q + A)[0], A)[0]

    def all_of_them(s, xs):
        return plain(body, s, xs, n)[:k]

    return {
        **({"plain: all n, the first 8 of them": all_of_them} if eight else {}),
        "plain: jacfwd, QR each step": lambda s, xs: plain(body, s, xs, k),
        "ours, every = 1": ours(1),
        **({} if eight else {"ours, every = 2": ours(2)}),
        "ours, every measured (default)": ours(None),
        "floor: T products with Q alone": products,
        "floor: T factorisations alone": factorisations,
    }


def race(functions, state, xs):
    """Label -> what it found, the compile time and the times of the rounds."""
    compiled, seconds = {}, {}
    for label, function in functions.items():
        began = time.perf_counter()
        compiled[label] = jax.jit(function).lower(state, xs).compile()
        seconds[label] = [time.perf_counter() - began]
    for _ in range(ROUNDS):
        for label, function in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(function(state, xs))
            seconds[label].append(time.perf_counter() - began)
    return {label: (compiled[label](state, xs), *seconds[label]) for label in compiled}


def main(n=256, T=1000, name="gru", bits="32"):
    """Print one table for all exponents and one for eight."""
    jax.config.update("jax_enable_x64", bits == "64")
    n, T, cell = int(n), int(T), cells.named(name)
    params = cell.init(KEY, Prior(1.0, 1.0), n // 4, n)
    body, state = scan.tied(cell, params), cell.start(params)
    xs = jax.random.normal(KEY, (T, n // 4))
    print(f"{name}, n = {n}, T = {T}, {state.dtype}, {jax.devices()[0].device_kind}")
    for k in (n, 8):
        results = race(contestants(cell, params, k, T), state, xs)
        plains = [label for label in results if label.startswith("plain")]
        factors = [f"vs plain {i}" for i, _ in enumerate(plains, 1)]
        columns = "  ".join(f"{column:>10}" for column in ["median s", "min s", *factors])
        print(f"\nk = {k:<28}{columns}   compile s  difference")
        for label, (found, compile_time, *runs) in results.items():
            median = np.median(runs)
            against = [np.median(results[plain][2:]) / median for plain in plains]
            numbers = [f"{median:10.3f}", f"{min(runs):10.3f}", *(f"{a:9.2f}x" for a in against)]
            floor = label.startswith("floor")
            error = "" if floor else f"{np.abs(found - results[plains[-1]][0]).max():10.1e}"
            print(f"{label:<32}{'  '.join(numbers)}  {compile_time:10.2f}  {error}", flush=True)
        details = jax.jit(lambda s, xs, k=k: analysis.lyapunov_details(KEY, body, s, xs, k))
        error = details(state, xs).error
        print(
            f"standard error of an exponent: median {np.median(error):.1e}, max {error.max():.1e}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
