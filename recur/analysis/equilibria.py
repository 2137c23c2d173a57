"""Fixed and slow points of a network under constant input.

    q(s) = |F(s) - s|^2 / 2,      F(s) = the state after one step

Sussillo and Barak 2013, Neural Computation 25:626. The network itself may run first: it
ends at an attractor. Gradient descent on q also finds saddles and slow points, and stays near its
start. Newton's method on F(s) - s = 0 then makes fixed points exact. The length of its next step
distinguishes a fixed point from a slow one, where q is small but no fixed point is near.

By the implicit function theorem, a fixed point moves with the parameters and the input as

    s = F(s; p)    =>    ds = (1 - J)^-1 (dF/dp) dp
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from recur import expect
from recur.analysis.numerics.flat_state import (
    as_inputs,
    flatten,
    integer,
    parametrised,
    precise,
)
from recur.core import Body, Numbers, Tree
from recur.tables import tabled

OUTCOMES = ("fixed", "slow", "moving", "lost")
NEAR = 1e-3  # a fixed point at this distance, by Newton's next step, is the same point


@tabled(speed="speed q", distance="distance to a fixed point", outcome=("outcome", OUTCOMES))
class Points(NamedTuple):
    """P states that one step changes little or not at all: fixed and slow points."""

    states: Tree  #: leaves (P, ...)
    speed: Numbers  #: (P,) q = |F(s) - s|^2 / 2; at a fixed point zero up to rounding
    distance: Numbers | None = None  #: (P,) Newton's next step |(1 - J)^-1 (F(s) - s)|, or NaN
    outcome: Numbers | None = None  #: (P,) index into OUTCOMES of how the search ended
    inputs: Tree | None = None  #: leaves (P, ...) if each point has its own input

    @property
    def fixed(self) -> Array:
        """Whether a fixed point is at most NEAR away, (P,); others are slow, moving or lost."""
        if self.distance is None:
            raise ValueError("these points have no distance: use points from analysis.fixed_points")
        return self.distance <= NEAR  # false for NaN


@expect.arguments(
    states=expect.arrays,
    x=expect.optional(expect.arrays),
    rate=expect.scalar,
    x_per_state=expect.one_of(False, True),
)
@precise
def fixed_points(
    body: Body,
    states: Tree,
    x: Tree,
    descent: int = 50,
    newton: int = 15,
    rate: float = 0.5,
    forward: int = 0,
    x_per_state: bool = False,
) -> Points:
    """Fixed and slow points of a network under a constant input: the ends of B searches.

    First the network runs for `forward` steps, which finds only attractors. Then comes gradient
    descent on q = |F(s) - s|^2 / 2, O(m n) per step. Newton steps follow, O(m^3) each, until all
    searches have settled, and one more O(m^3) measures the distance. A step is halved if q would
    grow. Several starts may end at the same point: see `distinct`. `describe_points` says how the
    searches ended. Sussillo and Barak 2013, Neural Computation 25:626.

    Differentiable with respect to parameters and input, in both modes and more than once, by the
    implicit function theorem. The derivative goes through the point, not through the search, so
    starts have no derivative. The derivative of a point that is not fixed is NaN, unless the loss
    leaves this point out. The derivative of the speed is taken at a constant state; distance and
    outcome have no derivative.

    Args:
        body: One step, (state, x) -> (state, h).
        states: B starts, arrays (B, ...), m numbers each.
        x: One input, (d,); None for a network without inputs.
        descent: Steps of gradient descent.
        newton: Newton steps at most.
        rate: First rate of the descent, > 0.
        forward: Steps that the network runs first.
        x_per_state: Whether x holds an input for each start, (B, d).

    Returns:
        B points, and an index into OUTCOMES that says how each search ended. "fixed" means that a
        fixed point is within NEAR; "slow" that no step makes q much smaller and no fixed point is
        that near, so it is where an eigenvalue is 1 up to rounding, as beside a line of fixed
        points; "moving" that q still halved in the second half of the Newton steps, or that there
        were none, and then the distance is NaN; "lost" that the state is not finite.

    Raises:
        ValueError: The body does not fit, or a number is out of range.
        TypeError: A number of steps is not an integer.

    Example:
        >>> def body(h, x):
        ...     h = jnp.tanh(2 * h + x)
        ...     return h, h
        >>> starts = jnp.array([[-1.0], [0.1], [1.0]])
        >>> points = jax.jit(analysis.fixed_points, static_argnums=0)(body, starts, jnp.zeros(1))
        >>> print(jnp.sort(points.states[:, 0]), points.fixed)
        [-0.958  0.     0.958] [ True  True  True]
    """
    descent, newton = integer("descent", descent), integer("newton", newton)
    forward = integer("forward", forward)
    if min(descent, newton, forward) < 0 or not rate > 0:
        raise ValueError(
            "descent, newton and forward must be numbers of steps, 0 or more, and rate must be "
            f"above 0; got descent = {descent}, newton = {newton}, forward = {forward}, rate = "
            f"{rate}"
        )
    s, first, x = flat_states(states, x, x_per_state)
    system_of(body, first, x, x_per_state)  # its errors
    build, params = parametrised(body, first, x if x_per_state else _alone(x))

    def system(params: Tree, x: Tree) -> System:
        return system_of(build(params), first, x, x_per_state)

    still = system(*lax.stop_gradient((params, x)))
    start = lax.stop_gradient(s)
    s, q, distance, outcome = _search(still, start, descent, newton, rate, forward)
    s, q = _implicit(system, params, x, s, q, outcome == 0)
    states = jax.vmap(ravel_pytree(first)[1])(s)
    return Points(states, q, distance, outcome, x if x_per_state else None)


def _search(
    system: "System", s: Array, descent: int, newton: int, rate: float, forward: int
) -> tuple[Array, Array, Array, Array]:
    """Where the starts s (B, m) end: states, speed, distance, outcome."""
    if forward:
        s, _ = lax.scan(lambda s, _: (system.after(s), None), s, None, length=forward)
    s, q = _descend(system, s, descent, rate)
    distance, settled = jnp.full_like(q, jnp.nan), jnp.zeros(q.shape, bool)
    if newton:
        s, q, distance, settled = _newton(system, s, newton)
    outcome = jnp.where(jnp.isnan(q), 3, jnp.where(distance <= NEAR, 0, jnp.where(settled, 1, 2)))
    return s, q, distance, outcome


def _implicit(
    system: Callable[[Tree, Tree], "System"],
    params: Tree,
    x: Tree,
    s: Array,
    q: Array,
    fixed: Array,
) -> tuple[Array, Array]:
    """The states and their speed, with the derivatives of the implicit function theorem."""

    @jax.custom_jvp
    def point(params: Tree, x: Tree, s: Array, q: Array, fixed: Array) -> tuple[Array, Array]:
        del params, x, fixed
        return s, q

    @point.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
        params, x, *_, fixed = primals
        s, q = point(*primals)
        F, dF = jax.jvp(lambda params, x: system(params, x).after(s), primals[:2], tangents[:2])
        A = jnp.eye(s.shape[1], dtype=s.dtype) - system(params, x).jacobians(s)
        return (s, q), (_solve_fixed(A, dF, fixed > 0), jnp.sum((F - s) * dF, axis=1))

    return point(params, x, s, q, fixed.astype(s.dtype))


def _solve_fixed(A: Array, b: Array, fixed: Array) -> Array:
    """A^-1 b for each point; NaN, if needed in the backward pass, for a point that is not fixed."""
    constant, fixed = lax.stop_gradient(A), fixed[:, None]

    def forward(_: Callable, b: Array) -> Array:
        return jnp.where(fixed, _solve(constant, b), jnp.nan)

    def backward(_: Callable, c: Array) -> Array:
        found = jnp.where(fixed, _solve(constant.mT, c), jnp.nan)
        return jnp.where(jnp.all(c == 0, axis=1, keepdims=True), 0, found)

    def times(v: Array) -> Array:
        return jnp.einsum("bij,bj->bi", A, v)

    return lax.custom_linear_solve(times, b, forward, backward)


@expect.arguments(points=expect.instance(Points), speed=expect.number(0), distance=expect.number(0))
def distinct(points: Points, speed: float = 1e-10, distance: float = 1e-3) -> Points:
    """Points with q <= `speed`, slowest first, each at least `distance` from all before it.

    If each point has its own input, points under different inputs are different points. The result
    includes slow points; `Points.fixed` says which are fixed. For use outside jit, since the number
    of points depends on the values. Warns, with `describe_points`, if no point is left.

    Args:
        points: From `fixed_points`.
        speed: The largest q.
        distance: The least Euclidean distance between two states.

    Returns:
        The points that are kept.

    Raises:
        ValueError: speed or distance is negative or not finite.
        TypeError: points is not a Points.

    Example:
        >>> states, speed = jnp.array([[0.0], [1.0], [1.0]]), jnp.array([1e-12, 0.0, 1e-14])
        >>> print(analysis.distinct(analysis.Points(states, speed)).states)
        [[1.]
         [0.]]
    """
    s = _rows(points.states)
    x = s[:, :0] if points.inputs is None else _rows(points.inputs)
    kept: list[int] = []
    for i in np.argsort(np.asarray(points.speed)):
        fast = not points.speed[i] <= speed  # or NaN
        far = np.linalg.norm(s[kept] - s[i], axis=1) >= distance
        if not fast and (far | (x[kept] != x[i]).any(axis=1)).all():
            kept.append(int(i))
    if not kept:
        warnings.warn(f"no point with q <= {speed:g}: {describe_points(points)}", stacklevel=3)
    return Points(*jax.tree.map(lambda leaf: leaf[np.array(kept, int)], tuple(points)))


@expect.arguments(points=expect.instance(Points))
def describe_points(points: Points) -> str:
    """How the searches ended, how fast the network still moves there, and what to do.

    For use outside jit.

    Args:
        points: From `fixed_points`.

    Returns:
        One line of text.

    Raises:
        TypeError: points is not a Points.

    Example:
        >>> found = jnp.zeros((2, 1)), jnp.zeros(2), jnp.zeros(2), jnp.array([0, 0])
        >>> print(analysis.describe_points(analysis.Points(*found)))
        2 starts: 2 fixed, |F(s) - s| from 0 to 0
    """
    q = np.asarray(points.speed)
    if points.outcome is None:
        return f"{q.size} points{_steps(q)}"
    outcome, parts = np.asarray(points.outcome), []
    for k, (name, advice) in enumerate(zip(OUTCOMES, ADVICE, strict=True)):
        if (outcome == k).any():
            parts.append(f"{np.sum(outcome == k)} {name}{_steps(q[outcome == k])}{advice}")
    return f"{q.size} starts: " + ("; ".join(parts) or "nothing to search from")


def _rows(tree: Tree) -> np.ndarray:
    """Arrays (P, ...) side by side, (P, m)."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([a.reshape(len(a), math.prod(a.shape[1:])) for a in leaves], axis=1)


