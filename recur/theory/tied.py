"""Mean-field theory of any Unitwise cell with real, tied weights: one W for all time.

The states of such a network depend on the past of W, as with redrawn weights they do not; how one
network runs without drawing W is told in `recur.theory.memory`. Here several run until they have
been measured for long enough, and their moments and exponents are averaged.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from recur.analysis.flat import precise
from recur.core import Prior, Recurrence
from recur.theory.ensemble import ensemble
from recur.theory.field import MeanField, check_inputs, timescale
from recur.theory.memory import Moments, Network, advance, found, grow
from recur.theory.untied import Signal, cosine

UNITS = 2048
NETWORKS = 4  # independent: their spread gives the standard errors
STEPS = 256  # of the first piece; each piece doubles the time
LONGEST = 1024  # steps at most
TIMES = 20  # the burn-in and the measurement each last that many correlation times
BLOCKS = 4  # of steps, in each network's measurement


class Path(NamedTuple):
    """The L measured steps, averaged over networks."""

    Q: Array  # (L,) E[h_t^2]
    C: Array  # (L, L) cosine of h_t and h_s


def tied(
    cell: Recurrence,
    prior: Prior,
    R: ArrayLike,
    Sigma: ArrayLike = 1.0,
    key: Array | None = None,
    n: int | None = None,
) -> MeanField:
    """The stationary state of a cell with tied weights, inputs x ~ N(0, R), as n, d -> oo.

    chi = exp(2 lambda), lambda the largest Lyapunov exponent in nats per step; xi = -1 / log(chi);
    `path` has Q(t) and C(t, s). Four networks of 2048 units each run until they have been measured
    for twenty correlation times of their own states, after a burn-in as long, at most 1024 steps.
    Errors of order 1/n remain; with n units instead, the result is that of networks of this width,
    for d -> oo. Raises ValueError for what theory cannot do, with the reason.
    """
    check_inputs(R, Sigma)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((prior, R, Sigma, key))):
        raise ValueError(
            "theory.tied measures how long it must run, so it needs numbers and cannot be traced "
            "(jit, vmap, grad): call it in a loop, or use theory.signal_tied with your own T"
        )
    n = UNITS if n is None else n
    k = 1 if Sigma == 1 else 2
    begin, *keys = jax.random.split(jax.random.key(0) if key is None else key, 8)
    networks = _found(cell, k, n, prior, jax.random.split(begin, NETWORKS))
    pieces: list[Moments] = []
    T = 0
    for key in keys:
        steps = max(T, STEPS)
        T += steps
        networks = grow(networks, steps * (k + 1))
        here = jax.random.split(key, (NETWORKS, steps))
        networks, new = _live(cell, n, prior, R, Sigma, networks, here)
        pieces.append(new)
        whole = jax.tree.map(lambda *a: np.concatenate(a, axis=1), *pieces)
        seen = jax.tree.map(lambda a: a[:, a.shape[1] // 2 :], whole)
        overlap = np.einsum("sin,sjn->ij", seen.h, seen.h, optimize=True) / seen.h[:, 0].size
        if T >= LONGEST or seen.Q.shape[1] >= TIMES * correlation_time(overlap):
            break
    return _mean_field(seen, overlap)


@precise
def signal_tied(
    cell: Recurrence, prior: Prior, R: ArrayLike, Sigmas: Array, key: Array | None = None
) -> Signal:
    """Q and C at each step from `cell.start` on, under inputs of cosine Sigmas (T,).

    One network of 4096 units. Raises ValueError as `tied` does; may be traced.
    """
    check_inputs(R, Sigmas)
    units = ensemble(cell, prior, 2 * UNITS)
    Sigmas, R = jnp.asarray(Sigmas, units.dtype), jnp.asarray(R, units.dtype)
    begin, key = jax.random.split(jax.random.key(0) if key is None else key)
    network = found(units, 2, begin)
    network = grow(network, 3 * Sigmas.size)

    def one(network: Network, now: tuple[Array, Array]) -> tuple[Network, Signal]:
        network, M = advance(units, R, network, *now)
        return network, Signal(M.Q, cosine(M.Q, M.Q12))

    return lax.scan(one, network, (Sigmas, jax.random.split(key, Sigmas.size)))[1]


# --- all networks, as long as it takes ------------------------------------------------------------
# `jit` stands here and not with the caller, who cannot trace a program that chooses its own T.


@partial(jax.jit, static_argnums=(0, 1, 2))
def _found(cell: Recurrence, k: int, n: int, prior: Prior, keys: Array) -> Network:
    return jax.vmap(lambda key: found(ensemble(cell, prior, n), k, key))(keys)


@partial(jax.jit, static_argnums=(0, 1))
@precise
def _live(
    cell: Recurrence, n: int, prior: Prior, R: Array, Sigma: Array, networks: Network, keys: Array
) -> tuple[Network, Moments]:
    """Every network (S, ...) through its keys (S, T)."""
    units = ensemble(cell, prior, n)
    R, Sigma = jnp.asarray(R, units.dtype), jnp.asarray(Sigma, units.dtype)

    def one(now: tuple[Network, Array]) -> tuple[Network, Moments]:
        network, keys = now
        return lax.scan(lambda net, key: advance(units, R, net, Sigma, key), network, keys)

    return lax.map(one, (networks, keys))


def correlation_time(overlap: np.ndarray) -> float:
    """Integrated correlation time, steps, of a stationary overlap <h_t, h_s> (L, L).

    What never decays (the static part of the state) is read off the longest lags, L/2.
    """
    L = len(overlap)
    K = np.array([overlap.diagonal(lag).mean() for lag in range(L // 2)])
    plateau = K[3 * L // 8 :].mean()
    decay = K[: 3 * L // 8] - plateau
    return float(2 * decay.sum() / decay[0] - 1) if decay[0] > 1e-6 * K[0] else 1.0


def _mean_field(seen: Moments, overlap: np.ndarray) -> MeanField:
    """Numbers from the mean over steps and networks; errors from the spread of these and blocks."""

    def numbers(M: Moments) -> MeanField:
        chi = jnp.exp(2 * M.growth)
        q, q12 = M.q[0].squeeze(), M.q[1].squeeze()
        return MeanField(M.Q, q, cosine(M.Q, M.Q12), cosine(q, q12), chi, timescale(chi))

    def blocks(count: int) -> MeanField:
        """Numbers of `count` blocks of each network, (S * count, ...)."""
        mean = jax.tree.map(
            lambda a: jnp.asarray(a).reshape(NETWORKS * count, -1, *a.shape[2:]).mean(1),
            seen._replace(h=seen.Q),
        )
        return jax.vmap(numbers)(mean)

    def spread(each: Array) -> Array:
        return each.std(0, ddof=1) / np.sqrt(len(each))

    whole = jax.tree.map(lambda a: jnp.asarray(a).mean((0, 1)), seen._replace(h=seen.Q))
    result = numbers(whole)
    # networks differ for good, and four of them alone say little of how much
    error = jax.tree.map(lambda a, b: jnp.maximum(spread(a), spread(b)), blocks(1), blocks(BLOCKS))
    error = error._replace(xi=result.xi**2 / result.chi * error.chi)
    Q = jnp.asarray(overlap.diagonal())
    C = jnp.asarray(overlap) / jnp.sqrt(jnp.outer(Q, Q))
    return result._replace(error=error, path=Path(Q, C))
