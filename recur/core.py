"""The types that all other modules use: a prior over parameters and two kinds of recurrence."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from recur import expect
from recur.functions import modules, named, unbound
from recur.tables import tabled

Tree = Any  # a pytree of arrays
# A field that an analysis fills with a JAX array. Built by hand, from saved results, it may hold a
# NumPy array, or None for what was not saved. `Any` lets a reader take it for the JAX array it is.
Numbers = Array | Any
Body = Callable[[Tree, Tree], tuple[Tree, Array]]  # (state, x) -> (state, h)


class Recurrence(Protocol):
    """What `scan` and the combinators ask of a recurrence: `Cell` and `Unitwise` both have it."""

    @property
    def init(self) -> Callable[..., Tree]:
        """(key, prior, d, n) -> params."""

    @property
    def start(self) -> Callable[..., Tree]:
        """(params, batch=()) -> state before the first input."""

    @property
    def step(self) -> Callable[..., tuple[Tree, Array]]:
        """(params, state, x) -> (state, h)."""


@runtime_checkable
class Layer(Protocol):
    """A recurrence made of others, which defines the order of their passes over a sequence."""

    @property
    def causal(self) -> bool:
        """Whether an output reads the past alone."""

    def over(
        self, walk: Callable[..., tuple], params: Tree, xs: Tree, state: Tree, how: Any
    ) -> tuple[Tree, Array, Tree]:
        """The final state, outputs and states of every step.

        walk(recurrence, params, xs, state, how) gives the three of what is inside. `how` is the
        pass that was asked for (`scan.layer_by_layer.How`), to be handed on.
        """


class Gates(NamedTuple):
    """What the author of a gated cell knows of its gates; each is a block of n biases in b.

    `keeps` names the gate that leaves the state as it is where it opens (the update gate of a GRU),
    `overwrites` the one that does so where it closes (the forget gate of an MGU). `writes` names a
    gate of its own by which the input enters (the input gate of an LSTM).
    """

    names: tuple[str, ...] = ()
    keeps: str | None = None
    overwrites: str | None = None
    writes: str | None = None


NO_GATES = Gates()


@dataclass(frozen=True, repr=False)
class Cell:
    """Any recurrence: three pure functions.

    Features are the last axis; leading batch axes are allowed and none is required. A cell is a
    constant: hashable, equal to one that was made alike and to no other, so it is a static argument
    under `jit`, and pickled where its functions are. Those that a module has are; in place of a
    closure take `functions.Given`, as the cells here do.
    With `takes`, it declares the type of its parameters as its own: see `require_params`; with
    `gates`, what its gates do.
    """

    init: Callable[..., Tree]  # (key, prior, d, n) -> params
    start: Callable[..., Tree]  # (params, batch=()) -> state before the first input
    step: Callable[..., tuple[Tree, Array]]  # (params, state, x) -> (state, h)
    takes: Any = None  # the type of params, or a tuple of types, nested as params are; None: any
    gates: Gates = NO_GATES

    def __post_init__(self) -> None:
        _declared.update(_types(self.takes))
        _require_gates(self.gates)

    def __repr__(self) -> str:
        return _shown(self, "step", self.step)


@dataclass(frozen=True, repr=False)
class Unitwise:
    """A recurrence whose units meet in one linear map and nowhere else.

        h_t = update(state_{t-1}, mix(h_{t-1}), drive(x_t))

    All that is derived in this package beyond `step` (fast passes, structured Jacobians, theory
    at infinite width) rests on three promises, which the tests check for every cell of ours:
    `drive` sees no state, `mix` is linear in h, and `update` acts on each unit by itself. As in a
    `Cell`, features are the last axis, there may be any batch axes before it, or none, `takes`
    declares the type of the parameters, and `gates` what the gates do.
    With `sums`, `update` reads leaf i of r and leaf j of z by their sum alone, for each (i, j). The
    backward pass then keeps the sum and does not compute z again, which is some 5 % of a step of
    training. `gated` declares it.
    """

    init: Callable[..., Tree]  # (key, prior, d, n) -> params
    start: Callable[..., Tree]  # (params, batch=()) -> state before the first input
    drive: Callable[..., Tree]  # (params, x) -> z, the contribution of the input
    mix: Callable[..., Tree]  # (params, h) -> r, the only place where units interact
    update: Callable[..., Tree]  # (params, state, r, z) -> state, unit by unit
    takes: Any = None  # the type of params, or a tuple of types, nested as params are; None: any
    gates: Gates = NO_GATES
    sums: tuple[
        tuple[int, int], ...
    ] = ()  # (leaf of r, leaf of z) of which `update` reads only the sum

    def __post_init__(self) -> None:
        _declared.update(_types(self.takes))
        _require_gates(self.gates)

    def __repr__(self) -> str:
        return _shown(self, "update", self.update)

    def step(self, params: Tree, state: Tree, x: Tree) -> tuple[Tree, Array]:
        """One step, in `lax.scan`'s own order: (params, state, x) -> (state, h)."""
        r = self.mix(params, hidden(state))
        state = self.update(params, state, r, self.drive(params, x))
        return state, hidden(state)


