"""The squared singular values of dh_t/dh_0 after t steps, redrawn weights, in closed form.

One step is J = diag(k) + diag(a) W, with W of variance sigma^2 / n, or sigma times an orthogonal
matrix. For G = M M', M = J_t ... J_1, and g = tr G / n, the fresh W of the next step gives

    G_ii <- k_i^2 G_ii + sigma^2 a_i^2 g
    E sum_{j != i} G_ij^2 <- the sum over i != j of  k_i^2 k_j^2 G_ij^2 + sigma^2 (k_i^2 a_j^2 S_i
                             + a_i^2 k_j^2 S_j) / n + sigma^4 a_i^2 a_j^2 s / n

with S_i = (G^2)_ii and s = tr G^2 / n; for orthogonal W, whose W G W' keeps its spectrum, s - g^2
in the last place. Since k is new at every step, averages over units close. The mean squared
singular value is g = chi^t, their variance s - g^2. For k = 0 (vanilla) variances relative to the
mean squared add up, as for any free product; where k > 0 they do not, because diagonals commute.
"""

from typing import cast

import jax.numpy as jnp
from jax import Array, lax
from jax.nn import sigmoid
from jax.typing import ArrayLike

from recur import expect
from recur.core import Prior
from recur.theory import closed
from recur.theory.mean_field import Squares


@expect.arguments(T=expect.count(1))
def vanilla(prior: Prior, R: ArrayLike, T: int) -> Squares:
    """Squared singular values of dh_t/dh_0 in h = tanh(W h + V x + b), redrawn weights.

    A closed form; the text of this module derives it.

    Args:
        prior: One with scalar fields.
        R: E[x_i^2] of the inputs, > 0.
        T: Steps, 1 or more.

    Returns:
        Their mean chi^t and variances, (T,) each, for t = 1 .. T.

    Raises:
        ValueError: T < 1, or as in `closed.vanilla`.
        TypeError: T is not an integer, or as in `closed.vanilla`.

    Example:
        >>> found = jax.jit(theory.spectrum.vanilla, static_argnums=2)(Prior(), 0.5, 3)
        >>> print(found.mean, found.orthogonal)
        [0.49  0.24  0.117] [0.123 0.059 0.021]
    """
    mean, gaussian, orthogonal = cast(Squares, closed.vanilla(prior, R).squares)
    t = jnp.arange(1, T + 1, dtype=mean.dtype)
    return Squares(mean**t, *(t * v * mean ** (2 * t - 2) for v in (gaussian, orthogonal)))


@expect.arguments(T=expect.count(1))
def minimal(prior: Prior, R: ArrayLike, T: int) -> Squares:
    """Squared singular values of dh_t/dh_0 in `cells.minimal.bare`, redrawn weights.

    A closed form; the text of this module derives it. Here k = u and a = u (1-u) (h - x). The G_ii
    of a unit is correlated with its h^2, so E[G_ii h^2] is carried too. The inputs x ~ N(0, R) are
    Gaussian.

    Args:
        prior: One with scalar fields.
        R: E[x_i^2] of the inputs, > 0.
        T: Steps, 1 or more.

    Returns:
        Their mean chi^t and variances, (T,) each, for t = 1 .. T.

    Raises:
        ValueError: T < 1, or as in `closed.minimal`.
        TypeError: T is not an integer, or as in `closed.minimal`.

    Example:
        >>> found = jax.jit(theory.spectrum.minimal, static_argnums=2)(Prior(mu_b=3.0), 0.5, 3)
        >>> print(found.mean, found.orthogonal)
        [0.89  0.792 0.705] [0.009 0.014 0.017]
    """
    field = closed.minimal(prior, R)
    sw2, _, mu, _, R, _ = closed.numbers(prior, R, 1.0)
    Q, chi = field.Q, field.chi

    def moment(i: int, j: int) -> Array:
        """E[u^i (1-u)^j]."""
        return closed.mean(lambda e: sigmoid(e) ** i * sigmoid(-e) ** j, mu, field.q)

    k2, k4, both = moment(2, 0), moment(4, 0), moment(2, 2)
    h4 = closed.fourth_moment(Q, R, moment)
    a2, a4 = sw2 * both * (Q + R), sw2**2 * moment(4, 4) * (h4 + 6 * Q * R + 3 * R**2)
    # E[a^2 h'^2] for the new h' = u h + (1-u) x, and E[(h-x)^2 h x] = -2 Q R
    reborn = moment(4, 2) * (h4 + Q * R) + moment(2, 4) * (Q * R + 3 * R**2)
    reborn = sw2 * (reborn - 4 * moment(3, 3) * Q * R)

    def step(now: tuple[Array, Array, Array], _: None) -> tuple[tuple, Array]:
        P2, Ph2, off = now  # E[G_ii^2], E[G_ii h_i^2], the off-diagonal part of s; over g = 1
        new = off * k2**2 + (P2 + off) * (2 * k2 * a2 + a2**2)
        new = (new - jnp.array([0, 1], chi.dtype) * a2**2) / chi**2
        P2 = (k4 * P2 + 2 * sw2 * moment(4, 2) * (Ph2 + R) + a4) / chi**2
        Ph2 = (k4 * Ph2 + both * R + reborn) / chi
        return (P2, Ph2, new), P2 + new - 1

    start = jnp.ones_like(Q), Q, jnp.zeros(2, chi.dtype)  # off: Gaussian, orthogonal
    _, relative = lax.scan(step, start, length=T)
    means = chi ** jnp.arange(1, T + 1, dtype=chi.dtype)
    return Squares(means, *(means[:, None] ** 2 * relative).T)
