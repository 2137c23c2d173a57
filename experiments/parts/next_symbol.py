"""A network that reads a text of any length and says what comes next: drawn, trained, measured.

    x_t = E[symbol_t],   logits_t = O (A h_t + a),   O = E where both embeddings are one

Training reads B stretches of the text side by side, in pieces; an update sees one piece of each,
and the state at its end is where the next one starts.
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
    """The language model that writes symbols with other features than it reads them with."""

    def __init__(self, cell: Recurrence, vocabulary: int, d: int, n: int, *, rngs: nnx.Rngs):
        super().__init__(cell, vocabulary, d, n, rngs=rngs)
        self.out = nnx.Embed(vocabulary, d, rngs=rngs)

    def logits(self, features: Array) -> Array:
        """O (A h + a), (..., vocabulary)."""
        return self.out.attend(features)


class Kind(NamedTuple):
    """What a network is, but for its width and its draw."""

    cell: str
    layers: int
    vocabulary: int
    d: int  # features of a symbol
    tied: bool

    def draw(self, n: int, scale: float, key: Array) -> LanguageModel:
        """Weights from U[-scale, scale]; biases +1 at gates that keep, -1 at those that write."""
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
        assert isinstance(cell, Cell | Unitwise)  # as all that have a name
        biases = {}
        if any(cell.gates[1:]):
            write, keep = writing(cell), keeping(cell)
            biases = ({write[0]: -write[1]} if write else {}) | dict([keep])
        for params in model.rnn.params:
            for index, bias in biases.items():
                params.b[index * n : (index + 1) * n] = bias
        return model

    def parameters(self, n: int) -> int:
        """How many there are."""
        recurrence = count(Stacked(*[cells.named(self.cell)] * self.layers), self.d, n)
        return recurrence + (n + 1) * self.d + self.vocabulary * self.d * (1 if self.tied else 2)

    def width(self, parameters: int) -> int:
        """The n whose parameter count comes nearest to the wanted one."""
        fits = bisect(range(parameters), parameters, lo=1, key=self.parameters) - 1
        return min((max(fits, 1), fits + 1), key=lambda n: abs(self.parameters(n) - parameters))


def table(model: LanguageModel) -> Array:
    """The features with which symbols are written, (V, d)."""
    return (model.out if isinstance(model, Untied) else model.embed).embedding[...]


def features(model: LanguageModel, symbols: Array, state: Tree) -> tuple[Tree, Array]:
    """Symbols (T, B) -> the state after them, and A h + a of every step (T, B, d)."""
    state, hs = scan.run(model.rnn.cell, model.rnn.values, model.embed(symbols), state)
    return state, model.project(hs)


class Reading(NamedTuple):
    """How a network learns, one for all."""

    rows: Array  # (L + 1, B) symbols: B stretches of the text
    truncate: int  # symbols of a stretch in an update
    optimizer: optax.GradientTransformation
    log_q: Array  # (V,) log frequency of each symbol
    samples: int  # symbols that stand for all others; all V or more: the whole softmax

    @property
    def pieces(self) -> int:
        """Updates of one time through the text."""
        return (len(self.rows) - 1) // self.truncate


class Network(NamedTuple):
    """A network in training."""

    training: train.State
    state: Tree  # of the recurrence, at the place in the text where it is

    @property
    def model(self) -> LanguageModel:
        """The network itself."""
        return self.training.params


def stretches(text: np.ndarray, rows: int) -> Array:
    """The text (T,) as columns (L + 1, rows): the last symbol of each is the first of the next.

    What is left over at the end, less than one symbol a row, is not read.
    """
    L = (len(text) - 1) // rows
    return jnp.asarray(np.stack([text[i * L : (i + 1) * L + 1] for i in range(rows)], axis=1))


def start(model: LanguageModel, how: Reading, key: Array) -> Network:
    """The network before its first update."""
    state = model.rnn.cell.start(model.rnn.values, how.rows.shape[1:])
    return Network(train.start(key, model, how.optimizer), state)


def advance(how: Reading, network: Network, updates: int) -> tuple[Network, Array]:
    """So many updates -> the network and their mean loss, nats a symbol.

    At its end the text is begun again, from the start state.
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
    """Mean cross-entropy of symbols (T + 1, B) after the first, nats, and the state after them.

    Where the vocabulary is large, of a softmax whose sum is estimated from symbols drawn by their
    frequencies.
    """
    state, found = features(model, symbols[:-1], state)
    labels, out = symbols[1:], table(model)
    if how.samples >= len(out):
        logits = found @ out.T
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), state
    return sampled_cross_entropy(key, found, out, labels, how.log_q, how.samples), state


def surprise(model: LanguageModel, rows: Array) -> Array:
    """Mean -log p of the symbols of stretches (L + 1, B) after their first, nats."""
    xs, out = model.embed(rows[:-1]), table(model)

    def read(hs: Array, labels: Array) -> Array:
        logits = model.project(hs) @ out.T
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()

    _, total = scan.total(read, model.rnn.cell, model.rnn.values, xs, rows[1:], piece=32)
    return total / rows[1:].size
