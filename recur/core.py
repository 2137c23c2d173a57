"""The types that all other modules use: a prior over parameters and two kinds of recurrence."""

from collections.abc import Callable, Iterator, Sequence
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
    """What `scan` and the combinators need of a recurrence. `Cell` and `Unitwise` both have it."""

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
    """A recurrence that contains others and decides how they pass over a sequence."""

    @property
    def causal(self) -> bool:
        """Whether every output depends on past inputs alone."""

    def over(
        self, walk: Callable[..., tuple], params: Tree, xs: Tree, state: Tree, how: Any
    ) -> tuple[Tree, Array, Tree]:
        """The final state, the outputs of every step and the states of every step.

        walk(recurrence, params, xs, state, how) returns these three for an inner recurrence. `how`
        describes the pass (`scan.time_loop.How`) and must be handed on.
        """


class Gates(NamedTuple):
    """What the author of a gated cell declares about its gates.

    `compose.forget_bias`, `compose.chrono` and phase diagrams read it. Each gate is a block of n
    biases in b. A cell declares `keeps` or `overwrites`, not both.

    Example:
        >>> print(cells.lstm.cell.gates.keeps, cells.mgu.cell.gates.overwrites)
        forget forget
    """

    names: tuple[str, ...] = ()  #: all gates, in the order of their blocks in b
    keeps: str | None = None  #: the gate that keeps the state when open (update gate of a GRU)
    overwrites: str | None = None  #: the gate that keeps it when closed (forget gate of an MGU)
    writes: str | None = None  #: a separate gate that lets the input in (input gate of an LSTM)


NO_GATES = Gates()


@dataclass(frozen=True, repr=False)
class Cell:
    """A recurrence of any kind, given by three pure functions.

        (state_t, h_t) = step(params, state_{t-1}, x_t)

    Features are the last axis of every array. Any batch axes come before it. A cell is a constant:
    it has a hash and equals every cell made of equal parts, so it can be a static argument of
    `jit`. A cell can be pickled if its functions can. Functions of a module can be pickled,
    closures cannot; use `recur.functions.Given` in their place.

    Raises:
        ValueError: The gates declare a gate that they do not name, or both `keeps` and
            `overwrites`.

    Example:
        >>> def init(key, prior, d, n):
        ...     return jnp.ones(n)
        >>> def start(params, batch=()):
        ...     return jnp.zeros((*batch, *params.shape))
        >>> def step(params, h, x):
        ...     h = h + params * x
        ...     return h, h
        >>> print(Cell(init, start, step).step(jnp.ones(2), jnp.ones(2), jnp.array([3.0, 4.0]))[1])
        [4. 5.]
    """

    init: Callable[..., Tree]  #: (key, prior, d, n) -> params
    start: Callable[..., Tree]  #: (params, batch=()) -> state before the first input
    step: Callable[..., tuple[Tree, Array]]  #: (params, state, x) -> (state, h)
    takes: Any = None  #: type of the parameters, or types nested as they are; None accepts any
    gates: Gates = NO_GATES  #: what the gates do

    def __post_init__(self) -> None:
        _declared.update(_types(self.takes))
        _require_gates(self.gates)

    def __repr__(self) -> str:
        return _shown(self, "step", self.step)


@dataclass(frozen=True, repr=False)
class Unitwise:
    """A recurrence whose units interact in one linear map and nowhere else.

        state_t = update(state_{t-1}, mix(h_{t-1}), drive(x_t)),   h_t = hidden(state_t)

    `drive` reads no state, `mix` is linear in h, and `update` acts on each unit separately. Fast
    passes, structured Jacobians and the theory at infinite width rely on these three promises.
    `check_cell` checks them. Arrays, equality and pickling are as for `Cell`.

    `sums` is an optimisation, which `gated` declares by itself. A pair (i, j) promises that
    `update` reads leaf i of r and leaf j of z only through their sum. The backward pass then keeps
    the sum and does not compute z again, which saves about 5 % of a training step.

    Raises:
        ValueError: The gates declare a gate that they do not name, or both `keeps` and
            `overwrites`.

    Example:
        >>> def drive(params, x):
        ...     return x @ params.V + params.b
        >>> def mix(params, h):
        ...     return h @ params.W
        >>> def update(params, h, r, z):
        ...     return jnp.tanh(r + z)
        >>> vanilla = cells.vanilla.cell
        >>> cell = Unitwise(vanilla.init, vanilla.start, drive, mix, update)
        >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> print(cell.step(params, jnp.ones(1), jnp.ones(1))[1])  # tanh(2)
        [0.964]
    """

    init: Callable[..., Tree]  #: (key, prior, d, n) -> params
    start: Callable[..., Tree]  #: (params, batch=()) -> state before the first input
    drive: Callable[..., Tree]  #: (params, x) -> z, the contribution of the input
    mix: Callable[..., Tree]  #: (params, h) -> r, the only place where units interact
    update: Callable[..., Tree]  #: (params, state, r, z) -> state, unit by unit
    takes: Any = None  #: type of the parameters, or types nested as they are; None accepts any
    gates: Gates = NO_GATES  #: what the gates do
    sums: tuple[tuple[int, int], ...] = ()  #: pairs (leaf of r, leaf of z) read only as sums

    def __post_init__(self) -> None:
        _declared.update(_types(self.takes))
        _require_gates(self.gates)

    def __repr__(self) -> str:
        return _shown(self, "update", self.update)

    def step(self, params: Tree, state: Tree, x: Tree) -> tuple[Tree, Array]:
        """One step, (params, state, x) -> (state, h), as `lax.scan` wants it."""
        r = self.mix(params, hidden(state))
        state = self.update(params, state, r, self.drive(params, x))
        return state, hidden(state)