ADVICE = (
    "",
    " (no step makes it much smaller: run the network first with forward=1000 or more, start "
    "elsewhere, or accept these as slow points with a larger `speed`)",
    " (the steps ran out: use more, such as descent=500, newton=50)",
    " (the state is not finite: start closer to states that the network visits)",
)


def _steps(q: np.ndarray) -> str:
    """The least and the greatest |F(s) - s| of the q that are known."""
    q = q[np.isfinite(q)]
    if not q.size:
        return ""
    return ", |F(s) - s| from {:.2g} to {:.2g}".format(*np.sqrt(2 * np.array([q.min(), q.max()])))


class System(NamedTuple):
    """B states side by side, (B, m)."""

    after: Callable[[Array], Array]  # F(s), (B, m)
    jacobians: Callable[[Array], Array]  # dF/ds, (B, m, m)

    def residual(self, s: Array) -> Array:
        """F(s) - s."""
        return self.after(s) - s


def system_of(body: Body, first: Tree, x: Tree, x_per_state: bool) -> System:
    """The step of flat states under their inputs; `first` is one state."""
    xs = x if x_per_state else _alone(x)
    step, _ = flatten(body, first, jax.tree.map(lambda leaf: leaf[:1], xs))
    each = partial(jax.vmap, in_axes=(0, 0 if x_per_state else None))

    def after(s: Array, x: Tree) -> Array:
        return step(s, x)[0]

    return System(lambda s: each(after)(s, x), lambda s: each(jax.jacfwd(after))(s, x))


