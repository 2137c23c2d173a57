"""Which steps of a sequence happen in a body: those that no mask skips.

`masked` marks its mask by a name in the program of a step. This costs nothing at run time.
`steps_present` looks for that name, so it finds the mask under other combinators, inside
`jax.jit` and inside a user's function.
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

from recur import expect
from recur.core import Body, Tree
from recur.jaxpr import CALLS, evaluate, inner

_NAME = "recur.present"
_layer: ContextVar[tuple[Any, list[Array]] | None] = ContextVar("layer", default=None)


@expect.arguments(body=expect.function, state=expect.arrays, xs=expect.timed)
def steps_present(body: Body, state: Tree, xs: Tree) -> Array | None:
    """Which steps happen in a body with masks. It costs one trace of the body.

    With several masks, a step happens where all of them are True. In a stack of layers, a step
    happens where it happens in some layer, so everywhere if one layer has no mask. A mask within a
    loop in the body is not found, since it belongs to the steps of that loop.

    Args:
        body: One step, (state, x) -> (state, h).
        state: Any state that the body takes.
        xs: Inputs, arrays (T, ...).

    Returns:
        Booleans (T, ...); None for a body without a mask.

    Raises:
        ValueError: The body does not take the state and an input.
        TypeError: The body is not a function, or state or xs hold no arrays.

    Example:
        >>> params = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> body = scan.tied(compose.masked(cells.vanilla.relu), params)
        >>> xs = jnp.array([True, False, True]), jnp.ones((3, 1))
        >>> print(compose.steps_present(body, jnp.zeros(1), xs))
        [ True False  True]
    """
    x = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
    try:
        program = jax.make_jaxpr(body)(state, x)
    except Exception as error:  # whatever the step raises, report what it was given
        raise ValueError(
            f"the body takes no state {expect.told(state)} with an input {expect.told(x)}: {error}"
        ) from error
    if not _tells(program.jaxpr):
        return None

    def there(x: Tree) -> Array:
        return reduce(and_, _masks(program, jax.tree.leaves((state, x))))

    return lax.map(there, xs)


def tell(mask: Array) -> Array:
    """The mask, marked for `steps_present`."""
    layer = _layer.get()
    if layer is None or layer[0] != _trace():
        return checkpoint_name(mask, _NAME)
    layer[1].append(mask)
    return mask


@contextmanager
def told() -> Iterator[list[Array]]:
    """Collect the masks that are marked in this block, but not in loops within it."""
    masks: list[Array] = []
    token = _layer.set((_trace(), masks))
    try:
        yield masks
    finally:
        _layer.reset(token)


def _trace() -> Any:
    """The current trace of JAX, which is another one within a loop."""
    from jax.extend.core import get_opaque_trace_state  # here, to keep `import recur` light

    return get_opaque_trace_state()


def tell_any(layers: list[list[Array]]) -> None:
    """Mark that a step happens where some layer makes one; nothing if a layer has no mask."""
    if all(layers):
        tell(reduce(or_, [reduce(and_, masks) for masks in layers]))


def _tells(program: Any) -> bool:
    """Whether a mask is marked in a program or in one that it calls."""
    return any(
        eqn.params.get("name") == _NAME or (eqn.primitive.name in CALLS and _tells(inner(eqn)[0]))
        for eqn in program.eqns
    )


def _masks(program: Any, arguments: list) -> list[Array]:
    """The values of all masks that are marked in a program, found by running it."""
    masks = []

    def keep(equation: Any, inputs: list) -> None:
        if equation.params.get("name") == _NAME:
            masks.append(inputs[0])

    evaluate(program.jaxpr, program.consts, arguments, keep)
    return masks