def _require_gates(gates: Gates) -> None:
    """Raise ValueError for a declared gate without a name, or for both `keeps` and `overwrites`."""
    names, *declared = gates
    unknown = [gate for gate in declared if gate is not None and gate not in names]
    if unknown:
        raise ValueError(
            f"there is no gate {unknown[0]!r}; the gates are {', '.join(names) or 'not named'}"
        )
    if gates.keeps is not None and gates.overwrites is not None:
        raise ValueError(
            "declare `keeps`, a gate that keeps the state when it opens, or `overwrites`, a gate "
            f"that keeps it when it closes, but not both; got keeps={gates.keeps!r} and "
            f"overwrites={gates.overwrites!r}"
        )


def _shown(cell: Cell | Unitwise, role: str, function: Callable[..., Any]) -> str:
    """The name of the cell in its module, such as gru.cell, and its gates."""
    gates = f"({', '.join(cell.gates.names)})" if cell.gates.names else ""
    for module in (*modules(function), *modules(cell.init)):
        for name, value in vars(module).items():
            if type(value) is type(cell) and value == cell:
                place = module.__name__.rpartition(".")[2]
                return f"{name}{gates}" if place == "__main__" else f"{place}.{name}{gates}"
    return f"{type(cell).__name__}(init={named(cell.init)}, {role}={named(function)})"


def require_recurrence(cell: Any) -> None:
    """Raise ValueError unless the value has functions init, start and step."""
    missing = [
        name for name in ("init", "start", "step") if not callable(getattr(cell, name, None))
    ]
    if missing:
        meant = "Build one with recur.Cell(init, start, step) or recur.Unitwise(...)."
        if isinstance(cell, ModuleType) and hasattr(cell, "cell"):
            meant = f"Did you mean {cell.__name__}.cell?"
        raise ValueError(
            f"a recurrence has the functions init, start and step; {expect.told(cell)} has no "
            f"{', '.join(missing)}. {meant}"
        )


def recurrence(name: str, value: Any) -> None:
    """A check for `expect.arguments`: a recurrence."""
    del name
    require_recurrence(value)


_declared: set[type] = set()  # every type of parameters that some cell takes


def _types(takes: Any) -> Iterator[type]:
    """The types in a declaration, without Python's own, which belong to no cell."""
    kind = takes if isinstance(takes, type) else type(takes)
    if kind.__module__ != "builtins":
        yield kind
    if isinstance(takes, tuple):
        yield from (kind for part in takes for kind in _types(part))


def takes(cell: Any) -> Any:
    """The declared type of a recurrence's parameters, or types nested as they are; None: any."""
    return getattr(cell, "takes", None)


def gates(cell: Any) -> Gates:
    """The declared gates of a recurrence; `NO_GATES` if it has no such field."""
    return getattr(cell, "gates", NO_GATES)


def with_step(cell: Recurrence, step: Callable[..., tuple[Tree, Array]]) -> Cell:
    """A `Cell` with this step. All other parts are those of the recurrence."""
    return Cell(unbound(cell.init), unbound(cell.start), step, takes(cell), gates(cell))


