"""A network whose tied matrix W is drawn only as it is used.

The states of such a network depend on earlier uses of W, unlike those of a network with redrawn
weights. But W need not be drawn before it is used. Let W have independent entries N(0, sigma^2/n),
and let e_1 .. e_k be orthonormal, each chosen in view of e_1 W .. e_{k-1} W only. A rotation of
the rows of W does not change its distribution, so e_k W is N(0, sigma^2/n I), independent of all
before it. So it is enough to keep an orthonormal basis of the states so far, and its image under W.
The image of the component of a new state within their span is known. The image of the orthogonal
component is its length times fresh Gaussians. W itself is never drawn. At every n, and not only in
a limit, the population is equal in distribution to the n units of a network with one drawn W. Gates
share the basis, each with its own images. A tangent vector of the trajectory is multiplied by the
same W, so it shares the basis: its growth is the largest Lyapunov exponent. A step costs O(k n),
and T steps O(T^2 n), until the basis is complete. After n vectors all of W is known,
W = sum_i e_i' (e_i W), and a step costs as much as in an ordinary network.

Inputs are new at every step and d -> oo, so matrices that multiply inputs act as if redrawn at
every step. This holds for raw inputs, and for embeddings whose mean over the inputs is zero for
each unit.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur.analysis.numerics.flat_state import precise
from recur.core import Tree, hidden
from recur.theory.ensemble import Ensemble
from recur.theory.population import gaussian, inputs, overlaps, preactivation


class Memory(NamedTuple):
    """What is known of one matrix so far: images[i] = basis[i] @ W."""

    basis: Array  # (K, n) orthonormal; zero where not yet used; K <= n + 1
    images: Array  # (K, g*n)
    used: Array  # () how many, at most n


class Network(NamedTuple):
    """k copies of the state, one tangent of the first, the vectors and what is known of W."""

    state: Tree  # (k, n) each
    tangent: Tree  # (1, n) each
    vectors: list[Any]
    memories: list[Memory | Array]  # or W (n, g*n), once all of it is known


class Moments(NamedTuple):
    """What is measured at one step."""

    Q: Array  # E[h^2]
    Q12: Array  # E[h_1 h_2]
    q: Array  # (2, g): q and q12
    growth: Array  # log of the growth of the tangent
    h: Array  # (n,) of the first copy


def recall(memory: Memory, key: Array, scale: Array, x: Array) -> tuple[Array, Memory]:
    """x @ W for x (k, n), (k, g*n), and all that is known of W afterwards.

    Rows after the first enter by their difference from it, so equal rows stay equal.
    """
    k, n = x.shape
    rows = jnp.concatenate([x[:1], x[1:] - x[:1]])
    known = rows @ memory.basis.T
    rest = rows - known @ memory.basis
    again = rest @ memory.basis.T  # twice is enough for an orthogonal residual
    known, rest = known + again, rest - again @ memory.basis
    tolerance = 1e3 * jnp.finfo(x.dtype).eps * jnp.linalg.norm(x[0])
    basis: list[Array] = []
    added: list[Array] = []
    across = jnp.zeros((k, k), x.dtype)
    for i, row in enumerate(rest):
        for _ in range(2):
            for j, e in enumerate(basis):
                across = across.at[i, j].add(row @ e)
                row = row - (row @ e) * e
        length = jnp.linalg.norm(row)
        new = (length > tolerance) & (memory.used + sum(added) < n)
        added.append(new.astype(memory.used.dtype))
        basis.append(jnp.where(new, row / jnp.where(new, length, 1), 0))
        across = across.at[i, i].set(jnp.where(new, length, 0))
    fresh = jax.random.normal(key, (k, scale.size, n), x.dtype) * scale[:, None]
    fresh = fresh.reshape(k, -1) / jnp.sqrt(n).astype(x.dtype)
    y = known @ memory.images + across @ fresh
    for e, image, new in zip(
        basis, fresh, added, strict=True
    ):  # a vector that is not new is overwritten
        at = (memory.used, jnp.zeros_like(memory.used))
        memory = Memory(
            lax.dynamic_update_slice(memory.basis, e[None], at),
            lax.dynamic_update_slice(memory.images, image[None], at),
            memory.used + new,
        )
    return jnp.concatenate([y[:1], y[1:] + y[:1]]), memory


def found(units: Ensemble, k: int, key: Array) -> Network:
    """k copies of `cell.start`, a random tangent, vectors drawn once, and W unknown."""
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
    memories: list[Memory | Array] = [
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
    seen: list[tuple[int, Array, Array]] = []  # which matrix, x, x @ W
    calls = iter(range(1000))  # a key for each product

    def fresh(j: int, x: Array) -> Array:
        y = gaussian(jax.random.fold_in(noise, next(calls)), units.scales[j], x)
        seen.append((j, x, y))
        return y

    def mix(h: Array) -> Tree:
        which = iter(range(len(memories)))

        def product(j: int, x: Array) -> Array:
            i, key = next(which), jax.random.fold_in(noise, next(calls))
            memory = memories[i]
            if isinstance(memory, Memory):
                y, memories[i] = recall(memory, key, units.scales[j], x)
            else:
                y = x @ memory
            seen.append((j, x, y))
            return y

        return units.cell.mix(units.params(vectors, product), h)

    k = hidden(state).shape[0]
    params = units.params(vectors, fresh)
    x = inputs(source, R, Sigma, k, units.n)
    z = units.cell.drive(params, x)
    r = mix(hidden(state))
    q = preactivation(units, vectors, hidden(state), x, seen)
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


def grow(network: Network, more: int) -> Network:
    """Room for `more` vectors in each memory, n in all; networks may be stacked."""

    def pad(a: Array, n: int) -> Array:
        added = min(more, n + 1 - a.shape[-2])
        return jnp.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, added), (0, 0)])

    def room(m: Memory | Array) -> Memory | Array:
        if not isinstance(m, Memory):
            return m
        n = m.basis.shape[-1]
        return m._replace(basis=pad(m.basis, n), images=pad(m.images, n))

    return network._replace(memories=[room(m) for m in network.memories])


@precise
def complete(network: Network) -> Network:
    """Networks (S, ...) with W in place of each memory that has n vectors: W = basis' images."""

    def known(m: Memory | Array) -> Memory | Array:
        if not isinstance(m, Memory) or np.any(m.used < m.basis.shape[-1]):
            return m
        return jnp.swapaxes(m.basis, -1, -2) @ m.images

    return network._replace(memories=[known(m) for m in network.memories])
