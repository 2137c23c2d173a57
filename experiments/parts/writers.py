"""Networks that read a sequence and then write symbols. Three kinds differ in the writer's input.

bag         the mean over steps of what each step says by itself, without order
vector      the final states of a recurrence that reads in both directions
attention   all outputs of such a recurrence, weighted anew before each symbol
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array, lax

from experiments import harness
from experiments.parts import forgetful
from experiments.parts.placing import placed
from experiments.parts.timing import timed
from recur import scan, train
from recur.compose import Bidirectional
from recur.core import Recurrence, hidden
from recur.flax.models import AttentiveDecoder, EncoderDecoder, cross_entropy, ends, greedy, mean

KINDS = ("bag", "vector", "attention")
CHUNK = 500  # sequences written at a time


def require_kinds(kinds: tuple[str, ...]) -> None:
    """Raise ValueError if a network is not one of KINDS."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"no network {kind!r}; there are {', '.join(KINDS)}")


def network(
    kind: str, cell: Recurrence, vocabularies: tuple[int, int], d: int, n: int, rngs: nnx.Rngs
) -> EncoderDecoder:
    """Draw a network of one of KINDS. Embeddings have variance 1, as the prior assumes of inputs.

    Reader and writer have the same cell. The reader has n units in each direction.
    """
    if kind == "attention":
        model: EncoderDecoder = AttentiveDecoder(
            Bidirectional(cell), cell, vocabularies, d, n, rngs=rngs
        )
    else:
        reader, pool = (forgetful.cell, mean) if kind == "bag" else (Bidirectional(cell), ends)
        model = EncoderDecoder(reader, cell, vocabularies, d, n, pool=pool, rngs=rngs)
    for embed in (model.embed, model.decoder.embed):
        embed.embedding[...] *= d**0.5
    return model


def sighted(model: EncoderDecoder, features: int, d: int, rngs: nnx.Rngs) -> EncoderDecoder:
    """The same network, but it reads vectors (features,) through a linear map, and not symbols."""
    model.embed = nnx.Linear(features, d, rngs=rngs)  # type: ignore[assignment]  # `read` asks which
    return model


def read(model: EncoderDecoder, source: Array, lengths: Array | None = None) -> Array:
    """The reader's outputs (T, ..., k) for symbols (T, ...), or for vectors (T, ..., features)."""
    if isinstance(model.embed, nnx.Embed):
        return model.read(source, lengths)
    xs = model.embed(source)
    return scan.run(model.encoder.cell, model.encoder.values, xs, lengths=lengths)[1]


class Pairs(NamedTuple):
    """Sequences to read and the symbols to write, in arrays."""

    source: Array  # (T, N) symbols, or (T, N, features)
    targets: Array  # (L, N)
    lengths: Array  # (N,) steps of the source
    counts: Array  # (N,) symbols to write, including the end if there is one


def loss(model: EncoderDecoder, batch: Pairs) -> Array:
    """Mean cross-entropy, nats per symbol. The writer reads the true previous symbols."""
    look = model.look(read(model, batch.source, batch.lengths), batch.lengths)
    logits = model.decoder.follow(look, batch.targets)
    return cross_entropy(logits, batch.targets, batch.counts)


def write(model: EncoderDecoder, part: Pairs) -> Array:
    """Write the likeliest symbols, (N, L), each after the network's own; a chunk at a time."""
    N, L = len(part.lengths), len(part.targets)
    size = min(CHUNK, N)
    rows = jnp.arange(-(-N // size) * size).reshape(-1, size) % N

    def chunk(row: Array) -> Array:
        lengths = part.lengths[row]
        look = model.look(read(model, part.source[:, row], lengths), lengths)
        return model.decoder.write(jax.random.key(0), look, (size,), L, greedy)  # draws nothing

    return lax.map(chunk, rows).swapaxes(1, 2).reshape(-1, L)[:N]


def looks(model: AttentiveDecoder, memory: Array, written: Array) -> Array:
    """Attention weights (L, T) on memory (T, k), before each symbol of written (L,)."""
    writer = model.decoder
    body = writer.body(model.look(memory, None))
    _, hs = lax.scan(body, writer.start(), writer.inputs(written))
    before = jnp.concatenate([hidden(writer.start())[None], hs[:-1]])
    return jax.nn.softmax(model.query(before) @ memory.T, axis=-1)


class Fitted(NamedTuple):
    """The results of one kind of network, S seeds and K measurements."""

    losses: np.ndarray  # (S, K) training loss, nats per symbol, mean since the last measurement
    watched: np.ndarray  # (S, K, W) scores that `watch` gives to what is written
    seconds: np.ndarray  # (K,) of training, all seeds together; the first includes compilation


def fit(
    kind: str,
    draw: Callable[[Array], EncoderDecoder],
    sample: Callable[[Array], Pairs],
    test: Pairs,
    watch: Callable[[np.ndarray], np.ndarray],
    config: Any,
    record: harness.Record,
) -> tuple[Fitted, train.State, np.ndarray]:
    """Train all seeds as one program; a checkpoint follows each measurement.

    draw(key) gives a network, sample(key) a batch, and watch(written (S, N, L)) -> (S, W) scores
    what is written for the test. config has the flags seed, seeds, updates, every and
    learning_rate. Also returns the final states, and what they write (S, N, L).
    """
    S, K = config.seeds, config.updates // config.every
    decay = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(decay))

    def begin(key: Array) -> train.State:
        own, batches = jax.random.split(key)
        return train.start(batches, draw(own), optimizer)

    def learn(state: train.State) -> tuple[train.State, Array]:
        return train.advance(loss, optimizer, sample, state, config.every, config.every)

    advance = jax.jit(train.over_devices(jax.vmap(learn)))
    writes = jax.jit(train.over_devices(jax.vmap(lambda model: write(model, test))))

    def measured(k: int, state: train.State, fitted: Fitted) -> tuple[train.State, dict]:
        (state, losses), fitted.seconds[k] = timed(advance, state)
        fitted.losses[:, k] = losses[:, 0]
        fitted.watched[:, k] = watch(np.asarray(writes(state.params)))
        return state, {"loss": fitted.losses[:, k], "watched": fitted.watched[:, k]}

    state = placed(jax.vmap(begin)(jax.random.split(jax.random.key(config.seed), S)))
    shape = (S, len(test.lengths), len(test.targets))
    W = watch(np.zeros(shape, int)).shape[-1]
    fitted = Fitted(np.zeros((S, K)), np.zeros((S, K, W)), np.zeros(K))
    state, fitted = record.rounds(kind, config.updates, config.every, state, fitted, measured)
    return fitted, state, np.asarray(writes(state.params))
