"""Flax RNN cells as recur cells, and recur cells as Flax modules, for linen and nnx.

    cell = from_nnx(nnx.LSTMCell)                      a recur Cell: scan it, analyse it
    cell = from_nnx(model.rnn)                         of a trained module
    cell = from_linen(nn.LSTMCell(n))
    module = NnxCell(cells.gru.cell, d, n, rngs=...)   usable in nnx.RNN and nnx.Bidirectional
    module = LinenCell(cells.gru.cell, n)              usable in nn.RNN and nn.Bidirectional

An nnx module is a pytree, so it is its own parameters.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors, nnx
from flax import linen as nn
from jax import Array

from recur import expect
from recur.compose.normed import Learned
from recur.core import Cell, Prior, Recurrence, Tree, gaussian, recurrence
from recur.functions import Given


def from_nnx(make: Callable[..., nnx.RNNCellBase] | nnx.RNNCellBase | nnx.RNN) -> Cell:
    """The recur Cell of an nnx cell: of its class, such as nnx.LSTMCell, or of a module.

    Its parameters are the module itself, which is a pytree. So the body of a trained module is
    `scan.tied(from_nnx(module), module)`. In both places, an nnx.RNN means the cell in it. Its
    flags, such as reverse, do not belong to the step. The prior is ignored: the module draws its
    own parameters.

    Args:
        make: (d, n, rngs=...) -> an nnx cell; or a module, whose class with its defaults then draws
            parameters.

    Returns:
        The cell.

    Raises:
        TypeError: make does not make a cell, or is a larger model; the error names the cells in it.

    Example:
        >>> from flax import nnx
        >>> from recur.flax.cells import from_nnx
        >>> cell = from_nnx(nnx.GRUCell)
        >>> module = cell.init(jax.random.key(0), Prior(), 2, 3)
        >>> print(type(module).__name__, scan.run(cell, module, jnp.ones((4, 2)))[1].shape)
        GRUCell (4, 3)
    """
    if isinstance(make, nn.Module) or (isinstance(make, type) and issubclass(make, nn.Module)):
        raise TypeError("make must be a cell of nnx; got a cell of linen: use from_linen")
    if isinstance(make, nnx.Module):
        make = type(_nnx_cell(make))
    expect.function("make", make)
    if isinstance(make, type) and issubclass(make, nnx.Module):
        if issubclass(make, NnxCell):
            raise TypeError(
                "an NnxCell already holds a recur cell: use module.cell, with module.values as "
                "parameters"
            )
        if not hasattr(make, "initialize_carry"):
            raise TypeError(
                f"make must be the class of a cell, such as nnx.LSTMCell; got {make.__name__}, "
                "which has no initialize_carry. For an nnx.RNN or a larger model, pass the cell "
                "in it"
            )
    return Cell(Given(_nnx_init, make), _nnx_start, _nnx_step)


def _nnx_cell(params: Any) -> nnx.RNNCellBase:
    """The cell, or the cell in an nnx.RNN. Raises TypeError for others, with the cells in them."""
    if isinstance(params, nnx.RNN):
        return params.cell
    if hasattr(params, "initialize_carry"):
        return params
    if not isinstance(params, nnx.Module):
        advice = ": nnx.merge(graphdef, state) gives it" if isinstance(params, nnx.State) else ""
        raise TypeError(
            f"the parameters of an nnx cell must be the module itself{advice}; got a "
            f"{type(params).__name__}"
        )
    within = [
        ".".join(map(str, path))
        for path, part in nnx.iter_modules(params)
        if hasattr(part, "initialize_carry")
    ]
    raise TypeError(
        f"the parameters of an nnx cell must be the cell itself; got a {type(params).__name__} "
        + (
            f"with cells in it: pass its {' or '.join(within)}"
            if within
            else "with no cell in it: a cell is an nnx.RNNCellBase"
        )
    )


def _nnx_init(
    make: Callable[..., nnx.RNNCellBase], key: Array, prior: Prior, d: int, n: int
) -> nnx.RNNCellBase:
    del prior
    return make(d, n, rngs=nnx.Rngs(key))


def _nnx_start(params: nnx.RNNCellBase, batch: tuple[int, ...] = ()) -> Tree:
    return _nnx_cell(params).initialize_carry((*batch, 1), rngs=nnx.Rngs(0))


def _nnx_step(params: nnx.RNNCellBase, state: Tree, x: Tree) -> tuple[Tree, Array]:
    return _nnx_cell(params)(state, x)


def from_linen(module: nn.RNNCellBase | nn.RNN) -> Cell:
    """The recur Cell of a linen cell with n features, or of the cell in an nn.RNN.

    Its parameters are the variables of the cell, {"params": ...}, or what is within them, or those
    of an RNN around the cell. For the variables of a larger model, the error says which part to
    pass. The prior is ignored: the module draws its own parameters.

    Args:
        module: A linen cell, such as nn.GRUCell(n), or an nn.RNN around one.

    Returns:
        The cell. Its `init` raises ValueError for an n that differs from that of the module.

    Raises:
        TypeError: The module is not a cell.

    Example:
        >>> from flax import linen as nn
        >>> from recur.flax.cells import from_linen
        >>> cell = from_linen(nn.SimpleCell(3))
        >>> params = cell.init(jax.random.key(0), Prior(), 2, 3)
        >>> print(scan.run(cell, params, jnp.ones((4, 2)))[1].shape)
        (4, 3)
    """
    if isinstance(module, type) and issubclass(module, nn.RNNCellBase):
        raise TypeError(
            f"module must be an instance of a cell, {module.__name__}(features=n); got the class"
        )
    if isinstance(module, nnx.Module) or (
        isinstance(module, type) and issubclass(module, nnx.Module)
    ):
        raise TypeError("module must be a cell of linen; got a cell of nnx: use from_nnx")
    if isinstance(module, nn.RNN):
        module = module.cell
    if not isinstance(module, nn.RNNCellBase):
        raise TypeError(
            "module must be a linen cell, such as nn.LSTMCell(n), or an nn.RNN around one; got "
            f"{expect.told(module)}. For a larger model, pass the cell, and its part of the "
            "variables as parameters"
        )
    made = Linen(module)
    return Cell(Given(_linen_init, made), Given(_linen_start, made), Given(_linen_step, made))


@dataclass(frozen=True)
class Linen:
    """A linen module that is pickled as its class and the fields that differ from the defaults.

    Some defaults are initialisers, which are closures and cannot be pickled.

    Example:
        >>> import pickle
        >>> from flax import linen as nn
        >>> from recur.flax.cells import Linen
        >>> print(pickle.loads(pickle.dumps(Linen(nn.SimpleCell(3)))).module.features)
        3
    """

    module: nn.RNNCellBase  #: the module

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
        raise ValueError(
            f"n must be {features}, the number of features of this {type(module).__name__}; got n "
            f"= {n}"
        )
    x = jnp.zeros(d)
    return module.init(key, module.initialize_carry(key, x.shape), x)


def _linen_start(made: Linen, params: Tree, batch: tuple[int, ...] = ()) -> Tree:
    del params
    return made.module.initialize_carry(jax.random.key(0), (*batch, 1))


def _linen_step(made: Linen, params: Tree, state: Tree, x: Tree) -> tuple[Tree, Any]:
    module, variables = made.module, _variables(made.module, params)
    try:
        after, h = module.apply(variables, state, x)
    except (errors.ScopeParamNotFoundError, errors.ScopeCollectionNotFound) as error:
        own = jax.eval_shape(module.init, jax.random.key(0), state, x)["params"]
        names = jax.tree.structure(own)
        within = [path for path, part in _parts(variables["params"]) if _alike(part, names)]
        meant = " or ".join(f"params{path}" for path in within)
        raise ValueError(
            f"the parameters must be those of this {type(module).__name__}, {_listed(own)}; got "
            f"{_listed(variables['params'])}. {f'Pass {meant}' if meant else ''}".rstrip()
        ) from error
    return after, h


def _variables(module: nn.RNNCellBase, params: Tree) -> Tree:
    """The variables of the cell, given as such, as parameters only, or as those of an RNN."""
    variables = params if "params" in params else {"params": params}
    own = variables["params"]
    around = set(own) == {"cell"} and isinstance(own["cell"], Mapping)
    if around and not hasattr(module, "cell"):
        return {**variables, "params": own["cell"]}
    return variables


def _parts(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """All mappings within a mapping, with their paths."""
    for name, part in tree.items():
        if isinstance(part, Mapping):
            yield f"{path}[{name!r}]", part
            yield from _parts(part, f"{path}[{name!r}]")


def _alike(part: Any, names: Any) -> bool:
    return jax.tree.structure(dict(part)) == names


def _listed(tree: Mapping[str, Any]) -> str:
    return ", ".join(sorted(tree))


class NnxCell(nnx.RNNCellBase):
    """A recur cell as an nnx cell, its parameters drawn from a prior; usable in nnx.RNN.

    `scan.tied(module.cell, module.values)` is its body, for every analysis.

    Args:
        cell: A recurrence.
        d: Inputs.
        n: Units.
        prior: The prior of the parameters; `Prior()` if None.
        rngs: Its `params` draws them.

    Raises:
        ValueError: The cell is not a recurrence.
        TypeError: d or n is not an integer, the prior is not a Prior, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax.cells import NnxCell
        >>> module = NnxCell(cells.vanilla.cell, 2, 3, rngs=nnx.Rngs(0))
        >>> print(nnx.RNN(module)(jnp.ones((1, 5, 2))).shape, module.values.W.shape)
        (1, 5, 3) (3, 3)
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
        """The start of the cell for inputs (..., d). It is not random, so it needs no rngs."""
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
    """A recur cell as a linen cell; usable in nn.RNN.

    Linen draws the carry before there are parameters, so a learned start would not be trained here:
    use `NnxCell`, or pass `initial_carry`.

    Example:
        >>> from flax import linen as nn
        >>> from recur.flax.cells import LinenCell
        >>> rnn, xs = nn.RNN(LinenCell(cells.vanilla.cell, 3)), jnp.ones((1, 5, 2))
        >>> print(rnn.init_with_output(jax.random.key(0), xs)[0].shape)
        (1, 5, 3)
    """

    cell: Recurrence  #: the recurrence
    features: int  #: n, its units
    prior: Prior = Prior()  #: the prior of its parameters

    @nn.compact
    def __call__(self, carry: Tree, inputs: Array) -> tuple[Tree, Array]:
        """One step: (state, x) -> (state, h)."""
        params = self.param("cell", self.cell.init, self.prior, inputs.shape[-1], self.features)
        return self.cell.step(params, carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Tree:
        """The start of the cell for inputs (..., d), from parameters drawn with `rng`.

        Raises ValueError if the start is learned.
        """
        params = self.cell.init(rng, self.prior, input_shape[-1], self.features)
        if isinstance(params, Learned):
            raise ValueError(
                "linen draws the carry before there are parameters, so this start would never be "
                "trained: use NnxCell, or pass initial_carry"
            )
        return self.cell.start(params, input_shape[:-1])

    @property
    def num_feature_axes(self) -> int:
        """Features are the last axis."""
        return 1
