"""The recurrences of the field, one a file: `cells.gru.cell`, and the variants beside it."""

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
    """Every cell by name: "gru" is `gru.cell`, "gru.reset_before" the variant beside it."""
    found = []
    for module in __all__[:-2]:
        for variant, value in vars(getattr(sys.modules[__name__], module)).items():
            if isinstance(value, Cell | Unitwise):
                found.append(module if variant == "cell" else f"{module}.{variant}")
    return found


@expect.arguments(name=expect.instance(str))
def named(name: str) -> Recurrence:
    """The cell of that name. Raises ValueError with the nearest name if there is none."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no cell is named {name!r}; {hint}There are: {', '.join(names())}.")
    module, _, variant = name.partition(".")
    return getattr(getattr(sys.modules[__name__], module), variant or "cell")
