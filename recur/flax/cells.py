"""Flax RNN cells as recur cells, and recur cells as Flax modules, for linen and nnx.

    cell = from_nnx(nnx.LSTMCell)                      a recur Cell: scan it, analyse it
    cell = from_linen(nn.LSTMCell(n))
    module = NnxCell(cells.gru.cell, d, n, rngs=...)   usable in nnx.RNN and nnx.Bidirectional
    module = LinenCell(cells.gru.cell, n)              usable in nn.RNN and nn.Bidirectional

An nnx module is a pytree, so it is its own parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jax import Array

from recur import expect
from recur.compose.normed import Learned
from recur.core import Cell, Prior, Recurrence, Tree, gaussian, recurrence
from recur.functions import Given


@expect.arguments(make=expect.function)
def from_nnx(make: Callable[..., nnx.RNNCellBase]) -> Cell:
    """The recur Cell of an nnx cell; `make(d, n, rngs=...)` builds it, such as nnx.LSTMCell.

    Its parameters are the module itself, which is a pytree, so a trained module is analysed by
    `scan.tied(from_nnx(nnx.LSTMCell), module)`. The prior is ignored: the module draws its own.
    """
    return Cell(Given(_nnx_init, make), _nnx_start, _nnx_step)


def _nnx_init(
    make: Callable[..., nnx.RNNCellBase], key: Array, prior: Prior, d: int, n: int
) -> nnx.RNNCellBase:
    del prior
    return make(d, n, rngs=nnx.Rngs(key))


def _nnx_start(params: nnx.RNNCellBase, batch: tuple[int, ...] = ()) -> Tree:
    return params.initialize_carry((*batch, 1), rngs=nnx.Rngs(0))


def _nnx_step(params: nnx.RNNCellBase, state: Tree, x: Tree) -> tuple[Tree, Array]:
    return params(state, x)


@expect.arguments(module=expect.instance(nn.RNNCellBase))
def from_linen(module: nn.RNNCellBase) -> Cell:
    """The recur Cell of a linen cell of n features. The prior is ignored: it draws its own.

    Its `init` raises ValueError for another n than the module's.
    """
    made = Linen(module)
    return Cell(Given(_linen_init, made), Given(_linen_start, made), Given(_linen_step, made))


@dataclass(frozen=True)
class Linen:
    """A linen module that is pickled as its class and the fields that are not its defaults.

    The initialisers among the defaults are closures, which cannot be pickled.
    """

    module: nn.RNNCellBase

    def __reduce__(self) -> tuple:
        own = {
            field.name: getattr(self.module, field.name)
            for field in fields(self.module)
            if field.name != "parent" and getattr(self.module, field.name) is not field.default
        }
        return _linen, (type(self.module), own)


def _linen(kind: type[nn.RNNCellBase], own: dict[str, Any]) -> Linen:
    return Linen(kind(**own))


def _linen_init(made: Linen, key: Array, prior: Prior, d: int, n: int) -> Tree:
    del prior
    module = made.module
    features = getattr(module, "features", n)
    if features != n:
        raise ValueError(f"this {type(module).__name__} has {features} features, got n = {n}")
    x = jnp.zeros(d)
    return module.init(key, module.initialize_carry(key, x.shape), x)


def _linen_start(made: Linen, params: Tree, batch: tuple[int, ...] = ()) -> Tree:
    del params
    return made.module.initialize_carry(jax.random.key(0), (*batch, 1))


def _linen_step(made: Linen, params: Tree, state: Tree, x: Tree) -> tuple[Tree, Any]:
    after, h = made.module.apply(params, state, x)
    return after, h


class NnxCell(nnx.RNNCellBase):
    """A recur cell as an nnx cell of d inputs and n units, its parameters drawn from a prior.

    `scan.tied(module.cell, module.values)` is its body, for every analysis.
    """

    @expect.arguments(
        cell=recurrence,
        d=expect.integer,
        n=expect.integer,
        prior=expect.optional(gaussian),
        rngs=expect.instance(nnx.Rngs),
    )
    def __init__(
        self, cell: Recurrence, d: int, n: int, *, prior: Prior | None = None, rngs: nnx.Rngs
    ):
        self.cell = cell
        drawn = cell.init(rngs.params(), Prior() if prior is None else prior, d, n)
        self.params = nnx.data(jax.tree.map(_param, drawn, is_leaf=_is_param))

    @property
    def values(self) -> Tree:
        """The parameters as the cell takes them: plain arrays."""
        return jax.tree.map(lambda p: p[...], self.params, is_leaf=_is_param)

    @property
    def num_feature_axes(self) -> int:
        """Features are the last axis."""
        return 1

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Tree:
        """The cell's own start for inputs (..., d); a recur start draws nothing at random."""
        del rngs, carry_init
        return self.cell.start(self.values, input_shape[:-1])

    def __call__(self, carry: Tree, inputs: Tree) -> tuple[Tree, Array]:
        """One step: (state, x) -> (state, h)."""
        return self.cell.step(self.values, carry, inputs)


def _is_param(p: Any) -> bool:
    return isinstance(p, nnx.Param)


def _param(p: Any) -> nnx.Param:
    """A number that is learned; those of an nnx cell are Params already."""
    return p if _is_param(p) else nnx.Param(p)


class LinenCell(nn.RNNCellBase):
    """A recur cell as a linen cell of n = `features` units.

    Linen draws the carry before there are parameters, so a learned start is not learned here: take
    `NnxCell`, or pass `initial_carry`.
    """

    cell: Recurrence
    features: int
    prior: Prior = Prior()

    @nn.compact
    def __call__(self, carry: Tree, inputs: Array) -> tuple[Tree, Array]:
        """One step: (state, x) -> (state, h)."""
        params = self.param("cell", self.cell.init, self.prior, inputs.shape[-1], self.features)
        return self.cell.step(params, carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Tree:
        """The cell's start for inputs (..., d), read off parameters drawn with `rng`.

        Raises ValueError for a start that is learned.
        """
        params = self.cell.init(rng, self.prior, input_shape[-1], self.features)
        if isinstance(params, Learned):
            raise ValueError(
                "linen draws the carry before there are parameters, so this start would never "
                "learn: take NnxCell, or pass initial_carry"
            )
        return self.cell.start(params, input_shape[:-1])

    @property
    def num_feature_axes(self) -> int:
        """Features are the last axis."""
        return 1
