"""Mean-field theory of any Unitwise cell whose weights are redrawn at every step.

A population of units runs the cell's own functions on `Wide` matrices, in two copies that share
all randomness but the inputs, of cosine Sigma. Perturbations are followed without being drawn:
per unit, P = E[d state_1 d state_2'] over the weights yet to be drawn obeys

    P <- A_1 P A_2' + sum_k sigma_k^2 B_1k B_2k' D,     D = mean of P_hh over the units,

with A = d update/d state and B_k = d update/d (W_k h), because W_k dh is Gaussian and independent
across units and of everything else. Its growth per step is chi.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from recur import expect
from recur.analysis.numerics.flat_state import precise
from recur.core import Prior, Recurrence, Tree, gaussian, hidden, recurrence
from recur.tables import tabled
from recur.theory.closed import safe_sqrt
from recur.theory.ensemble import Ensemble, ensemble
from recur.theory.mean_field import MeanField, check_inputs, cosines, timescale
from recur.theory.perturbation import averages_of_squares, differentiate, propagate, squares
from recur.theory.population import move, nudge, overlaps, start, stuck

UNITS = 4096
BLOCKS = 16  # blocks of steps, in each round; their spread gives the standard errors
STEPS = 8  # steps of a block in the first round; each round has twice as many as the one before
ROUNDS = 8  # at most: 2^15 steps
CORRELATED = 0.7  # correlation of neighbouring blocks above which they are too short


@tabled()
class Signal(NamedTuple):
    """The hidden state of two copies of a network, step by step."""

    Q: Array  #: (T,) E[h^2]
    C: Array  #: (T,) cosine of the two copies


@expect.arguments(cell=recurrence, prior=gaussian, R=expect.scalar, key=expect.optional(expect.key))
@precise
def untied(
    cell: Recurrence, prior: Prior, R: ArrayLike, Sigma: ArrayLike = 1.0, key: Array | None = None
) -> MeanField:
    """The stationary state of a cell under redrawn weights, inputs x ~ N(0, R), for n, d -> oo.

    A population of 4096 units runs until its statistics are stationary and its blocks of steps are
    longer than their correlation, for at most 2^15 steps. A small perturbation moves it away from
    an unstable fixed point, such as h = 0 without input. The same key gives the same random numbers
    for all priors, so results can be differentiated (forward mode), and `vmap` sweeps priors. All
    parameters are redrawn, including biases, rates and embeddings. arXiv:1806.05394, 1901.08987.

    Args:
        cell: A `Unitwise` cell.
        prior: The prior of its parameters.
        R: E[x_i^2] of the inputs, > 0.
        Sigma: Cosine of the two input sequences, -1 .. 1.
        key: Draws the population; `jax.random.key(0)` if None.

    Returns:
        The mean field with standard errors. chi is the growth per step of E[d state_1 . d state_2],
        so of E|d state|^2 at Sigma = 1; `converged` says whether the statistics were stationary.

    Raises:
        ValueError: Theory cannot follow the cell, with the reason, or R or Sigma is out of range.
        TypeError: The prior is not a Prior, the key is not a PRNG key, or R is not a number.

    Example:
        >>> prior, R = Prior(sigma_w=0.8), 0.5
        >>> found = jax.jit(theory.untied, static_argnums=0)(cells.vanilla.cell, prior, R)
        >>> print(f"{found.chi:.2f} {theory.closed.vanilla(prior, R).chi:.2f}")
        0.34 0.34
    """
    check_inputs(R, Sigma)
    units = ensemble(cell, prior, UNITS)
    key = jax.random.key(0) if key is None else key
    R, Sigma = jnp.asarray(R, units.dtype), jnp.asarray(Sigma, units.dtype)
    state = start(units, key)
    m = len(jax.tree.leaves(state))

    def run_block(carry: tuple, key: Array, steps: Array) -> tuple[tuple, Moments]:
        state, P = carry
        P = jnp.broadcast_to(P.mean(-1, keepdims=True), P.shape)  # no unit outgrows the others
        zero = jax.tree.map(jnp.zeros_like, _moments_shape(units, R, Sigma, state, P))

        def one(t: Array, now: tuple) -> tuple:
            state, P, total = now
            state, P, moments = _step(units, R, Sigma, state, P, jax.random.fold_in(key, t))
            late = (2 * t >= steps).astype(
                units.dtype
            )  # by then P depends on the states of the units
            moments = moments._replace(early=(1 - late) * moments.early, late=late * moments.late)
            return state, P, jax.tree.map(jnp.add, total, moments)

        state, P, total = lax.fori_loop(0, steps, one, (state, P, zero))
        return (state, P), jax.tree.map(lambda a: a / steps.astype(a.dtype), total)

    def run_round(now: tuple) -> tuple:
        r, carry, blocks, _ = now
        steps = STEPS * 2**r
        keys = jax.random.split(jax.random.fold_in(key, r), BLOCKS)
        (state, P), new = lax.scan(lambda c, k: run_block(c, k, steps), carry, keys)
        leave = stuck(state, Sigma) & (jnp.mean(new.late) > 0)
        nudged = nudge(state, Sigma, jax.random.fold_in(key, ROUNDS))
        state = jax.tree.map(partial(jnp.where, leave), nudged, state)
        return r + 1, (state, P), new, _settled(blocks, new) & (r > 0) & ~leave

    P = jnp.broadcast_to(jnp.eye(m, dtype=units.dtype)[..., None], (m, m, UNITS))
    blocks = jax.tree.map(
        lambda a: jnp.zeros((BLOCKS, *a.shape), a.dtype), _moments_shape(units, R, Sigma, state, P)
    )
    first = (jnp.zeros((), jnp.int32), (state, P), blocks, jnp.zeros((), bool))
    r, _, blocks, settled = lax.while_loop(
        lambda now: (now[0] < ROUNDS) & ~now[3], run_round, first
    )
    return _mean_field(blocks, STEPS * 2 ** (r - 1), m)._replace(converged=settled)


@expect.arguments(
    cell=recurrence,
    prior=gaussian,
    R=expect.scalar,
    Sigmas=cosines,
    key=expect.optional(expect.key),
)
@precise
def signal_untied(
    cell: Recurrence, prior: Prior, R: ArrayLike, Sigmas: Array, key: Array | None = None
) -> Signal:
    """Mean square and cosine of the hidden states from `cell.start` on, under redrawn weights.

    Args:
        cell: A `Unitwise` cell.
        prior: The prior of its parameters.
        R: E[x_i^2] of the inputs, > 0.
        Sigmas: Cosine of the two input sequences at each step, (T,), -1 .. 1.
        key: Draws the population; `jax.random.key(0)` if None.

    Returns:
        Q and C, (T,) each.

    Raises:
        ValueError: As in `untied`.
        TypeError: As in `untied`.

    Example:
        >>> signal = jax.jit(theory.signal_untied, static_argnums=0)
        >>> Q, C = signal(cells.vanilla.cell, Prior(sigma_w=0.8), 0.5, np.array([1.0, 1.0, 0.0]))
        >>> print(C.shape, (C[:2] == 1).all(), C[2] < 0.5)
        (3,) True True
    """
    check_inputs(R, Sigmas)
    units = ensemble(cell, prior, UNITS)
    key = jax.random.key(0) if key is None else key
    Sigmas = jnp.asarray(Sigmas, units.dtype)

    def one(state: Tree, now: tuple[Array, Array]) -> tuple[Tree, Signal]:
        key, Sigma = now
        state, *_ = move(units, jnp.asarray(R, units.dtype), Sigma, state, key)
        Q, Q12 = overlaps(hidden(state))
        return state, Signal(Q, cosine(Q, Q12))

    return lax.scan(one, start(units, key), (jax.random.split(key, Sigmas.size), Sigmas))[1]


def cosine(q: Array, q12: Array) -> Array:
    """q12 / q, and 0 where both are 0."""
    return q12 / jnp.maximum(q, jnp.finfo(q.dtype).tiny)


class Moments(NamedTuple):
    """The quantities that are averaged over units and steps."""

    Q: Array
    Q12: Array
    q: Array  # (2, g): q and q12
    early: Array  # log of the growth of E[d state_1 . d state_2], first half of a block
    late: Array  # the same, second half
    squares: Array  # (6 + G,): see `averages_of_squares`


def _step(
    units: Ensemble, R: Array, Sigma: Array, state: Tree, P: Array, key: Array
) -> tuple[Tree, Array, Moments]:
    """One step of the population and of its perturbations P (m, m, n), renormalised."""
    new, unit_by_unit, products, q = move(units, R, Sigma, state, key)
    J = differentiate(units, state, unit_by_unit, products)
    P = propagate(J, P)
    size = jnp.mean(jnp.trace(P))
    growth = jnp.log(jnp.abs(size))
    moments = Moments(*overlaps(hidden(new)), q, growth, growth, averages_of_squares(J))
    return new, P / size, moments


def _moments_shape(units: Ensemble, R: Array, Sigma: Array, state: Tree, P: Array) -> Any:
    """Shapes of Moments, as zeros."""
    shapes = jax.eval_shape(lambda: _step(units, R, Sigma, state, P, jax.random.key(0))[2])
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)


def _settled(before: Any, after: Any) -> Array:
    """Whether no statistic drifts between rounds, or is correlated between blocks."""

    def still(a: Array, b: Array) -> Array:
        error = jnp.sqrt((a.var(0) + b.var(0)) / BLOCKS) + 1e-6 * jnp.abs(b).max()
        deviation = b - b.mean(0)
        near = jnp.sum(deviation[1:] * deviation[:-1], 0)
        short = near > CORRELATED * jnp.sum(deviation**2, 0)
        drifts = jnp.abs(a.mean(0) - b.mean(0)) > 3 * error
        return ~jnp.any(drifts | short & (deviation.std(0) > 1e-3 * jnp.abs(b.mean(0))))

    pairs = zip(before[:5], after[:5], strict=True)
    return jnp.all(jnp.stack([still(a, b) for a, b in pairs]))


def _mean_field(blocks: Moments, steps: Array, m: int) -> MeanField:
    """Numbers from all blocks of `steps` steps, and errors by leaving out one block at a time.

    The sizes of perturbations, not their logs, are averaged over blocks. This gives E|d state|^2,
    even if a few units carry it.
    """

    def numbers(weights: Array) -> MeanField:
        M = jax.tree.map(lambda a: jnp.tensordot(weights, a, 1), blocks)
        early, late = (a * steps.astype(a.dtype) for a in (blocks.early, blocks.late))
        log_ratio = logsumexp(early + late, b=weights) - logsumexp(early, b=weights)
        chi = jnp.exp(2 * log_ratio / steps.astype(log_ratio.dtype))
        q, q12 = M.q[0].squeeze(), M.q[1].squeeze()
        C, c = cosine(M.Q, M.Q12), cosine(q, q12)
        return MeanField(M.Q, q, C, c, chi, timescale(chi), squares=squares(M.squares, m))

    every = jnp.full(BLOCKS, 1 / BLOCKS, blocks.Q.dtype)
    without = (1 - jnp.eye(BLOCKS, dtype=every.dtype)) / (BLOCKS - 1)
    result, each = numbers(every), jax.vmap(numbers)(without)
    error = jax.tree.map(lambda a: safe_sqrt((BLOCKS - 1) * a.var(0)), each)
    return result._replace(error=error._replace(xi=result.xi**2 / result.chi * error.chi))
