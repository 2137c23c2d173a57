"""Which steps of a sequence are there for a body: those that its masks let happen.

`masked` tells its mask by a name in the program of a step, which costs nothing when it runs.
`steps_present` looks for that name, so it finds the mask under other combinators, inside
`jax.jit` and inside a function of the user's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import reduce
from operator import and_, or_
from typing import Any

import jax
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Jaxpr, Literal, get_opaque_trace_state

from recur.core import Body, Tree

_NAME = "recur.present"
_CALLS = ("jit", "remat2")  # primitives that run a program once
_layer: ContextVar[tuple[Any, list[Array]] | None] = ContextVar("layer", default=None)


def steps_present(body: Body, state: Tree, xs: Tree) -> Array | None:
    """Which steps of xs (T, ...) happen in `body`, (T, ...) boolean; None for one without a mask.

    With several masks a step is there where all of them say so. A stack of layers makes a step
    where any of its layers does, so at every step if one layer has no mask. `state` is any state
    that the body takes. Costs one trace of the body. A mask inside a loop of the body's own is not
    found, for it counts the steps of that loop.
    """
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
    program = jax.make_jaxpr(body)(state, x)
    if not _tells(program.jaxpr):
        return None

    def there(x: Tree) -> Array:
        return reduce(and_, _masks(program.jaxpr, program.consts, jax.tree.leaves((state, x))))

    return lax.map(there, xs)


def tell(mask: Array) -> Array:
    """The mask, marked as one that says whether the step is there."""
    layer = _layer.get()
    if layer is None or layer[0] != get_opaque_trace_state():
        return checkpoint_name(mask, _NAME)
    layer[1].append(mask)
    return mask


@contextmanager
def told() -> Iterator[list[Array]]:
    """The masks told within, kept from what is around; those of inner loops are not among them."""
    masks: list[Array] = []
    token = _layer.set((get_opaque_trace_state(), masks))
    try:
        yield masks
    finally:
        _layer.reset(token)


def tell_any(layers: list[list[Array]]) -> None:
    """Tell that a step is there where any layer makes one; nothing if a layer has no mask."""
    if all(layers):
        tell(reduce(or_, [reduce(and_, masks) for masks in layers]))


def _tells(program: Jaxpr) -> bool:
    """Whether a mask is told in a program, or in one that it calls."""
    return any(
        eqn.params.get("name") == _NAME
        or (eqn.primitive.name in _CALLS and _tells(_called(eqn.params["jaxpr"])[0]))
        for eqn in program.eqns
    )


def _called(program: Any) -> tuple[Jaxpr, list]:
    """A program and its constants: that of `jax.jit` is closed, that of `jax.checkpoint` is not."""
    return (program, []) if isinstance(program, Jaxpr) else (program.jaxpr, program.consts)


def _masks(program: Jaxpr, consts: list, arguments: list) -> list[Array]:
    """The values of all masks that a program tells, found by running it."""
    values = dict(zip([*program.constvars, *program.invars], [*consts, *arguments], strict=True))
    masks = []
    for eqn in program.eqns:
        taken = [v.val if isinstance(v, Literal) else values[v] for v in eqn.invars]
        if eqn.params.get("name") == _NAME:
            masks.append(taken[0])
        elif eqn.primitive.name in _CALLS:
            masks += _masks(*_called(eqn.params["jaxpr"]), taken)
        given = eqn.primitive.bind(*taken, **eqn.primitive.get_bind_params(eqn.params))
        given = given if eqn.primitive.multiple_results else [given]
        values.update(zip(eqn.outvars, given, strict=True))
    return masks
