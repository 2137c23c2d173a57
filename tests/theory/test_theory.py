"""Closed forms, the population of redrawn weights, critical priors, and what is refused."""

import math
import sys
from collections import namedtuple
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import normal, some_slow
from jax.flatten_util import ravel_pytree

from recur import Prior, Unitwise, analysis, cells, compose, scan, theory
from recur.theory import closed, perturbation, population, quadrature, spectrum
from recur.theory.ensemble import _roles as roles_of
from recur.theory.ensemble import ensemble
from recur.theory.wide_matrix import Wide

KEY = jax.random.key(0)
R = 0.46
CRITICAL = Prior(6.88, 1.39, 0.0, 0.0)
untied = jax.jit(theory.untied, static_argnums=0)
minimal, vanilla = jax.jit(closed.minimal), jax.jit(closed.vanilla)
spread_minimal, spread_vanilla = (
    jax.jit(form, static_argnums=2) for form in (spectrum.minimal, spectrum.vanilla)
)
critical_minimal = jax.jit(theory.critical_minimal)
# unoptimised programs multiply and add with one rounding or two, each row as it happens
OPTIMISED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "prior", "Sigma", "expected"),
    [
        (minimal, CRITICAL, 1.0, {"Q": "0.31790", "q": "15.936", "chi": "0.99878"}),
        (minimal, CRITICAL, 0.5, {"C": "0.29777", "c": "0.30905", "chi": "0.42434", "xi": "1.17"}),
        (
            minimal,
            CRITICAL._replace(mu_b=5.5),
            0.5,
            {"q": "1.1038", "Q": "0.00454", "C": "0.28646", "chi": "0.98698", "xi": "76.3"},
        ),
        (minimal, CRITICAL._replace(mu_b=-4.0), 0.0, {"xi": "0.31"}),
        (minimal, CRITICAL, 0.0, {"xi": "0.72"}),
        (minimal, CRITICAL._replace(mu_b=3.0), 0.0, {"xi": "2.08"}),
        (minimal, CRITICAL._replace(mu_b=5.0), 0.0, {"xi": "39.5"}),
        (minimal, CRITICAL._replace(mu_b=7.0), 0.0, {"xi": "346"}),
        (vanilla, Prior(1.0, 0.025), 1.0, {"q": "0.012193", "chi": "0.97660"}),
        (vanilla, Prior(1.0, 0.025), 0.0, {"xi": "41.75"}),
        (vanilla, Prior(1.5, 0.025), 1.0, {"q": "0.793934", "chi": "1.13902"}),
        (vanilla, Prior(1.5, 0.025), 0.0, {"xi": "16.93"}),
        (vanilla, Prior(1.05, 0.025), 0.0, {"xi": "149"}),
    ],
)
def test_published_numbers_to_their_digits(form, prior, Sigma, expected, x64):
    found = jax.device_get(form(prior, R, Sigma))
    for name, text in expected.items():
        digits = len(text.partition(".")[2])
        assert f"{getattr(found, name):.{digits}f}" == text


def hermite(order=180):
    z, w = np.polynomial.hermite_e.hermegauss(order)
    return z, w / w.sum()


@pytest.mark.parametrize("Sigma", [-0.4, 0.0, 0.7])
def test_closed_forms_solve_their_equations(Sigma, x64):
    """The fixed point, put into the equations with another quadrature (Gauss-Hermite), e1 and e2
    by Cholesky; to 1e-8 relative to a quantity of order 1."""
    z, w = hermite()
    ww = w[:, None] * w

    def pairs(q, c, mu):
        return mu + np.sqrt(q) * z[:, None], mu + np.sqrt(q) * (
            c * z[:, None] + np.sqrt(1 - c**2) * z
        )

    def sigmoid(e):
        return 1 / (1 + np.exp(-e))

    prior = Prior(3.0, 1.2, 0.6, 0.3)
    f = jax.device_get(minimal(prior, R, Sigma))
    u1, u2 = (sigmoid(e) for e in pairs(f.q, f.c, 0.6))
    Q12 = f.Q * f.C
    np.testing.assert_allclose(f.q, 9 * f.Q + 1.44 * R + 0.09, rtol=1e-8)
    np.testing.assert_allclose(f.c * f.q, 9 * Q12 + 1.44 * R * Sigma + 0.09, rtol=1e-8)
    Q = np.sum(ww * (f.Q * u1**2 + R * (1 - u1) ** 2))
    np.testing.assert_allclose(f.Q, Q, rtol=1e-8)
    again = np.sum(ww * (Q12 * u1 * u2 + R * Sigma * (1 - u1) * (1 - u2)))
    np.testing.assert_allclose(Q12, again, atol=1e-8)
    chi = np.sum(ww * (u1 * u2 + 9 * (Q12 + R * Sigma) * u1 * (1 - u1) * u2 * (1 - u2)))
    np.testing.assert_allclose(f.chi, chi, atol=1e-8)

    prior = Prior(1.4, 0.7, 0.3, 0.2)
    f = jax.device_get(vanilla(prior, R, Sigma))
    h1, h2 = (np.tanh(e) for e in pairs(f.q, f.c, 0.3))
    np.testing.assert_allclose(f.q, 1.96 * np.sum(ww * h1**2) + 0.49 * R + 0.04, rtol=1e-8)
    q12 = 1.96 * np.sum(ww * h1 * h2) + 0.49 * R * Sigma + 0.04
    np.testing.assert_allclose(f.c * f.q, q12, atol=1e-8)
    np.testing.assert_allclose(f.C * f.Q, np.sum(ww * h1 * h2), atol=1e-8)
    chi = 1.96 * np.sum(ww * (1 - h1**2) * (1 - h2**2))
    np.testing.assert_allclose(f.chi, chi, atol=1e-8)


@pytest.mark.parametrize("form", [pytest.param(minimal, marks=pytest.mark.slow), vanilla])
def test_closed_forms_are_differentiable_twice(form, x64):
    """Against central differences of the order below, error 1e-10 + 1e-14/1e-5."""

    def chi(sigma_w):
        return form(Prior(sigma_w, 0.8, 0.5, 0.1), R, 0.6).chi

    @jax.jit
    def orders(sigma_w):
        here, along = jax.jvp(jax.value_and_grad(chi), (sigma_w,), (jnp.ones_like(sigma_w),))
        return *here, along[1]

    for sigma_w in (1.3, 40.0):
        low, here, high = (np.array(orders(sigma_w * (1 + step))) for step in (-1e-5, 0, 1e-5))
        numeric = (high - low)[:2] / (2e-5 * sigma_w)
        np.testing.assert_allclose(here[1:], numeric, rtol=1e-6)


def logistic(e):
    return np.exp(-np.logaddexp(0, -e))


def sech2(e):
    return 4 * logistic(2 * e) * logistic(-2 * e)


