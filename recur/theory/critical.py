"""Priors at the edge of stability: chi = 1, where perturbations neither grow nor fade.

What these return goes straight into `cell.init`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import sigmoid
from jax.typing import ArrayLike

from recur.core import Prior, Recurrence
from recur.theory.field import MeanField, check_inputs
from recur.theory.quadrature import mean
from recur.theory.untied import untied

HALVINGS = 12  # of the interval: a 1/4096 of it remains
POINTS = 9  # of a first look at an interval


def critical_minimal(mu_b: ArrayLike, q: ArrayLike, R: ArrayLike) -> Prior:
    """The prior of `cells.minimal.bare` with chi = 1 at given mu_b, q and R, in closed form.

        sigma_w^2 = (1 - E[u^2])^2 / (2 R E[1-u] E[u'^2]),   Q = R E[(1-u)^2] / (1 - E[u^2])
        sigma_v^2 = (q - sigma_w^2 Q) / R,   sigma_b = 0

    Raises ValueError unless q, R > 0, sigma_v^2 >= 0 and q is a stable fixed point.
    arXiv:1806.05394; that q may be unstable is found here.
    """
    check_inputs(R, 1.0)
    mu, q, R = (jnp.asarray(v, jnp.result_type(float)) for v in (mu_b, q, R))
    if not isinstance(q, jax.core.Tracer) and not q > 0:
        raise ValueError(f"q, the variance of the pre-activations, must be positive, got {q}")
    new, new2, slope2, both = (
        mean(f, mu, q)
        for f in (
            lambda e: sigmoid(-e),
            lambda e: sigmoid(-e) ** 2,
            lambda e: (sigmoid(e) * sigmoid(-e)) ** 2,
            lambda e: sigmoid(e) * sigmoid(-e),
        )
    )
    lost = new2 + 2 * both  # 1 - E[u^2], without cancellation
    sigma_w2 = lost**2 / (2 * R * new * slope2)
    sigma_v2 = (q - sigma_w2 * R * new2 / lost) / R
    if not isinstance(sigma_v2, jax.core.Tracer) and sigma_v2 < 0:
        raise ValueError(
            f"no critical point with mu_b={mu}, q={q}, R={R}: the recurrent weights alone "
            f"(sigma_w = {jnp.sqrt(sigma_w2):.4g}) give more than q, so sigma_v^2 = "
            f"{sigma_v2:.4g} < 0. Ask for a larger q."
        )

    def after(Q: Array) -> Array:  # one step of the variance of the state
        reached = sigma_w2 * Q + sigma_v2 * R
        kept = 1 - mean(lambda e: 1 - sigmoid(e) ** 2, mu, reached)
        return Q * kept + R * mean(lambda e: sigmoid(-e) ** 2, mu, reached)

    slope = jax.grad(after)(R * new2 / lost)
    if not isinstance(slope, jax.core.Tracer) and slope > 1:
        raise ValueError(
            f"chi = 1 at mu_b={mu}, q={q}, R={R}, but no network stays there: a deviation of its "
            f"variance from q grows by {slope:.4g} a step. Ask for a q far smaller or far larger."
        )
    return Prior(jnp.sqrt(sigma_w2), jnp.sqrt(sigma_v2), mu, jnp.zeros_like(mu))


def critical(
    cell: Recurrence,
    prior: Prior,
    R: ArrayLike,
    field: str,
    low: float,
    high: float,
    key: Array | None = None,
) -> Prior:
    """The prior with chi = 1 under redrawn weights, as one field goes from low to high.

    A field of one value per gate is shifted as a whole, to a mean within low .. high. The same
    random numbers serve every point, and the bisection ends within (high - low) / 4096; chi's own
    standard error is that of `untied`. Raises ValueError where chi does not cross 1.
    """
    _check(prior, field, low, high)
    chi_low, chi_high = (_chi(cell, prior, field, v, R, key) for v in (low, high))
    if not (chi_low - 1) * (chi_high - 1) <= 0:
        raise ValueError(
            f"no critical point for {field} in [{low}, {high}]: chi goes from {chi_low:.4g} to "
            f"{chi_high:.4g} and does not cross 1. Widen the interval, or choose another field; "
            "`slowest` gives the prior of longest timescale within it."
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        same = (_chi(cell, prior, field, middle, R, key) - 1) * (chi_low - 1) > 0
        low, high = (middle, high) if same else (low, middle)
    return _with(prior, field, (low + high) / 2)


def slowest(
    cell: Recurrence,
    prior: Prior,
    R: ArrayLike,
    field: str,
    low: float,
    high: float,
    Sigma: ArrayLike = 1.0,
    key: Array | None = None,
) -> tuple[Prior, MeanField]:
    """The prior of the longest timescale among stable ones, chi < 1, and its mean field.

    One field goes from low to high: a look at nine points, then a golden section about the best.
    For inputs of cosine Sigma, xi is how long two sequences are told apart. Raises ValueError where
    perturbations grow throughout.
    """
    _check(prior, field, low, high)

    def score(value: float) -> float:
        chi = _chi(cell, prior, field, value, R, key, Sigma)
        return chi if chi < 1 else 1 / chi - 2  # unstable ones below, the nearer to 1 the better

    grid = np.linspace(low, high, POINTS)
    scores = [score(v) for v in grid]
    best = int(np.argmax(scores))
    if scores[best] < 0:
        raise ValueError(
            f"chi > 1 for every {field} tried in [{low}, {high}]: perturbations grow, so there is "
            "no timescale to maximise. Take smaller recurrent weights."
        )
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, POINTS - 1)]
    for _ in range(HALVINGS):
        a, b = high - 0.618 * (high - low), low + 0.618 * (high - low)
        low, high = (low, b) if score(a) > score(b) else (a, high)
    found = max((*grid, (low + high) / 2), key=score)
    at = _with(prior, field, float(found))
    return at, _untied(cell, at, R, Sigma, key)


# `jit` stands here and not with the caller: these search with numbers in hand.
_untied = partial(jax.jit, static_argnums=0)(untied)


def _chi(
    cell: Recurrence, prior: Prior, field: str, value: float, R: ArrayLike, key: Array | None,
    Sigma: ArrayLike = 1.0,
) -> float:  # fmt: skip
    return float(_untied(cell, _with(prior, field, value), R, Sigma, key).chi)


def _with(prior: Prior, field: str, value: float) -> Prior:
    """The prior with this mean of the field over gates."""
    old = jnp.asarray(getattr(prior, field), jnp.result_type(float))
    return prior._replace(**{field: old - old.mean() + jnp.asarray(value, old.dtype)})


def _check(prior: Prior, field: str, low: float, high: float) -> None:
    if field not in prior._fields:
        raise ValueError(f"a prior has the fields {', '.join(prior._fields)}; got {field!r}")
    if not low < high:
        raise ValueError(f"the search for {field} needs low < high, got [{low}, {high}]")