def _require_gates(gates: Gates) -> None:
    """Raise ValueError where a declaration names a gate that there is not, or keeps twice."""
    names, *declared = gates
    unknown = [gate for gate in declared if gate is not None and gate not in names]
    if unknown:
        raise ValueError(f"there is no gate {unknown[0]!r}; the gates are {', '.join(names)}")
    if gates.keeps is not None and gates.overwrites is not None:
        raise ValueError(
            f"one gate keeps the state: by opening, keeps={gates.keeps!r}, or by closing, "
            f"overwrites={gates.overwrites!r}; got both"
        )


def _shown(cell: Cell | Unitwise, role: str, function: Callable[..., Any]) -> str:
    """A cell by the name that its module has for it, such as gru.cell, and its gates."""
    gates = f"({', '.join(cell.gates.names)})" if cell.gates.names else ""
    for module in (*modules(function), *modules(cell.init)):
        for name, value in vars(module).items():
            if type(value) is type(cell) and value == cell:
                place = module.__name__.rpartition(".")[2]
                return f"{name}{gates}" if place == "__main__" else f"{place}.{name}{gates}"
    return f"{type(cell).__name__}(init={named(cell.init)}, {role}={named(function)})"


def require_recurrence(cell: Any) -> None:
    """Raise ValueError unless it has init, start and step."""
    missing = [
        name for name in ("init", "start", "step") if not callable(getattr(cell, name, None))
    ]
    if missing:
        meant = "Build one with recur.Cell(init, start, step) or recur.Unitwise(...)."
        if isinstance(cell, ModuleType) and hasattr(cell, "cell"):
            meant = f"Did you mean {cell.__name__}.cell?"
        raise ValueError(
            f"a recurrence has functions init, start and step; {expect.told(cell)} has no "
            f"{', '.join(missing)}. {meant}"
        )


def recurrence(name: str, value: Any) -> None:
    """A check of `expect`: init, start and step."""
    del name
    require_recurrence(value)


_declared: set[type] = set()  # every type of parameters that a cell takes


def _types(takes: Any) -> Iterator[type]:
    """The types of a declaration but for Python's own, which belong to nobody."""
    kind = takes if isinstance(takes, type) else type(takes)
    if kind.__module__ != "builtins":
        yield kind
    if isinstance(takes, tuple):
        yield from (kind for part in takes for kind in _types(part))


def takes(cell: Any) -> Any:
    """What a recurrence declares that it takes: a type, or types nested as its parameters are."""
    return getattr(cell, "takes", None)


def gates(cell: Any) -> Gates:
    """What a recurrence declares of its gates; nothing where it has no such field."""
    return getattr(cell, "gates", NO_GATES)


def with_step(cell: Recurrence, step: Callable[..., tuple[Tree, Array]]) -> Cell:
    """The recurrence as a `Cell` with another step, and with all else that it declares."""
    return Cell(unbound(cell.init), unbound(cell.start), step, takes(cell), gates(cell))