def both_scales(mu, sigma):
    """Gauss-Legendre nodes and weights of N(mu, sigma^2): panels of sigma/4, and of 1 about 0."""
    x, w = np.polynomial.legendre.leggauss(12)
    ends = np.concatenate([mu + sigma * np.linspace(-11, 11, 89), np.arange(-40, 41)])
    ends = np.unique(ends[np.abs(ends - mu) <= 11 * sigma])
    middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
    e = (middle[:, None] + half[:, None] * x).ravel()
    density = np.exp(-(((e - mu) / sigma) ** 2) / 2) / sigma / np.sqrt(2 * np.pi)
    return e, (half[:, None] * w).ravel() * density


def pair_by_panels(functions, mu, sigma, c):
    """E[f(e1) f(e2)], e2 given e1 by Cholesky; beyond |e2| = 40 functions are at their limits."""
    e1, w = both_scales(mu, sigma)
    own, about = sigma * np.sqrt(1 - c**2), mu + c * (e1 - mu)
    x, v = np.polynomial.legendre.leggauss(12)
    e2 = (np.arange(-39.5, 40)[:, None] + x / 2).ravel()
    v = np.tile(v / 2, 80) / own / np.sqrt(2 * np.pi)
    kernel = np.exp(-(((e2 - about[:, None]) / own) ** 2) / 2) * v
    erfc = np.vectorize(math.erfc, otypes=[float])
    above, below = (erfc((40 - s * about) / own / np.sqrt(2)) / 2 for s in (1, -1))
    given = [kernel @ f(e2) + above * f(40.0) + below * f(-40.0) for f in functions]
    return [np.sum(w * f(e1) * g) for f, g in zip(functions, given, strict=True)]


BY_NUMPY = (np.tanh, sech2, lambda e: logistic(-e), lambda e: logistic(e) * logistic(-e))


def by_jax(e):
    u, new = jax.nn.sigmoid(e), jax.nn.sigmoid(-e)
    return jnp.tanh(e), 4 * jax.nn.sigmoid(2 * e) * jax.nn.sigmoid(-2 * e), new, u * new


@pytest.mark.parametrize(
    ("precise", "tolerance", "atol"), [(True, 1e-8, 1e-15), (False, 1e-5, 1e-6)]
)
def test_expectations_are_right_at_every_variance(precise, tolerance, atol):
    """From q = 0 to 10^6, relative to each value, and to 1 where it is 0 by symmetry. A sum of 10^4
    terms in float32 is right to 1e-5."""
    points = np.array([
        (-2.0, 0.0, 0.5), (0.3, 1e-6, -0.3), (2.0, 1.0, 0.3), (-3.0, 45.0, 0.999),
        (5.0, 1e3, -0.9), (0.0, 1e4, 0.99), (300.0, 1e5, 0.5), (-500.0, 1e6, -0.7),
    ])  # fmt: skip
    expected = []
    for mu, q, c in points:
        e, w = both_scales(mu, np.sqrt(q)) if q else (np.array([mu]), np.ones(1))
        pairs = (
            pair_by_panels(BY_NUMPY, mu, np.sqrt(q), c)
            if q > 0.1  # else the second order in q is enough
            else [f(mu) ** 2 + q * second(f, mu, c) for f in BY_NUMPY]
        )
        expected.append([[np.sum(w * f(e)) for f in BY_NUMPY], pairs])

    def both(mu, q, c):
        means = [quadrature.mean(lambda e, i=i: by_jax(e)[i], mu, q) for i in range(4)]
        return jnp.stack([jnp.stack(means), jnp.stack(quadrature.mean_of_pair(by_jax, mu, q, c))])

    with jax.enable_x64(precise):
        found = jax.jit(jax.vmap(both))(*(jnp.asarray(a, jnp.result_type(float)) for a in points.T))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=atol)


def second(f, mu, c, step=1e-2):
    """d E[f(e1) f(e2)] / dq at q = 0: f f'' + c f'^2, by differences of fourth order."""
    values = [f(mu + k * step) for k in (-2, -1, 0, 1, 2)]
    slope = np.dot([1, -8, 0, 8, -1], values) / 12 / step
    return values[2] * np.dot([-1, 16, -30, 16, -1], values) / 12 / step**2 + c * slope**2


EXTREME = (  # form, prior, R
    (vanilla, Prior(10.0, 1.0, 0.0, 0.0), 0.46),
    (vanilla, Prior(1.0, 1.0, 0.3, 0.0), 1e4),
    (vanilla, Prior(900.0, 1.0, -40.0, 5.0), 0.46),
    (minimal, Prior(40.0, 10.0, 0.0, 0.0), 0.46),
    (minimal, Prior(3.0, 9.0, 6.0, 1.0), 1e4),
)


@pytest.mark.parametrize(
    ("precise", "tolerance"), [(True, 1e-7), pytest.param(False, 1e-4, marks=pytest.mark.slow)]
)
def test_closed_forms_hold_at_large_variances(precise, tolerance):
    """The narrow peak of phi': NumPy's panels put each fixed point into its own equations."""
    for form, prior, R in EXTREME:
        with jax.enable_x64(precise):
            f = jax.device_get(form(prior, R, 1.0))
        e, w = both_scales(prior.mu_b, np.sqrt(float(f.q)))
        sw2, outside = prior.sigma_w**2, prior.sigma_v**2 * R + prior.sigma_b**2
        if form is vanilla:
            Q, chi = np.sum(w * np.tanh(e) ** 2), sw2 * np.sum(w * sech2(e) ** 2)
            spread = sw2**2 * np.sum(w * sech2(e) ** 4)
        else:
            u, new = logistic(e), logistic(-e)
            Q = R * np.sum(w * new**2) / np.sum(w * new * (1 + u))
            chi = np.sum(w * u**2) + sw2 * (Q + R) * np.sum(w * (u * new) ** 2)
            spread = f.squares.gaussian
        np.testing.assert_allclose(f.q, sw2 * f.Q + outside, rtol=tolerance)
        np.testing.assert_allclose(f.Q, Q, rtol=tolerance)
        np.testing.assert_allclose([f.chi, f.squares.mean], chi, rtol=tolerance)
        np.testing.assert_allclose(f.squares.gaussian, spread, rtol=tolerance)
    np.testing.assert_allclose(minimal(*EXTREME[3][1:]).chi, 3.9776, rtol=1e-4)  # 6.2 once


def test_closed_forms_keep_a_memory_that_hardly_fades():
    """mu_b = 20: 1 - chi = 6e-9 is below the rounding of chi in float32, but xi and C are right."""
    prior = CRITICAL._replace(mu_b=20.0)
    found, exact = jax.device_get((minimal(prior, R, 0.5), exactly(minimal, prior, 0.5)))
    for name in ("Q", "C", "chi", "xi"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-4)
    np.testing.assert_allclose(found.squares, exact.squares, rtol=1e-4)


