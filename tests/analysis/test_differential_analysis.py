"""Random networks and data: what the analyses say against products of dense Jacobians, by NumPy."""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import loops
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from loops import N, Skip, Stack, search

from recur import analysis, scan
from recur.analysis.numerics.orthonormal_frame import directions
from recur.core import hidden

KEY = jax.random.key(3)
LENGTHS = (1, 2, 5, 12)
TOLERANCE = 1e-9  # relative to the largest: 12 factors in float64, of condition 1e6 at most
PROBES = 3


class Program(NamedTuple):
    analysis: str
    network: tuple
    T: int
    tied: bool  # whether the analysis is told of the cell, or given a function of its own
    lag: int
    k: int  # values or exponents


class Dense(NamedTuple):
    """The steps of a trajectory from s_0, their Jacobians, and those of its outputs."""

    before: np.ndarray  # (T, m) the states
    hs: np.ndarray  # (T, n)
    A: np.ndarray  # (T, m, m) d s_t / d s_{t-1}
    B: np.ndarray  # (T, m, d) d s_t / d x_t
    P: tuple  # (T, m, ...) d s_t / d params, s_{t-1} held fixed
    C: np.ndarray  # (T, n, m) d h_t / d s_{t-1}
    D: np.ndarray  # (T, n, d) d h_t / d x_t
    where: np.ndarray  # (n,) where h stands in s

    def product(self, first, end):
        """A_{end-1} ... A_first."""
        J = np.eye(self.before.shape[1])
        for t in range(first, end):
            J = self.A[t] @ J
        return J

    def input_output(self, lag):
        """dh_T/dx_{T-lag}."""
        T = len(self.A)
        if lag == 0:
            return self.D[-1]
        return self.C[-1] @ self.product(T - lag, T - 1) @ self.B[T - 1 - lag]

    def frame(self, Q):
        """log |R_ii| of every step, (T, k), and where that is more than rounding."""
        logs = []
        for A in self.A:
            Q, R = np.linalg.qr(A @ Q)
            logs.append(np.abs(np.diag(R)))
        return np.log(np.maximum(logs, 1e-300)), (np.array(logs) > 1e-6).all(axis=0)


@partial(jax.jit, static_argnums=0)
def one_step(network, params, like, s, x):
    unravel = ravel_pytree(like)[1]

    def step(s, x, params):
        after, h = loops.build(network).step(params, unravel(s), x)
        return ravel_pytree(after)[0], h

    return step(s, x, params), jax.jacfwd(step, (0, 1, 2))(s, x, params)


def dense(network, params, state, xs):
    """One step after the other, by one program whatever T is."""
    s, unravel = ravel_pytree(state)
    rows = []
    for x in xs:
        (after, h), ((A, B, P), (C, D, _)) = one_step(network, params, state, s, x)
        rows.append((s, h, A, B, P, C, D))
        s = after
    where = hidden(unravel(jnp.arange(1.0 * s.size))).astype(int)
    rows = jax.tree.map(lambda *a: np.stack(a), *jax.device_get(rows))
    return Dense(*rows, np.asarray(where))


# --- what each analysis is, and what it must be ---------------------------------------------------


def weight(T):
    return np.arange(1.0, T + 1)[:, None]


def loss(hs):
    return jnp.sum(jnp.sin(hs) * weight(len(hs)))


def losses(hs):
    return jnp.sum(jnp.sin(hs) * weight(len(hs)), axis=-1)


def close(found, expected, size=None):
    size = max(1, np.abs(expected).max(initial=0)) if size is None else size
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * size)


def close_as_singular_values(logs, J, some=None):
    """Against a dense SVD, whose own rounding is relative to the largest."""
    expected = np.linalg.svd(J, compute_uv=False)[:some]
    lost = np.isnan(logs) & (expected <= 1e-10 * expected[0])
    found = np.where(lost, expected, np.exp(logs))
    close(found, expected, max(expected[0], 1e-300))


def close_as_logs(found, norms):
    """Logs of norms, each to its own digits."""
    np.testing.assert_allclose(np.exp(found), norms, rtol=TOLERANCE, atol=1e-14)


