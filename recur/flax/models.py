"""Models around a cell, as nnx modules: pytrees, so `grad`, `vmap` and Optax take them."""

from flax import nnx
from jax import Array

from recur import scan
from recur.core import Prior, Recurrence
from recur.flax.cells import NnxCell


class Classifier(nnx.Module):
    """One label a sequence: a linear readout of the last h.

    xs (T, ..., d) -> logits (..., classes). `scan.tied(model.rnn.cell, model.rnn.values)` is the
    trained recurrence, for every analysis.
    """

    def __init__(
        self,
        cell: Recurrence,
        d: int,
        n: int,
        classes: int,
        *,
        prior: Prior | None = None,
        rngs: nnx.Rngs,
    ):
        self.rnn = NnxCell(cell, d, n, prior=prior, rngs=rngs)
        self.readout = nnx.Linear(n, classes, rngs=rngs)

    def __call__(self, xs: Array) -> Array:
        """xs (T, ..., d) -> logits (..., classes)."""
        _, hs = scan.run(self.rnn.cell, self.rnn.values, xs)
        return self.readout(hs[-1])
