"""Skip connections around a cell, from its input to its output.

    Residual       y = x + h
    HighwaySkip    y = g h + (1 - g) x,  g = sigmoid(V x + b)

The state is that of the cell: a skip connection carries nothing through time.
Highway: Srivastava, Greff and Schmidhuber 2015, arXiv:1505.00387.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import Array

from recur.core import Prior, Recurrence, Tree, require_recurrence, takes
from recur.tables import tabled


@dataclass(frozen=True)
class Residual:
    """A skip around a cell, y = x + h; the state and the parameters are the cell's.

    Raises:
        ValueError: The cell is not a recurrence. When drawn or run: x and h differ in size.

    Example:
        >>> one = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> cell = compose.Residual(cells.vanilla.relu)
        >>> print(scan.run(cell, one, jnp.ones((3, 1)))[1][:, 0])
        [2. 3. 4.]
    """

    cell: Recurrence  #: the cell inside

    def __post_init__(self) -> None:
        require_recurrence(self.cell)

    @property
    def takes(self) -> Any:
        """What the cell takes."""
        return takes(self.cell)

    def init(self, key: Array, prior: Prior, d: int, n: int) -> Tree:
        """The parameters of the cell. Raises ValueError unless x and h have the same size."""
        require_same_width(self, d, width(self.cell, n))
        return self.cell.init(key, prior, d, n)

    def start(self, params: Tree, batch: tuple[int, ...] = ()) -> Tree:
        """The cell's start."""
        return self.cell.start(params, batch)

    def step(self, params: Tree, state: Tree, x: Tree) -> tuple[Tree, Array]:
        """The cell's step, and x + h."""
        state, h = self.cell.step(params, state, x)
        return state, self.join(params, x, h)

    def width(self, n: int) -> int:
        """The size of the output, which is that of the cell."""
        return width(self.cell, n)

    def over(
        self, walk: Callable[..., tuple], params: Tree, xs: Tree, state: Tree, how: Any
    ) -> tuple[Tree, Array, Tree]:
        """The pass of the cell, and x + h."""
        final, hs, every = walk(self.cell, params, xs, state, how)
        return final, self.join(params, how.there(xs), hs), every

    @property
    def causal(self) -> bool:
        """Whether every output depends on past inputs alone."""
        return getattr(self.cell, "causal", True)

    def join(self, params: Tree, x: Tree, h: Array) -> Array:
        """x + h, for one step or for all."""
        del params
        x = jax.tree.leaves(x)[-1]
        require_same_width(self, x.shape[-1], h.shape[-1])
        return x + h


@tabled()
class Highway(NamedTuple):
    """Parameters of a `HighwaySkip`."""

    cell: Tree  #: of the cell
    V: Array  #: (d, d) of the gate that lets h through
    b: Array  #: (d,)


@dataclass(frozen=True)
class HighwaySkip:
    """A gated skip around a cell, y = g h + (1 - g) x with g = sigmoid(V x + b).

    Srivastava, Greff and Schmidhuber 2015, arXiv:1505.00387.

    Raises:
        ValueError: The cell is not a recurrence. When drawn or run: x and h differ in size.

    Example:
        >>> one = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> params = compose.Highway(one, V=jnp.zeros((1, 1)), b=jnp.zeros(1))  # g = 1/2
        >>> cell = compose.HighwaySkip(cells.vanilla.relu)
        >>> print(scan.run(cell, params, jnp.ones((3, 1)))[1][:, 0])
        [1.  1.5 2. ]
    """

    cell: Recurrence  #: the cell inside

    def __post_init__(self) -> None:
        require_recurrence(self.cell)

    @property
    def takes(self) -> Any:
        """What the cell takes, within a `Highway`."""
        return Highway(takes(self.cell), None, None)  # type: ignore[arg-type]

    def init(self, key: Array, prior: Prior, d: int, n: int) -> Highway:
        """The parameters of the cell, V ~ N(0, 1/d), and b = -1, which lets mostly x through.

        Raises ValueError unless x and h have the same size.
        """
        require_same_width(self, d, width(self.cell, n))
        inner, gate = jax.random.split(key)
        _, V, b = Prior(mu_b=-1.0).draw(gate, d, d)
        return Highway(self.cell.init(inner, prior, d, n), V, b)

    def start(self, params: Highway, batch: tuple[int, ...] = ()) -> Tree:
        """The cell's start."""
        return self.cell.start(params.cell, batch)

    def step(self, params: Highway, state: Tree, x: Tree) -> tuple[Tree, Array]:
        """The cell's step, and the blend of x and h."""
        state, h = self.cell.step(params.cell, state, x)
        return state, self.join(params, x, h)

    def width(self, n: int) -> int:
        """The size of the output, which is that of the cell."""
        return width(self.cell, n)

    def over(
        self, walk: Callable[..., tuple], params: Highway, xs: Tree, state: Tree, how: Any
    ) -> tuple[Tree, Array, Tree]:
        """The pass of the cell, and the blend of x and h."""
        final, hs, every = walk(self.cell, params.cell, xs, state, how)
        return final, self.join(params, how.there(xs), hs), every

    @property
    def causal(self) -> bool:
        """Whether every output depends on past inputs alone."""
        return getattr(self.cell, "causal", True)

    def join(self, params: Highway, x: Tree, h: Array) -> Array:
        """g h + (1 - g) x, for one step or for all."""
        x = jax.tree.leaves(x)[-1]
        require_same_width(self, x.shape[-1], h.shape[-1])
        g = jax.nn.sigmoid(x @ params.V + params.b)
        return g * h + (1 - g) * x


def width(layer: Any, n: int) -> int:
    """The size of a layer's output when its cells have n units."""
    return layer.width(n) if hasattr(layer, "width") else n


def require_same_width(skip: Any, d: int, n: int) -> None:
    """Raise ValueError unless the input and the output of a skip have the same size."""
    if d != n:
        raise ValueError(
            f"{type(skip).__name__} combines its input with its output, so both need the same "
            f"size; got d = {d} and n = {n}. Put it above a layer with {n} outputs, or embed the "
            f"inputs in {n} dimensions"
        )