def expect_gain(found, of, p):
    v = np.asarray(jax.random.normal(KEY, of.before[0].shape, float))
    v = v / np.linalg.norm(v)
    close_as_logs(found, [np.linalg.norm(of.product(0, t + 1) @ v) for t in range(p.T)])


def expect_product(found, of, p):
    close_as_singular_values(found, of.product(0, p.T))


def expect_input_output(found, of, p):
    for lag, row in zip([p.lag, 0], found, strict=True):
        close_as_singular_values(row, of.input_output(lag))


def expect_directions(found, of, p):
    J = of.input_output(p.lag)
    some = len(found.logs)
    close_as_singular_values(found.logs, J, some)
    sound = ~np.isnan(found.logs) & (found.logs > -np.inf)
    vectors = found.inputs[sound]
    close(vectors @ vectors.T, np.eye(len(vectors)))
    top = np.linalg.svd(J, compute_uv=False)[0]
    close(np.linalg.norm(vectors @ J.T, axis=1), np.exp(found.logs[sound]), top)


def expect_spectra(found, of, p):
    close(found, np.linalg.svd(of.A, compute_uv=False))


def expect_top(found, of, p):
    close_as_singular_values(found, of.product(0, p.T), p.k)


def expect_density(found, of, p):
    """Gauss's rule of k nodes is exact for the first moment: sum w sigma^2 = |J v|^2."""
    J, m = of.product(0, p.T), of.before.shape[1]
    close(found.weights.sum(), 1)
    for i, key in enumerate(jax.random.split(jax.random.split(KEY)[1], PROBES)):
        v = np.asarray(jax.random.normal(key, (m,), float))
        squares = np.where(np.isnan(found.logs[i]), 0, np.exp(2 * found.logs[i]))
        moment = np.linalg.norm(J @ v / np.linalg.norm(v)) ** 2
        close(PROBES * np.sum(found.weights[i] * squares), moment, np.linalg.norm(J, 2) ** 2)


def expect_norms(found, of, p):
    g, back = np.cos(of.hs) * weight(p.T), np.zeros(of.before.shape[1])
    norms = np.empty(p.T)
    for t in reversed(range(p.T)):
        norms[t] = np.linalg.norm(g[t] + back[of.where])
        back = back @ of.A[t] + g[t] @ of.C[t]
    close_as_logs(found, norms)


def expect_map(found, of, p):
    g = np.cos(of.hs) * weight(p.T)
    for t in range(p.T):
        row, v = [np.linalg.norm(g[t])], g[t] @ of.C[t]
        for s in reversed(range(t)):
            row.append(np.linalg.norm(v[of.where]))
            v = v @ of.A[s]
        row = row[: p.lag + 1]
        close_as_logs(found[t, : len(row)], row)
        assert np.isnan(found[t, len(row) :]).all()


def expect_terms(found, of, p):
    g = np.cos(of.hs) * weight(p.T)
    for lag in range(p.lag + 1):
        terms = jax.tree.map(lambda a: np.zeros(a.shape[2:]), of.P)
        for t in range(lag, p.T):
            v = np.zeros(of.before.shape[1])
            v[of.where] = g[t]
            v = v @ of.product(t - lag + 1, t + 1)
            new = jax.tree.map(lambda P, v=v, t=t - lag: np.tensordot(v, P[t], 1), of.P)
            terms = jax.tree.map(np.add, terms, new)
        jax.tree.map(lambda a, b, lag=lag: close(a[lag], b), found, terms)


def expect_exponents(found, of, p):
    """The two ways to share QRs, and one QR a step."""
    logs, sound = of.frame(np.asarray(directions(KEY, jnp.asarray(of.before[0]), p.k)).T)
    order = np.argsort(-logs.mean(axis=0))
    if sound.all():
        for exponents in found:
            close(exponents, logs.mean(axis=0)[order])


def expect_growth(found, of, p):
    """Central differences err by eps^(2/3) = 4e-11 of the growth, times curvature."""
    logs, sound = of.frame(np.asarray(directions(KEY, jnp.asarray(of.before[0]), p.k)).T)
    if sound.all():
        np.testing.assert_allclose(found, np.sort(logs.mean(axis=0))[::-1], atol=1e-3)


