"""The recurrences of the field, one per module: `cells.gru.cell`, and its variants beside it.

A module holds the equations, the types of the parameters and the cells. A cell is a constant, and
its functions are its fields:

    cell.init(key, prior, d, n)      parameters for d inputs and n units
    cell.start(params, batch=())     the state before the first input, (*batch, n)
    cell.step(params, state, x)      the next state and the output h (..., n), for x (..., d)

`init` draws W, V and b from the prior; other parameters say how they are drawn. In the equations
W h means `h @ W`, since vectors are rows. `GATES` names the gates in the order in which they lie in
W, V and b.

Example:
    >>> cell = cells.gru.cell
    >>> params = cell.init(jax.random.key(0), Prior(), d=2, n=3)
    >>> state, h = cell.step(params, cell.start(params), jnp.ones(2))
    >>> final, hs = scan.run(cell, params, jnp.ones((5, 2)))
    >>> print(h.shape, hs.shape)
    (3,) (5, 3)
"""

import difflib
import sys

from recur import expect
from recur.cells import (
    antisymmetric,
    cfn,
    cornn,
    gru,
    highway,
    irnn,
    jordan,
    leaky,
    lstm,
    mgu,
    mingru,
    minimal,
    minlstm,
    ugrnn,
    vanilla,
    wave,
)
from recur.core import Cell, Recurrence, Unitwise

__all__ = [
    "antisymmetric",
    "cfn",
    "cornn",
    "gru",
    "highway",
    "irnn",
    "jordan",
    "leaky",
    "lstm",
    "mgu",
    "mingru",
    "minimal",
    "minlstm",
    "ugrnn",
    "vanilla",
    "wave",
    "names",
    "named",
]


def names() -> list[str]:
    """The names of all cells, as `named` takes them.

    Returns:
        Names such as "gru" for `cells.gru.cell` and "gru.reset_before" for the variant beside it.

    Example:
        >>> print([name for name in cells.names() if name.startswith("gru")])
        ['gru', 'gru.cudnn', 'gru.reset_before']
    """
    found = []
    for module in __all__[:-2]:
        for variant, value in vars(getattr(sys.modules[__name__], module)).items():
            if isinstance(value, Cell | Unitwise):
                found.append(module if variant == "cell" else f"{module}.{variant}")
    return found


@expect.arguments(name=expect.instance(str))
def named(name: str) -> Recurrence:
    """The cell with a given name.

    Args:
        name: One of `names()`.

    Returns:
        The cell.

    Raises:
        ValueError: No cell has this name; the message suggests the nearest one.
        TypeError: The name is not a string.

    Example:
        >>> print(cells.named("gru.reset_before") is cells.gru.reset_before)
        True
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no cell is named {name!r}; {hint}The cells are {', '.join(names())}.")
    module, _, variant = name.partition(".")
    return getattr(getattr(sys.modules[__name__], module), variant or "cell")
