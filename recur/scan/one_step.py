"""One step in the form that analyses take: (state, x) -> (state, h)."""

from dataclasses import dataclass
from typing import Any

from jax import Array

from recur import expect
from recur.compose import masks
from recur.compose.layers import NO_STEP, causal
from recur.core import (
    Body,
    Cell,
    Prior,
    Recurrence,
    Tree,
    gaussian,
    recurrence,
    require_params,
    takes,
)


@dataclass(frozen=True, eq=False)  # params are arrays, which have no hash
class Tied:
    """The body of a cell with fixed parameters; made by `tied`.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> body = scan.Tied(cells.vanilla.relu, params)
        >>> state, h = body(jnp.zeros(1), jnp.ones(1))
        >>> print(state, h)
        [1.] [1.]
    """

    cell: Recurrence  #: the recurrence
    params: Tree  #: its parameters

    def __call__(self, state: Tree, x: Tree) -> tuple[Tree, Array]:
        """One step."""
        return self.cell.step(self.params, state, x)


@expect.arguments(cell=recurrence)
def tied(cell: Recurrence, params: Tree) -> Tied:
    """The body of a network: one step with the same parameters every time.

    Args:
        cell: A recurrence.
        params: Its parameters.

    Returns:
        (state, x) -> (state, h), as every analysis takes it.

    Raises:
        ValueError: The cell is not a recurrence, or a `Bidirectional` layer, which has no step; or
            another cell takes parameters of this type.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> body = scan.tied(cells.vanilla.relu, params)
        >>> state, h = body(jnp.ones(1), jnp.ones(1))
        >>> print(h)
        [2.]
    """
    require_params(takes(cell), params)
    if not causal(cell):
        raise ValueError(NO_STEP)
    return Tied(cell, params)


@expect.arguments(body=expect.function)
def masked(body: Body) -> Body:
    """The body over x = (mask, x): where the mask is False, the step does not happen.

    It does for a body what `compose.masked` does for a cell. Pad sequences of different lengths to
    one T; `scan.present(xs, lengths)` is their mask.

    Args:
        body: One step, (state, x) -> (state, h).

    Returns:
        (state, (mask, x)) -> (state, h), with masks (...) of booleans.

    Raises:
        TypeError: The body is not a function.

    Example:
        >>> body = scan.masked(lambda h, x: (h + x, h + x))
        >>> xs = jnp.array([True, False, True]), jnp.ones((3, 1))
        >>> print(jax.lax.scan(body, jnp.zeros(1), xs)[0])
        [2.]
    """
    if isinstance(body, Tied):
        return Tied(masks.masked(body.cell), body.params)
    cell = masks.masked(Cell(_none, _none, lambda _, state, x: body(state, x)))
    return lambda state, x: cell.step((), state, x)


def _none(*_: Any) -> Any:
    """Stands in for `init` and `start`, which a plain body does not have."""


@expect.arguments(cell=recurrence, prior=gaussian, d=expect.count(0), n=expect.count(1))
def untied(cell: Recurrence, prior: Prior, d: int, n: int) -> Body:
    """The body that draws fresh parameters at every step: the ensemble of mean-field theory.

    arXiv:1806.05394.

    Args:
        cell: A recurrence.
        prior: What the parameters are drawn from.
        d: Inputs, 0 or more.
        n: Units, 1 or more.

    Returns:
        (state, (key, x)) -> (state, h); scan it over `(jax.random.split(key, T), xs)`.

    Raises:
        ValueError: The cell is not a recurrence, or d or n is out of range.
        TypeError: The prior is not a Prior, or d or n is not an integer.

    Example:
        >>> body = scan.untied(cells.vanilla.cell, Prior(sigma_w=2.0), d=1, n=3)
        >>> keys, xs = jax.random.split(jax.random.key(0), 5), jnp.ones((5, 1))
        >>> state, hs = jax.lax.scan(body, jnp.zeros(3), (keys, xs))
        >>> print(hs.shape)
        (5, 3)
    """

    def body(state: Tree, key_and_x: tuple[Array, Array]) -> tuple[Tree, Array]:
        key, x = key_and_x
        return cell.step(cell.init(key, prior, d, n), state, x)

    return body