def require_params(takes: Any, params: Tree) -> None:
    """Raise ValueError if the parameters, or a part of them, belong to another cell.

    Without this check a cell would run with the parameters of another one if the shapes match, and
    would ignore the fields that it does not read. A type that no cell declares passes if it has the
    right fields. The check runs when a program is traced.

    Args:
        takes: The declaration of the cell: a type, or types nested as the parameters are.
        params: The parameters.
    """
    if takes is None:
        return
    own = takes if isinstance(takes, type) else type(takes)
    given = type(params)
    if given is not own and given in _declared:
        raise ValueError(
            f"the parameters are {_name(given)}, which another cell takes; this one takes "
            f"{_name(own)}. Draw them with its init, or build {_name(own)}(...) from your arrays. "
            "A cell of your own declares its type by Cell(..., takes=...)"
        )
    fields = getattr(own, "_fields", ())
    missing = [field for field in fields if not hasattr(params, field)]
    if missing:
        raise ValueError(
            f"the parameters ({_name(given)}) have no {', '.join(missing)}; this cell takes "
            f"{_name(own)}({', '.join(fields)})"
        )
    if isinstance(takes, tuple) and isinstance(params, tuple) and len(takes) == len(params):
        for part, value in zip(takes, params, strict=True):
            require_params(part, value)


def _name(kind: type) -> str:
    """The module and name of a type, such as gru.Params."""
    module = kind.__module__.rpartition(".")[2]
    return kind.__name__ if module == "builtins" else f"{module}.{kind.__name__}"


def hidden(state: Tree) -> Array:
    """The hidden state h within a state.

    Args:
        state: A state of a cell or of layers.

    Returns:
        h (..., n). A state that is an array is h itself. In a NamedTuple h is the first field, and
        in a plain tuple, the states of a stack, it is the h of the last layer.

    Example:
        >>> state = cells.lstm.State(h=jnp.ones(2), c=jnp.zeros(2))
        >>> print(hidden(state), hidden((jnp.zeros(2), state)))
        [1. 1.] [1. 1.]
    """
    if not isinstance(state, tuple):
        return state
    return state[0] if hasattr(state, "_fields") else hidden(state[-1])


PerGate = ArrayLike | Sequence[ArrayLike]  # a number, or one for each gate


@tabled()
class Prior(NamedTuple):
    """The Gaussian distribution from which parameters are drawn.

        W ~ N(0, sigma_w^2 / n),   V ~ N(0, sigma_v^2 / d),   b ~ N(mu_b, sigma_b^2)

    Each field is a scalar or has one value per gate, in the order of `cell.gates.names`. A prior is
    a pytree of numbers and never static: `vmap` sweeps over it, `grad` differentiates through it.

    Example:
        >>> prior = Prior(sigma_w=0.0, mu_b=(2.0, 0.0))  # two gates, the first open
        >>> W, V, b = prior.draw(jax.random.key(0), d=3, n=2, gates=2)
        >>> print(W.shape, V.shape, b)
        (2, 4) (3, 4) [2. 2. 0. 0.]
    """

    sigma_w: PerGate = 1.0  #: scale of the recurrent weights W
    sigma_v: PerGate = 1.0  #: scale of the input weights V
    mu_b: PerGate = 0.0  #: mean of the biases
    sigma_b: PerGate = 0.0  #: standard deviation of the biases

    @expect.arguments(key=expect.key, d=expect.integer, n=expect.integer, gates=expect.count(1))
    def draw(self, key: Array, d: int, n: int, gates: int = 1) -> tuple[Array, Array, Array]:
        """Draw W, V and b, with the gates side by side.

        Args:
            key: A random key.
            d: The number of inputs. With 0 the network runs without input, over xs (T, ..., 0).
            n: The number of units.
            gates: The number of gates.

        Returns:
            W (n, gates*n), V (d, gates*n) and b (gates*n,).

        Raises:
            ValueError: d < 0, n < 1, or a field is neither a scalar nor (gates,).
            TypeError: The key is not a random key, or d, n or gates is not an integer.
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


def _per_column(name: str, value: PerGate, n: int, gates: int, dtype: Any) -> Array:
    """The value of each gate, repeated for its n columns: (gates*n,)."""
    value = jnp.asarray(value, dtype)
    if value.shape not in ((), (1,), (gates,)):
        raise ValueError(
            f"Prior.{name} has shape {value.shape}; this cell has {gates} gate(s), so pass a "
            f"scalar, or one value per gate, shape ({gates},). To sweep over priors, use vmap."
        )
    return jnp.repeat(jnp.broadcast_to(value, (gates,)), n)


def gaussian(name: str, value: Any) -> None:
    """A check for `expect.arguments`: a `Prior` of real numbers."""
    expect.instance(Prior)(name, value)
    for field, number in value._asdict().items():
        expect.real(f"{name}.{field}", number)
