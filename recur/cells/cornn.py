"""Coupled oscillators: damped springs that pull at each other through a nonlinearity.

    y'' = tanh(W y + U y' + V x + b) - gamma y - epsilon y'
    v <- v + dt * (tanh(W y + U v + V x + b) - gamma * y - epsilon * v)
    y <- y + dt * v                        with the new v

The state enters two products, so this is a `Cell`. `oscillators(dt, gamma, epsilon)` replaces the
default constants (0.1, 1, 1): the paper tunes all three to each task.
Rusch and Mishra 2021, arXiv:2010.00951, equations 1 and 3 (the damping taken at the old v).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from recur import expect
from recur.core import Cell, Prior
from recur.functions import Given

GATES = ("force",)


class Params(NamedTuple):
    """W (n, n) of the positions, V (d, n), b (n,); U (n, n) of the velocities."""

    W: Array
    V: Array
    b: Array
    U: Array


class State(NamedTuple):
    """The positions h (..., n), y in the equations, and the velocities v (..., n)."""

    h: Array
    v: Array


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior, U as W is."""
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
    """The velocities by the force at the old state, the positions by the new velocities."""
    y, v = state
    force = jnp.tanh(y @ params.W + v @ params.U + x @ params.V + params.b)
    v = v + dt * (force - gamma * y - epsilon * v)
    y = y + dt * v
    return State(y, v), y


@expect.arguments(dt=expect.scalar, gamma=expect.scalar, epsilon=expect.scalar)
def oscillators(dt: float, gamma: float, epsilon: float) -> Cell:
    """The cell with time step dt, stiffness gamma and damping epsilon.

    Without the force, which is bounded, a step (y, v) -> (y, v) has the determinant 1 - dt epsilon
    and the trace 2 - dt epsilon - dt^2 gamma. Both its eigenvalues are within the unit circle, and
    states bounded, if and only if dt^2 gamma + 2 dt epsilon < 4. Raises ValueError unless that
    holds and all three are positive.
    """
    if not (dt > 0 and gamma > 0 and epsilon > 0):
        raise ValueError(
            "coupled oscillators need dt > 0, gamma > 0 and epsilon > 0, got "
            f"dt={dt}, gamma={gamma}, epsilon={epsilon}"
        )
    if not dt**2 * gamma + 2 * dt * epsilon < 4:
        raise ValueError(
            f"oscillators with dt={dt}, gamma={gamma}, epsilon={epsilon} diverge: a step is stable "
            "only if dt^2 gamma + 2 dt epsilon < 4, and that is "
            f"{dt**2 * gamma + 2 * dt * epsilon:.4g}. Take a smaller dt"
        )
    return Cell(init, start, Given(step, float(dt), float(gamma), float(epsilon)), Params)


cell = oscillators(0.1, 1.0, 1.0)
