"""A sequence through one vector and back.

Dai and Le 2015, arXiv:1511.01432; Srivastava et al. 2015, arXiv:1502.04681.
"""

import jax
from flax import nnx
from jax import Array

from recur import expect, scan
from recur.compose.skips import width
from recur.core import Prior, Recurrence, recurrence
from recur.flax.cells import NnxCell
from recur.flax.models.generator import Generator
from recur.flax.models.picks import greedy
from recur.flax.models.pooling import last
from recur.flax.models.symbols import embedded, present_symbols


class Autoencoder(nnx.Module):
    """A sequence through one vector and back; the code is the last h of the encoder.

    A call is teacher forcing: symbols (T, ...) and optionally lengths (...) give logits (T, ...,
    vocabulary) of the same. Dai and Le 2015, arXiv:1511.01432; Srivastava et al. 2015,
    arXiv:1502.04681.

    Args:
        cell: A recurrence that reads only the past.
        vocabulary: Symbols, 1 or more.
        d: Features of a symbol, 1 or more.
        n: Units, 1 or more.
        prior: The prior of the parameters of the cells; `Prior()` if None.
        rngs: Its `params` draws all parameters.

    Raises:
        ValueError: The cell is `Bidirectional` or not a recurrence, or a number is below 1.
        TypeError: A number is not an integer, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> model = models.Autoencoder(cells.vanilla.cell, 6, 2, 3, rngs=nnx.Rngs(0))
        >>> symbols = jnp.zeros((5, 8), int)
        >>> print(model.encode(symbols).shape, model(symbols).shape)
        (8, 3) (5, 8, 6)
    """

    @expect.arguments(
        cell=recurrence,
        vocabulary=expect.count(1),
        d=expect.count(1),
        n=expect.count(1),
        rngs=expect.instance(nnx.Rngs),
    )
    def __init__(
        self,
        cell: Recurrence,
        vocabulary: int,
        d: int,
        n: int,
        *,
        prior: Prior | None = None,
        rngs: nnx.Rngs,
    ):
        self.embed = nnx.Embed(vocabulary, d, rngs=rngs)
        self.encoder = NnxCell(cell, d, n, prior=prior, rngs=rngs)
        k = width(cell, n)
        self.decoder = Generator(cell, k, vocabulary, d, n, prior=prior, rngs=rngs)

    def __call__(self, symbols: Array, lengths: Array | None = None) -> Array:
        """Teacher forcing: symbols (T, ...) -> logits (T, ..., vocabulary) of the same.

        Known symbols out of range raise ValueError; traced ones give NaN.
        """
        return self.decoder(self.encode(symbols, lengths), present_symbols(symbols, lengths))

    def encode(self, symbols: Array, lengths: Array | None = None) -> Array:
        """The code of each sequence, (..., n)."""
        xs = embedded(self.embed, "symbols", symbols, lengths)
        _, hs = scan.run(self.encoder.cell, self.encoder.values, xs, lengths=lengths)
        return last(hs, lengths)

    def decode(self, code: Array, steps: int) -> Array:
        """The likeliest symbols (steps, ...) for a code, each given those before it."""
        return self.decoder.generate(jax.random.key(0), code, steps, greedy)
