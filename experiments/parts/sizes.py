"""The number of parameters of a recurrence, and the width that gives a wanted number."""

from bisect import bisect

import jax

from recur import Prior
from recur.core import Recurrence


def count(cell: Recurrence, d: int, n: int) -> int:
    """The number of parameters of a recurrence with d inputs and n units."""
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), Prior(), d, n))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def width(cell: Recurrence, d: int, parameters: int) -> int:
    """The n whose number of parameters comes nearest to the given one."""
    fits = bisect(range(parameters), parameters, lo=1, key=lambda n: count(cell, d, n)) - 1
    return min((max(fits, 1), fits + 1), key=lambda n: abs(count(cell, d, n) - parameters))
