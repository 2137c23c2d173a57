"""The Jacobian dF/ds at a fixed point: is the point stable, and along which modes?

    J r_i = lambda_i r_i,    l_i J = lambda_i l_i,    l_i . r_j = 1 if i = j else 0

A deviation ds from the point is the sum over modes of (l_i . ds) r_i, and t steps later each of
them has been multiplied by lambda_i^t.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from recur import expect
from recur.analysis.equilibria import flat_states, system_of
from recur.analysis.numerics.flat_state import finite_or_nan, precise
from recur.core import Body, Numbers, Tree
from recur.eigenvalues import eigenvalues, eigenvectors
from recur.tables import tabled


@tabled(eigenvalues="eigenvalues", stable="stable", timescales="timescales")
class Stability(NamedTuple):
    """The Jacobian dF/ds at P points, states of size m."""

    eigenvalues: Numbers  #: (P, m) complex; descending in modulus, or slowest first by `modes`
    stable: Numbers  #: (P,) whether all lie inside the unit circle
    timescales: Numbers  #: (P, m) time in which a mode changes e-fold, dt / |log|eigenvalue||
    right: Numbers | None = None  #: (P, m, m) r_i of length 1 in row i; None where not computed
    left: Numbers | None = None  #: (P, m, m) l_i in row i; NaN where it is lost to rounding


@expect.arguments(
    states=expect.arrays,
    x=expect.optional(expect.arrays),
    dt=expect.scalar,
    x_per_state=expect.one_of(False, True),
)
@precise
def stability(
    body: Body, states: Tree, x: Tree, dt: ArrayLike = 1.0, x_per_state: bool = False
) -> Stability:
    """Is a fixed point stable, and how fast do deviations from it change?

    Differentiable. On a TPU the host finds the eigenvalues, so there the program cannot be
    exported.

    Args:
        body: One step, (state, x) -> (state, h).
        states: P states, arrays (P, ...), m numbers each.
        x: The input that is held, (d,); None for a network without input.
        dt: The length of a step, > 0: timescales are in its units, or in steps where it is 1.
        x_per_state: Whether x holds an input for each state, (P, d).

    Returns:
        Eigenvalues of dF/ds by descending modulus, whether each point is stable, and timescales;
        an eigenvalue on the unit circle has timescale inf.

    Raises:
        ValueError: The body does not fit, or dt is not positive.
        TypeError: The states or x are not arrays, or dt is not a number.

    Example:
        >>> def body(h, x):
        ...     h = jnp.tanh(2 * h + x)
        ...     return h, h
        >>> points = jnp.array([[0.0], [0.9575]])
        >>> found = jax.jit(analysis.stability, static_argnums=0)(body, points, jnp.zeros(1))
        >>> print(found.eigenvalues.real, found.stable)
        [[2.   ]
         [0.166]] [False  True]
    """
    _require_length(dt)
    found = lax.map(
        lambda J: finite_or_nan(eigenvalues(J), J), _jacobians(body, states, x, x_per_state)
    )
    order = jnp.argsort(-jnp.abs(found), axis=1)
    return _described(jnp.take_along_axis(found, order, axis=1), dt)


@expect.arguments(
    states=expect.arrays,
    x=expect.optional(expect.arrays),
    dt=expect.scalar,
    x_per_state=expect.one_of(False, True),
)
@precise
def modes(
    body: Body, states: Tree, x: Tree, dt: ArrayLike = 1.0, x_per_state: bool = False
) -> Stability:
    """`stability` with right and left eigenvectors, the slowest mode first, growing or fading.

        J r_i = lambda_i r_i,    l_i J = lambda_i l_i,    l_i . r_j = 1 if i = j else 0

    Not differentiable; the eigenvalues of `stability` are.

    Args:
        body: One step, (state, x) -> (state, h).
        states: P states, arrays (P, ...), m numbers each.
        x: The input that is held, (d,); None for a network without input.
        dt: The length of a step, > 0: timescales are in its units, or in steps where it is 1.
        x_per_state: Whether x holds an input for each state, (P, d).

    Returns:
        Also `right` and `left`, (P, m, m), vectors in rows over the flat state, which is the leaves
        of a state one after the other. Each right vector has length 1 and its largest component
        real and positive. A left vector is NaN where it is not known: where modes coincide, so that
        one rounding of J moves the eigenvalue by 1 % of |J| or more.

    Raises:
        ValueError: The body does not fit, or dt is not positive.
        TypeError: The states or x are not arrays, or dt is not a number.

    Example:
        >>> def body(h, x):
        ...     h = jnp.array([0.5, 0.9]) * h + x
        ...     return h, h
        >>> found = jax.jit(analysis.modes, static_argnums=0)(body, jnp.zeros((1, 2)), jnp.zeros(2))
        >>> print(found.timescales[0], found.right[0, 0].real)  # -1 / log(.9), -1 / log(.5)
        [9.491 1.443] [0. 1.]
    """
    _require_length(dt)

    def one(J: Array) -> tuple[Array, Array, Array]:
        values, vectors = eigenvectors(J)
        order = jnp.argsort(-_timescales(values, 1.0))
        values, right = values[order], vectors.T[order]
        size = jnp.abs(right)
        top = jnp.take_along_axis(right, size.argmax(axis=1, keepdims=True), axis=1)
        right = right / jnp.sign(top)  # its phase
        left = jnp.linalg.inv(right).T
        swamped = ~(jnp.linalg.norm(left, axis=1) * jnp.finfo(J.dtype).eps < 0.01)
        left = jnp.where(swamped[:, None], jnp.nan, left)
        return finite_or_nan(values, J), finite_or_nan(right, J), finite_or_nan(left, J)

    values, right, left = lax.map(one, _jacobians(body, states, x, x_per_state))
    return _described(values, dt)._replace(right=right, left=left)


def _jacobians(body: Body, states: Tree, x: Tree, x_per_state: bool) -> Array:
    """dF/ds at every state, (P, m, m)."""
    s, first, x = flat_states(states, x, x_per_state)
    return system_of(body, first, x, x_per_state).jacobians(s)


def _described(eigenvalues: Array, dt: ArrayLike) -> Stability:
    stable = jnp.all(jnp.abs(eigenvalues) < 1, axis=1)
    return Stability(eigenvalues, stable, _timescales(eigenvalues, dt))


def _require_length(dt: ArrayLike) -> None:
    """Raise ValueError unless dt is positive. A traced dt is not checked."""
    if not isinstance(dt, jax.core.Tracer) and not 0 < np.asarray(dt) < np.inf:
        raise ValueError(f"dt must be the length of a step, a positive number of seconds; got {dt}")


def _timescales(eigenvalues: Array, dt: ArrayLike) -> Array:
    modulus = jnp.abs(eigenvalues)
    return jnp.asarray(dt, modulus.dtype) / jnp.abs(jnp.log(modulus))
