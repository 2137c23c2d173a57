"""Mean-field theory of vanilla and minimal RNNs, redrawn weights, in closed form.

    vanilla      q   = sigma_w^2 E[phi^2] + sigma_v^2 R + sigma_b^2
                 q12 = sigma_w^2 E[phi(e1) phi(e2)] + sigma_v^2 R Sigma + sigma_b^2
                 chi = sigma_w^2 E[phi'(e1) phi'(e2)]
    minimal.bare q   = sigma_w^2 Q + sigma_v^2 R + sigma_b^2, and q12 alike
                 Q   = Q E[u^2] + R E[(1-u)^2]
                 Q12 = Q12 E[u1 u2] + R Sigma E[(1-u1)(1-u2)]
                 chi = E[u1 u2] + sigma_w^2 (Q12 + R Sigma) E[u1' u2']

Chen, Pennington and Schoenholz 2018, arXiv:1806.05394; with sigma_b the bias is redrawn too.
`quadrature` has the expectations over the pre-activations e ~ N(mu_b, q). A number that is not
finite, R <= 0 or |Sigma| > 1 raises ValueError. Under a trace, where it is not known, the result is
NaN.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.nn import sigmoid
from jax.typing import ArrayLike

from recur import expect
from recur.core import Prior, gaussian
from recur.theory.mean_field import MeanField, Squares, check_inputs
from recur.theory.quadrature import gauss, mean, mean_of_pair, safe_sqrt

HALVINGS = 45  # as a fraction of the distance between two points
STEPS = 60  # of Newton, at most; about 6 unless chi is near 1
POINTS = 200  # points of the search: of two fixed points within 7 % of each other, one is missed

Search = tuple[Array, Array, Array, Array, Array]  # count, c, the c before, low, high
# c -> f(c) - c, 1 - f'(c), f'(c), and the other of the two cosines
Equation = Callable[[Array], tuple[Array, Array, Array, Array]]


def vanilla(prior: Prior, R: ArrayLike, Sigma: ArrayLike = 1.0) -> MeanField:
    """The fixed point of h = tanh(W h + V x + b) under redrawn weights, by quadrature.

    Chen, Pennington and Schoenholz 2018, arXiv:1806.05394.

    Args:
        prior: One with scalar fields.
        R: E[x_i^2] of the inputs, > 0.
        Sigma: Cosine of the two input sequences, -1 .. 1.

    Returns:
        The mean field, () each, with no errors. Under a trace it is NaN where an error would be
        raised.

    Raises:
        ValueError: R or Sigma is out of range, or a number is not a finite scalar.
        TypeError: The prior is not a Prior, or R or Sigma is not a number.

    Example:
        >>> field = jax.jit(theory.closed.vanilla)(Prior(sigma_w=0.8), 0.5)
        >>> print(f"{field.chi:.3f} {field.xi:.3f}")  # per step; steps
        0.337 0.918
    """
    sw2, sv2, mu, sb2, R, Sigma = numbers(prior, R, Sigma)
    outside, shared = sv2 * R + sb2, sv2 * R * Sigma + sb2

    def both(e: Array) -> tuple[Array, Array]:
        return jnp.tanh(e), 4 * sigmoid(2 * e) * sigmoid(-2 * e)  # 1 - tanh^2 would cancel

    def after(q: Array) -> Array:
        return sw2 * mean(lambda e: jnp.tanh(e) ** 2, mu, q) + outside

    q = _fixed_point(after, outside, outside + sw2)
    e, w = gauss(mu, safe_sqrt(q))
    h, slope = both(e)
    Q, m2, m4 = (jnp.sum(w * f) for f in (h**2, slope**2, slope**4))
    variance = jnp.sum(w * (slope**2 - m2) ** 2)

    def cosine(c: Array) -> tuple[Array, Array, Array, Array]:
        h12, slopes = mean_of_pair(both, mu, q, c)
        rest = (sw2 * h12 + shared) / _positive(q) - c
        return rest, 1 - sw2 * slopes, sw2 * slopes, h12 / _positive(Q)

    c = _cosine(cosine, Sigma)
    _, lost, chi, C = cosine(c)
    squares = Squares(sw2 * m2, sw2**2 * m4, sw2**2 * variance)
    return MeanField(Q, q, C, c, chi, _timescale(chi, lost), squares=squares)


def minimal(prior: Prior, R: ArrayLike, Sigma: ArrayLike = 1.0) -> MeanField:
    """The fixed point of `cells.minimal.bare` under redrawn weights, by quadrature.

    The variance of squared singular values assumes Gaussian inputs x ~ N(0, R), so h is a scale
    mixture of Gaussians. Everything else depends only on the second moment of the inputs. Chen,
    Pennington and Schoenholz 2018, arXiv:1806.05394.

    Args:
        prior: One with scalar fields.
        R: E[x_i^2] of the inputs, > 0.
        Sigma: Cosine of the two input sequences, -1 .. 1.

    Returns:
        The mean field, () each, with no errors. Under a trace it is NaN where an error would be
        raised.

    Raises:
        ValueError: R or Sigma is out of range, or a number is not a finite scalar.
        TypeError: The prior is not a Prior, or R or Sigma is not a number.

    Example:
        >>> field = jax.jit(theory.closed.minimal)(Prior(mu_b=3.0), 0.5)
        >>> print(f"{field.chi:.3f} {field.xi:.3f}")  # per step; steps
        0.890 8.585
    """
    sw2, sv2, mu, sb2, R, Sigma = numbers(prior, R, Sigma)

    def preactivation(Q: Array) -> Array:
        return sw2 * Q + sv2 * R + sb2

    def gates(e: Array) -> tuple[Array, Array, Array]:
        u, new = sigmoid(e), sigmoid(-e)
        return u, new, u * new

    def after(Q: Array) -> Array:
        e, w = gauss(mu, safe_sqrt(preactivation(Q)))
        _, new, slope = gates(e)
        gained, both = jnp.sum(w * new**2), jnp.sum(w * slope)
        return R * gained / (gained + 2 * both)

    Q = _fixed_point(after, 0 * R, R)
    q = preactivation(Q)
    forgotten = mean(lambda e: sigmoid(-e), mu, q)

    def cosine(C: Array) -> tuple[Array, Array, Array, Array]:
        c = (sw2 * Q * C + sv2 * R * Sigma + sb2) / _positive(q)
        old, new, slopes = mean_of_pair(gates, mu, q, c)
        lost = 2 * forgotten - new  # 1 - E[u1 u2], without cancellation
        again = sw2 * (Q * C + R * Sigma) * slopes
        return Sigma * new * R / Q - C * lost, lost - again, old + again, c

    C = _cosine(cosine, Sigma)
    _, lost, chi, c = cosine(C)
    squares = _squares_of_minimal(sw2, mu, q, Q, R)
    return MeanField(Q, q, C, c, chi, _timescale(chi, lost), squares=squares)


def _squares_of_minimal(sw2: Array, mu: Array, q: Array, Q: Array, R: Array) -> Squares:
    """From a = u (1-u) (h - x): E[a^2] and E[a^4] need E[(h - x)^2] and E[(h - x)^4]."""
    e, w = gauss(mu, safe_sqrt(q))
    u, new = sigmoid(e), sigmoid(-e)
    lost2 = new * (1 + u)  # 1 - u^2

    def moment(i: int, j: int) -> Array:
        """E[u^i (1-u)^j]."""
        return jnp.sum(w * u**i * new**j)

    keep2, h4 = moment(2, 0), fourth_moment(Q, R, moment)
    gap2, gap4 = Q + R, h4 + 6 * Q * R + 3 * R**2
    s2, s4, keep_s = moment(2, 2), moment(4, 4), moment(4, 2)
    variance = jnp.sum(w * (lost2 - jnp.sum(w * lost2)) ** 2)  # of u^2
    rest = variance + 2 * sw2 * keep_s * gap2
    a2, a4 = s2 * gap2, s4 * gap4
    return Squares(keep2 + sw2 * a2, rest + sw2**2 * a4, rest + sw2**2 * (a4 - a2**2))


def fourth_moment(Q: Array, R: Array, moment: Callable[[int, int], Array]) -> Array:
    """E[h^4] of h <- u h + (1-u) x, x ~ N(0, R).

    Args:
        Q: E[h^2].
        R: E[x^2].
        moment: (i, j) -> E[u^i (1-u)^j].

    Returns:
        The moment, ().

    Example:
        >>> print(theory.closed.fourth_moment(1 / 3, 1.0, lambda i, j: 0.5 ** (i + j)))  # u = 1/2
        0.3333333333333333
    """
    lost4 = moment(0, 1) + moment(1, 1) + moment(2, 1) + moment(3, 1)  # 1 - E[u^4]
    return (6 * moment(2, 2) * Q * R + 3 * moment(0, 4) * R**2) / lost4


def _fixed_point(f: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """The first stable q = f(q) above low, which small states reach; at most high.

    It steps upwards from low to the first point where f(q) < q, then bisects.
    """
    low, high = lax.stop_gradient((low, high))
    points = low + (high - low) * jnp.geomspace(1e-6, 1, POINTS, dtype=low.dtype)

    def look(k: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, fell = now
        q = jnp.where(fell, (low + high) / 2, points[jnp.minimum(k, POINTS - 1)])
        up = lax.stop_gradient(f(q)) > q
        return jnp.where(up, q, low), jnp.where(up, high, q), fell | ~up

    def solve(*_: Any) -> Array:
        first = (low, high, jnp.zeros((), bool))
        below, above, _ = lax.fori_loop(0, POINTS + HALVINGS, look, first)
        return (below + above) / 2

    return _root(lambda q: f(q) - q, solve, low)


def _root(f: Callable[[Array], Array], solve: Callable, guess: Array) -> Array:
    """The root that `solve` finds, with derivatives of all orders by the implicit function."""
    return lax.custom_root(f, guess, solve, lambda df, y: y / df(jnp.ones_like(y)))


def _cosine(f: Equation, Sigma: Array) -> Array:
    """The stable cosine c = f(c); 1 if the inputs are the same.

    The first root above the start: f has a power series of positive terms, so Newton's steps from
    0 rise to it without overshooting. A negative cosine is caught between the ends instead.
    """
    one = jnp.ones_like(Sigma)
    near = jnp.finfo(one.dtype).eps ** (2 / 3)  # the last step squares the remaining error

    def newton(now: Search) -> Search:
        k, c, _, low, high = now
        rest, lost, *_ = lax.stop_gradient(f(c))
        low, high = jnp.where(rest > 0, c, low), jnp.where(rest > 0, high, c)
        new = c + rest / lost
        new = jnp.where((new >= low) & (new <= high), new, (low + high) / 2)
        return k + 1, new, c, low, high

    def moves(now: Search) -> Array:
        k, c, before, *_ = now
        return (k < STEPS) & (jnp.abs(c - before) > near)

    def solve(*_: Any) -> Array:
        first = (jnp.zeros((), jnp.int32), 0 * one, one, -one, one)
        c = lax.while_loop(moves, newton, lax.stop_gradient(first))[1]
        rest, lost = f(c)[:2]
        return c + rest / lost

    return jnp.where(Sigma == 1, one, _root(lambda c: f(c)[0], solve, 0 * one))


def _timescale(chi: Array, lost: Array) -> Array:
    """-1 / log(chi), in steps, from lost = 1 - chi where chi is near 1."""
    near = jnp.abs(lost) < 0.5
    return -1 / jnp.where(near, jnp.log1p(-jnp.where(near, lost, 0)), jnp.log(chi))


@expect.arguments(prior=gaussian)
def numbers(prior: Prior, R: ArrayLike, Sigma: ArrayLike) -> tuple[Array, ...]:
    """sigma_w^2, sigma_v^2, mu_b, sigma_b^2, R and Sigma as scalars of one dtype.

    Args:
        prior: One with scalar fields.
        R: E[x_i^2] of the inputs, > 0.
        Sigma: Cosine of the two input sequences, -1 .. 1.

    Returns:
        The six numbers, () each; all NaN where one is out of range under a trace.

    Raises:
        ValueError: R or Sigma is out of range, or a number is not a finite scalar.
        TypeError: The prior is not a Prior, or R or Sigma is not a number.

    Example:
        >>> print(*theory.closed.numbers(Prior(sigma_w=2.0), 0.5, 1.0))
        4.0 1.0 0.0 0.0 0.5 1.0
    """
    check_inputs(R, Sigma)
    values = {
        name: jnp.asarray(v, jnp.result_type(float))
        for name, v in (prior._asdict() | {"R": R, "Sigma": Sigma}).items()
    }
    if any(v.size != 1 for v in values.values()):
        raise ValueError(
            "a closed form needs one prior of scalars; got shapes "
            f"{[v.shape for v in values.values()]}. To sweep priors, use vmap"
        )
    for name, v in values.items():
        if not isinstance(v, jax.core.Tracer) and not jnp.all(jnp.isfinite(v)):
            raise ValueError(f"a closed form needs finite numbers; got {name} = {v}")
    sw, sv, mu, sb, R, Sigma = (v.reshape(()) for v in values.values())
    all_ = jnp.stack([sw**2, sv**2, mu, sb**2, R, Sigma])
    good = jnp.all(jnp.isfinite(all_)) & (R > 0) & (jnp.abs(Sigma) <= 1)
    return tuple(jnp.where(good, all_, jnp.nan))


def _positive(q: Array) -> Array:
    """The larger of q and the smallest number above zero."""
    return jnp.maximum(q, jnp.finfo(q.dtype).tiny)
