"""Draws, trains and measures a network that predicts the next symbol of a text of any length.

    x_t = E[symbol_t],   logits_t = O (A h_t + a),   O = E if the embeddings are tied

Training reads B stretches of the text in parallel. Each stretch is cut into pieces. An update sees
one piece of each stretch, and starts from the state at the end of the previous piece.
"""

from bisect import bisect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array, lax

from experiments.parts.sizes import count
from recur import cells, scan, train
from recur.compose import Stacked
from recur.compose.gates import keeping, writing
from recur.core import Cell, Recurrence, Tree, Unitwise
from recur.flax.models import LanguageModel, sampled_cross_entropy


class Untied(LanguageModel):
    """A language model whose output embeddings differ from its input embeddings."""

    def __init__(self, cell: Recurrence, vocabulary: int, d: int, n: int, *, rngs: nnx.Rngs):
        super().__init__(cell, vocabulary, d, n, rngs=rngs)
        self.out = nnx.Embed(vocabulary, d, rngs=rngs)

    def logits(self, features: Array) -> Array:
        """O (A h + a), (..., vocabulary)."""
        return self.out.attend(features)


class Kind(NamedTuple):
    """The kind of a network: everything except its width and its weights."""

    cell: str
    layers: int
    vocabulary: int
    d: int  # size of a symbol's embedding
    tied: bool

    def draw(self, n: int, scale: float, key: Array) -> LanguageModel:
        """Draw weights from U[-scale, scale]; biases are +1 at keeping and -1 at writing gates."""
        cell = cells.named(self.cell)
        module = LanguageModel if self.tied else Untied
        stack = Stacked(*[cell] * self.layers)
        shapes = jax.eval_shape(lambda: module(stack, self.vocabulary, self.d, n, rngs=nnx.Rngs(0)))
        leaves, structure = jax.tree.flatten(shapes)
        keys = jax.random.split(key, len(leaves))
        model = jax.tree.unflatten(
            structure,
            [
                jax.random.uniform(k, leaf.shape, leaf.dtype, -scale, scale)
                for k, leaf in zip(keys, leaves, strict=True)
            ],
        )
        assert isinstance(cell, Cell | Unitwise)  # as all named cells are
        biases = {}
        if any(cell.gates[1:]):
            write, keep = writing(cell), keeping(cell)
            biases = ({write[0]: -write[1]} if write else {}) | dict([keep])
        for params in model.rnn.params:
            for index, bias in biases.items():
                params.b[index * n : (index + 1) * n] = bias
        return model

    def parameters(self, n: int) -> int:
        """The number of parameters at width n."""
        recurrence = count(Stacked(*[cells.named(self.cell)] * self.layers), self.d, n)
        return recurrence + (n + 1) * self.d + self.vocabulary * self.d * (1 if self.tied else 2)

    def width(self, parameters: int) -> int:
        """The n whose number of parameters comes nearest to the given one."""
        fits = bisect(range(parameters), parameters, lo=1, key=self.parameters) - 1
        return min((max(fits, 1), fits + 1), key=lambda n: abs(self.parameters(n) - parameters))


def table(model: LanguageModel) -> Array:
    """The output embeddings of the symbols, (V, d)."""
    return (model.out if isinstance(model, Untied) else model.embed).embedding[...]


def features(model: LanguageModel, symbols: Array, state: Tree) -> tuple[Tree, Array]:
    """Read symbols (T, B); returns the final state, and A h + a of every step (T, B, d)."""
    state, hs = scan.run(model.rnn.cell, model.rnn.values, model.embed(symbols), state)
    return state, model.project(hs)


class Reading(NamedTuple):
    """How networks learn, the same for all of them."""

    rows: Array  # (L + 1, B) symbols: B stretches of the text
    truncate: int  # symbols of each stretch per update
    optimizer: optax.GradientTransformation
    log_q: Array  # (V,) log frequency of each symbol
    samples: int  # symbols sampled to estimate the softmax's sum; V or more: the whole softmax

    @property
    def pieces(self) -> int:
        """Updates per pass through the text."""
        return (len(self.rows) - 1) // self.truncate


class Network(NamedTuple):
    """A network in training."""

    training: train.State
    state: Tree  # of the recurrence, at its current place in the text

    @property
    def model(self) -> LanguageModel:
        """The language model with its current parameters."""
        return self.training.params


def stretches(text: np.ndarray, rows: int) -> Array:
    """Cut the text (T,) into columns (L + 1, rows). Each ends with the first symbol of the next.

    The remainder at the end, less than one symbol per column, is not read.
    """
    L = (len(text) - 1) // rows
    return jnp.asarray(np.stack([text[i * L : (i + 1) * L + 1] for i in range(rows)], axis=1))


def start(model: LanguageModel, how: Reading, key: Array) -> Network:
    """The network before its first update."""
    state = model.rnn.cell.start(model.rnn.values, how.rows.shape[1:])
    return Network(train.start(key, model, how.optimizer), state)


def advance(how: Reading, network: Network, updates: int) -> tuple[Network, Array]:
    """Make so many updates; returns the network and the mean loss, nats per symbol.

    At the end of the text, reading starts again at its beginning, from the start state.
    """

    def piece(key: Array, step: Array) -> tuple[Array, Array, Array]:
        at = step % how.pieces
        symbols = lax.dynamic_slice_in_dim(how.rows, at * how.truncate, how.truncate + 1)
        return at == 0, symbols, key

    def along(model: LanguageModel, state: Tree, batch: tuple) -> tuple[Array, Tree]:
        begins, symbols, key = batch
        first = model.rnn.cell.start(model.rnn.values, symbols.shape[1:])
        state = jax.tree.map(lambda first, on: jnp.where(begins, first, on), first, state)
        return loss(model, state, symbols, how, key)

    training, state, (value,) = train.advance_stateful(
        along, how.optimizer, piece, *network, updates, every=updates
    )
    return Network(training, state), value


def loss(
    model: LanguageModel, state: Tree, symbols: Array, how: Reading, key: Array
) -> tuple[Array, Tree]:
    """Mean cross-entropy of symbols (T + 1, B) after the first, in nats, and the final state.

    If the vocabulary is large, the sum of the softmax is estimated from symbols that are sampled by
    their frequencies.
    """
    state, found = features(model, symbols[:-1], state)
    labels, out = symbols[1:], table(model)
    if how.samples >= len(out):
        logits = found @ out.T
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), state
    return sampled_cross_entropy(key, found, out, labels, how.log_q, how.samples), state


def surprise(model: LanguageModel, rows: Array) -> Array:
    """Mean -log p, in nats, of all symbols of stretches (L + 1, B) but the first ones."""
    xs, out = model.embed(rows[:-1]), table(model)

    def read(hs: Array, labels: Array) -> Array:
        logits = model.project(hs) @ out.T
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()

    _, total = scan.total(read, model.rnn.cell, model.rnn.values, xs, rows[1:], piece=32)
    return total / rows[1:].size