def expect_eigenvalues(found, of, p):
    """By the coefficients of their polynomial: a double eigenvalue is known to half the digits."""
    ours, theirs = (np.poly(e) for e in (found.eigenvalues[0], np.linalg.eigvals(of.A[0])))
    close(ours, theirs)
    modulus = np.abs(found.eigenvalues[0])
    assert (np.diff(modulus) <= 0).all()
    assert found.stable[0] == (modulus[0] < 1)


ANALYSES = {
    "log_gain": expect_gain,
    "log_singular_values": expect_product,
    "input_output": expect_input_output,
    "input_directions": expect_directions,
    "one_step_spectra": expect_spectra,
    "top_log_singular_values": expect_top,
    "singular_density": expect_density,
    "gradient_norms": expect_norms,
    "gradient_map": expect_map,
    "gradient_by_lag": expect_terms,
    "lyapunov": expect_exponents,
    "finite_growth": expect_growth,
    "stability": expect_eigenvalues,
}


def asked(p, params, state, xs):
    """The call of recur."""
    f, cell = getattr(analysis, p.analysis), loops.build(p.network)

    def network(params):
        return scan.tied(cell, params) if p.tied else partial(cell.step, params)

    along = network(params), state, xs
    match p.analysis:
        case "log_singular_values" | "one_step_spectra":
            return f(*along)
        case "log_gain":
            return f(KEY, *along)
        case "input_output":
            return f(*along, [p.lag, 0])
        case "input_directions":
            return f(*along, p.lag)
        case "top_log_singular_values":
            return f(KEY, *along, p.k, products=sum(a.size for a in jax.tree.leaves(state)))
        case "singular_density":
            return f(KEY, *along, p.k, PROBES)
        case "gradient_norms":
            return f(loss, *along)
        case "gradient_map":
            return f(losses, *along, p.lag)
        case "gradient_by_lag":
            return f(losses, network, params, state, xs, p.lag)
        case "lyapunov":
            return f(KEY, *along, p.k), f(KEY, *along, p.k, every=1)
        case "finite_growth":
            return f(KEY, *along, p.k)
        case "stability":
            return f(along[0], jax.tree.map(lambda a: a[None], state), xs[0])


@cache
def compiled(program):
    return jax.jit(partial(asked, program))


def check(program, seed):
    rng = np.random.default_rng(seed)
    params, state = jax.tree.map(
        lambda a: 0.5 * rng.normal(size=a.shape), loops.shapes(program.network, ())
    )
    xs = rng.choice([0.0, 0.5, 0.5, 4.0]) * rng.normal(size=(program.T, N))
    found = jax.device_get(compiled(program)(params, state, xs))
    ANALYSES[program.analysis](found, dense(program.network, params, state, xs), program)


# --- what is drawn --------------------------------------------------------------------------------


@st.composite
def program_of(draw, name=None):
    layers = [draw(loops.leaf_of(N, True)) for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3])))]
    skips = [draw(st.sampled_from([None, None, "residual", "highway"])) for _ in layers[1:]]
    layers = [
        leaf if skip is None else Skip(skip, leaf)
        for skip, leaf in zip([*skips, None], layers, strict=True)  # h must be part of the state
    ]
    network = Stack(tuple(layers)) if len(layers) > 1 or draw(st.booleans()) else layers[0]
    T = draw(st.sampled_from(LENGTHS))
    m = sum(a.size for a in jax.tree.leaves(loops.shapes(network, ())[1]))
    return Program(
        draw(st.sampled_from(sorted(ANALYSES))) if name is None else name,
        network,
        T,
        draw(st.booleans()),
        draw(st.integers(0, T - 1)),
        draw(st.integers(1, m)),
    )


def test_some_cases():
    search(check, program_of(), 2, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis(name):
    search(check, program_of(name), 1, 8)


@pytest.mark.long
@pytest.mark.parametrize("name", ANALYSES)
def test_many_cases_of_every_analysis(name):
    search(check, program_of(name), 10, 8, at_random=True)
