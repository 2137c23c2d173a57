"""Many to one: a label of a sequence."""

from flax import nnx
from jax import Array

from recur import expect, scan
from recur.compose.skips import width
from recur.core import Prior, Recurrence
from recur.flax.cells import NnxCell
from recur.flax.models.pooling import Pool, last


class Classifier(nnx.Module):
    """One label a sequence: a linear readout of the pooled h, by default the last.

    xs (T, ..., d) -> logits (..., classes). `pool` is `last`, `ends`, `mean` or an `AttentionPool`.
    `scan.tied(model.rnn.cell, model.rnn.values)` is the trained recurrence, for every analysis.
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
