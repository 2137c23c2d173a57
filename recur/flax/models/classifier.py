"""Many to one: a label for a sequence."""

from flax import nnx
from jax import Array

from recur import expect, scan
from recur.compose.skips import width
from recur.core import Prior, Recurrence
from recur.flax.cells import NnxCell
from recur.flax.models.pooling import Pool, last


class Classifier(nnx.Module):
    """One label per sequence: a linear readout of the pooled h, by default the last.

    A call takes xs (T, ..., d) and optionally lengths (...), and gives logits (..., classes).
    `scan.tied(model.rnn.cell, model.rnn.values)` is the trained recurrence, for every analysis.

    Args:
        cell: A recurrence, which may be `Bidirectional`.
        d: Inputs.
        n: Units.
        classes: Labels, 1 or more.
        pool: `last`, `ends`, `mean` or an `AttentionPool`.
        prior: The prior of the parameters of the cell; `Prior()` if None.
        rngs: Its `params` draws them.

    Raises:
        ValueError: The cell is not a recurrence, or classes < 1.
        TypeError: A number is not an integer, pool is not a function, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> model = models.Classifier(cells.vanilla.cell, 2, 3, classes=4, rngs=nnx.Rngs(0))
        >>> print(model(jnp.ones((5, 8, 2))).shape)  # of xs (T, B, d)
        (8, 4)
    """

    @expect.arguments(classes=expect.count(1), pool=expect.function, rngs=expect.instance(nnx.Rngs))
    def __init__(
        self,
        cell: Recurrence,
        d: int,
        n: int,
        classes: int,
        *,
        pool: Pool = last,
        prior: Prior | None = None,
        rngs: nnx.Rngs,
    ):
        self.rnn = NnxCell(cell, d, n, prior=prior, rngs=rngs)
        self.readout = nnx.Linear(width(cell, n), classes, rngs=rngs)
        self.pool = pool

    def __call__(self, xs: Array, lengths: Array | None = None) -> Array:
        """xs (T, ..., d), lengths (...) -> logits (..., classes)."""
        _, hs = scan.run(self.rnn.cell, self.rnn.values, xs, lengths=lengths)
        return self.readout(self.pool(hs, lengths))
