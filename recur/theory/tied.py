"""Mean-field theory of any Unitwise cell with real, tied weights: one W for all time.

The states of such a network depend on the past of W, as with redrawn weights they do not. Yet W
need not be drawn before it is used. Let W have independent entries N(0, sigma^2/n), and let
e_1 .. e_k be orthonormal, each chosen in view of e_1 W .. e_{k-1} W alone. A rotation of the rows
of W leaves its law as it is, so e_k W is N(0, sigma^2/n I) given all before it: fresh. Hence keep
an orthonormal basis of the states seen, and what W made of it. The part of a new state within their
span is known; the part across is the length of the residual times fresh Gaussians. No W is ever
drawn, and the population is equal in law, at every n and not only in a limit, to the n units of
a network with one drawn W. Gates share the basis, each with its own images. A tangent vector of the
trajectory meets the same W and hence the same basis: its growth is the largest Lyapunov exponent.
T steps cost O(T^2 n).

Inputs are new at every step and d -> oo, so matrices met by inputs act afresh at every step: true
for raw inputs, and for embeddings that are of mean zero over the inputs, unit by unit.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from recur.analysis.flat import precise
from recur.core import Prior, Recurrence, Tree, hidden
from recur.theory.field import MeanField, check_inputs, timescale
from recur.theory.population import gaussian, inputs, overlaps, preactivation
from recur.theory.untied import Signal, cosine
from recur.theory.wide import Ensemble, ensemble

UNITS = 2048
NETWORKS = 4  # independent: their spread gives the standard errors
STEPS = 256  # of the first piece; each piece doubles the time
LONGEST = 1024  # steps at most
TIMES = 20  # the burn-in and the measurement each last that many correlation times
BLOCKS = 4  # of steps, in each network's measurement


class Memory(NamedTuple):
    """What one matrix has done so far: images[i] = basis[i] @ W."""

    basis: Array  # (K, n) orthonormal; zero where not yet used
    images: Array  # (K, g*n)
    used: Array  # () how many


class Network(NamedTuple):
    """k copies of the state, one tangent of the first, the vectors and what is known of W."""

    state: Tree  # (k, n) each
    tangent: Tree  # (1, n) each
    vectors: list[Any]
    memories: list[Memory]


class Moments(NamedTuple):
    """What is seen at one step."""

    Q: Array  # E[h^2]
    Q12: Array  # E[h_1 h_2]
    q: Array  # (2, g): q and q12
    growth: Array  # log of the growth of the tangent
    h: Array  # (n,) of the first copy


class Path(NamedTuple):
    """The L measured steps, averaged over networks."""

    Q: Array  # (L,) E[h_t^2]
    C: Array  # (L, L) cosine of h_t and h_s


def tied(
    cell: Recurrence, prior: Prior, R: ArrayLike, Sigma: ArrayLike = 1.0, key: Array | None = None
) -> MeanField:
    """The stationary state of a cell with tied weights, inputs x ~ N(0, R), as n, d -> oo.

    chi = exp(2 lambda), lambda the largest Lyapunov exponent in nats per step; xi = -1 / log(chi);
    `path` has Q(t) and C(t, s). Four networks of 2048 units each run until they have been measured
    for twenty correlation times of their own states, after a burn-in as long, at most 1024 steps.
    Errors of order 1/n remain. Raises ValueError for what theory cannot do, with the reason.
    """
    check_inputs(R, Sigma)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((prior, R, Sigma, key))):
        raise ValueError(
            "theory.tied measures how long it must run, so it needs numbers and cannot be traced "
            "(jit, vmap, grad): call it in a loop, or use theory.signal_tied with your own T"
        )
    k = 1 if Sigma == 1 else 2
    begin, *keys = jax.random.split(jax.random.key(0) if key is None else key, 8)
    networks = _found(cell, k, prior, jax.random.split(begin, NETWORKS))
    pieces: list[Moments] = []
    T = 0
    for key in keys:
        steps = max(T, STEPS)
        T += steps
        networks = _grow(networks, steps * (k + 1))
        here = jax.random.split(key, (NETWORKS, steps))
        networks, new = _live(cell, prior, R, Sigma, networks, here)
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
    network = _grow(network, 3 * Sigmas.size)

    def one(network: Network, now: tuple[Array, Array]) -> tuple[Network, Signal]:
        network, M = advance(units, R, network, *now)
        return network, Signal(M.Q, cosine(M.Q, M.Q12))

    return lax.scan(one, network, (Sigmas, jax.random.split(key, Sigmas.size)))[1]


# --- one network, whose W comes into being as it is used ------------------------------------------


def recall(memory: Memory, key: Array, scale: Array, x: Array) -> tuple[Array, Memory]:
    """x @ W for x (k, n), (k, g*n), and all that is known of W afterwards.

    Rows after the first enter by their difference to it: equal rows stay equal.
    """
    k, n = x.shape
    rows = jnp.concatenate([x[:1], x[1:] - x[:1]])
    known = rows @ memory.basis.T
    rest = rows - known @ memory.basis
    again = rest @ memory.basis.T  # twice is enough for an orthogonal residual
    known, rest = known + again, rest - again @ memory.basis
    tolerance = 1e3 * jnp.finfo(x.dtype).eps * jnp.linalg.norm(x[0])
    basis: list[Array] = []
    across = jnp.zeros((k, k), x.dtype)
    for i, row in enumerate(rest):
        for _ in range(2):
            for j, e in enumerate(basis):
                across = across.at[i, j].add(row @ e)
                row = row - (row @ e) * e
        length = jnp.linalg.norm(row)
        new = length > tolerance
        basis.append(jnp.where(new, row / jnp.where(new, length, 1), 0))
        across = across.at[i, i].set(jnp.where(new, length, 0))
    fresh = jax.random.normal(key, (k, scale.size, n), x.dtype) * scale[:, None]
    fresh = fresh.reshape(k, -1) / jnp.sqrt(n).astype(x.dtype)
    y = known @ memory.images + across @ fresh
    at = (memory.used, jnp.zeros_like(memory.used))
    memory = Memory(
        lax.dynamic_update_slice(memory.basis, jnp.stack(basis), at),
        lax.dynamic_update_slice(memory.images, fresh, at),
        memory.used + k,
    )
    return jnp.concatenate([y[:1], y[1:] + y[:1]]), memory


def found(units: Ensemble, k: int, key: Array) -> Network:
    """k copies of `cell.start`, a random tangent, vectors drawn for good, and W unknown."""
    draw, tangent = jax.random.split(key)
    vectors = units.vectors(draw)
    used: list[int] = []

    def product(j: int, x: Array) -> Array:
        used.append(j)
        return jnp.zeros((*x.shape[:-1], units.shapes[j].shape[1]), x.dtype)

    params = units.params(vectors, product)
    state = units.cell.start(params, (k,))
    units.cell.mix(params, hidden(state))
    leaves, structure = jax.tree.flatten(state)
    tangents = [
        jax.random.normal(key, (1, units.n), units.dtype)
        for key in jax.random.split(tangent, len(leaves))
    ]
    memories = [
        Memory(
            jnp.zeros((0, units.n), units.dtype),
            jnp.zeros((0, units.shapes[j].shape[1]), units.dtype),
            jnp.zeros((), jnp.int32),
        )
        for j in used
    ]
    return Network(state, jax.tree.unflatten(structure, tangents), vectors, memories)


def advance(
    units: Ensemble, R: Array, network: Network, Sigma: Array, key: Array
) -> tuple[Network, Moments]:
    """One step of the network and of its tangent, which is renormalised."""
    state, tangent, vectors, memories = network
    memories = list(memories)
    source, noise = jax.random.split(key)
    products: list[tuple[int, Array]] = []
    calls = iter(range(1000))  # a key for each product

    def fresh(j: int, x: Array) -> Array:
        products.append((j, x))
        return gaussian(jax.random.fold_in(noise, next(calls)), units.scales[j], x)

    def mix(h: Array) -> Tree:
        which = iter(range(len(memories)))

        def product(j: int, x: Array) -> Array:
            products.append((j, x))
            i, key = next(which), jax.random.fold_in(noise, next(calls))
            y, memories[i] = recall(memories[i], key, units.scales[j], x)
            return y

        return units.cell.mix(units.params(vectors, product), h)

    k = hidden(state).shape[0]
    params = units.params(vectors, fresh)
    z = units.cell.drive(params, inputs(source, R, Sigma, k, units.n))
    r = mix(hidden(state))
    q = preactivation(units, vectors, products)
    first = jax.tree.map(lambda a: a[:1], (state, r))
    z1 = jax.tree.map(lambda a: a[:1], z)
    pushed = (tangent, mix(hidden(tangent)))
    _, tangent = jax.jvp(lambda s, r: units.cell.update(params, s, r, z1), first, pushed)
    state = units.cell.update(params, state, r, z)
    length = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tangent)))
    tangent = jax.tree.map(lambda leaf: leaf / length, tangent)
    h = hidden(state)
    moments = Moments(*overlaps(h), q, jnp.log(length), h[0])
    return Network(state, tangent, vectors, memories), moments


# --- all networks, as long as it takes ------------------------------------------------------------
# `jit` stands here and not with the caller, who cannot trace a program that chooses its own T.


@partial(jax.jit, static_argnums=(0, 1))
def _found(cell: Recurrence, k: int, prior: Prior, keys: Array) -> Network:
    return jax.vmap(lambda key: found(ensemble(cell, prior, UNITS), k, key))(keys)


@partial(jax.jit, static_argnums=0)
@precise
def _live(
    cell: Recurrence, prior: Prior, R: Array, Sigma: Array, networks: Network, keys: Array
) -> tuple[Network, Moments]:
    """Every network (S, ...) through its keys (S, T)."""
    units = ensemble(cell, prior, UNITS)
    R, Sigma = jnp.asarray(R, units.dtype), jnp.asarray(Sigma, units.dtype)

    def one(now: tuple[Network, Array]) -> tuple[Network, Moments]:
        network, keys = now
        return lax.scan(lambda net, key: advance(units, R, net, Sigma, key), network, keys)

    return lax.map(one, (networks, keys))


def _grow(network: Network, more: int) -> Network:
    """Room for `more` vectors in each memory; networks may be stacked."""

    def pad(a: Array) -> Array:
        return jnp.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, more), (0, 0)])

    memories = [m._replace(basis=pad(m.basis), images=pad(m.images)) for m in network.memories]
    return network._replace(memories=memories)


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
