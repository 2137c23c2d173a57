"""One to many: symbols from a vector, each conditioned on those before it.

    h_t = cell(h_{t-1}, [E[y_{t-1}], context])
    p(y_t | y_1 .. y_{t-1}, context) = softmax(A h_t + b)

y_0 is a separate start symbol. The context is one vector, or is looked up at each step with the
previous state. Cho et al. 2014, arXiv:1406.1078.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from recur import expect, scan
from recur.compose.skips import width
from recur.core import Body, Prior, Recurrence, Tree, hidden
from recur.flax.cells import NnxCell
from recur.flax.models.beams import Found, beam_search
from recur.flax.models.language import require_causal
from recur.flax.models.picks import Pick, saying
from recur.flax.models.symbols import vectors
from recur.generate import Feed, free_running

Look = Callable[[Array], Array]  # h of the step before (..., n) -> context (..., k)


def shown(context: Array) -> Look:
    """One context (..., k) for every step."""

    def look(h: Array) -> Array:
        del h
        return context

    return look


class Generator(nnx.Module):
    """Symbols from a vector, each from those before it.

        h_t = cell(h_{t-1}, [E[y_{t-1}], context])
        p(y_t | y_1 .. y_{t-1}, context) = softmax(A h_t + b)

    A call is teacher forcing: a context (..., k) and targets (L, ...) give logits (L, ...,
    vocabulary). Reserve one symbol for the end of a sequence. For scheduled sampling,
    `generate.scheduled` takes `body` and `feed`. Cho et al. 2014, arXiv:1406.1078.

    Args:
        cell: A recurrence that reads only the past.
        k: Features of the context, 1 or more.
        vocabulary: Symbols, 1 or more.
        d: Features of a symbol, 1 or more.
        n: Units, 1 or more.
        prior: The prior of the parameters of the cell; `Prior()` if None.
        rngs: Its `params` draws all parameters.

    Raises:
        ValueError: The cell is `Bidirectional` or not a recurrence, or a number is below 1.
        TypeError: A number is not an integer, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> model = models.Generator(cells.vanilla.cell, 2, 6, 2, 3, rngs=nnx.Rngs(0))
        >>> context = jnp.ones((8, 2))
        >>> print(model.generate(jax.random.key(0), context, 4, models.greedy).shape)
        (4, 8)
    """

    @expect.arguments(
        k=expect.count(1),
        vocabulary=expect.count(1),
        d=expect.count(1),
        n=expect.count(1),
        rngs=expect.instance(nnx.Rngs),
    )
    def __init__(
        self,
        cell: Recurrence,
        k: int,
        vocabulary: int,
        d: int,
        n: int,
        *,
        prior: Prior | None = None,
        rngs: nnx.Rngs,
    ):
        require_causal(cell)
        self.embed = nnx.Embed(vocabulary + 1, d, rngs=rngs)  # the last is the start symbol
        self.rnn = NnxCell(cell, d + k, n, prior=prior, rngs=rngs)
        self.readout = nnx.Linear(width(cell, n), vocabulary, rngs=rngs)

    def __call__(self, context: Array, targets: Array) -> Array:
        """Teacher forcing: context (..., k), targets (L, ...) -> logits (L, ..., vocabulary)."""
        return self.follow(shown(context), targets)

    def generate(
        self, key: Array, context: Array, steps: int, pick: Pick = jax.random.categorical
    ) -> Array:
        """Free running: context (..., k) -> symbols (steps, ...), drawn, `greedy` or `sampled`.

        Once a logit is NaN, the symbols are -1.
        """
        return self.write(key, shown(context), context.shape[:-1], steps, pick)

    def beam_search(self, context: Array, steps: int, beams: int, end: int) -> Found:
        """The likeliest symbols for a context (..., k) up to `end`; see `beams.beam_search`."""
        return self.search(shown(context), context.shape[:-1], steps, beams, end)

    def follow(self, look: Look, targets: Array) -> Array:
        """Teacher forcing where the context is looked up: logits (L, ..., vocabulary).

        Known targets out of range raise ValueError; traced ones give NaN from there on. So pad
        targets with a symbol of the vocabulary.
        """
        scan.require_index("targets", targets, self.embed.num_embeddings - 1, "symbols")
        state, inputs = self.start(targets.shape[1:]), self.inputs(targets)
        return self.readout(lax.scan(self.body(look), state, inputs)[1])

    def write(
        self, key: Array, look: Look, batch: tuple[int, ...], steps: int, pick: Pick
    ) -> Array:
        """Free running where the context is looked up: symbols (steps, *batch)."""
        feed, state = self.feed(pick), self.start(batch)
        _, _, symbols = free_running(key, self.body(look), feed, state, self.first(batch), steps)
        return symbols[..., 0]

    def search(self, look: Look, batch: tuple[int, ...], steps: int, beams: int, end: int) -> Found:
        """The likeliest symbols where the context is looked up, (steps, *batch)."""
        state, first = self.start(batch), self.first(batch)
        return beam_search(self.body(look), self.readout, state, first, steps, beams, end)

    def body(self, look: Look) -> Body:
        """(state, symbol (..., 1)) -> (state, h): one step as analyses and `generate` take it."""
        values = self.rnn.values

        def body(state: Tree, symbol: Array) -> tuple[Tree, Array]:
            x = [vectors(self.embed, symbol[..., 0]), look(hidden(state))]
            return self.rnn.cell.step(values, state, jnp.concatenate(x, axis=-1))

        return body

    def feed(self, pick: Pick) -> Feed:
        """(key, h) -> the next symbol (..., 1), or -1 where a logit is NaN: there is none."""
        return saying(self.readout, pick)

    def start(self, batch: tuple[int, ...] = ()) -> Tree:
        """The state before the first symbol."""
        return self.rnn.cell.start(self.rnn.values, batch)

    def first(self, batch: tuple[int, ...] = ()) -> Array:
        """The start symbol, (*batch, 1)."""
        return jnp.full((*batch, 1), self.embed.num_embeddings - 1)

    def inputs(self, targets: Array) -> Array:
        """The start symbol and all targets but the last, (L, ..., 1); -1 for an invalid target."""
        beginning = self.embed.num_embeddings - 1
        targets = jnp.where(scan.inside(targets, beginning), targets.astype(int), -1)
        return jnp.concatenate([jnp.full_like(targets[:1], beginning), targets[:-1]])[..., None]
