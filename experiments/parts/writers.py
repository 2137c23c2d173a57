"""Networks that read a sequence and then write symbols, by what the writer sees of it.

bag         the mean of what was read, each step by itself: no order
vector      the ends of a recurrence that reads it both ways
attention   all that the recurrence made of it, looked at anew before each symbol
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
CHUNK = 500  # sequences that are written at once


def require_kinds(kinds: tuple[str, ...]) -> None:
    """Raise ValueError for a network that is none of KINDS."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"no network {kind!r}; there are {', '.join(KINDS)}")


def network(
    kind: str, cell: Recurrence, vocabularies: tuple[int, int], d: int, n: int, rngs: nnx.Rngs
) -> EncoderDecoder:
    """A drawn network of one of KINDS, embeddings of variance 1, as the prior expects of inputs.

    Reader and writer are of the same cell, the reader with n units each way.
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
    """The same network, which reads vectors (features,) in place of symbols, by a linear map."""
    model.embed = nnx.Linear(features, d, rngs=rngs)  # type: ignore[assignment]  # `read` asks which
    return model


def read(model: EncoderDecoder, source: Array, lengths: Array | None = None) -> Array:
    """What the reader makes of symbols (T, ...), or of vectors (T, ..., features): (T, ..., k)."""
    if isinstance(model.embed, nnx.Embed):
        return model.read(source, lengths)
    xs = model.embed(source)
    return scan.run(model.encoder.cell, model.encoder.values, xs, lengths=lengths)[1]


class Pairs(NamedTuple):
    """What is read and what is to be written, in arrays."""

    source: Array  # (T, N) symbols, or (T, N, features)
    targets: Array  # (L, N)
    lengths: Array  # (N,) steps of the source
    counts: Array  # (N,) symbols to be written, the end among them where there is one


def loss(model: EncoderDecoder, batch: Pairs) -> Array:
    """Mean cross-entropy, nats a symbol, each after the true ones before it."""
    look = model.look(read(model, batch.source, batch.lengths), batch.lengths)
    logits = model.decoder.follow(look, batch.targets)
    return cross_entropy(logits, batch.targets, batch.counts)


def write(model: EncoderDecoder, part: Pairs) -> Array:
    """The likeliest symbols, each after the network's own, (N, L); a chunk at a time."""
    N, L = len(part.lengths), len(part.targets)
    size = min(CHUNK, N)
    rows = jnp.arange(-(-N // size) * size).reshape(-1, size) % N

    def chunk(row: Array) -> Array:
        lengths = part.lengths[row]
        look = model.look(read(model, part.source[:, row], lengths), lengths)
        return model.decoder.write(jax.random.key(0), look, (size,), L, greedy)  # draws nothing

    return lax.map(chunk, rows).swapaxes(1, 2).reshape(-1, L)[:N]


def looks(model: AttentiveDecoder, memory: Array, written: Array) -> Array:
    """Shares of memory (T, k) in what is seen before each symbol written (L,): (L, T)."""
    writer = model.decoder
    body = writer.body(model.look(memory, None))
    _, hs = lax.scan(body, writer.start(), writer.inputs(written))
    before = jnp.concatenate([hidden(writer.start())[None], hs[:-1]])
    return jax.nn.softmax(model.query(before) @ memory.T, axis=-1)


class Fitted(NamedTuple):
    """What is kept of one kind of network, S seeds and K measurements."""

    losses: np.ndarray  # (S, K) of training, nats a symbol, mean since the measurement before
    watched: np.ndarray  # (S, K, W) what `watch` says of what is written
    seconds: np.ndarray  # (K,) of training, all seeds; the first compiles


def fit(
    kind: str,
    draw: Callable[[Array], EncoderDecoder],
    sample: Callable[[Array], Pairs],
    test: Pairs,
    watch: Callable[[np.ndarray], np.ndarray],
    config: Any,
    record: harness.Record,
) -> tuple[Fitted, train.State, np.ndarray]:
    """Train all seeds as one program, checkpointed at each measurement.

    draw(key) is a network, sample(key) a batch, and watch(written (S, N, L)) -> (S, W) says how
    well the test is written; config has the flags seed, seeds, updates, every and
    learning_rate. Returns also the states, and what was
    written at the end (S, N, L).
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
