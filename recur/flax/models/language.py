"""A language model, p(symbol_{t+1} | symbols up to t), with tied input and output embeddings.

    logits_t = E (A h_t + a),   x_t = E[symbol_t]

Tied embeddings: Press and Wolf 2017, arXiv:1608.05859. For a large vocabulary, training can
estimate the sum of the softmax from a sample: Bengio and Senecal 2008; Jean et al. 2015,
arXiv:1412.2007.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from recur import expect, scan
from recur.compose.layers import causal
from recur.compose.skips import width
from recur.core import Prior, Recurrence, Tree
from recur.flax.cells import NnxCell
from recur.flax.models.losses import mean_present
from recur.flax.models.picks import sampled, saying
from recur.flax.models.symbols import embedded, vectors
from recur.generate import free_running


class LanguageModel(nnx.Module):
    """Logits of the next symbol at every step; input and output share one embedding.

        logits_t = E (A h_t + a),   x_t = E[symbol_t]

    A call takes symbols (T, ...) and optionally lengths (...), and gives logits (T, ...,
    vocabulary) of the symbol that follows. Press and Wolf 2017, arXiv:1608.05859.

    Args:
        cell: A recurrence that reads only the past.
        vocabulary: Symbols, 1 or more.
        d: Features of a symbol, 1 or more.
        n: Units.
        prior: The prior of the parameters of the cell; `Prior()` if None.
        rngs: Its `params` draws all parameters.

    Raises:
        ValueError: The cell is `Bidirectional` or not a recurrence, or vocabulary or d is below 1.
        TypeError: A number is not an integer, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> model = models.LanguageModel(cells.vanilla.cell, 6, 2, 3, rngs=nnx.Rngs(0))
        >>> text = jnp.array([0, 5, 1])
        >>> print(model(text).shape, model.generate(jax.random.key(0), text, steps=4).shape)
        (3, 6) (4,)
    """

    @expect.arguments(vocabulary=expect.count(1), d=expect.count(1), rngs=expect.instance(nnx.Rngs))
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
        require_causal(cell)
        self.embed = nnx.Embed(vocabulary, d, rngs=rngs)
        self.rnn = NnxCell(cell, d, n, prior=prior, rngs=rngs)
        self.project = nnx.Linear(width(cell, n), d, rngs=rngs)

    def __call__(self, symbols: Array, lengths: Array | None = None) -> Array:
        """symbols (T, ...) integers -> logits (T, ..., vocabulary) of the symbol that follows."""
        return self.logits(self.features(symbols, lengths))

    def logits(self, features: Array) -> Array:
        """E (A h + a), (..., vocabulary): the last product."""
        return self.embed.attend(features)

    def features(self, symbols: Array, lengths: Array | None = None) -> Array:
        """A h + a of every step, (T, ..., d): all but the last product."""
        xs = embedded(self.embed, "symbols", symbols, lengths)
        _, hs = scan.run(self.rnn.cell, self.rnn.values, xs, lengths=lengths)
        return self.project(hs)

    @expect.arguments(key=expect.key, prompt=expect.timed, steps=expect.integer)
    def generate(
        self,
        key: Array,
        prompt: Array,
        steps: int,
        temperature: ArrayLike = 1.0,
        top_k: int | None = None,
    ) -> Array:
        """Continue a text after a prompt. The prompt is read once, and its state is carried on.

        Args:
            key: Draws the symbols.
            prompt: Integers (T, ...), one step or more.
            steps: Symbols to write, 1 or more.
            temperature: Symbols are drawn from p^(1 / temperature), > 0.
            top_k: Draw from this many of the likeliest symbols; None draws from all, 1 is greedy.

        Returns:
            Symbols (steps, ...). Once a logit is NaN, they are -1.

        Raises:
            ValueError: The prompt is empty, a known symbol in it is out of range, steps < 1, or as
                in `picks.sampled`.
            TypeError: The key is not a PRNG key, the prompt is not an array, or steps is not an
                integer.
        """
        if not len(prompt):
            raise ValueError(
                f"a prompt must have at least one symbol, (T, ...); got {expect.told(prompt)}"
            )
        xs, values = embedded(self.embed, "prompt", prompt), self.rnn.values
        state = self.rnn.cell.start(values, prompt.shape[1:])
        if len(prompt) > 1:
            state, _ = scan.run(self.rnn.cell, values, xs[:-1])

        def body(state: Tree, symbol: Array) -> tuple[Tree, Array]:
            return self.rnn.cell.step(values, state, vectors(self.embed, symbol[..., 0]))

        feed = saying(lambda h: self.logits(self.project(h)), sampled(temperature, top_k))
        first = jnp.asarray(prompt)[-1, ..., None].astype(int)
        return free_running(key, body, feed, state, first, steps)[2][..., 0]


@expect.arguments(
    key=expect.key,
    features=expect.floats,
    table=expect.floats,
    labels=expect.numbers,
    log_q=expect.floats,
    samples=expect.integer,
)
def sampled_cross_entropy(
    key: Array,
    features: Array,
    table: Array,
    labels: Array,
    log_q: Array,
    samples: int,
    lengths: Any = None,
    mask: Any = None,
) -> Array:
    """`cross_entropy` of logits = features @ table.T without computing all of them.

    The sum of the softmax is estimated as e^{s_y} plus the mean of e^{s_k} / q_k over k ~ q that
    miss y, with one draw for the whole batch. The estimate is unbiased, so the loss approaches the
    exact loss from below as samples grow. Jean et al. 2015, arXiv:1412.2007.

    Args:
        key: Draws the samples.
        features: (T, ..., d).
        table: (K, d), such as model.embed.embedding.
        labels: (T, ...) integers 0 .. K - 1.
        log_q: (K,) logs of the proposal, for example of the frequencies of symbols.
        samples: Draws, 1 or more.
        lengths: Steps of each sequence, integers (...); None: all T.
        mask: Booleans (T, ...), True where a step counts; None: everywhere.

    Returns:
        The mean over all unmasked steps, (), nats; NaN where `cross_entropy` is NaN.

    Raises:
        ValueError: samples < 1, log_q is not (K,), the shapes differ, or as in `cross_entropy`.
        TypeError: An array holds something other than such numbers, or samples is not an integer.

    Example:
        >>> from recur.flax import models
        >>> features, table, labels = jnp.zeros((2, 3)), jnp.ones((5, 3)), jnp.array([0, 1])
        >>> log_q, key = jnp.zeros(5), jax.random.key(0)
        >>> estimate = jax.jit(models.sampled_cross_entropy, static_argnames="samples")
        >>> loss = estimate(key, features, table, labels, log_q, samples=1000)
        >>> print(abs(loss - jnp.log(5)) < 0.1)  # exactly log 5
        True
    """
    if features.shape[-1:] != table.shape[1:] or features.shape[:-1] != labels.shape:
        raise ValueError(
            "features must be (T, ..., d), labels (T, ...) and the table (K, d); got features "
            f"{features.shape}, labels {labels.shape} and a table {table.shape}"
        )
    if samples < 1:
        raise ValueError(
            f"samples must be 1 or more, to estimate the sum of the softmax; got {samples}"
        )
    if jnp.shape(log_q) != table.shape[:1]:
        raise ValueError(
            f"log_q must hold one log probability for each of the {table.shape[0]} symbols, "
            f"{table.shape[:1]}; got shape {jnp.shape(log_q)}"
        )
    table, log_q = jnp.asarray(table), jax.nn.log_softmax(log_q)
    drawn = jax.random.choice(key, len(log_q), (samples,), p=jnp.exp(log_q))
    weight = log_q[drawn] + jnp.log(jnp.asarray(samples, log_q.dtype))

    def loss(features: Array, labels: Array) -> Array:
        own = jnp.sum(features * table[labels], axis=-1, keepdims=True)
        others = features @ table[drawn].T - weight
        others = jnp.where(drawn == labels[..., None], -jnp.inf, others)
        every = jnp.concatenate([own, others], axis=-1)
        return jax.nn.logsumexp(every, axis=-1) - own[..., 0]

    mean = mean_present(loss, features, labels, len(table), lengths, mask)
    return scan.or_nan(~jnp.isnan(log_q).any(), mean)  # otherwise the draw may hold only y


def require_causal(cell: Recurrence) -> None:
    """Raise ValueError for a recurrence that reads the whole sequence first."""
    if not causal(cell):
        raise ValueError(
            "a model that predicts the next symbol must read only the past, and a Bidirectional "
            "cell also reads what is to come: use one of its two cells, or Stacked"
        )
