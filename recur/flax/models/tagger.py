"""Many to as many: a label for every step; with `ctc`, many to fewer."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from recur import expect, scan
from recur.compose.skips import width
from recur.core import Prior, Recurrence, Tree
from recur.flax.cells import NnxCell
from recur.flax.models.symbols import embedded


class Tagger(nnx.Module):
    """One label per step: a linear readout of every h, or the readout of the cell itself.

    A call takes xs (T, ..., d) and optionally lengths (...), and gives logits (T, ..., tags).
    Trained with `cross_entropy`, its tags are aligned with the inputs. Trained with `ctc`, with one
    more tag for the blank, they are a shorter sequence of unknown alignment, for `ctc_decode`.

    Args:
        cell: A recurrence, which may be `Bidirectional`.
        d: Inputs.
        n: Units.
        tags: Labels, 1 or more.
        read: (params of the cell, hs (..., n)) -> logits (..., tags), for a cell that has its own
            readout, such as `jordan.logits`; a linear readout if None.
        prior: The prior of the parameters of the cell; `Prior()` if None.
        rngs: Its `params` draws them.

    Raises:
        ValueError: The cell is not a recurrence, tags < 1, or read gives another number of tags.
        TypeError: A number is not an integer, read is not a function, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> model = models.Tagger(cells.vanilla.cell, 2, 3, tags=4, rngs=nnx.Rngs(0))
        >>> print(model(jnp.ones((5, 8, 2))).shape)
        (5, 8, 4)
    """

    @expect.arguments(
        tags=expect.count(1),
        read=expect.optional(expect.function),
        rngs=expect.instance(nnx.Rngs),
    )
    def __init__(
        self,
        cell: Recurrence,
        d: int,
        n: int,
        tags: int,
        *,
        read: Callable[[Tree, Array], Array] | None = None,
        prior: Prior | None = None,
        rngs: nnx.Rngs,
    ):
        self.rnn = NnxCell(cell, d, n, prior=prior, rngs=rngs)
        self.read = read
        if read is None:
            self.readout = nnx.Linear(width(cell, n), tags, rngs=rngs)
            return
        hs = jnp.zeros(width(cell, n))
        found = jax.eval_shape(read, self.rnn.values, hs).shape
        if found != (tags,):
            raise ValueError(
                f"read must give {(tags,)} logits for {tags} tags; got {found}. "
                f"jordan.outputs(cell, {tags}) gives a Jordan cell as many outputs"
            )

    def __call__(self, xs: Array, lengths: Array | None = None) -> Array:
        """xs (T, ..., d), lengths (...) -> logits (T, ..., tags)."""
        _, hs = scan.run(self.rnn.cell, self.rnn.values, xs, lengths=lengths)
        return self.readout(hs) if self.read is None else self.read(self.rnn.values, hs)


class Embedded(nnx.Module):
    """A model of symbols, from a model of vectors (d,).

    A call takes symbols (T, ...) and optionally lengths (...), and returns the output of the model
    for their embeddings. Known symbols out of range raise ValueError; traced ones give NaN.

    Args:
        model: (xs (T, ..., d), lengths) -> anything, such as a `Tagger`.
        vocabulary: Symbols, 1 or more.
        d: Features of a symbol, 1 or more.
        rngs: Its `params` draws the embedding.

    Raises:
        ValueError: vocabulary or d is below 1.
        TypeError: A number is not an integer, model is not a function, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> rngs = nnx.Rngs(0)
        >>> tagger = models.Tagger(cells.vanilla.cell, 2, 3, tags=4, rngs=rngs)
        >>> model = models.Embedded(tagger, vocabulary=6, d=2, rngs=rngs)
        >>> print(model(jnp.array([0, 5, 1])).shape)
        (3, 4)
    """

    @expect.arguments(
        model=expect.function,
        vocabulary=expect.count(1),
        d=expect.count(1),
        rngs=expect.instance(nnx.Rngs),
    )
    def __init__(self, model: Callable[..., Array], vocabulary: int, d: int, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(vocabulary, d, rngs=rngs)
        self.model = model

    def __call__(self, symbols: Array, lengths: Array | None = None) -> Array:
        """symbols (T, ...) integers, lengths (...) -> the output of the model for their embeddings.

        Known symbols out of range raise ValueError; traced ones give NaN.
        """
        return self.model(embedded(self.embed, "symbols", symbols, lengths), lengths)
