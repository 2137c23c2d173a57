"""The likeliest sequence of symbols, by beam search.

    log p(y) = sum_t log p(y_t | y_1 .. y_{t-1}),   up to the first `end`, or to the last step

Each step lengthens every kept prefix by every symbol, and keeps the `beams` likeliest results. A
prefix that has ended does not change. With one beam the search is greedy.
Graves 2012, arXiv:1211.3711; Sutskever et al. 2014, arXiv:1409.3215.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect, scan
from recur.core import Body, Tree


class Found(NamedTuple):
    """The result of a beam search. Where a logit is NaN, symbols are -1 and log p is NaN."""

    symbols: Array  #: (steps, ...), filled with `end` after the end
    log_p: Array  #: (...) the log probability of the whole sequence, nats


class _Kept(NamedTuple):
    """B prefixes of each sequence; every array is (B, *batch, ...)."""

    state: Tree
    symbol: Array  # the last of each, (B, *batch, 1)
    log_p: Array
    valid: Array  # (*batch,): no logit was NaN


@expect.arguments(
    body=expect.function,
    readout=expect.function,
    state=expect.arrays,
    first=expect.numbers,
    steps=expect.integer,
    beams=expect.integer,
    end=expect.integer,
)
def beam_search(
    body: Body,
    readout: Callable[[Array], Array],
    state: Tree,
    first: Array,
    steps: int,
    beams: int,
    end: int,
) -> Found:
    """The likeliest symbols that the search finds, from a state and a first input.

        log p(y) = sum_t log p(y_t | y_1 .. y_{t-1}),   up to the first `end`, or to the last step

    Each step lengthens every kept prefix by every symbol, and keeps the likeliest. A prefix that
    has ended does not change. The search is exact if the beams hold all prefixes, K^(steps - 1).
    With one beam it is greedy. Graves 2012, arXiv:1211.3711; Sutskever et al. 2014,
    arXiv:1409.3215.

    Args:
        body: (state, symbol (*batch, 1)) -> (state, h).
        readout: h -> logits (*batch, K).
        state: The state before the first symbol.
        first: Integers (*batch, 1).
        steps: Symbols at most, 1 or more.
        beams: Prefixes to keep, 1 or more.
        end: The symbol that ends a sequence, 0 .. K - 1.

    Returns:
        The symbols and their log p.

    Raises:
        ValueError: steps or beams is below 1, or end is not a symbol.
        TypeError: body or readout is not a function, or a number is not an integer.

    Example:
        >>> from recur.flax import models
        >>> def body(count, symbol):
        ...     return count + 1, count
        >>> def readout(count):  # 2 at first, then 0, which ends
        ...     return jnp.where(count == 0, 9.0, -9.0) * jnp.array([-1.0, 0.0, 1.0])
        >>> @jax.jit
        ... def search(state, first):
        ...     return models.beam_search(body, readout, state, first, steps=3, beams=2, end=0)
        >>> print(search(jnp.zeros(1), jnp.zeros(1, int)).symbols)
        [2 0 0]
    """
    if steps < 1 or beams < 1:
        raise ValueError(f"a search needs at least one step and one beam; got {steps} and {beams}")
    first = first.astype(int)
    scan.check(body, state, first[None])
    logits = jax.eval_shape(lambda: readout(body(state, first)[1]))
    K, dtype = logits.shape[-1], jnp.promote_types(logits.dtype, jnp.float32)
    if not 0 <= end < K:
        raise ValueError(f"end must be one of the {K} symbols, 0 .. {K - 1}; got {end}")
    stays = jnp.where(jnp.arange(K) == end, 0, -jnp.inf).astype(dtype)

    def repeated(a: Array) -> Array:
        return jnp.broadcast_to(a, (beams, *a.shape))

    def step(kept: _Kept, t: Array) -> tuple[_Kept, tuple[Array, Array]]:
        state, h = jax.vmap(body)(kept.state, kept.symbol)
        logits = readout(h).astype(dtype)
        valid = kept.valid & ~jnp.isnan(logits).any(axis=(0, -1))
        log_p = jax.nn.log_softmax(jnp.where(valid[..., None], logits, 0))
        ended = (t > 0) & (kept.symbol == end)
        total = kept.log_p[..., None] + jnp.where(ended, stays, log_p)
        total = jnp.moveaxis(total, 0, -2)
        best, chosen = lax.top_k(total.reshape(*total.shape[:-2], -1), beams)
        log_p, chosen = jnp.moveaxis(best, -1, 0), jnp.moveaxis(chosen, -1, 0).astype(int)
        parent, symbol = chosen // K, chosen % K
        state = jax.tree.map(lambda a: _of(parent, a), state)
        return _Kept(state, symbol[..., None], log_p, valid), (parent, symbol)

    batch = first.shape[:-1]
    one = jnp.full((beams, *batch), -jnp.inf, dtype).at[0].set(0)  # the beams are all the same
    state, symbol = jax.tree.map(repeated, (state, first))
    kept = _Kept(state, symbol, one, jnp.ones(batch, bool))
    kept, (parents, symbols) = lax.scan(step, kept, jnp.arange(steps))

    def back(beam: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        parent, symbol = now
        return _of(beam, parent), _of(beam, symbol)[0]

    best = kept.log_p.argmax(axis=0, keepdims=True)
    _, said = lax.scan(back, best, (parents, symbols), reverse=True)
    log_p = scan.or_nan(kept.valid, kept.log_p.max(axis=0))
    return Found(jnp.where(kept.valid, said, -1), log_p)


def _of(beam: Array, a: Array) -> Array:
    """The beams (C, *batch) of an array (B, *batch, ...)."""
    index = beam.reshape(*beam.shape, *(1 for _ in range(a.ndim - beam.ndim)))
    return jnp.take_along_axis(a, index, axis=0)