def test_numbers_that_are_none_are_refused_or_stay_none():
    """Known ones raise; under a trace all is NaN."""
    for prior in (Prior(np.nan), Prior(1.0, np.inf), Prior(mu_b=-np.inf), Prior(sigma_b=np.nan)):
        with pytest.raises(ValueError, match=r"finite numbers; got .* = (nan|-?inf)"):
            closed.minimal(prior, R)
    with pytest.raises(ValueError, match="finite numbers; got R = inf"):
        closed.vanilla(Prior(), np.inf)
    with pytest.raises(ValueError, match="one prior of scalars"):
        closed.vanilla(Prior(jnp.ones(0)), R)
    fine = (1.3, 0.5, 0.2, 0.1, R, 0.5)
    bad = [(0, np.nan), (1, np.inf), (2, -np.inf), (3, np.nan), (4, -1.0), (4, np.nan), (5, 1.5)]
    for form in (minimal, vanilla):
        assert np.all(np.isfinite(jax.tree.leaves(form(Prior(*fine[:4]), *fine[4:]))))
        for i, value in bad:
            row = [*fine[:i], value, *fine[i + 1 :]]
            found = jax.device_get(form(Prior(*row[:4]), *row[4:]))
            assert np.all(np.isnan(jax.tree.leaves(found)))


def test_spectrum_of_one_step_is_that_of_the_closed_forms(x64):
    for form, spread, prior in (
        (minimal, spread_minimal, Prior(3.0, 1.2, 0.6, 0.3)),
        (vanilla, spread_vanilla, Prior(1.4, 0.7, 0.3, 0.2)),
    ):
        one = jax.device_get(form(prior, R, 1.0).squares)
        steps = jax.device_get(spread(prior, R, 4))
        np.testing.assert_allclose([a[0] for a in steps], one, rtol=1e-10)
        np.testing.assert_allclose(steps.mean, one.mean ** np.arange(1, 5), rtol=1e-10)


def test_two_steps_of_minimal_rnn_by_sums_over_all_values(x64):
    """G_ii and h after a step by quadrature over u, x and h before it; h stands at three points,
    which have its second and fourth moment. The off-diagonal part as in the module's docstring."""
    prior, s2 = Prior(3.0, 1.2, 0.6, 0.3), 9.0
    field = jax.device_get(minimal(prior, R, 1.0))
    z, w = hermite()
    x, v = hermite(20)
    u = 1 / (1 + np.exp(-0.6 - np.sqrt(field.q) * z))
    k2, k4 = np.sum(w * u**2), np.sum(w * u**4)
    mixed, new = (np.sum(w * (1 - u) ** 2 * power) for power in (u**2, (1 - u) ** 2))
    h4 = (6 * mixed * field.Q * R + 3 * new * R**2) / (1 - k4)
    h, p = np.sqrt(h4 / field.Q) * np.array([-1, 0, 1]), field.Q**2 / h4
    weight = w[:, None, None] * v[:, None] * np.array([p / 2, 1 - p, p / 2])
    U, x = u[:, None, None], np.sqrt(R) * x[:, None]
    a = U * (1 - U) * (h - x)
    G, after = U**2 + s2 * a**2, U * h + (1 - U) * x
    g, G2 = np.sum(weight * G), np.sum(weight * G**2)
    own = k4 * G2 + s2**2 * g**2 * np.sum(weight * a**4)
    own += 2 * s2 * g * np.sum(w * u**4 * (1 - u) ** 2) * np.sum(weight * G * (after**2 + R))
    one = 2 * k2 * (g - k2) + (g - k2) ** 2
    two = one * k2**2 + (G2 + one) * one
    found = jax.device_get(spread_minimal(prior, R, 4))
    np.testing.assert_allclose(found.mean[:2], [g, g**2], rtol=1e-8)
    expected = [G2 + one - g**2, own + two - g**4]
    np.testing.assert_allclose(found.gaussian[:2], expected, rtol=1e-8)


SPREAD = {"minimal": 3.0, "vanilla": 1.4}  # sigma_w


@pytest.mark.parametrize(
    ("name", "orthogonal", "draws"),
    [
        ("minimal", False, 300),
        pytest.param("minimal", True, 300, marks=pytest.mark.slow),
        ("vanilla", False, 100),
        ("vanilla", True, 100),
    ],
)
def test_spectrum_follows_products_of_drawn_matrices(name, orthogonal, draws, x64):
    """J = diag(k) + diag(a) W of MinimalRNN, and of the vanilla network, whose k is 0, drawn by
    NumPy, n = 100: the mean of products of one to four, to 4 of its standard errors and 1/n.
    Were variances to add up, as for free factors, the second moment of four MinimalRNN steps would
    be 11 % less. One step tells Gaussian from orthogonal W."""
    rng = np.random.default_rng(0)
    n, T, prior = 100, 4, Prior(SPREAD[name], 1.0, 0.3, 0.0)
    form, spread = {"minimal": (minimal, spread_minimal), "vanilla": (vanilla, spread_vanilla)}[
        name
    ]
    q = float(form(prior, R, 1.0).q)

    def draw():
        W = rng.normal(size=(draws, n, n)) / np.sqrt(n)
        if orthogonal:
            W, triangle = np.linalg.qr(W)
            W = W * np.sign(np.diagonal(triangle, axis1=1, axis2=2))[:, None]
        return W

    def unit_step(h):
        e = 0.3 + np.sqrt(q) * rng.normal(size=(draws, n))
        if name == "vanilla":
            h = np.tanh(e)
            return h, np.zeros_like(h), 1 - h**2
        x = np.sqrt(R) * rng.normal(size=(draws, n))
        u = 1 / (1 + np.exp(-e))
        return u * h + (1 - u) * x, u, u * (1 - u) * (h - x)

    h, M = np.zeros((draws, n)), np.eye(n)
    for _ in range(20):  # to the stationary law of h
        h, *_ = unit_step(h)
    expected = jax.device_get(spread(prior, R, T))
    own, other = expected.gaussian, expected.orthogonal
    own, other = (other, own) if orthogonal else (own, other)
    for t in range(T):
        h, k, a = unit_step(h)
        M = k[..., None] * M + prior.sigma_w * a[..., None] * (draw() @ M)
        G = M @ M.swapaxes(1, 2)
        seen = np.stack([np.trace(G, axis1=1, axis2=2) / n, np.sum(G**2, (1, 2)) / n])
        exact = np.array([expected.mean[t], own[t] + expected.mean[t] ** 2])
        allowed = 4 * np.std(seen, axis=1) / np.sqrt(draws) + exact / n
        np.testing.assert_array_less(np.abs(seen.mean(1) - exact), allowed)
        if t == 0:
            assert abs(seen[1].mean() - other[0] - exact[0] ** 2) > allowed[1]


