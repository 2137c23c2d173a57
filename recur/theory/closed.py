"""Mean-field theory of vanilla and minimal RNNs, redrawn weights, in closed form.

Expectations over the pre-activations e ~ N(mu_b, q) are trapezoidal sums, which converge
exponentially for analytic integrands: to 1e-8 for q < 45 (sigmoid) and q < 11 (tanh) in float64.

    vanilla      q   = sigma_w^2 E[phi^2] + sigma_v^2 R + sigma_b^2
                 q12 = sigma_w^2 E[phi(e1) phi(e2)] + sigma_v^2 R Sigma + sigma_b^2
                 chi = sigma_w^2 E[phi'(e1) phi'(e2)]
    minimal.bare q   = sigma_w^2 Q + sigma_v^2 R + sigma_b^2, and q12 alike
                 Q   = Q E[u^2] + R E[(1-u)^2]
                 Q12 = Q12 E[u1 u2] + R Sigma E[(1-u1)(1-u2)]
                 chi = E[u1 u2] + sigma_w^2 (Q12 + R Sigma) E[u1' u2']

Chen, Pennington and Schoenholz 2018, arXiv:1806.05394; with sigma_b the bias is redrawn too.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.nn import sigmoid
from jax.typing import ArrayLike

from recur.core import Prior
from recur.theory.field import MeanField, Squares, check_inputs, timescale

NODES = np.linspace(-6.4, 6.4, 81)  # beyond lies 2e-10 of the Gaussian
FINE = np.linspace(-8, 8, 401)  # the error is exp(-2 pi s / spacing), s the distance of a pole

Function = Callable[[Array], Array]


def gauss(nodes: np.ndarray, like: Array) -> tuple[Array, Array]:
    """Nodes and weights of a standard Gaussian, in the dtype of `like`."""
    weights = np.exp(-(nodes**2) / 2)
    return jnp.asarray(nodes, like.dtype), jnp.asarray(weights / weights.sum(), like.dtype)


def mean(f: Function, mu: Array, q: Array) -> Array:
    """E[f(e)] for e ~ N(mu, q)."""
    z, w = gauss(FINE, q)
    return jnp.sum(w * f(mu + safe_sqrt(q) * z))


def mean_of_pair(
    f: Callable[[Array], tuple[Array, ...]], mu: Array, q: Array, c: Array
) -> tuple[Array, ...]:
    """E[f(e1) f(e2)] of each function f gives, for e1, e2 ~ N(mu, q) with cosine c about mu.

    Given what the two share, of variance |c| q, they are independent.
    """
    z, w = gauss(NODES, q)
    shared, own = safe_sqrt(jnp.abs(c) * q) * z, safe_sqrt((1 - jnp.abs(c)) * q) * z
    given = [jnp.sum(w * value, axis=1) for value in f(mu + shared[:, None] + own)]
    # where c < 0 the other sees -shared, which is shared backwards
    return tuple(jnp.sum(w * g * jnp.where(c < 0, g[::-1], g)) for g in given)


def vanilla(prior: Prior, R: ArrayLike, Sigma: ArrayLike = 1.0) -> MeanField:
    """The fixed point of h = tanh(W h + V x + b). Raises ValueError unless R > 0, |Sigma| <= 1."""
    check_inputs(R, Sigma)
    sw2, sv2, mu, sb2, R, Sigma = numbers(prior, R, Sigma)
    outside, shared = sv2 * R + sb2, sv2 * R * Sigma + sb2

    def both(e: Array) -> tuple[Array, Array]:
        h = jnp.tanh(e)
        return h, 1 - h**2

    def after(q: Array) -> Array:
        return sw2 * mean(lambda e: jnp.tanh(e) ** 2, mu, q) + outside

    q = _fixed_point(after, outside, outside + sw2)
    Q = mean(lambda e: jnp.tanh(e) ** 2, mu, q)

    def cosine(c: Array) -> tuple[Array, Array]:
        h12, slopes = mean_of_pair(both, mu, q, c)
        return (sw2 * h12 + shared) / _positive(q), sw2 * slopes

    c = _cosine(cosine, Sigma)
    chi = cosine(c)[1]
    C = mean_of_pair(both, mu, q, c)[0] / _positive(Q)
    m2 = mean(lambda e: both(e)[1] ** 2, mu, q)
    m4 = mean(lambda e: both(e)[1] ** 4, mu, q)
    squares = Squares(sw2 * m2, sw2**2 * m4, sw2**2 * (m4 - m2**2))
    return MeanField(Q, q, C, c, chi, timescale(chi), squares=squares)


def minimal(prior: Prior, R: ArrayLike, Sigma: ArrayLike = 1.0) -> MeanField:
    """The fixed point of `cells.minimal.bare`. Raises ValueError unless R > 0, |Sigma| <= 1.

    The variance of squared singular values takes inputs x ~ N(0, R) that are Gaussian, as all else
    depends on their second moment alone; h is then a scale mixture of Gaussians.
    """
    check_inputs(R, Sigma)
    sw2, sv2, mu, sb2, R, Sigma = numbers(prior, R, Sigma)

    def preactivation(Q: Array) -> Array:
        return sw2 * Q + sv2 * R + sb2

    def after(Q: Array) -> Array:
        q = preactivation(Q)
        new = mean(lambda e: sigmoid(-e) ** 2, mu, q)
        return R * new / (new + 2 * mean(lambda e: sigmoid(e) * sigmoid(-e), mu, q))

    Q = _fixed_point(after, 0 * R, R)
    q = preactivation(Q)

    def gates(e: Array) -> tuple[Array, Array, Array]:
        u = sigmoid(e)
        return u, 1 - u, u * (1 - u)

    def cosine(C: Array) -> tuple[Array, Array]:
        c = (sw2 * Q * C + sv2 * R * Sigma + sb2) / _positive(q)
        old, new, slopes = mean_of_pair(gates, mu, q, c)
        return C * old + Sigma * new * R / Q, old + sw2 * (Q * C + R * Sigma) * slopes

    C = _cosine(cosine, Sigma)
    chi = cosine(C)[1]
    c = (sw2 * Q * C + sv2 * R * Sigma + sb2) / _positive(q)
    squares = _squares_of_minimal(sw2, mu, q, Q, R)
    return MeanField(Q, q, C, c, chi, timescale(chi), squares=squares)


def _squares_of_minimal(sw2: Array, mu: Array, q: Array, Q: Array, R: Array) -> Squares:
    """From a = u (1-u) (h - x): E[a^2] and E[a^4] need E[(h - x)^2] and E[(h - x)^4]."""

    def moment(i: int, j: int) -> Array:
        """E[u^i (1-u)^j]."""
        return mean(lambda e: sigmoid(e) ** i * sigmoid(-e) ** j, mu, q)

    keep2, keep4, h4 = moment(2, 0), moment(4, 0), fourth_moment(Q, R, moment)
    gap2, gap4 = Q + R, h4 + 6 * Q * R + 3 * R**2
    s2, s4, keep_s = moment(2, 2), moment(4, 4), moment(4, 2)
    rest = keep4 - keep2**2 + 2 * sw2 * keep_s * gap2
    a2, a4 = s2 * gap2, s4 * gap4
    return Squares(keep2 + sw2 * a2, rest + sw2**2 * a4, rest + sw2**2 * (a4 - a2**2))


def fourth_moment(Q: Array, R: Array, moment: Callable[[int, int], Array]) -> Array:
    """E[h^4] of h <- u h + (1-u) x, x ~ N(0, R), from moments E[u^i (1-u)^j]."""
    return (6 * moment(2, 2) * Q * R + 3 * moment(0, 4) * R**2) / (1 - moment(4, 0))


def _fixed_point(f: Function, low: Array, high: Array) -> Array:
    """The first stable q = f(q) above low, which small states reach; at most high.

    A look at some points for the first that falls, bisection, and a last Newton step that carries
    the derivatives.
    """
    low_, high_ = lax.stop_gradient((low, high))
    grid = low_ + (high_ - low_) * jnp.geomspace(1e-6, 1, 40, dtype=low_.dtype)
    falls = (jax.vmap(f)(grid) <= grid).at[-1].set(True)
    first = jnp.argmax(falls)
    low, high = jnp.where(first > 0, grid[first - 1], low_), grid[first]

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        up = f(middle) > middle
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    low, high = lax.fori_loop(0, 45, halve, lax.stop_gradient((low, high)))
    q = (low + high) / 2
    value, slope = jax.jvp(f, (q,), (jnp.ones_like(q),))
    return q + (value - q) / (1 - lax.stop_gradient(slope))


def _cosine(f: Callable[[Array], tuple[Array, Array]], Sigma: Array) -> Array:
    """The stable cosine c = f(c), given f and f'; 1 where the inputs are the same.

    The first root above the start: f has a power series of positive terms, so Newton's steps from
    0 rise to it without overshooting. A negative cosine is caught between the ends instead.
    """

    def newton(_: int, now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        c, low, high = now
        value, slope = f(c)
        low, high = jnp.where(value > c, c, low), jnp.where(value > c, high, c)
        new = c + (value - c) / (1 - slope)
        inside = (new >= low) & (new <= high)
        return jnp.where(inside, new, (low + high) / 2), low, high

    one = jnp.ones_like(Sigma)
    c, _, _ = lax.fori_loop(0, 12, newton, lax.stop_gradient((0 * one, -one, one)))
    value, slope = f(c)
    c = c + (value - c) / (1 - lax.stop_gradient(slope))
    return jnp.where(Sigma == 1, one, c)


def numbers(prior: Prior, R: ArrayLike, Sigma: ArrayLike) -> tuple[Array, ...]:
    """sigma_w^2, sigma_v^2, mu_b, sigma_b^2, R, Sigma as scalars of one dtype."""
    values = [jnp.asarray(v, jnp.result_type(float)) for v in (*prior, R, Sigma)]
    if any(v.size != 1 for v in values):
        raise ValueError(
            "a closed form takes one prior of scalars, got shapes "
            f"{[v.shape for v in values]}; to sweep priors, vmap over them"
        )
    sw, sv, mu, sb, R, Sigma = (v.reshape(()) for v in values)
    return sw**2, sv**2, mu, sb**2, R, Sigma


def _positive(q: Array) -> Array:
    """The larger of q and the smallest number above zero."""
    return jnp.maximum(q, jnp.finfo(q.dtype).tiny)


def safe_sqrt(q: Array) -> Array:
    """sqrt of q, and 0 with derivative 0 where q <= 0."""
    positive = q > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, q, 1)), 0)
