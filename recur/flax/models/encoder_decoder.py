"""Many to many of a different length: read a sequence, then write one.

    EncoderDecoder      the decoder sees one vector of the encoder, at every step
    AttentiveDecoder    the decoder attends to all of its steps: sum_t softmax_t(m_t . Q h) m_t

Sutskever et al. 2014, arXiv:1409.3215; Cho et al. 2014, arXiv:1406.1078; attention, Bahdanau et
al. 2015, arXiv:1409.0473, with the score of Luong et al. 2015, arXiv:1508.04025 ("general").
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from recur import expect, scan
from recur.compose.skips import width
from recur.core import Prior, Recurrence, hidden
from recur.flax.cells import NnxCell
from recur.flax.models.beams import Found
from recur.flax.models.generator import Generator, Look, shown
from recur.flax.models.picks import Pick
from recur.flax.models.pooling import Pool, attend, last
from recur.flax.models.symbols import embedded


class EncoderDecoder(nnx.Module):
    """Symbols to symbols through one vector, the pooled output of the encoder.

    A call is teacher forcing: source (T, ...), targets (L, ...) and optionally lengths (...) of the
    source give logits (L, ..., K). Sutskever et al. 2014, arXiv:1409.3215; Cho et al. 2014,
    arXiv:1406.1078.

    Args:
        encoder: A recurrence; it may be `Bidirectional`, with `ends` as its pool.
        decoder: A recurrence that reads only the past.
        vocabularies: Symbols of source and target.
        d: Features of a symbol, 1 or more.
        n: Units of both sides, 1 or more.
        pool: `last`, `ends`, `mean` or an `AttentionPool`.
        prior: The prior of the parameters of the cells; `Prior()` if None.
        rngs: Its `params` draws all parameters.

    Raises:
        ValueError: A cell is not a recurrence, the decoder is `Bidirectional`, there are not two
            vocabularies, or a number is below 1.
        TypeError: A number is not an integer, pool is not a function, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> cell = cells.vanilla.cell
        >>> model = models.EncoderDecoder(cell, cell, (6, 7), 2, 3, rngs=nnx.Rngs(0))
        >>> source, targets = jnp.zeros((5, 8), int), jnp.zeros((4, 8), int)
        >>> print(model(source, targets).shape)
        (4, 8, 7)
    """

    @expect.arguments(
        d=expect.count(1),
        n=expect.count(1),
        pool=expect.function,
        rngs=expect.instance(nnx.Rngs),
    )
    def __init__(
        self,
        encoder: Recurrence,
        decoder: Recurrence,
        vocabularies: tuple[int, int],
        d: int,
        n: int,
        *,
        pool: Pool = last,
        prior: Prior | None = None,
        rngs: nnx.Rngs,
    ):
        expect.instance(tuple, list)("vocabularies", vocabularies)
        if len(vocabularies) != 2:
            raise ValueError(
                f"vocabularies must be a pair, of the source and of the target; got {vocabularies}"
            )
        source, target = vocabularies
        expect.count(1)("the vocabulary of the source", source)
        self.embed = nnx.Embed(source, d, rngs=rngs)
        self.encoder = NnxCell(encoder, d, n, prior=prior, rngs=rngs)
        k = width(encoder, n)
        self.decoder = Generator(decoder, k, target, d, n, prior=prior, rngs=rngs)
        self.pool = pool

    def __call__(self, source: Array, targets: Array, lengths: Array | None = None) -> Array:
        """Teacher forcing: source (T, ...) of `lengths`, targets (L, ...) -> logits (L, ..., K)."""
        return self.decoder.follow(self.look(self.read(source, lengths), lengths), targets)

    def generate(
        self,
        key: Array,
        source: Array,
        steps: int,
        lengths: Array | None = None,
        pick: Pick = jax.random.categorical,
    ) -> Array:
        """Free running: source (T, ...) of `lengths` -> symbols (steps, ...)."""
        look = self.look(self.read(source, lengths), lengths)
        return self.decoder.write(key, look, source.shape[1:], steps, pick)

    def beam_search(
        self, source: Array, steps: int, beams: int, end: int, lengths: Array | None = None
    ) -> Found:
        """The likeliest symbols (steps, ...) of source (T, ...) of `lengths`, up to `end`.

        `end` is the target symbol that ends a sequence. See `beams.beam_search`; with one beam it
        is `generate` with `greedy`.
        """
        look = self.look(self.read(source, lengths), lengths)
        return self.decoder.search(look, source.shape[1:], steps, beams, end)

    def read(self, source: Array, lengths: Array | None = None) -> Array:
        """The encoder's output at every step, (T, ..., k).

        Known symbols out of range raise ValueError; traced ones give NaN.
        """
        xs = embedded(self.embed, "source", source, lengths)
        return scan.run(self.encoder.cell, self.encoder.values, xs, lengths=lengths)[1]

    def look(self, memory: Array, lengths: Array | None) -> Look:
        """What the decoder sees, as a function of its h: here one vector, the same for every h."""
        return shown(self.pool(memory, lengths))


class AttentiveDecoder(EncoderDecoder):
    """The encoder-decoder that attends to the source at every step.

        sum_t softmax_t(m_t . Q h) m_t

    It is called like an `EncoderDecoder`. Bahdanau et al. 2015, arXiv:1409.0473, with the score of
    Luong et al. 2015, arXiv:1508.04025.

    Args:
        encoder: A recurrence; it may be `Bidirectional`.
        decoder: A recurrence that reads only the past.
        vocabularies: Symbols of source and target.
        d: Features of a symbol, 1 or more.
        n: Units of both sides, 1 or more.
        prior: The prior of the parameters of the cells; `Prior()` if None.
        rngs: Its `params` draws all parameters.

    Raises:
        ValueError: As in `EncoderDecoder`.
        TypeError: As in `EncoderDecoder`.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> cell = cells.vanilla.cell
        >>> model = models.AttentiveDecoder(cell, cell, (6, 7), 2, 3, rngs=nnx.Rngs(0))
        >>> source, targets = jnp.zeros((5, 8), int), jnp.zeros((4, 8), int)
        >>> print(model(source, targets).shape)
        (4, 8, 7)
    """

    @expect.arguments(rngs=expect.instance(nnx.Rngs))
    def __init__(
        self,
        encoder: Recurrence,
        decoder: Recurrence,
        vocabularies: tuple[int, int],
        d: int,
        n: int,
        *,
        prior: Prior | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(encoder, decoder, vocabularies, d, n, prior=prior, rngs=rngs)
        units = jax.eval_shape(lambda: hidden(self.decoder.start())).shape[-1]
        self.query = nnx.Linear(units, width(encoder, n), use_bias=False, rngs=rngs)

    def look(self, memory: Array, lengths: Array | None) -> Look:
        """The mean over the steps of the source, weighted by their score with h."""

        def look(h: Array) -> Array:
            return attend(jnp.einsum("t...n,...n->t...", memory, self.query(h)), memory, lengths)

        return look
