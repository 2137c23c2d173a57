"""Mean-field theory of any Unitwise cell with real, tied weights: one W for all time.

The states of such a network depend on earlier uses of W, unlike those of a network with redrawn
weights. `recur.theory.revealed_weights` explains how one network runs without drawing W. Here
several networks run until the measurement is long enough, and their moments and exponents are
averaged.
"""

import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from recur import expect
from recur.analysis.numerics.flat_state import precise
from recur.core import Prior, Recurrence, gaussian, hidden, recurrence
from recur.theory.ensemble import ensemble
from recur.theory.mean_field import MeanField, check_inputs, cosines, timescale
from recur.theory.population import nudge, stuck
from recur.theory.redrawn_weights import Signal, cosine
from recur.theory.revealed_weights import Moments, Network, advance, complete, found, grow

UNITS = 2048
NETWORKS = 4  # independent networks: their spread gives the standard errors
STEPS = 256  # of the first piece; each piece doubles the time
ENOUGH = 1024  # steps, where nothing drifts
LONGEST = 8192  # steps at most
TIMES = 20  # the burn-in and the measurement each last that many correlation times
BLOCKS = 4  # of steps, in each network's measurement


class Path(NamedTuple):
    """The L measured steps, averaged over networks."""

    Q: Array  #: (L,) E[h_t^2]
    C: Array  #: (L, L) cosine of h_t and h_s


