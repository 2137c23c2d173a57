"""Gated cells: from the equation of the gates to a `Unitwise`.

    class Params(recur.GateParams):
        ...

    def update(h, u, c):                                # what each gate sums: W h + V x + b
        u, c = sigmoid(u), jnp.tanh(c)
        return u * h + (1 - u) * c

    cell = recur.gated(Params, update, ("update", "candidate"), keeps="update")

The names of the gates determine the draw, the zero state, the two products and the declarations.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from recur import expect
from recur.core import Gates, Prior, Tree, Unitwise
from recur.functions import Given


class GateParams(NamedTuple):
    """Parameters with the gates side by side.

    Each cell has a type of its own, `class Params(GateParams)`, so that no cell takes another's.
    """

    W: Array  #: (n, gates*n)
    V: Array  #: (d, gates*n)
    b: Array  #: (gates*n,)


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
    """The cell whose gates sum W h + V x + b and whose units do the rest by themselves.

    Args:
        Params: The type of its parameters, a subclass of `GateParams` of the cell's own.
        update: (state, *gates) -> state, unit by unit: arrays (..., n) of the old state and of what
            each gate sums, before its nonlinearity, in the order of `gates`.
        gates: Their names. A prior has one value for each, in this order.
        keeps: The gate that leaves the state unchanged where it opens.
        overwrites: The gate that does so where it closes, in place of `keeps`.
        writes: A gate of its own by which the input enters, if there is one.
        apart: Gates that `update` takes as the pair (W h, V x + b), such as a candidate whose reset
            stands between the two.
        state: A NamedTuple type, h first, for a state of several arrays; None: h alone.

    Returns:
        A `Unitwise` with init, start, drive and mix, equal to one that was made alike.

    Raises:
        ValueError: There are no gates, a name occurs twice, a declared gate is not among the gates,
            or `Params` has other fields than W, V and b.
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
        raise ValueError("a gated cell has a gate or more; got no names")
    for gate in apart:
        if gate not in gates:
            raise ValueError(f"apart names gates; {gate!r} is none of {', '.join(gates)}")
    if getattr(Params, "_fields", None) != GateParams._fields:
        raise ValueError(
            f"the parameters of a gated cell are W, V and b: class Params(recur.GateParams); got "
            f"{Params.__name__} with fields {getattr(Params, '_fields', ())}. A cell with others "
            "is a recur.Unitwise"
        )
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


def _names(what: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{what} is a sequence of names, such as ('update',); got {names!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{what} has a name twice: {', '.join(names)}")
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
    """The equation of the gates, of their sums, or of both terms of those that stand apart."""
    del params
    gates = zip(summed, r, z, strict=True)
    return update(state, *(a + b if both else (a, b) for both, a, b in gates))
