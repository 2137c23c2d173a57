"""Priors at the edge of stability: chi = 1, where perturbations neither grow nor decay.

The priors that these functions return can be passed to `cell.init`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import sigmoid
from jax.typing import ArrayLike

from recur import expect
from recur.core import Prior, Recurrence, gaussian, recurrence
from recur.theory.mean_field import MeanField, check_inputs
from recur.theory.quadrature import mean
from recur.theory.redrawn_weights import untied

HALVINGS = 12  # halvings of the interval: 1/4096 of it remains
MORE = 8  # further halvings, while chi still differs between the ends
POINTS = 9  # points of a first look at an interval
TOLERANCE = 2e-3  # of chi about 1, beside 6 standard errors: 4 of a difference of two

Look = Callable[[float], tuple[float, float]]  # value -> chi - 1, and how far it may be off


@expect.arguments(mu_b=expect.scalar, q=expect.scalar, R=expect.scalar)
def critical_minimal(mu_b: ArrayLike, q: ArrayLike, R: ArrayLike) -> Prior:
    """The prior of `cells.minimal.bare` with chi = 1 at given mu_b, q and R, in closed form.

        sigma_w^2 = (1 - E[u^2])^2 / (2 R E[1-u] E[u'^2]),   Q = R E[(1-u)^2] / (1 - E[u^2])
        sigma_v^2 = (q - sigma_w^2 Q) / R,   sigma_b = 0

    The formulas are from arXiv:1806.05394. The check that q is stable is new here.

    Args:
        mu_b: Mean of the pre-activations.
        q: Their variance, > 0.
        R: E[x_i^2] of the inputs, > 0.

    Returns:
        The prior, which goes into `cell.init`. Under a trace it is NaN where an error would be
        raised.

    Raises:
        ValueError: q or R is not positive, a number is not finite, sigma_v^2 would be negative, or
            q is not a stable fixed point.
        TypeError: They are not numbers.

    Example:
        >>> def chi(mu_b, q, R):
        ...     return theory.closed.minimal(theory.critical_minimal(mu_b, q, R), R).chi
        >>> print(f"{jax.jit(chi)(4.0, 3.0, 1.0):.3f}")
        1.000
    """
    check_inputs(R, 1.0)
    mu, q, R = (jnp.asarray(v, jnp.result_type(float)) for v in (mu_b, q, R))
    if not isinstance(q, jax.core.Tracer) and not q > 0:
        raise ValueError(f"q, the variance of the pre-activations, must be positive; got {q}")
    for name, value in (("mu_b", mu), ("q", q), ("R", R)):
        if not isinstance(value, jax.core.Tracer) and not jnp.isfinite(value):
            raise ValueError(f"{name} must be finite; got {value}")
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
            f"{sigma_v2:.4g} < 0. Choose a larger q."
        )

    def after(Q: Array) -> Array:  # one step of the variance of the state
        reached = sigma_w2 * Q + sigma_v2 * R
        kept = 1 - mean(lambda e: 1 - sigmoid(e) ** 2, mu, reached)
        return Q * kept + R * mean(lambda e: sigmoid(-e) ** 2, mu, reached)

    slope = jax.grad(after)(R * new2 / lost)
    if not isinstance(slope, jax.core.Tracer) and slope > 1:
        raise ValueError(
            f"chi = 1 at mu_b={mu}, q={q}, R={R}, but no network stays there: a deviation of its "
            f"variance from q grows by {slope:.4g} per step. Choose a q that is much smaller or "
            "much larger."
        )
    good = jnp.isfinite(mu) & (q > 0) & jnp.isfinite(q) & (R > 0) & jnp.isfinite(R)
    good = good & (sigma_v2 >= 0) & (slope <= 1)
    found = jnp.sqrt(sigma_w2), jnp.sqrt(jnp.maximum(sigma_v2, 0)), mu, jnp.zeros_like(mu)
    return Prior(*(jnp.where(good, value, jnp.nan) for value in found))


@expect.arguments(
    cell=recurrence,
    prior=gaussian,
    R=expect.scalar,
    low=expect.scalar,
    high=expect.scalar,
    key=expect.optional(expect.key),
)
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

    The same random numbers serve every point, so the bisection ends within (high - low) / 4096.
    The standard error of chi is that of `untied`. It takes 14 runs of `untied`, or up to 22, at
    about 2 ms per step on one core for a GRU: half a minute, or 15 minutes if each run takes 2^15
    steps.

    Args:
        cell: A `Unitwise` cell.
        prior: The other fields.
        R: E[x_i^2] of the inputs, > 0.
        field: The field of the prior to search over. A field with one value per gate is shifted as
            a whole.
        low: Least mean of the field.
        high: Greatest mean of the field.
        key: Draws the population; `jax.random.key(0)` if None.

    Returns:
        The prior, which goes into `cell.init`.

    Raises:
        ValueError: chi jumps over 1, by more than 2e-3 and 6 standard errors, is on one side of 1
            throughout, crosses it twice or is not finite; or a field, a bound or R does not fit.
        TypeError: The prior is not a Prior, the key is not a PRNG key, or a bound is not a number.

    Example:
        >>> prior = theory.critical(cells.vanilla.cell, Prior(), 0.5, "sigma_w", 1.0, 2.0)
        >>> print(abs(theory.closed.vanilla(prior, 0.5).chi - 1) < 0.05)
        True
    """
    check_inputs(R, 1.0)
    _check(prior, field, low, high)

    def off(value: float) -> tuple[float, float]:
        found = _untied(cell, _with(prior, field, value), R, 1.0, key)
        if not jnp.isfinite(found.chi):
            raise ValueError(
                f"chi is {found.chi} at {field} = {value:.6g}: the network has no stationary state "
                "there. Leave such values out of the interval."
            )
        return float(found.chi) - 1, TOLERANCE + 6 * float(found.error.chi)

    ends = low, high
    (below, _), (above, near) = off(low), off(high)
    if below * above > 0:
        raise ValueError(_not_between(off, field, low, high))
    for halving in range(HALVINGS + MORE):
        if halving >= HALVINGS and abs(above - below) < near:
            break
        middle = (low + high) / 2
        between, near = off(middle)
        if between * below > 0:
            low, below = middle, between
        else:
            high, above = middle, between
    if abs(above - below) > near:
        raise ValueError(
            f"no critical point for {field} in [{ends[0]}, {ends[1]}]: at {field} = {high:.6g} "
            f"the stationary state changes to another one, and chi jumps from {1 + below:.4g} to "
            f"{1 + above:.4g}. Neither state has chi = 1. Choose a value on one side of the jump."
        )
    return _with(prior, field, (low + high) / 2)


def _not_between(off: Look, field: str, low: float, high: float) -> str:
    """Why an interval whose ends are on one side of chi = 1 gives no critical point."""
    at = np.linspace(low, high, POINTS)
    chi = 1 + np.array([off(float(v))[0] for v in at])
    crossed = np.flatnonzero((chi[1:] - 1) * (chi[:-1] - 1) <= 0)
    if crossed.size:
        places = ", ".join(f"[{at[i]:.4g}, {at[i + 1]:.4g}]" for i in crossed)
        return (
            f"chi crosses 1 more than once for {field} in [{low}, {high}], as it is on one side at "
            f"both ends. Narrow the interval to one crossing: {places}"
        )
    return (
        f"no critical point for {field} in [{low}, {high}]: at {POINTS} points chi is from "
        f"{chi.min():.4g} to {chi.max():.4g} and does not cross 1. Widen the interval, or choose "
        "another field; `slowest` gives the prior of longest timescale within it."
    )


@expect.arguments(
    cell=recurrence,
    prior=gaussian,
    R=expect.scalar,
    low=expect.scalar,
    high=expect.scalar,
    key=expect.optional(expect.key),
)
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
    """The prior of the longest timescale among stable ones, chi < 1, as one field changes.

    It looks at nine points, then does a golden-section search about the best.

    Args:
        cell: A `Unitwise` cell.
        prior: The other fields.
        R: E[x_i^2] of the inputs, > 0.
        field: The field of the prior to search over.
        low: Least mean of the field.
        high: Greatest mean of the field.
        Sigma: Cosine of two input sequences; below 1, xi is how long they can be distinguished.
        key: Draws the population; `jax.random.key(0)` if None.

    Returns:
        The prior and its mean field.

    Raises:
        ValueError: Perturbations grow throughout, or a field, a bound, R or Sigma does not fit.
        TypeError: The prior is not a Prior, the key is not a PRNG key, or a bound is not a number.

    Example:
        >>> prior, field = theory.slowest(cells.vanilla.cell, Prior(), 0.5, "sigma_w", 0.5, 0.9)
        >>> print(f"{prior.sigma_w:.2f} {field.chi < 1}")  # nearest to chi = 1
        0.90 True
    """
    check_inputs(R, Sigma)
    _check(prior, field, low, high)

    def score(value: float) -> float:
        chi = _chi(cell, prior, field, value, R, key, Sigma)
        if np.isnan(chi):
            return -np.inf
        return (
            chi if chi < 1 else 1 / chi - 2
        )  # unstable points rank below, better the nearer chi is to 1

    grid = np.linspace(low, high, POINTS)
    scores = [score(v) for v in grid]
    best = int(np.argmax(scores))
    if scores[best] < 0:
        raise ValueError(
            f"chi > 1 for every {field} tried in [{low}, {high}]: perturbations grow, so there is "
            "no timescale to maximise. Choose smaller recurrent weights."
        )
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, POINTS - 1)]
    for _ in range(HALVINGS):
        a, b = high - 0.618 * (high - low), low + 0.618 * (high - low)
        low, high = (low, b) if score(a) > score(b) else (a, high)
    found = max((*grid, (low + high) / 2), key=score)
    at = _with(prior, field, float(found))
    return at, _untied(cell, at, R, Sigma, key)


