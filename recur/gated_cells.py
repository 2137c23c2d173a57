"""Gated cells: from the equation of the gates to a `Unitwise`.

    class Params(recur.GateParams):
        ...

    def update(h, u, c):                        # u and c are the sums W h + V x + b of the gates
        u, c = sigmoid(u), jnp.tanh(c)
        return u * h + (1 - u) * c

    cell = recur.gated(Params, update, ("update", "candidate"), keeps="update")

`gated` adds the rest: the draw from a prior, the zero state, the two products, the declarations.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from recur import expect
from recur.core import Gates, Prior, Tree, Unitwise
from recur.functions import Given
from recur.tables import tabled


@tabled()
class GateParams(NamedTuple):
    """Parameters of a gated cell, with the gates side by side.

    Each cell has its own subclass, `class Params(GateParams)`, so that no cell accepts the
    parameters of another.
    """

    W: Array  #: (n, gates*n), recurrent weights
    V: Array  #: (d, gates*n), input weights
    b: Array  #: (gates*n,), biases


@expect.arguments(Params=expect.instance(type), update=expect.function)
def gated(
    Params: type[GateParams],
    update: Callable[..., Tree],
    gates: Sequence[str],
    *,
    keeps: str | None = None,
    overwrites: str | None = None,
    writes: str | None = None,
    apart: Sequence[str] = (),
    state: type | None = None,
) -> Unitwise:
    """A gated cell: `update` computes the new state from the sum W h + V x + b of each gate.

        state_t = update(state_{t-1}, *sums),   sums_i = W_i h_{t-1} + V_i x_t + b_i

    Args:
        Params: The type of the cell's parameters, a subclass of `GateParams`.
        update: (state, *sums) -> state, for each unit separately. It takes the old state and the
            sum of each gate before its nonlinearity, arrays (..., n), in the order of `gates`.
        gates: The names of the gates. The values of a prior are in this order.
        keeps: The gate that leaves the state unchanged when it is open.
        overwrites: The gate that leaves the state unchanged when it is closed. Give this or
            `keeps`.
        writes: The gate that lets the input in, if it is another one.
        apart: Gates that `update` takes as a pair (W h, V x + b). A candidate with a reset gate
            between the two terms needs this.
        state: A NamedTuple type, h first, if the state has several arrays. None: h alone.

    Returns:
        A `Unitwise`. Equal arguments give equal cells.

    Raises:
        ValueError: There are no gates, a name occurs twice, a declared gate is not among the gates,
            `Params` has other fields than W, V and b, or `update` does not take the state and one
            argument for each gate.
        TypeError: Params is not a type, update is not a function, or gates or apart is not a
            sequence of names.

    Example:
        >>> from jax.nn import sigmoid, tanh
        >>> class Params(GateParams): ...
        >>> def update(h, u, c):
        ...     return sigmoid(u) * h + (1 - sigmoid(u)) * tanh(c)
        >>> cell = gated(Params, update, ("update", "candidate"), keeps="update")
        >>> params = Params(W=jnp.zeros((1, 2)), V=jnp.array([[0.0, 1.0]]), b=jnp.zeros(2))
        >>> print(scan.run(cell, params, jnp.ones((3, 1)))[1][:, 0])  # u = 1/2, c = tanh(1)
        [0.381 0.571 0.666]
    """
    gates, apart = _names("gates", gates), _names("apart", apart)
    if not gates:
        raise ValueError("a gated cell needs at least one gate; got no names")
    for gate in apart:
        if gate not in gates:
            raise ValueError(f"apart names gates, but {gate!r} is not one of {', '.join(gates)}")
    if getattr(Params, "_fields", None) != GateParams._fields:
        raise ValueError(
            "the parameters of a gated cell are W, V and b, as in class Params(recur.GateParams); "
            f"got {Params.__name__} with the fields {getattr(Params, '_fields', ())}. Write a cell "
            "with other parameters as a recur.Unitwise"
        )
    _require_arguments(update, gates)
    summed = tuple(gate not in apart for gate in gates)
    return Unitwise(
        Given(_init, Params, len(gates)),
        Given(_start, state),
        Given(_drive, len(gates)),
        Given(_mix, len(gates)),
        Given(_update, update, summed),
        Params,
        Gates(gates, keeps, overwrites, writes),
        tuple((i, i) for i, each in enumerate(summed) if each),
    )


def _require_arguments(update: Callable[..., Tree], gates: tuple[str, ...]) -> None:
    """Raise ValueError unless `update` takes the state and one argument for each gate."""
    try:
        signature = inspect.signature(update)
    except ValueError:  # of a function that Python knows nothing about
        return
    try:
        signature.bind(None, *gates)
    except TypeError as error:
        raise ValueError(
            f"update must take the state and the sum of each gate ({', '.join(gates)}), so "
            f"{1 + len(gates)} arguments; got update{signature}: {error}"
        ) from error


def _names(what: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{what} is a sequence of names, such as ('update',); got {names!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{what} has a name twice; got {', '.join(names)}")
    return tuple(names)


def _init(
    Params: Callable[..., GateParams], gates: int, key: Array, prior: Prior, d: int, n: int
) -> GateParams:
    """Parameters drawn from the prior."""
    return Params(*prior.draw(key, d, n, gates))


def _start(state: Any, params: Any, batch: tuple[int, ...] = ()) -> Tree:
    """The zero state, arrays (*batch, n)."""
    zeros = jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)
    return zeros if state is None else state(*[zeros] * len(state._fields))


def _drive(gates: int, params: Any, x: Array) -> list[Array]:
    """V x + b of each gate."""
    return jnp.split(x @ params.V + params.b, gates, axis=-1)


def _mix(gates: int, params: Any, h: Array) -> list[Array]:
    """W h of each gate."""
    return jnp.split(h @ params.W, gates, axis=-1)


def _update(
    update: Callable[..., Tree],
    summed: tuple[bool, ...],
    params: Any,
    state: Tree,
    r: list[Array],
    z: list[Array],
) -> Tree:
    """`update` of the sums, and of both terms separately for gates that stand apart."""
    del params
    gates = zip(summed, r, z, strict=True)
    return update(state, *(a + b if both else (a, b) for both, a, b in gates))
