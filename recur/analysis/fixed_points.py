"""Fixed and slow points of a network whose input stands still.

    q(s) = |F(s) - s|^2 / 2,      F(s) = the state after one step

Sussillo and Barak 2013, Neural Computation 25:626. Gradient descent on q comes first: it finds slow
points too and stays near its start. Newton's method on F(s) - s = 0 then makes fixed points exact.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from recur.analysis.flat import Step, finite_or_nan, flatten, integer, precise
from recur.core import Body, Tree


class Points(NamedTuple):
    """P states at which the network (almost) stands still."""

    states: Tree  # leaves (P, ...)
    speed: Array  # (P,) q = |F(s) - s|^2 / 2; at a fixed point zero up to rounding


class Stability(NamedTuple):
    """The Jacobian dF/ds at P points, states of size m."""

    eigenvalues: Array  # (P, m) complex, descending in modulus
    stable: Array  # (P,) whether all lie inside the unit circle
    timescales: Array  # (P, m) steps in which a mode changes by a factor e: 1/|log|eigenvalue||


@precise
def fixed_points(
    body: Body, states: Tree, x: Tree, descent: int = 50, newton: int = 15, rate: float = 0.5
) -> Points:
    """Where B starts end that seek a standstill under a constant input.

    `states` holds the B starts on a leading axis and x is one input, (d,). First `descent` steps of
    gradient descent on q, O(m n) each, from the given rate, which halves where q would grow; then
    at most `newton` Newton steps, O(m^3) each, halved likewise; they end when all have settled.
    Starts that meet give the same point again: see `distinct`. The speed tells fixed from slow.
    Raises ValueError where the body does not fit or a number is out of range, TypeError for numbers
    of steps that are no integers.
    """
    step, s, unravel = _batch(body, states, x)
    descent, newton = integer("descent", descent), integer("newton", newton)
    if min(descent, newton) < 0 or not rate > 0:
        raise ValueError(
            "descent and newton are numbers of steps, 0 or more, and rate > 0; got "
            f"descent = {descent}, newton = {newton}, rate = {rate}"
        )

    def residual(s: Array) -> Array:
        return step(s, x)[0] - s

    s, _ = _descend(residual, s, descent, rate)
    s, q = _newton(residual, s, newton)
    return Points(jax.vmap(unravel)(s), q)


def distinct(points: Points, speed: float = 1e-10, distance: float = 1e-3) -> Points:
    """Points no faster than `speed`, slowest first, each `distance` or more from all before it.

    For use outside jit: how many there are depends on the numbers.
    """
    s = np.concatenate(
        [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(points.states)], axis=1
    )
    kept: list[int] = []
    for i in np.argsort(np.asarray(points.speed)):
        fast = not points.speed[i] <= speed  # or NaN
        if not fast and (np.linalg.norm(s[kept] - s[i], axis=1) >= distance).all():
            kept.append(int(i))
    return Points(*jax.tree.map(lambda leaf: leaf[np.array(kept, int)], tuple(points)))


@precise
def stability(body: Body, states: Tree, x: Tree) -> Stability:
    """Eigenvalues, stability and time scales at P states (leaves (P, ...)), input x (d,) held.

    An eigenvalue on the unit circle has time scale inf. Where arrays do not live on a CPU, JAX's
    own limits on non-symmetric eigenvalues apply. Raises ValueError where the body does not fit.
    """
    step, s, _ = _batch(body, states, x)
    J = jax.vmap(jax.jacfwd(lambda s: step(s, x)[0]))(s)
    found = lax.map(lambda J: finite_or_nan(jnp.linalg.eigvals(J), J), J)
    order = jnp.argsort(-jnp.abs(found), axis=1)
    found = jnp.take_along_axis(found, order, axis=1)
    modulus = jnp.abs(found)
    return Stability(found, modulus[:, 0] < 1, 1 / jnp.abs(jnp.log(modulus)))


def _batch(body: Body, states: Tree, x: Tree) -> tuple[Step, Array, Callable[[Array], Tree]]:
    """The flat step, the flat starts (B, m) and the way back to one state."""
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(states)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            "states holds B starts on the leading axis of each of its arrays (B, ...); got shapes "
            f"{[jnp.shape(leaf) for leaf in jax.tree.leaves(states)]}"
        )
    first = jax.tree.map(lambda leaf: leaf[0], states)
    step, _ = flatten(body, first, jax.tree.map(lambda leaf: leaf[None], x))
    s = jax.vmap(lambda state: ravel_pytree(state)[0])(states)
    return step, s, ravel_pytree(first)[1]


def _speed(F: Array) -> Array:
    """q (B,) of residuals (B, m)."""
    return jnp.sum(F**2, axis=1) / 2


def _descend(
    residual: Callable[[Array], Array], s: Array, steps: int, rate: float
) -> tuple[Array, Array]:
    """Gradient descent on q, each start at its own rate."""

    def one(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple, None]:
        s, q, rate = carry
        F, pull = jax.vjp(jax.vmap(residual), s)
        return _accept(residual, s, q, rate, -pull(F)[0], grow=1.1), None

    rates = jnp.full(s.shape[0], rate, s.dtype)
    start = (s, _speed(jax.vmap(residual)(s)), rates)
    s, q, _ = lax.scan(one, start, None, length=steps)[0]
    return s, q


def _newton(residual: Callable[[Array], Array], s: Array, steps: int) -> tuple[Array, Array]:
    """Damped Newton steps until q is rounding, or nothing helps, for every start."""
    rounding = s.shape[1] * jnp.finfo(s.dtype).eps ** 2

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, q, rate, count = carry
        return (count < steps) & jnp.any((q > rounding) & (rate > 1e-2))

    def one(carry: tuple[Array, Array, Array, Array]) -> tuple:
        s, q, rate, count = carry
        F, J = jax.vmap(residual)(s), jax.vmap(jax.jacfwd(residual))(s)
        s, q, rate = _accept(residual, s, q, rate, _solve(J, -F), grow=2)
        return s, q, jnp.minimum(rate, 1), count + 1

    q = _speed(jax.vmap(residual)(s))
    carry = (s, q, jnp.ones_like(q), jnp.zeros((), jnp.int32))
    s, q, _, _ = lax.while_loop(unfinished, one, carry)
    return s, q


def _accept(
    residual: Callable[[Array], Array], s: Array, q: Array, rate: Array, move: Array, grow: float
) -> tuple[Array, Array, Array]:
    """Take the steps that lower q; the others try half as far the next time."""
    to = s + rate[:, None] * move
    new = _speed(jax.vmap(residual)(to))
    better = new < q  # false for NaN, as after a singular Jacobian
    s, q = jnp.where(better[:, None], to, s), jnp.where(better, new, q)
    return s, q, jnp.where(better, grow * rate, rate / 2)


def _solve(J: Array, b: Array) -> Array:
    """J^-1 b for each start; on a CPU one after the other, for the reason told in `qr.py`."""

    def solve(J: Array, b: Array) -> Array:
        return jnp.linalg.solve(J, b[..., None])[..., 0]

    one_by_one = partial(lax.map, lambda Jb: solve(*Jb))
    return lax.platform_dependent(J, b, cpu=lambda J, b: one_by_one((J, b)), default=solve)
