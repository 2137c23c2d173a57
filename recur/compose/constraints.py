"""Constrained parameters: a function is applied to them before each use."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from recur import expect
from recur.core import Recurrence, Tree, Unitwise, recurrence, with_step
from recur.functions import Given, unbound


@expect.arguments(cell=recurrence, constraint=expect.function)
def constrained(cell: Recurrence, constraint: Callable[[Tree], Tree]) -> Any:
    """The cell that uses constraint(params) in place of its parameters.

        step(params, state, x) = cell.step(constraint(params), state, x)

    The parameters themselves stay free, and gradients pass through the constraint, so any optimiser
    can be used. Dale's law, a mask of connections, and non-negative weights:

        constrained(cell, lambda p: p._replace(W=signs[:, None] * jnp.abs(p.W)))  # row i is unit i
        constrained(cell, lambda p: p._replace(W=jnp.where(connected, p.W, 0)))
        constrained(cell, lambda p: p._replace(W=jax.nn.softplus(p.W)))

    The constraint is computed in every step. With a batch this costs little beside the products.
    For one sequence, apply it once instead: scan.run(cell, constraint(params), xs).

    Args:
        cell: A recurrence. A `Unitwise` cell stays a `Unitwise`.
        constraint: params -> params, with the same structure and shapes. It is a part of the cell,
            so pass a function of a module, or one that is made once.

    Returns:
        The constrained cell. Its `init` is that of the cell.

    Raises:
        ValueError: The cell is not a recurrence.
        TypeError: The constraint is not a function.

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
