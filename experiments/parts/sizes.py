"""How many parameters a recurrence has, and the width at which it has as many as another."""

from bisect import bisect

import jax

from recur import Prior
from recur.core import Recurrence


def count(cell: Recurrence, d: int, n: int) -> int:
    """Parameters of a recurrence."""
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), Prior(), d, n))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def width(cell: Recurrence, d: int, parameters: int) -> int:
    """The n whose parameter count comes nearest to the wanted one."""
    fits = bisect(range(parameters), parameters, lo=1, key=lambda n: count(cell, d, n)) - 1
    return min((max(fits, 1), fits + 1), key=lambda n: abs(count(cell, d, n) - parameters))
