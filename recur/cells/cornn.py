"""Coupled oscillators (coRNN): damped springs that interact through a nonlinearity.

    y'' = tanh(W y + U y' + V x + b) - gamma y - epsilon y'
    v <- v + dt * (tanh(W y + U v + V x + b) - gamma * y - epsilon * v)
    y <- y + dt * v                        with the new v

Positions and velocities each enter a product, so this is a `Cell` and not a `Unitwise`. `cell` has
dt = 0.1 and gamma = epsilon = 1. The paper tunes all three for each task: see `oscillators`.
Rusch and Mishra 2021, arXiv:2010.00951, equations 1 and 3 (the damping taken at the old v).

Example:
    >>> zeros = jnp.zeros((1, 1))
    >>> params = cells.cornn.Params(W=zeros, V=jnp.eye(1), b=zeros[0], U=zeros)
    >>> cell = cells.cornn.cell
    >>> state, y = cell.step(params, cell.start(params), jnp.ones(1))
    >>> print(state.v, y)  # dt tanh(1), dt^2 tanh(1)
    [0.076] [0.008]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from recur import expect
from recur.core import Cell, Prior
from recur.functions import Given
from recur.tables import tabled

__all__ = ["cell", "oscillators", "Params", "State", "GATES"]

GATES = ("force",)


@tabled()
class Params(NamedTuple):
    """Parameters of the force."""

    W: Array  #: (n, n), acts on the positions
    V: Array  #: (d, n)
    b: Array  #: (n,)
    U: Array  #: (n, n), acts on the velocities, drawn like W


@tabled()
class State(NamedTuple):
    """Positions and velocities."""

    h: Array  #: (..., n), the positions, y in the equations
    v: Array  #: (..., n), the velocities


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior, U like W."""
    positions, velocities = jax.random.split(key)
    U, _, _ = prior.draw(velocities, d, n)
    return Params(*prior.draw(positions, d, n), U)


def start(params: Params, batch: tuple[int, ...] = ()) -> State:
    """The zero state, positions and velocities (*batch, n)."""
    zeros = jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)
    return State(zeros, zeros)


def step(
    dt: float, gamma: float, epsilon: float, params: Params, state: State, x: Array
) -> tuple[State, Array]:
    """First v, by the force at the old state, then y, by the new v."""
    y, v = state
    force = jnp.tanh(y @ params.W + v @ params.U + x @ params.V + params.b)
    v = v + dt * (force - gamma * y - epsilon * v)
    y = y + dt * v
    return State(y, v), y


@expect.arguments(dt=expect.scalar, gamma=expect.scalar, epsilon=expect.scalar)
def oscillators(dt: float, gamma: float, epsilon: float) -> Cell:
    """The cell with a given time step, stiffness and damping.

    Without the force, which is bounded, a step (y, v) -> (y, v) has the determinant 1 - dt epsilon
    and the trace 2 - dt epsilon - dt^2 gamma. Both eigenvalues lie within the unit circle, and
    states are bounded, if and only if dt^2 gamma + 2 dt epsilon < 4.

    Args:
        dt: The time step, > 0, in a unit of time of your choice.
        gamma: The stiffness, > 0, per squared unit of time.
        epsilon: The damping, > 0, per unit of time.

    Returns:
        The cell. Its parameters are `Params` and its states `State`.

    Raises:
        ValueError: A constant is not positive, or the step is not stable.
        TypeError: A constant is not a number.

    Example:
        >>> print(cells.cornn.oscillators(dt=0.1, gamma=1.0, epsilon=1.0))
        cornn.cell
        >>> cells.cornn.oscillators(dt=2.0, gamma=1.0, epsilon=1.0)
        Traceback (most recent call last):
            ...
        ValueError: the oscillators diverge for dt=2.0, gamma=1.0, epsilon=1.0: ...
    """
    if not (dt > 0 and gamma > 0 and epsilon > 0):
        raise ValueError(
            "coupled oscillators need dt > 0, gamma > 0 and epsilon > 0; got "
            f"dt={dt}, gamma={gamma}, epsilon={epsilon}"
        )
    if not dt**2 * gamma + 2 * dt * epsilon < 4:
        raise ValueError(
            f"the oscillators diverge for dt={dt}, gamma={gamma}, epsilon={epsilon}: a step is "
            "stable only if dt^2 gamma + 2 dt epsilon < 4, and here that sum is "
            f"{dt**2 * gamma + 2 * dt * epsilon:.4g}. Take a smaller dt"
        )
    return Cell(init, start, Given(step, float(dt), float(gamma), float(epsilon)), Params)


cell = oscillators(0.1, 1.0, 1.0)  #: With dt = 0.1, gamma = epsilon = 1.
