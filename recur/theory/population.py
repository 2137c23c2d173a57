"""One step of a population of units of infinite width: two copies, fresh matrices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from recur.core import Tree, hidden
from recur.theory.closed import safe_sqrt
from recur.theory.ensemble import Ensemble


def gaussian(key: Array, scale: Array, x: Array) -> Array:
    """x @ W for x (k, n), k = 1 or 2, and a fresh W of the given scale (g,): (k, g*n).

    The second row is the first plus the product of their difference, so equal rows stay equal.
    """
    k, n = x.shape
    noise = jax.random.normal(key, (k, scale.size, n), x.dtype)
    length = safe_sqrt(jnp.mean(x[0] ** 2))
    rows = [length * noise[0]]
    if k == 2:
        difference = x[1] - x[0]
        rounding = 1e3 * jnp.finfo(x.dtype).eps * length  # which chaos would amplify
        difference = jnp.where(jnp.mean(difference**2) > rounding**2, difference, 0)
        along = jnp.mean(x[0] * difference) / jnp.where(length > 0, length, 1)
        across = safe_sqrt(jnp.mean(difference**2) - along**2)
        rows.append(rows[0] + along * noise[0] + across * noise[1])
    return (scale[:, None] * jnp.stack(rows)).reshape(k, -1)


def inputs(key: Array, R: Array, Sigma: Array, k: int, n: int) -> Array:
    """k inputs x ~ N(0, R) of n entries and cosine Sigma, (k, n); equal where Sigma = 1."""
    first, other = jnp.sqrt(R) * jax.random.normal(key, (2, n), R.dtype)
    second = Sigma * first + safe_sqrt(1 - Sigma**2) * other
    return jnp.stack([first, second][:k])


def start(units: Ensemble, key: Array) -> Tree:
    """Two copies of the state before the first input."""
    params = units.params(units.vectors(key), lambda j, x: gaussian(key, units.scales[j], x))
    return units.cell.start(params, (2,))


def stuck(state: Tree, Sigma: ArrayLike) -> Array:
    """Whether all units are at 0, or the copies (..., k, n) are equal but their inputs are not.

    Only a perturbation can move a population away from there, even if it is unstable.
    """
    h = hidden(state)
    return jnp.all(h == 0) | (Sigma != 1) & jnp.all(h[..., 0, :] == h[..., -1, :])


def nudge(state: Tree, Sigma: Array, key: Array) -> Tree:
    """The state (k, n) moved by 1 % of its size, or by .01 from 0, with the inputs' cosine."""
    k, n = hidden(state).shape
    leaves, structure = jax.tree.flatten(state)

    def moved(a: Array, key: Array) -> Array:
        square = jnp.mean(a**2)
        return a + inputs(key, 1e-4 * jnp.where(square > 0, square, 1), Sigma, k, n)

    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [moved(*pair) for pair in zip(leaves, keys, strict=True)])


def move(
    units: Ensemble, R: Array, Sigma: Array, state: Tree, key: Array
) -> tuple[Tree, Callable, list[tuple[int, Array]], Array]:
    """One step: the new state; the step given its products in mix; these; q12 and q of e."""
    draw, source, noise = jax.random.split(key, 3)
    vectors = units.vectors(draw)
    seen: list[tuple[int, Array, Array]] = []  # which matrix, x, x @ W

    def fresh(j: int, x: Array) -> Array:
        y = gaussian(jax.random.fold_in(noise, len(seen)), units.scales[j], x)
        seen.append((j, x, y))
        return y

    params = units.params(vectors, fresh)
    x = inputs(source, R, Sigma, 2, units.n)
    z = units.cell.drive(params, x)
    driven = len(seen)
    units.cell.mix(params, hidden(state))
    products = [(j, y) for j, _, y in seen[driven:]]

    def unit_by_unit(state: Tree, ys: list[Array]) -> tuple[Tree, list[Array]]:
        """The new state, and the x of each product, for given products ys."""
        left, xs = iter(ys), []

        def replay(j: int, x: Array) -> Array:
            del j
            xs.append(x)
            return next(left)

        params = units.params(vectors, replay)
        r = units.cell.mix(params, hidden(state))
        return units.cell.update(params, state, r, z), xs

    q = preactivation(units, vectors, hidden(state), x, seen)
    return unit_by_unit(state, [y for _, y in products])[0], unit_by_unit, products, q


def preactivation(
    units: Ensemble, vectors: list, h: Array, x: Array, seen: list[tuple[int, Array, Array]]
) -> Array:
    """q and q12 of the pre-activations W h + V x + b about their mean, (2, G).

    `seen` has the products (j, x, x @ W_j) of drive, then of mix. Those that count in a
    pre-activation add the variance that x gives them. The rest of h (k, n) and x (k, d) adds its
    variance over the units.
    """
    roles = units.roles
    own, apart = _variances(_left(units, vectors, h, x, [y for _, _, y in seen]))
    total = jnp.zeros((2, own.size), units.dtype)
    for (j, x, _), power in zip(seen, roles.powers, strict=True):
        variance = jnp.sum(jnp.asarray(power, units.dtype) * units.scales[j] ** 2, axis=1)
        total = total + variance * jnp.stack(overlaps(x))[:, None]
    return total + jnp.stack([own, own - apart])


def _left(units: Ensemble, vectors: list, h: Array, x: Array, ys: list[Array]) -> Array:
    """The pre-activations (k, G, n) without the products that count in them."""
    roles = units.roles
    ys = [
        jnp.where(np.repeat(counted, units.n), 0, y)
        for counted, y in zip(roles.counted, ys, strict=True)
    ]

    def one(h: Array, x: Array, ys: list[Array]) -> Array:
        left = iter(ys)
        params = units.params(vectors, lambda *_: next(left))
        z = units.cell.drive(params, x)
        leaves = jax.tree.leaves((units.cell.mix(params, h), z))
        sums = [jnp.zeros(units.n, units.dtype)] * len(roles.parts[0])
        for leaf, coefficients in zip(leaves, roles.parts, strict=True):
            for g, part in np.argwhere(coefficients):
                sums[g] += coefficients[g, part].item() * leaf.reshape(-1, units.n)[part]
        return jnp.stack(sums) if sums else jnp.zeros((0, units.n), units.dtype)

    return jax.vmap(one)(h, x, ys)


def _variances(e: Array) -> tuple[Array, Array]:
    """Over units, the variance of e (k, G, n), and half that of the difference of the copies."""
    e = e - e.mean(-1, keepdims=True)
    return jnp.mean(e**2, axis=(0, 2)), jnp.mean((e[0] - e[-1]) ** 2, axis=1) / 2


def overlaps(h: Array) -> tuple[Array, Array]:
    """E[h^2], over both copies, and E[h_1 h_2]."""
    return jnp.mean(h**2), jnp.mean(h[0] * h[-1])
