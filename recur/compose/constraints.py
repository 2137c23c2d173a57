"""Constrained parameters: a function is applied to them before each use."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from recur import expect
from recur.core import Recurrence, Tree, Unitwise, recurrence, with_step
from recur.functions import Given, unbound


@expect.arguments(cell=recurrence, constraint=expect.function)
def constrained(cell: Recurrence, constraint: Callable[[Tree], Tree]) -> Any:
    """The cell that uses constraint(params) wherever the cell uses params.

    Its own parameters stay free, and gradients with respect to them pass through the constraint: so
    any optimiser keeps it. Dale's law, a mask of connections, weights that are not negative:

        constrained(cell, lambda p: p._replace(W=signs[:, None] * jnp.abs(p.W)))  # row i: unit i's
        constrained(cell, lambda p: p._replace(W=jnp.where(connected, p.W, 0)))
        constrained(cell, lambda p: p._replace(W=jax.nn.softplus(p.W)))

    The constraint is part of the program of a step. That is cheap beside the products of a batch;
    over one sequence, apply it once before the pass: scan.run(cell, constraint(params), xs).

    Args:
        cell: A recurrence; a `Unitwise` cell stays one.
        constraint: params -> params of the same structure and shapes. It is part of the cell, which
            is a constant: a function of a module, or one that is made once.

    Returns:
        The constrained cell. Its `init` is the cell's own.

    Raises:
        ValueError: The cell is not a recurrence.

    Example:
        >>> def positive(params):
        ...     return params._replace(W=jnp.abs(params.W))
        >>> params = cells.vanilla.Params(W=-jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> cell = compose.constrained(cells.vanilla.relu, positive)
        >>> print(scan.run(cell, params, jnp.ones((3, 1)))[1][:, 0])
        [1. 2. 3.]
    """
    start = Given(_start, unbound(cell.start), constraint)
    if isinstance(cell, Unitwise):
        drive, mix, update = (
            Given(_of, function, constraint) for function in (cell.drive, cell.mix, cell.update)
        )
        return replace(cell, start=start, drive=drive, mix=mix, update=update)
    return replace(with_step(cell, Given(_of, unbound(cell.step), constraint)), start=start)


def _of(function: Callable[..., Any], constraint: Callable, params: Tree, *rest: Any) -> Any:
    return function(constraint(params), *rest)


def _start(
    start: Callable[..., Tree], constraint: Callable, params: Tree, batch: tuple[int, ...] = ()
) -> Tree:
    return start(constraint(params), batch)