def require_params(takes: Any, params: Tree) -> None:
    """Raise ValueError where params, or a part of them, have a type that another cell declared.

    Cells of equal shapes would run with the parameters of each other, and drop what they do not
    read. A type that no cell declares passes if it has the fields. Costs nothing when traced.
    """
    if takes is None:
        return
    own = takes if isinstance(takes, type) else type(takes)
    given = type(params)
    if given is not own and given in _declared:
        raise ValueError(
            f"these parameters are {_name(given)}, which another cell takes; this one takes "
            f"{_name(own)}. Draw them by its init, or build {_name(own)}(...) of the arrays that "
            "are meant. A cell of your own says what it takes: Cell(..., takes=...)"
        )
    fields = getattr(own, "_fields", ())
    missing = [field for field in fields if not hasattr(params, field)]
    if missing:
        raise ValueError(
            f"these parameters, {_name(given)}, have no {', '.join(missing)}; this cell takes "
            f"{_name(own)}({', '.join(fields)})"
        )
    if isinstance(takes, tuple) and isinstance(params, tuple) and len(takes) == len(params):
        for part, value in zip(takes, params, strict=True):
            require_params(part, value)


def _name(kind: type) -> str:
    """A type by its module and name, as in gru.Params."""
    module = kind.__module__.rpartition(".")[2]
    return kind.__name__ if module == "builtins" else f"{module}.{kind.__name__}"


def hidden(state: Tree) -> Array:
    """The h of a state.

    The state itself; the first field of a NamedTuple, such as LSTM's; and of a plain tuple, the
    states of a stack of layers, that of the last.
    """
    if not isinstance(state, tuple):
        return state
    return state[0] if hasattr(state, "_fields") else hidden(state[-1])


@tabled()
class Prior(NamedTuple):
    """The Gaussian ensemble that parameters are drawn from.

        W ~ N(0, sigma_w^2 / n),   V ~ N(0, sigma_v^2 / d),   b ~ N(mu_b, sigma_b^2)

    Each field is a scalar or has one value per gate, in the order of the cell's `GATES`. A prior
    is a pytree of numbers, never static: `vmap` sweeps it and `grad` differentiates through it.
    """

    sigma_w: ArrayLike = 1.0
    sigma_v: ArrayLike = 1.0
    mu_b: ArrayLike = 0.0
    sigma_b: ArrayLike = 0.0

    @expect.arguments(key=expect.key, d=expect.integer, n=expect.integer, gates=expect.count(1))
    def draw(self, key: Array, d: int, n: int, gates: int = 1) -> tuple[Array, Array, Array]:
        """W (n, gates*n), V (d, gates*n) and b (gates*n,), the gates side by side.

        With d = 0 the network has no inputs, and runs by itself over xs (T, ..., 0). Raises
        ValueError for d < 0, n < 1 and a field that is neither scalar nor (gates,).
        """
        if d < 0 or n < 1:
            raise ValueError(f"a cell needs d >= 0 inputs and n >= 1 units, got d={d}, n={n}")
        shapes = ((n, gates * n), (d, gates * n), (gates * n,))
        W, V, b = (
            jax.random.normal(k, shape)
            for k, shape in zip(jax.random.split(key, 3), shapes, strict=True)
        )
        gaussian("prior", self)
        spread = {
            name: _per_column(name, value, n, gates, b.dtype)
            for name, value in self._asdict().items()
        }
        return (
            spread["sigma_w"] * W / jnp.sqrt(n).astype(b.dtype),
            spread["sigma_v"] * V / jnp.sqrt(max(d, 1)).astype(b.dtype),
            spread["mu_b"] + spread["sigma_b"] * b,
        )


def _per_column(name: str, value: ArrayLike, n: int, gates: int, dtype: Any) -> Array:
    """One value per gate, repeated for the n columns of that gate."""
    value = jnp.asarray(value, dtype)
    if value.shape not in ((), (1,), (gates,)):
        raise ValueError(
            f"Prior.{name} has shape {value.shape}; this cell has {gates} gate(s), so pass a "
            f"scalar or one value per gate, shape ({gates},). To sweep priors, vmap over them."
        )
    return jnp.repeat(jnp.broadcast_to(value, (gates,)), n)


def gaussian(name: str, value: Any) -> None:
    """A check of `expect`: a Prior of real numbers."""
    expect.instance(Prior)(name, value)
    for field, number in value._asdict().items():
        expect.real(f"{name}.{field}", number)
