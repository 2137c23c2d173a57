"""A document through one vector and back: words -> sentences -> document -> sentences -> words.

    s_i = last h over the words of sentence i
    document = last h of a recurrence over the s_i        combine="recurrence"
    document = sum_i s_i                                  combine="sum", the classic form
    p_1, p_2, ... = h of a recurrence that is shown the document at every step
    the words of sentence i are written from p_i

A sum does not depend on the order of the sentences: documents that differ only in their order have
the same code. After Li, Luong and Jurafsky 2015, arXiv:1506.01057. Here the plan p does not depend
on the sentences written so far, so all sentences are written in parallel.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from recur import expect, scan
from recur.compose.skips import width
from recur.core import Prior, Recurrence
from recur.flax.cells import NnxCell
from recur.flax.models.generator import Generator
from recur.flax.models.picks import greedy
from recur.flax.models.pooling import last
from recur.flax.models.symbols import embedded, present_symbols


class HierarchicalAutoencoder(nnx.Module):
    """A document through one vector and back: words -> sentences -> a code -> sentences -> words.

    A call is teacher forcing: words (S, W, ...) of S sentences of at most W words, and optionally
    lengths (S, ...), the words of each sentence, give logits (S, W, ..., vocabulary) of these
    words. A document ends with its last sentence that has any words. A sentence without words is
    zero in a sum. A sum does not depend on the order of the sentences. After Li, Luong and Jurafsky
    2015, arXiv:1506.01057.

    Args:
        cell: A recurrence that reads only the past.
        vocabulary: Words, 1 or more.
        d: Features of a word, 1 or more.
        n: Units.
        combine: "recurrence", the last h over the sentences, or "sum", their sum.
        prior: The prior of the parameters of the cells; `Prior()` if None.
        rngs: Its `params` draws all parameters.

    Raises:
        ValueError: The cell is `Bidirectional` or not a recurrence, combine is neither word, or a
            number is below 1.
        TypeError: A number is not an integer, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> model = models.HierarchicalAutoencoder(cells.vanilla.cell, 6, 2, 3, rngs=nnx.Rngs(0))
        >>> words = jnp.zeros((2, 4, 8), int)  # two sentences of four words, eight documents
        >>> print(model.encode(words).shape, model(words).shape)
        (8, 3) (2, 4, 8, 6)
    """

    @expect.arguments(vocabulary=expect.count(1), d=expect.count(1), rngs=expect.instance(nnx.Rngs))
    def __init__(
        self,
        cell: Recurrence,
        vocabulary: int,
        d: int,
        n: int,
        *,
        combine: Literal["recurrence", "sum"] = "recurrence",
        prior: Prior | None = None,
        rngs: nnx.Rngs,
    ):
        if combine not in ("recurrence", "sum"):
            raise ValueError(f'combine must be "recurrence" or "sum"; got {combine!r}')
        k = width(cell, n)
        self.embed = nnx.Embed(vocabulary, d, rngs=rngs)
        self.decoder = Generator(cell, k, vocabulary, d, n, prior=prior, rngs=rngs)
        self.words = NnxCell(cell, d, n, prior=prior, rngs=rngs)
        if combine == "recurrence":
            self.sentences = NnxCell(cell, k, n, prior=prior, rngs=rngs)
        self.combine = combine
        self.planner = NnxCell(cell, k, n, prior=prior, rngs=rngs)

    def __call__(self, words: Array, lengths: Array | None = None) -> Array:
        """Teacher forcing: words (S, W, ...) -> logits (S, W, ..., vocabulary) of those words."""
        plan = self.plan(self.encode(words, lengths), len(words))
        return self.decoder(plan, present_symbols(words.swapaxes(0, 1), lengths)).swapaxes(0, 1)

    def encode(self, words: Array, lengths: Array | None = None) -> Array:
        """The code of each document, (..., n).

        Known words and lengths out of range raise ValueError; traced ones give NaN.
        """
        if words.ndim < 2:
            raise ValueError(
                f"words must be (S, W, ...), with sentences first; got shape {words.shape}"
            )
        xs = embedded(self.embed, "words", words.swapaxes(0, 1), lengths)
        _, hs = scan.run(self.words.cell, self.words.values, xs, lengths=lengths)
        sentences = last(hs, lengths)
        if self.combine == "sum":
            code = sentences.sum(axis=0)
        else:
            count = None if lengths is None else _count(jnp.asarray(lengths))
            _, hs = scan.run(self.sentences.cell, self.sentences.values, sentences, lengths=count)
            code = last(hs, count)
        if lengths is None:
            return code
        return scan.or_nan(scan.inside(lengths, words.shape[1] + 1).all(axis=0), code)

    def plan(self, code: Array, sentences: int) -> Array:
        """The vector from which each sentence is written, (sentences, ..., n)."""
        shown = jnp.broadcast_to(code, (sentences, *code.shape))
        return scan.run(self.planner.cell, self.planner.values, shown)[1]

    def decode(self, code: Array, sentences: int, steps: int) -> Array:
        """The likeliest words (sentences, steps, ...) for a code."""
        plan = self.plan(code, sentences)
        return self.decoder.generate(jax.random.key(0), plan, steps, greedy).swapaxes(0, 1)


def _count(lengths: Array) -> Array:
    """Sentences of each document, up to the last that has words: (S, ...) -> (...)."""
    order = jnp.arange(1, len(lengths) + 1).reshape(-1, *(1 for _ in lengths.shape[1:]))
    return jnp.where(lengths > 0, order, 0).max(axis=0)