# --- matrices known by what they do ---------------------------------------------------------------


def test_products_with_a_wide_matrix_have_the_covariance_of_drawn_ones():
    """Gates of their own scales, rows of the covariance of x; 5 standard errors at n = 40,000."""
    n, scale = 40_000, np.array([2.0, 0.5], "f")
    x = np.asarray(normal(2, n)) + np.array([[0.2], [1.0]], "f")

    gaussian = jax.jit(population.gaussian, compiler_options=OPTIMISED)
    y = np.asarray(gaussian(jax.random.key(1), scale, x)).reshape(2, 2, n)
    for gate in (0, 1):
        expected = scale[gate] ** 2 * x @ x.T / n
        error = 5 * scale[gate] ** 2 * 2 * np.sqrt(2 / n) * 1.5
        np.testing.assert_allclose(y[:, gate] @ y[:, gate].T / n, expected, atol=error)
    assert abs(np.mean(y[0, 0] * y[0, 1])) < 5 * 2 * 0.5 * 1.1 / np.sqrt(n)
    same = np.asarray(gaussian(KEY, scale, np.stack([x[0], x[0]])))
    np.testing.assert_array_equal(same[0], same[1])


@pytest.mark.slow
def test_scales_follow_the_prior_gate_by_gate():
    prior = Prior(jnp.array([1.0, 2.0, 3.0]), 0.7)
    W, V, b = ensemble(cells.gru.cell, prior, 8).scales
    np.testing.assert_allclose(W, [1, 2, 3], rtol=1e-5)  # float32 sums of 16,384 squares
    np.testing.assert_allclose(V, 0.7, rtol=1e-5)
    assert b.size == 0


def test_scales_are_differentiable_in_the_prior():
    def scale(sigma_w):
        return ensemble(cells.vanilla.cell, Prior(sigma_w), 8).scales[0].sum()

    slope = jax.jit(jax.grad(scale))(0.0)
    np.testing.assert_allclose(slope, 1, rtol=1e-5)  # differentiable at 0 too


def glorot(key, prior, d, n):
    """W uniform with the variance 2/(5n) of a kernel (n, 4n), whatever sigma_w."""
    params = cells.lstm.cell.init(key, prior, d, n)
    limit = jnp.sqrt(6 / (5 * n))
    return params._replace(W=jax.random.uniform(key, (n, 4 * n), minval=-limit, maxval=limit))


@pytest.mark.slow
def test_a_constant_scale_is_measured():
    W, _, _ = ensemble(replace(cells.lstm.cell, init=glorot), Prior(9.0), 8).scales
    np.testing.assert_allclose(W, np.sqrt(2 / 5), rtol=0.01)  # 16 draws of 16,384 entries


def identity(key, prior, d, n):
    return cells.vanilla.init(key, prior, d, n)._replace(W=jnp.eye(n))


def sparse(key, prior, d, n):
    params = cells.vanilla.init(key, prior, d, n)
    kept = jax.random.bernoulli(key, 0.1, (n, n)).astype(params.W.dtype)
    return params._replace(W=params.W * kept / np.sqrt(0.1).astype(np.float32))


def low_rank(key, prior, d, n):
    params = cells.vanilla.init(key, prior, d, n)
    return params._replace(W=params.W[:, :3])


def neighbours(params, h):
    """A ring of units, as a Laplacian has."""
    return jnp.roll(h, 1, -1) + h @ params.W


def nonlinear_prior(key, prior, d, n):
    params = cells.vanilla.init(key, prior, d, n)
    return params._replace(W=params.W + 0.1 * prior.sigma_w * jnp.roll(params.V, 1, 0))


def unpack(params, x):
    """A drive that wants masks beside its input."""
    keep, x = x
    return keep * x, x @ params.V