def flat_states(states: Tree, x: Tree, x_per_state: bool) -> tuple[Array, Tree, Tree]:
    """The flat states, (B, m); one state of zeros; and the input, which is empty for None."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(states)]
    sizes = {shape[:1] for shape in shapes}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            "each array of states must hold the B starts on its first axis, (B, ...); got shapes "
            f"{shapes}"
        )
    states, x = jax.tree.map(jnp.asarray, (states, x))
    first = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), states)
    if x is None:
        x = jnp.asarray(as_inputs(first, max(sizes)[0] if x_per_state else 1))
        return flat_states(states, x if x_per_state else x[0], x_per_state)
    if x_per_state and {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(x)} != sizes:
        raise ValueError(
            f"with x_per_state, x must hold one input for each of the {sizes.pop()[0]} states on "
            f"its first axis, (B, d); got {expect.told(x)}"
        )
    return jax.vmap(lambda state: ravel_pytree(state)[0])(states), first, x


def _alone(x: Tree) -> Tree:
    """One input as a sequence of one step."""
    return jax.tree.map(lambda leaf: leaf[None], x)


def _speed(F: Array) -> Array:
    """q (B,) of residuals (B, m)."""
    return jnp.sum(F**2, axis=1) / 2


def _descend(system: System, s: Array, steps: int, rate: float) -> tuple[Array, Array]:
    """Gradient descent on q, each start at its own rate."""

    def one(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple, None]:
        s, q, rate = carry
        F, pull = jax.vjp(system.residual, s)
        return _accept(system, s, q, rate, -pull(F)[0], grow=1.1), None

    rates = jnp.full(s.shape[0], rate, s.dtype)
    start = (s, _speed(system.residual(s)), rates)
    s, q, _ = lax.scan(one, start, None, length=steps)[0]
    return s, q


def _newton(system: System, s: Array, steps: int) -> tuple[Array, Array, Array, Array]:
    """Damped Newton steps until q is only rounding, or no step helps: s, q, distance, settled.

    Each state moves until it has settled. The last round moves no state, and measures all of them.
    """
    rounding = s.shape[1] * jnp.finfo(s.dtype).eps ** 2

    def searching(q: Array, rate: Array) -> Array:
        return (q > rounding) & (rate > 1e-2)

    def unfinished(carry: tuple) -> Array:
        (_, q, rate), _, _, moved, count = carry
        return (count < steps) & jnp.any(searching(q, rate)) | moved

    def one(carry: tuple) -> tuple:
        (s, q, rate), _, middle, _, count = carry
        F, J = system.residual(s), system.jacobians(s)
        move = _solve(J - jnp.eye(s.shape[1], dtype=s.dtype), -F)
        still = jnp.all(F == 0, axis=1)  # also where J is singular
        distance = jnp.where(still, 0, jnp.linalg.norm(move, axis=1))
        active = searching(q, rate) & (count < steps)
        to, new, faster = _accept(system, s, q, rate, move, grow=2)
        after = (
            jnp.where(active[:, None], to, s),
            jnp.where(active, new, q),
            jnp.where(active, jnp.minimum(faster, 1), rate),
        )
        middle = jnp.where(count < (steps + 1) // 2, q, middle)
        return after, distance, middle, jnp.any(active), count + 1

    q = _speed(system.residual(s))
    carry = (s, q, jnp.ones_like(q)), q, q, jnp.ones((), bool), jnp.zeros((), jnp.int32)
    (s, q, rate), distance, middle, _, _ = lax.while_loop(unfinished, one, carry)
    return s, q, distance, ~searching(q, rate) | (2 * q > middle)


def _accept(
    system: System, s: Array, q: Array, rate: Array, move: Array, grow: float
) -> tuple[Array, Array, Array]:
    """Take the steps that lower q; the others try half as far the next time."""
    to = s + rate[:, None] * move
    new = _speed(system.residual(to))
    better = new < q  # false for NaN, as after a singular Jacobian
    s, q = jnp.where(better[:, None], to, s), jnp.where(better, new, q)
    return s, q, jnp.where(better, grow * rate, rate / 2)


def _solve(J: Array, b: Array) -> Array:
    """J^-1 b for each start; on a CPU one after the other, for the reason given in `qr.py`."""

    def solve(J: Array, b: Array) -> Array:
        return jnp.linalg.solve(J, b[..., None])[..., 0]

    one_by_one = partial(lax.map, lambda Jb: solve(*Jb))
    return lax.platform_dependent(J, b, cpu=lambda J, b: one_by_one((J, b)), default=solve)