# `jit` is applied here and not by the caller: the searches need concrete numbers.
_untied = partial(jax.jit, static_argnums=0)(untied)


def _chi(
    cell: Recurrence,
    prior: Prior,
    field: str,
    value: float,
    R: ArrayLike,
    key: Array | None,
    Sigma: ArrayLike = 1.0,
) -> float:
    return float(_untied(cell, _with(prior, field, value), R, Sigma, key).chi)


def _with(prior: Prior, field: str, value: float) -> Prior:
    """The prior with this mean of the field over gates."""
    old = jnp.asarray(getattr(prior, field), jnp.result_type(float))
    return prior._replace(**{field: old - old.mean() + jnp.asarray(value, old.dtype)})


def _check(prior: Prior, field: str, low: float, high: float) -> None:
    if field not in prior._fields:
        raise ValueError(
            f"field must be one of the fields of a prior, {', '.join(prior._fields)}; got {field!r}"
        )
    if not low < high:
        raise ValueError(f"the search for {field} needs low < high; got [{low}, {high}]")
    least = np.min(_with(prior, field, low)._asdict()[field])
    if field != "mu_b" and least < 0:
        raise ValueError(
            f"{field} is a standard deviation, and would be {least:.4g} in one gate at the low "
            f"end, {low}: the search shifts all gates by the same amount. Choose a larger low."
        )
