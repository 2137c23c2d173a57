"""A penalty on gradients that vanish or explode on their way back through time.

    Omega = mean over k of (|dE/dh_{k+1} dh_{k+1}/dh_k| / |dE/dh_{k+1}| - 1)^2

Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, equations 9 and 10. They write the sum over k;
the alpha = 4 of their experiments goes with the mean, which their code takes.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect, scan
from recur.core import Recurrence, Tree, Unitwise, hidden, recurrence
from recur.scan.sharding import alike, shared


@expect.arguments(loss=expect.function, cell=recurrence, params=expect.tree, state=expect.tree)
def omega(
    loss: Callable[[Array], Array], cell: Recurrence, params: Tree, xs: Tree, state: Tree = None
) -> Array:
    """How far each step back is from keeping the length of the gradient: a term of a loss.

        Omega = mean over k of (|dE/dh_{k+1} dh_{k+1}/dh_k| / |dE/dh_{k+1}| - 1)^2

    The mean is over the T steps, including k = 0, and over the batch, where dE/dh_{k+1} is not
    exactly zero. Only the direction of dE/dh_{k+1} enters, so it may be very small. If a cell has
    more than h in its state, h is the whole state. As in the paper, the derivative goes only
    through the immediate W: states and gradients are constants, and so are the slopes of the units
    of a `Unitwise` cell. A plain `Cell` does not say where its W is, so there every parameter of
    the step counts.
    Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, equations 9 and 10.

    Args:
        loss: hs (T, ..., n) of `scan.run` -> the error E.
        cell: A recurrence whose output is the h of its state.
        params: Its parameters.
        xs: Inputs (T, ..., d).
        state: The state before the first step; `cell.start` if None.

    Returns:
        Omega, (); NaN where states or gradients are not finite.

    Raises:
        ValueError: The output of the cell is not the h of its state, the loss is not one number, or
            as in `scan.run`.
        TypeError: The loss is not a function, or params or state hold no arrays.

    Example:
        >>> params = cells.vanilla.Params(W=2 * jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> @jax.jit
        ... def penalty(params, xs):
        ...     return train.omega(lambda hs: hs[-1].sum(), cells.vanilla.relu, params, xs)
        >>> print(penalty(params, jnp.ones((5, 1))))  # every step back doubles: (2 - 1)^2
        1.0
    """
    scan.require_float(xs)
    scan.tied(cell, params)  # its errors
    fixed, xs, state = lax.stop_gradient((params, xs, state))
    fixed, state, now = alike(cell.start, fixed, state, (xs,))
    scan.check(scan.tied(cell, fixed), state, now[0])
    _, (before, hs) = shared(partial(_trajectory, cell), fixed, state, now)
    shape = jax.eval_shape(loss, hs).shape
    if shape != ():
        raise ValueError(f"loss must map all outputs to one number, (); it returned {shape}")
    direct = jax.vmap(_at_hidden)(before, jax.grad(loss)(hs))
    now = lax.stop_gradient((*now, before, direct))
    _, (terms, known) = shared(partial(_terms, cell), params, (), now)
    mean = jnp.where(known, terms, 0).sum() / jnp.maximum(known.sum(), 1).astype(terms.dtype)
    # relu has slope 0 at NaN: an overflow must not look like a gradient of zero
    return jnp.where(scan.first_nonfinite((before, hs, direct)) < 0, mean, jnp.nan)


def _trajectory(
    cell: Recurrence, params: Tree, state: Tree, now: tuple[Tree]
) -> tuple[Tree, tuple[Tree, Array]]:
    """The last state; the states before each step, and the outputs after it."""

    def step(state: Tree, x: Tree) -> tuple[Tree, tuple[Tree, Array]]:
        after, h = cell.step(params, state, x)
        if h is not hidden(after):
            raise ValueError(
                "omega follows the gradient from state to state, so the output of the cell must be "
                "the h of its state; apply what comes after it (skips, readouts) in the loss"
            )
        return after, (state, h)

    return lax.scan(step, state, now[0])


def _terms(
    cell: Recurrence, params: Tree, state: tuple[()], now: tuple[Tree, Tree, Tree]
) -> tuple[tuple[()], tuple[Array, Array]]:
    """The term of each step, (T, ..., 1), and whether it is known: the gradient is not zero."""
    xs, before, direct = now
    deltas = lax.stop_gradient(_directions(cell, lax.stop_gradient(params), before, xs, direct))
    terms = (_norm(_pull(cell, params, before, xs, deltas)) - 1) ** 2
    return state, (terms, _norm(deltas) != 0)


def _directions(cell: Recurrence, params: Tree, before: Tree, xs: Tree, direct: Tree) -> Tree:
    """dE/dh_{k+1} for every k, of length 1 or 0: backpropagation, renormalised at each step.

    The gradient that reaches h_{k+1} through later steps is exp(scale) v, one scale per example.
    """

    def back(carry: tuple[Tree, Array], now: tuple) -> tuple[tuple[Tree, Array], Tree]:
        v, scale = carry
        state, x, g = now
        log_g, g = _unit(g)
        top = jnp.maximum(scale, log_g)
        top = jnp.where(jnp.isfinite(top), top, 0)
        weights = jnp.exp(scale - top), jnp.exp(log_g - top)
        log, delta = _unit(jax.tree.map(lambda v, g: weights[0] * v + weights[1] * g, v, g))
        return (_pull(cell, params, state, x, delta), top + log), delta

    nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), before)
    start = (nothing, jnp.full_like(_norm(nothing), -jnp.inf))
    return lax.scan(back, start, (before, xs, direct), reverse=True)[1]


def _pull(cell: Recurrence, params: Tree, state: Tree, x: Tree, delta: Tree) -> Tree:
    """delta dh_{k+1}/dh_k, in which only the immediate W of `params` is differentiated.

    For a Unitwise cell, with the slopes A = d update / d state and B = d update / d r held
    constant, it is A delta + mix^T(B delta).
    """
    if not isinstance(cell, Unitwise):
        return jax.vjp(lambda state: cell.step(params, state, x)[0], state)[1](delta)[0]
    fixed = lax.stop_gradient(params)
    r, z = cell.mix(fixed, hidden(state)), cell.drive(fixed, x)
    slopes = jax.vjp(lambda state, r: cell.update(fixed, state, r, z), state, r)[1]
    alone, dr = slopes(delta)
    mixed = jax.vjp(lambda h: cell.mix(params, h), hidden(state))[1](dr)[0]
    return jax.tree.map(jnp.add, alone, _at_hidden(state, mixed))


def _at_hidden(state: Tree, g: Array) -> Tree:
    """A gradient with respect to h as one with respect to the whole state."""
    return jax.vjp(hidden, state)[1](g)[0]


def _norm(tree: Tree) -> Array:
    """The norm over the last axes of all arrays, (..., 1); its derivative at 0 is 0."""
    square = sum(jnp.sum(leaf**2, axis=-1, keepdims=True) for leaf in jax.tree.leaves(tree))
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def _unit(tree: Tree) -> tuple[Array, Tree]:
    """Logs of the lengths, (..., 1), and the vectors at length 1; -inf and zero for zeros."""
    norm = _norm(tree)
    return jnp.log(norm), jax.tree.map(lambda leaf: leaf / jnp.where(norm > 0, norm, 1), tree)