rarer = partial(pytest.param, marks=pytest.mark.slow)  # each probes, and compiles, a cell anew


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (cells.gru.reset_before, "needs a Unitwise cell"),
        (cells.antisymmetric.cell, r"more with its matrix W than multiply a vector by it \(.T\)"),
        rarer(replace(cells.vanilla.cell, mix=lambda p, h: h @ (p.W - 1.0)), r"\(sub\)"),
        rarer(replace(cells.vanilla.cell, mix=lambda p, h: h @ p.W[:]), r"\(getitem\)"),
        rarer(
            replace(cells.vanilla.cell, mix=lambda p, h: jnp.dot(h, p.W)), "known only by the prod"
        ),
        (replace(cells.vanilla.cell, mix=neighbours), "units interact outside a product"),
        rarer(replace(cells.vanilla.cell, init=identity), "must draw W with independent entries"),
        (replace(cells.vanilla.cell, init=sparse), "9.% of the entries are 0"),
        rarer(replace(cells.vanilla.cell, init=low_rank), r"matrix W has shape \(128, 3\)"),
        rarer(replace(cells.vanilla.cell, init=nonlinear_prior), "does more to the matrix W"),
        rarer(replace(cells.minimal.bare, drive=unpack), "do not run on"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(cell, message):
    with pytest.raises(ValueError, match=message):
        theory.untied(cell, Prior(), R)


def test_tied_theory_refuses_too():
    with pytest.raises(ValueError, match="needs a Unitwise cell"):
        theory.tied(cells.gru.reset_before, Prior(), R)


@pytest.mark.parametrize("theorem", [theory.untied, theory.tied])
def test_bad_inputs_are_refused(theorem):
    with pytest.raises(ValueError, match=r"R = E\[x_i\^2\] must be positive; got 0"):
        theorem(cells.gru.cell, Prior(), 0.0)
    with pytest.raises(ValueError, match=r"must be within -1 .. 1; got 1.5"):
        theorem(cells.gru.cell, Prior(), R, 1.5)
    with pytest.raises(ValueError, match=r"R = E\[x_i\^2\] must be positive"):
        closed.minimal(CRITICAL, -1.0)
    with pytest.raises(ValueError, match="one prior of scalars"):
        closed.vanilla(Prior(jnp.ones(3)), R)


def test_a_wide_matrix_does_products_and_nothing_else():
    W = Wide("W", (3, 6), jnp.float32, lambda x: 2 * x)
    np.testing.assert_array_equal(jnp.asarray(np.ones(3, np.float32)) @ W, 2 * np.ones(3))
    np.testing.assert_array_equal(np.ones(3, np.float32) @ W, 2 * np.ones(3))
    assert (W.shape, W.ndim) == ((3, 6), 2)
    for use in (lambda: W.T, lambda: W + 1, lambda: 2 * W, lambda: -W, lambda: W[0], lambda: W @ W):
        with pytest.raises(ValueError, match="known only by the products x @ W"):
            use()


# --- the population -------------------------------------------------------------------------------


def within(found, exact, errors, names=("Q", "q", "C", "c", "chi")):
    for name in names:
        a, b, e = (np.asarray(getattr(f, name)) for f in (found, exact, found.error))
        assert np.all(np.abs(a - b) <= errors * e + 1e-6), (name, a, b, e)


def of_few(units, cell, *arguments):
    """The theory of so many units: quicker than the usual number, and its errors say how good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["recur.theory.redrawn_weights"], "UNITS", units)
        return jax.device_get(of_few_units(cell, *arguments, units))


of_few_units = jax.jit(
    lambda cell, prior, R, Sigma, units: theory.untied(cell, prior, R, Sigma), static_argnums=(0, 4)
)


def exactly(form, prior, Sigma):
    """By the program, in double precision, of the tests of closed forms."""
    with jax.enable_x64(True):
        return jax.device_get(form(prior, R, Sigma))


def test_population_agrees_with_the_closed_forms():
    """4 standard errors, of 16 blocks: by chance 1 in 1000 for each of the 20 comparisons, five of
    which are those of the test below. Of few units: errors are two and four times as large."""
    prior = Prior(1.5, 0.5, 0.2, 0.1)
    found = of_few(256, cells.vanilla.cell, prior, R, 0.5)
    within(found, exactly(vanilla, prior, 0.5), 4)

    for Sigma in (0.5, 1.0):
        found = of_few(1024, cells.minimal.bare, CRITICAL, R, Sigma)
        exact = exactly(minimal, CRITICAL, Sigma)
        within(found, exact, 4)
        # E[a^4] has a tail
        np.testing.assert_allclose(found.squares, exact.squares, rtol=0.03)
        assert found.error.Q < 0.01 * found.Q


def test_chaos_does_not_part_equal_copies():
    """Rounding would grow by chi^(1/2) = 1.07 a step; equal inputs keep copies equal."""
    prior = Prior(1.5, 0.025, 0.0, 0.0)
    found = of_few(256, cells.vanilla.cell, prior, R, 1.0)
    assert found.C == found.c == 1
    np.testing.assert_allclose(found.chi, 1.13902, atol=4 * found.error.chi)
    assert found.xi < 0
    within(found, exactly(vanilla, prior, 1.0), 4)


def test_an_unstable_standstill_is_left():
    """tanh(W h) with sigma_w = 3: h = 0 stays, and grows by log 3 a step if it is touched; so does
    what tells two copies apart. What networks do is the closed form's: .31 nats, and C = 0 for
    inputs that differ, though nobody hears them."""
    wild, quiet = (Prior(sigma_w, 0.0, 0.0, 0.0) for sigma_w in (3.0, 0.9))
    for Sigma, C in ((0.5, 0.0), (1.0, 1.0)):
        found, exact = (
            of_few(256, cells.vanilla.cell, wild, R, Sigma),
            exactly(vanilla, wild, Sigma),
        )
        assert found.converged
        within(found, exact, 4)
        np.testing.assert_allclose(exact.C, C, atol=1e-8)
    assert abs(np.log(found.chi) / 2 - 0.31) < 0.01  # of equal inputs, the last
    stays = of_few(256, cells.vanilla.cell, quiet, R, 0.5)
    assert stays.converged
    assert stays.Q == stays.q == 0  # where it is stable it stays


@pytest.mark.slow
def test_moment_map_equals_tangents_of_a_drawn_network(x64):
    """P <- A P A' + ... against E over W of |J v|^2 for LSTM, v random with E[v v'] = P, by drawing
    400 matrices at n = 60: the mean's standard error, times 4, with the population's own units."""
    cell, n = cells.lstm.cell, 60
    units = ensemble(cell, Prior(2.0, 1.0, 0.3, 0.2), n)
    state = cells.lstm.State(*(jnp.tanh(jax.random.normal(KEY, (2, 2, n))[i]) for i in (0, 1)))
    v = jax.random.normal(jax.random.key(5), (2, n))
    P = jnp.einsum("an,bn->abn", v, v)

    def push(key, unit_by_unit, products):
        W = 2 / jnp.sqrt(n) * jax.random.normal(key, (n, 4 * n))
        dstate = cells.lstm.State(*(jnp.stack([leaf, leaf]) for leaf in v))
        _, out = jax.jvp(unit_by_unit, (state, [products[0][1]]), (dstate, [dstate.h @ W]))
        return sum(jnp.sum(leaf[0] ** 2) for leaf in out[0])

    def both_first(a):
        return a.at[..., 1, :].set(a[..., 0, :])

    @jax.jit
    def both():
        _, unit_by_unit, products, _ = population.move(units, jnp.asarray(R), 1.0, state, KEY)
        J = perturbation.differentiate(units, state, unit_by_unit, products)
        J = perturbation.Derivatives(*map(both_first, J[:-1]), J.scale2)
        expected = jnp.trace(perturbation.propagate(J, P)).sum()
        keys = jax.random.split(KEY, 400)
        return expected, jax.vmap(lambda key: push(key, unit_by_unit, products))(keys)

    expected, drawn = both()
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / np.sqrt(400)


@pytest.mark.slow
def test_results_are_differentiable_and_swept(monkeypatch):
    """Forward mode against the difference of two priors under the same random numbers."""
    monkeypatch.setattr(sys.modules["recur.theory.redrawn_weights"], "UNITS", 512)
    sigmas = jnp.array([1.2, 1.21])

    def Q(sigma_w):
        return theory.untied(cells.vanilla.cell, Prior(sigma_w, 1.0, 0.0, 0.0), R).Q

    values, slopes = jax.jit(jax.vmap(lambda s: jax.jvp(Q, (s,), (jnp.ones_like(s),))))(sigmas)
    # float32 sums leave 1e-6 / .01; the curvature, averaged out, 1e-5
    np.testing.assert_allclose((values[1] - values[0]) / 0.01, slopes.mean(), rtol=0.01)


# --- roles are found by use, not by name ----------------------------------------------------------


def repacked(cell, pack, unpack):
    """The cell with its parameters packed otherwise."""
    return Unitwise(
        lambda *args: pack(cell.init(*args)),
        lambda params, batch=(): cell.start(unpack(params), batch),
        lambda params, x: cell.drive(unpack(params), x),
        lambda params, h: cell.mix(unpack(params), h),
        lambda params, state, r, z: cell.update(unpack(params), state, r, z),
    )


def params_of(cell):
    return jax.eval_shape(lambda: cell.init(KEY, Prior(), 2, 2))


def misnamed(cell):
    """V is called W, b is called V, W what comes last; within a list in a dict."""
    params = params_of(cell)
    names = namedtuple("Names", [params._fields[-1], *params._fields[:-1]])
    return repacked(cell, lambda p: {"cell": [names(*p)]}, lambda p: type(params)(*p["cell"][0]))


def wrapped(cell):
    """Parameters called "0", "1", ... in a dict, and a start that is one of them."""
    kind = type(params_of(cell))
    return compose.learned_start(
        repacked(
            cell,
            lambda p: {str(i): leaf for i, leaf in enumerate(p)},
            lambda p: kind(*(p[str(i)] for i in range(len(p)))),
        )
    )


UNITWISE = [n for n in cells.names() if type(cells.named(n)) is Unitwise and "antis" not in n]
GATES = {
    "cfn": 2,
    "gru": 3,
    "gru.cudnn": 3,
    "highway": 2,
    "lstm": 4,
    "lstm.peephole": 4,
    "lstm.coupled": 3,
    "mgu": 2,
    "mingru": 2,
    "minlstm": 3,
    "ugrnn": 2,
}
NOT_COUNTED = {"minimal": 0, "cfn": 0, "jordan": 1}  # E x, E x and Y h, in the order of products


def test_roles_do_not_depend_on_names():
    """Each gate of each cell is a pre-activation, of one gate of W h and one of V x."""
    for name in UNITWISE:
        cell, gates = cells.named(name), GATES.get(name, 1)
        found = roles_of(cell)
        for other in (misnamed(cell), wrapped(cell)):
            assert jax.tree.all(jax.tree.map(np.array_equal, found, roles_of(other))), name
        for j, (power, counted) in enumerate(zip(found.powers, found.counted, strict=True)):
            counts = j != NOT_COUNTED.get(name)
            expected = np.eye(gates) if counts else np.zeros((gates, 1))
            np.testing.assert_array_equal(power, expected, name)
            assert np.all(counted == counts), name


def own(mix, drive, update, init=None):
    """A cell of one array h with parameters A (n, n), B (d, 2n) and c = 1, 2, 1, 2, ... (n,)."""

    def drawn(key, prior, d, n):
        W, V, _ = prior.draw(key, d, n, 2)
        return {"A": W[:, :n], "B": V, "c": (1 + jnp.arange(n) % 2).astype(V.dtype)}

    def start(params, batch=()):
        return jnp.zeros((*batch, jax.tree.leaves(params)[0].shape[0]))

    return Unitwise(init or drawn, start, drive, mix, update)


def gated(params, x):
    """A gate, and a candidate that no product of h is added to."""
    gate, new = jnp.split(x @ params["B"], 2, axis=-1)
    return gate + params["c"], new


def twice(params, x):
    """One number for the gate and, through tanh, for the candidate."""
    gate, _ = gated(params, x)
    return gate, jnp.tanh(gate)


def blend(params, h, r, z):
    u = jax.nn.sigmoid(r + z[0])
    return u * h + (1 - u) * z[1]


def rows(a):
    return jnp.moveaxis(a.reshape(*a.shape[:-1], 2, -1), -2, 0)


def heard(params, h):
    return h @ params["A"]


@pytest.mark.parametrize(
    ("cell", "powers"),  # of the products of x and of h, (gates that sum, gates of the product)
    [
        pytest.param(own(heard, gated, blend), [[[1, 0]], [[1]]], id="blended"),
        pytest.param(
            own(heard, gated, lambda p, h, r, z: jnp.tanh(r + z[0]) * jax.nn.sigmoid(r + z[1])),
            [[[1, 0], [0, 1]], [[1], [1]]],
            id="one product of h for two gates",
        ),
        pytest.param(
            own(
                lambda p, h: rows(h @ jnp.ones((1, 2))),
                lambda p, x: rows(x @ p["B"]),
                lambda p, h, r, z: jax.nn.silu(r[1] - z[1]) + jnp.tanh(z[0] + z[0] + r[0]),
            ),
            [[[4, 0], [0, 1]]],
            id="in rows, with a minus, and twice",
        ),
        pytest.param(
            own(lambda p, h: p["c"] * heard(p, h), gated, blend),
            [[[1, 0]], [[0]]],
            id="a gain is no sum",
        ),
        pytest.param(
            own(heard, twice, blend),
            [[[0, 0]], [[1]]],
            id="a sum that is read elsewhere too",
        ),
        pytest.param(
            own(heard, gated, lambda p, h, r, z: jnp.tanh((r + z[0])[jnp.array([0])])),
            [[[np.nan] * 2], [[np.nan]]],
            id="what is not followed",
        ),
    ],
)
def test_a_product_counts_where_sums_take_it(cell, powers):
    for found, expected in zip(roles_of(cell).powers, powers, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_is_left_of_a_preactivation_is_measured():
    """r = c W h, c = 1 or 2, and z = tanh(V x), both added: neither is a product alone. One step
    from h = 1: q = sigma_w^2 E[c^2] + E[tanh(e)^2], and q12 alike; 5 standard errors of means over
    2^14 units of numbers that scatter by no more than 2 q."""
    cell = own(
        lambda p, h: p["c"] * heard(p, h),
        lambda p, x: jnp.tanh(jnp.split(x @ p["B"], 2, axis=-1)[0]),
        lambda p, h, r, z: jnp.tanh(r + z),
    )
    units = ensemble(cell, Prior(0.5, 2.0), 2**14)
    h = np.ones((2, units.n), "f")
    q, q12 = jax.jit(lambda: population.move(units, jnp.asarray(R), 0.5, h, KEY)[-1])()
    z, w = hermite(80)
    e1 = 2 * np.sqrt(R) * z[:, None]
    e2 = 0.5 * e1 + np.sqrt(0.75) * 2 * np.sqrt(R) * z
    ww = w[:, None] * w
    exact = (
        0.25 * 2.5 + np.sum(ww * np.tanh(e1) ** 2),
        0.625 + np.sum(ww * np.tanh(e1) * np.tanh(e2)),
    )
    np.testing.assert_allclose([q[0], q12[0]], exact, atol=5 * 2 * exact[0] / 2**7)


@pytest.mark.slow
def test_theory_of_a_renamed_cell():
    """Nested and with other names: all numbers of `vanilla.cell`, and those of the closed form."""
    cell, prior = cells.vanilla.cell, Prior(1.5, 0.5, 0.2, 0.1)
    one, other = (of_few(256, c, prior, R, 0.5) for c in (cell, wrapped(cell)))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    within(one, exactly(vanilla, prior, 0.5), 4)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:theory.tied has not converged")
@pytest.mark.parametrize("name", UNITWISE)
def test_theory_of_every_renamed_cell(name, monkeypatch):
    """All numbers of both theories, to the last bit; few units and steps, for equality alone."""
    for module, field, value in (
        ("redrawn_weights", "UNITS", 64),
        ("redrawn_weights", "ROUNDS", 2),
        ("tied_weights", "LONGEST", 64),
        ("tied_weights", "STEPS", 64),
    ):
        monkeypatch.setattr(sys.modules[f"recur.theory.{module}"], field, value)
    if not has_theory(name):
        pytest.skip("no theory, by the tests of refusals")
    cell = cells.named(name)
    others = cell, misnamed(cell), wrapped(cell)
    found = jax.jit(lambda: [theory.untied(c, PRIOR, R, 0.5) for c in others])()
    tied = [theory.tied(c, PRIOR, R, 0.5, n=32) for c in others]
    for first, *rest in (found, tied):
        for other in rest:
            jax.tree.map(np.testing.assert_array_equal, first, other)


# --- critical priors ------------------------------------------------------------------------------


@pytest.mark.parametrize(("mu_b", "q", "R"), [(0.0, 16.0, 0.46), (2.0, 12.0, 0.3), (4.0, 9.0, 1.0)])
def test_critical_minimal_is_critical(mu_b, q, R, x64):
    prior = critical_minimal(mu_b, q, R)
    found = jax.device_get(minimal(Prior(*map(float, prior)), R, 1.0))
    np.testing.assert_allclose(found.chi, 1, atol=1e-8)
    np.testing.assert_allclose(found.q, q, rtol=1e-8)
    params = jax.eval_shape(lambda: cells.minimal.bare.init(KEY, prior, 5, 5))
    assert params.W.shape == (5, 5)


def test_published_critical_point(x64):
    prior = critical_minimal(0.0, 16.0, R)
    np.testing.assert_allclose([prior.sigma_w, prior.sigma_v], [6.88, 1.39], atol=0.015)


def test_no_critical_point_is_an_error():
    with pytest.raises(ValueError, match=r"sigma_v\^2 = -6.7.* < 0. Choose a larger q"):
        theory.critical_minimal(0.0, 0.1, R)
    with pytest.raises(ValueError, match=r"R = .* must be positive"):
        theory.critical_minimal(0.0, 16.0, -1.0)
    with pytest.raises(ValueError, match="q, the variance of the pre-activations"):
        theory.critical_minimal(0.0, 0.0, R)
    # by iteration of the two moments in NumPy, networks go from here to q = 1.22 or q = 18.1
    with pytest.raises(ValueError, match=r"no network stays there: .* grows by 1\.\d+ per step"):
        theory.critical_minimal(5.0, 2.0, R)
    with pytest.raises(ValueError, match=r"fields of a prior, sigma_w, .*; got 'W'"):
        theory.critical(cells.vanilla.cell, Prior(), R, "W", 0.0, 1.0)
    with pytest.raises(ValueError, match="low < high"):
        theory.critical(cells.vanilla.cell, Prior(), R, "sigma_w", 2.0, 1.0)
    with pytest.raises(ValueError, match=r"sigma_w is a standard deviation, and would be -0.5"):
        theory.critical(cells.gru.cell, Prior(jnp.array([1.0, 1.0, 2.5])), R, "sigma_w", 0.0, 1.0)


@pytest.mark.slow
def test_a_leap_over_chi_1_is_no_root(monkeypatch):
    """Each way to fail has a sentence of its own. The closed forms stand for the population."""
    errors = theory.MeanField(*6 * [0.0])
    forms = {cells.vanilla.cell: vanilla, cells.minimal.bare: minimal}
    monkeypatch.setattr(
        sys.modules["recur.theory.critical_priors"],
        "_untied",
        lambda cell, prior, R, Sigma, key: forms[cell](prior, R, Sigma)._replace(error=errors),
    )
    bistable = Prior(8.0, 1.0, 5.0, 0.0)
    with pytest.raises(ValueError, match=r"sigma_v = 1\.3445.* chi jumps from 0\.9942 to 1\.146"):
        theory.critical(cells.minimal.bare, bistable, R, "sigma_v", 1.0, 2.0)
    with pytest.raises(ValueError, match=r"crosses 1 more than once.* Narrow .*: \[-0.5, 0\], \[0"):
        theory.critical(cells.vanilla.cell, Prior(1.5, 0.025), R, "mu_b", -2.0, 2.0)
    with pytest.raises(ValueError, match=r"chi is from .* and does not cross 1. Widen"):
        theory.critical(cells.vanilla.cell, Prior(1.0, 0.5), R, "sigma_w", 0.1, 0.5)
    with pytest.raises(ValueError, match="chi > 1 for every sigma_w tried in"):
        theory.slowest(cells.vanilla.cell, Prior(1.0, 0.1), R, "sigma_w", 2.0, 3.0)
    with pytest.raises(ValueError, match="chi is nan at sigma_w = inf"):
        theory.critical(cells.vanilla.cell, Prior(1.0, 0.5), R, "sigma_w", 0.1, np.inf)
    found = theory.critical(cells.vanilla.cell, Prior(1.0, 0.5), R, "sigma_w", 1.0, 2.0)
    np.testing.assert_allclose(vanilla(found, R, 1.0).chi, 1, atol=2e-4)  # slope .7 / 4096


def test_critical_minimal_of_no_numbers():
    """Known ones raise; under a trace the prior is NaN, all of it."""
    for arguments, name in (
        ((np.nan, 16.0, R), "mu_b"),
        ((0.0, np.inf, R), "q"),
        ((0.0, 16.0, np.inf), "R"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            theory.critical_minimal(*arguments)
        assert np.all(np.isnan(critical_minimal(*arguments)))
    for q in (-1.0, 0.1):
        assert np.all(np.isnan(critical_minimal(0.0, q, R)))  # not positive; sigma_v^2 < 0
    assert np.all(np.isnan(critical_minimal(5.0, 2.0, R)))  # unstable


@pytest.mark.optimised
@pytest.mark.long
def test_a_search_without_a_result_is_an_error():
    with pytest.raises(ValueError, match=r"no critical point for sigma_w in \[0.1, 0.5\]"):
        theory.critical(cells.vanilla.cell, Prior(1.0, 0.5), R, "sigma_w", 0.1, 0.5)
    with pytest.raises(ValueError, match="chi > 1 for every sigma_w"):
        theory.slowest(cells.vanilla.cell, Prior(1.0, 0.1), R, "sigma_w", 2.0, 3.0)


@pytest.mark.optimised
@pytest.mark.long
def test_critical_finds_the_root_of_the_closed_form():
    """To 4 standard errors of chi, in units of its slope."""
    prior = theory.critical(cells.vanilla.cell, Prior(1.0, 0.5, 0.0, 0.0), R, "sigma_w", 1.0, 2.0)
    error = untied(cells.vanilla.cell, prior, R).error.chi
    np.testing.assert_allclose(vanilla(prior, R).chi, 1, atol=4 * error + 1e-3)


# --- against drawn networks -----------------------------------------------------------------------

PRIOR = Prior(1.6, 1.0, 0.4, 0.3)


def has_theory(name):
    try:
        ensemble(cells.named(name), Prior(), 4)
    except ValueError:
        return False
    return True


def bounded(name):
    """Leaves out cells whose state has no stationary law at this prior, or no W at all."""
    return name not in ("vanilla.relu", "vanilla.linear", "highway", "irnn")


@pytest.mark.optimised
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if n == "gru" else pytest.mark.long)
        for n in cells.names()
        if type(cells.named(n)) is Unitwise
    ],
)
def test_chi_against_drawn_networks(name):
    """Redrawn networks at n = 512: E[h^2], and the growth of a tangent. 2 % for n and for the
    spread of 140 steps, of which each is averaged over n.
    """
    if not has_theory(name) or not bounded(name):
        pytest.skip("no theory, by the tests of refusals, or no stationary state")
    cell, n, T = cells.named(name), 512, 210
    d = n if name == "minimal.bare" else 64
    found = untied(cell, PRIOR, R)
    body = scan.untied(cell, PRIOR, d, n)

    @jax.jit
    def simulate(key):
        keys = jax.random.split(key, T)
        xs = np.sqrt(R) * jax.random.normal(KEY, (T, d))
        state = cell.start(cell.init(key, PRIOR, d, n))
        _, hs = jax.lax.scan(body, state, (keys, xs))
        return jnp.mean(hs[T // 3 :] ** 2), analysis.log_gain(KEY, body, state, (keys, xs))

    Q, gain = simulate(jax.random.key(3))
    np.testing.assert_allclose(Q, found.Q, rtol=0.03)
    growth = (gain[-1] - gain[T // 3]) / (T - 1 - T // 3)
    if name not in ("mingru", "minlstm"):  # no W: each unit alone, so |v| follows E log, not log E
        np.testing.assert_allclose(growth, jnp.log(found.chi) / 2, atol=0.02)


@pytest.mark.parametrize("name", some_slow({"vanilla"}, "gru minimal minimal.bare cfn lstm"))
def test_one_step_jacobians_against_theory(name):
    """|J|_F^2 / m is the mean squared singular value and |J J'|_F^2 / m the mean of their squares:
    theory against eight redrawn steps at n = 512. One mean is of 512 units, whose squares scatter
    by about their mean: 1.6 % for eight; fourth powers by several times theirs: 10 %. chi is that
    mean for a state of one array, up to how a perturbation is spread over units.
    """
    cell, n, burn = cells.named(name), 512, 20
    d = n if name == "minimal.bare" else 64
    found = untied(cell, PRIOR, R)
    body = scan.untied(cell, PRIOR, d, n)

    @jax.jit
    def one(key):
        keys = jax.random.split(key, burn + 1)
        xs = np.sqrt(R) * jax.random.normal(key, (burn + 1, d))
        start = cell.start(cell.init(key, PRIOR, d, n))
        state, _ = jax.lax.scan(body, start, (keys[:burn], xs[:burn]))
        flat, unravel = ravel_pytree(state)
        J = jax.jacfwd(lambda s: ravel_pytree(body(unravel(s), (keys[-1], xs[-1]))[0])[0])(flat)
        G = J @ J.T
        return jnp.stack([jnp.trace(G), jnp.sum(G**2)]) / flat.size

    mean, second = jnp.mean(jnp.stack([one(key) for key in jax.random.split(KEY, 8)]), axis=0)
    np.testing.assert_allclose(mean, found.squares.mean, rtol=0.05)  # 3 standard errors
    np.testing.assert_allclose(second, found.squares.gaussian + found.squares.mean**2, rtol=0.3)
    if name != "lstm":  # whose perturbations are not spread evenly over h and c
        np.testing.assert_allclose(mean, found.chi, rtol=0.05)


@pytest.mark.optimised
@pytest.mark.parametrize(
    ("name", "form", "priors"),
    [
        pytest.param("vanilla", vanilla, 4, marks=pytest.mark.slow),
        pytest.param("vanilla", vanilla, 25, marks=pytest.mark.long),
        pytest.param("minimal.bare", minimal, 25, marks=pytest.mark.long),
    ],
)
def test_population_on_random_priors(name, form, priors):
    """Standard errors are right if their ratios have a spread of about 1, and none
    is beyond 5 (Student's t with 15 degrees of freedom: 1 in 6000)."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(priors):
        prior = Prior(*(float(v) for v in rng.uniform((0.5, 0.3, -1, 0), (2.5, 1.5, 2, 0.5))))
        Sigma = float(rng.uniform(0, 0.9))
        found, exact = untied(cells.named(name), prior, R, Sigma), form(prior, R, Sigma)
        ratios.append(
            [
                (getattr(found, f) - getattr(exact, f)) / getattr(found.error, f)
                for f in ("Q", "C", "chi")
            ]
        )
    ratios = np.array(ratios)
    assert np.abs(ratios).max() < 5
    assert np.mean(np.abs(ratios) > 3) < 0.05
    assert 0.6 < np.sqrt(np.mean(ratios**2)) < 1.6


@pytest.mark.optimised
@pytest.mark.long
def test_error_falls_as_one_over_root_of_units(monkeypatch):
    """16 times the units, a quarter of the error: 16 keys each, so the ratio is known to 25 %."""
    exact = vanilla(Prior(1.5, 0.5), R, 1.0).Q
    errors = []
    for units in (128, 2048):
        monkeypatch.setattr(sys.modules["recur.theory.redrawn_weights"], "UNITS", units)
        sweep = jax.jit(
            jax.vmap(lambda key: theory.untied(cells.vanilla.cell, Prior(1.5, 0.5), R, 1.0, key).Q)
        )
        errors.append(np.sqrt(np.mean((sweep(jax.random.split(KEY, 16)) - exact) ** 2)))
    assert 2 < errors[0] / errors[1] < 8


@pytest.mark.optimised
@pytest.mark.parametrize("name", some_slow({"minimal.bare"}, "gru lstm"))
def test_critical_priors_keep_gradients(name):
    """Log-gain per step within .01 nats of 0 over 500 steps, redrawn weights, n = 512, 2 seeds,
    of which one scatters by .004.
    """
    cell, n, T = cells.named(name), 512, 500
    if name == "minimal.bare":
        prior = theory.critical_minimal(0.0, 16.0, R)
    else:
        prior = theory.critical(cell, Prior(2.0, 1.0, 0.0, 0.0), R, "sigma_w", 1.0, 6.0)
    d = n if name == "minimal.bare" else 64
    body = scan.untied(cell, prior, d, n)

    def one(key):
        keys, xs = jax.random.split(key, T), np.sqrt(R) * jax.random.normal(key, (T, d))
        state = cell.start(cell.init(key, prior, d, n))
        return analysis.log_gain(key, body, state, (keys, xs))[-1] / T

    gains = jax.lax.map(one, jax.random.split(KEY, 2))
    assert abs(gains.mean()) < 0.01