@expect.arguments(
    cell=recurrence,
    prior=gaussian,
    R=expect.scalar,
    key=expect.optional(expect.key),
    n=expect.optional(expect.count(1)),
)
def tied(
    cell: Recurrence,
    prior: Prior,
    R: ArrayLike,
    Sigma: ArrayLike = 1.0,
    key: Array | None = None,
    n: int | None = None,
) -> MeanField:
    """The stationary state of a cell with tied weights, inputs x ~ N(0, R), as n, d -> oo.

    Four networks of 2048 units each run until they have been measured for twenty correlation times
    of their own states, or for 1024 steps, after a burn-in of the same length. They continue while
    the results drift, up to 8192 steps. Unstable fixed points are left as in `untied`. On two
    cores, 1024 steps take about a minute for a cell with three gates. If results drift even after
    8192 steps, a RuntimeWarning says which, and `converged` is False. docs/theory.md derives the
    method.

    Errors of order 1/n remain. With a given n, the result is that of networks of this width, for
    d -> oo. `minimal.bare` has d = n, and its V acts on the same x that is blended: V_ii, drawn
    once, adds up to sigma_v^2 R^2/n to E[h^2], which is most of it where gates are nearly closed
    (`docs/theory.md` has the numbers).

    Args:
        cell: A `Unitwise` cell.
        prior: The prior of its parameters.
        R: E[x_i^2] of the inputs, > 0.
        Sigma: Cosine of the two input sequences, -1 .. 1.
        key: Draws the networks; `jax.random.key(0)` if None.
        n: Units of each network; 2048, for n -> oo, if None.

    Returns:
        The mean field with standard errors. chi = exp(2 lambda), lambda the largest Lyapunov
        exponent in nats per step; `path` has Q(t) and C(t, s).

    Raises:
        ValueError: The theory does not cover the cell (the error gives the reason), R or Sigma is
            out of range, or a number is traced, since the length of the run depends on the numbers.
        TypeError: The prior is not a Prior, the key is not a PRNG key, or R or n is not a number.

    Example:
        >>> found = theory.tied(cells.vanilla.linear, Prior(sigma_w=0.6), 1.0, n=64)
        >>> Q, chi = 1 / (1 - 0.6**2), 0.6**2  # of a linear network, for n -> oo
        >>> print(abs(found.Q - Q) < 3 * found.error.Q, chi < found.chi < 1.3 * chi)
        True True
    """
    check_inputs(R, Sigma)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((prior, R, Sigma, key))):
        raise ValueError(
            "theory.tied measures how long it must run, so it needs numbers and cannot be traced "
            "(jit, vmap, grad): call it in a loop, or use theory.signal_tied with your own T"
        )
    n = UNITS if n is None else n
    k = 1 if Sigma == 1 else 2
    begin, *keys = jax.random.split(jax.random.key(0) if key is None else key, 16)
    networks = _found(cell, k, n, prior, jax.random.split(begin, NETWORKS))
    pieces: list[Moments] = []
    T = 0
    for key in keys:
        steps = max(T, STEPS)
        T += steps
        networks = grow(networks, steps * (k + 1))
        here = jax.random.split(key, (NETWORKS, steps))
        networks, new = _live(cell, n, prior, R, Sigma, networks, here)
        networks = complete(networks)
        if not pieces and np.mean(new.growth) > 0 and stuck(networks.state, Sigma):
            networks, T = _nudged(networks, Sigma, key), 0
            continue
        pieces.append(new)
        quarter, half = slice(T // 4, T // 2), slice(T // 2, T)
        whole = jax.tree.map(lambda *a: np.concatenate(a, axis=1), *pieces)
        before, seen = (jax.tree.map(lambda a, s=s: a[:, s], whole) for s in (quarter, half))
        overlap = np.einsum("sin,sjn->ij", seen.h, seen.h, optimize=True) / seen.h[:, 0].size
        result = _mean_field(seen)
        drift = _drift(before, seen, result.error)
        if T >= LONGEST:
            break
        if not drift and (T >= ENOUGH or len(overlap) >= TIMES * correlation_time(overlap)):
            break
    if drift:
        warnings.warn(
            f"theory.tied has not converged in {T} steps: as these doubled, {drift}. The networks "
            "forget too slowly.",
            RuntimeWarning,
            stacklevel=3,
        )
    Q = jnp.asarray(overlap.diagonal())
    C = jnp.asarray(overlap) / jnp.sqrt(jnp.outer(Q, Q))
    return result._replace(path=Path(Q, C), converged=not drift)


@expect.arguments(
    cell=recurrence,
    prior=gaussian,
    R=expect.scalar,
    Sigmas=cosines,
    key=expect.optional(expect.key),
)
@precise
def signal_tied(
    cell: Recurrence, prior: Prior, R: ArrayLike, Sigmas: Array, key: Array | None = None
) -> Signal:
    """Mean square and cosine of the hidden states from `cell.start` on, with tied weights.

    One network of 4096 units. May be traced.

    Args:
        cell: A `Unitwise` cell.
        prior: The prior of its parameters.
        R: E[x_i^2] of the inputs, > 0.
        Sigmas: Cosine of the two input sequences at each step, (T,), -1 .. 1.
        key: Draws the network; `jax.random.key(0)` if None.

    Returns:
        Q and C, (T,) each.

    Raises:
        ValueError: As in `untied`.
        TypeError: As in `untied`.

    Example:
        >>> signal = jax.jit(theory.signal_tied, static_argnums=0)
        >>> Q, C = signal(cells.vanilla.cell, Prior(sigma_w=0.8), 0.5, np.array([1.0, 1.0, 0.0]))
        >>> print(C.shape, (C[:2] == 1).all(), C[2] < 0.5)
        (3,) True True
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


# --- all networks, until they converge ------------------------------------------------------------
# `jit` is applied here: a caller cannot trace a program that chooses its own T.


@partial(jax.jit, static_argnums=(0, 1, 2))
def _found(cell: Recurrence, k: int, n: int, prior: Prior, keys: Array) -> Network:
    return jax.vmap(lambda key: found(ensemble(cell, prior, n), k, key))(keys)


@partial(jax.jit, static_argnums=(0, 1))
@precise
def _live(
    cell: Recurrence, n: int, prior: Prior, R: Array, Sigma: Array, networks: Network, keys: Array
) -> tuple[Network, Moments]:
    """Run every network (S, ...) through its keys (S, T)."""
    units = ensemble(cell, prior, n)
    R, Sigma = jnp.asarray(R, units.dtype), jnp.asarray(Sigma, units.dtype)

    def one(now: tuple[Network, Array]) -> tuple[Network, Moments]:
        network, keys = now
        return lax.scan(lambda net, key: advance(units, R, net, Sigma, key), network, keys)

    return lax.map(one, (networks, keys))


@jax.jit
def _nudged(networks: Network, Sigma: ArrayLike, key: Array) -> Network:
    """Every network (S, ...) moved a little from its state."""
    Sigma = jnp.asarray(Sigma, hidden(networks.state).dtype)
    keys = jax.random.split(key, NETWORKS)
    state = jax.vmap(lambda state, key: nudge(state, Sigma, key))(networks.state, keys)
    return networks._replace(state=state)


def correlation_time(overlap: np.ndarray) -> float:
    """Integrated correlation time, steps, of a stationary overlap <h_t, h_s> (L, L).

    The part that never decays (the static part of the state) is read off the longest lags, L/2.
    """
    L = len(overlap)
    K = np.array([overlap.diagonal(lag).mean() for lag in range(L // 2)])
    plateau = K[3 * L // 8 :].mean()
    decay = K[: 3 * L // 8] - plateau
    return float(2 * decay.sum() / decay[0] - 1) if decay[0] > 1e-6 * K[0] else 1.0


def _numbers(M: Moments) -> MeanField:
    """The mean field of averaged moments."""
    chi = jnp.exp(2 * M.growth)
    q, q12 = M.q[0].squeeze(), M.q[1].squeeze()
    return MeanField(M.Q, q, cosine(M.Q, M.Q12), cosine(q, q12), chi, timescale(chi))


def _of_blocks(seen: Moments, count: int) -> MeanField:
    """Numbers of `count` blocks of each network, (S * count, ...)."""
    mean = jax.tree.map(
        lambda a: a.reshape(NETWORKS * count, -1, *a.shape[2:]).mean(1), seen._replace(h=seen.Q)
    )
    return jax.vmap(_numbers)(mean)


def _spread(each: Array) -> Array:
    """Standard error of the mean."""
    return each.std(0, ddof=1) / np.sqrt(len(each))


def _mean_field(seen: Moments) -> MeanField:
    """Numbers from the mean over steps and networks; errors from the spread of these and blocks."""
    result = _numbers(jax.tree.map(lambda a: jnp.asarray(a.mean((0, 1))), seen._replace(h=seen.Q)))
    # networks differ permanently, and four of them are too few to estimate by how much
    error = jax.tree.map(
        lambda a, b: jnp.maximum(_spread(a), _spread(b)),
        _of_blocks(seen, 1),
        _of_blocks(seen, BLOCKS),
    )
    error = error._replace(xi=result.xi**2 / result.chi * error.chi)
    return result._replace(error=error)


def _drift(before: Moments, seen: Moments, error: MeanField) -> str:
    """Which results changed by more than two standard errors, from `before` to `seen`.

    The change must also exceed three of its own standard errors over networks, and rounding. What
    decays from the start, and here by that much, decays to its square by the end of `seen`.
    """
    told = []
    for name in ("Q", "C", "chi"):
        first, second = (np.asarray(getattr(_of_blocks(m, 1), name)) for m in (before, seen))
        a, b = first.mean(), second.mean()
        noise = max(2 * getattr(error, name), 3 * _spread(second - first))
        if not abs(b - a) <= noise + 1e-4 * abs(b) + 1e-7:
            told.append(f"{name} went from {a:.4g} to {b:.4g}")
    return ", ".join(told)
