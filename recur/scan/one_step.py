"""One step as an analysis sees it: (state, x) -> (state, h)."""

from dataclasses import dataclass

from jax import Array

from recur import expect
from recur.compose.layers import NO_STEP, causal
from recur.core import Body, Prior, Recurrence, Tree, gaussian, recurrence, require_params, takes


@dataclass(frozen=True, eq=False)  # params are arrays, which have no hash
class Tied:
    """The body of a cell with fixed parameters; made by `tied`."""

    cell: Recurrence
    params: Tree

    def __call__(self, state: Tree, x: Tree) -> tuple[Tree, Array]:
        """One step."""
        return self.cell.step(self.params, state, x)


@expect.arguments(cell=recurrence)
def tied(cell: Recurrence, params: Tree) -> Tied:
    """The body (state, x) -> (state, h) of a network: the same parameters at every step.

    Raises ValueError for parameters of a type that another cell takes, and for a `Bidirectional`
    layer, which has no step.
    """
    require_params(takes(cell), params)
    if not causal(cell):
        raise ValueError(NO_STEP)
    return Tied(cell, params)


@expect.arguments(cell=recurrence, prior=gaussian, d=expect.count(0), n=expect.count(1))
def untied(cell: Recurrence, prior: Prior, d: int, n: int) -> Body:
    """The body (state, (key, x)) -> (state, h) that draws fresh parameters at every step.

    This is the ensemble of mean-field theory (arXiv:1806.05394). Scan it over
    `(jax.random.split(key, T), xs)`.
    """

    def body(state: Tree, key_and_x: tuple[Array, Array]) -> tuple[Tree, Array]:
        key, x = key_and_x
        return cell.step(cell.init(key, prior, d, n), state, x)

    return body
