"""What is said next: a pick (key, logits (..., K)) -> symbols (...).

    greedy                     the likeliest
    jax.random.categorical     drawn from p = softmax(logits)
    sampled(temperature, k)    drawn from p^(1 / temperature) of the k likeliest

Every model that writes takes one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur import expect
from recur.generate import Feed
from recur.scan.indices import known

Pick = Callable[[Array, Array], Array]  # (key, logits) -> symbols


@expect.arguments(logits=expect.floats)
def greedy(key: Array, logits: Array) -> Array:
    """The likeliest symbol; draws nothing."""
    del key
    return logits.argmax(axis=-1)


@expect.arguments(temperature=expect.real, top_k=expect.optional(expect.integer))
def sampled(temperature: Any = 1.0, top_k: int | None = None) -> Pick:
    """The pick that draws from p^(1 / temperature) of the top_k likeliest symbols; None: of all.

    Below 1 the likely ones gain. Raises ValueError for a temperature that is known and not above 0,
    the limit of which is `greedy`, and for top_k outside 1 .. K; where the temperature is traced,
    there is no symbol: -1.
    """
    value = known(temperature)
    if value is not None and not np.all(value > 0):
        raise ValueError(f"a temperature is above 0, and greedy is the limit; got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"a symbol is drawn from one or more; got top_k={top_k}")

    def pick(key: Array, logits: Array) -> Array:
        K = logits.shape[-1]
        if top_k is not None and top_k > K:
            raise ValueError(f"there are {K} symbols to draw from; got top_k={top_k}")
        heat = jnp.asarray(temperature, logits.dtype)
        if top_k is None:
            symbol = jax.random.categorical(key, _heated(logits, heat))
        else:
            likeliest, symbols = lax.top_k(logits, top_k)
            drawn = jax.random.categorical(key, _heated(likeliest, heat))
            symbol = jnp.take_along_axis(symbols, drawn[..., None], axis=-1)[..., 0]
        return jnp.where(heat > 0, symbol, -1)

    return pick


def _heated(logits: Array, temperature: Array) -> Array:
    """Logits over the temperature, the largest 0, so that a small temperature makes no infinity."""
    below = logits - logits.max(axis=-1, keepdims=True)
    return jnp.where(below == 0, 0, below / jnp.where(temperature > 0, temperature, 1))


def saying(readout: Callable[[Array], Array], pick: Pick) -> Feed:
    """(key, h) -> the next symbol (..., 1), or -1 where a logit is NaN: there is none."""

    def feed(key: Array, h: Array) -> Array:
        logits = readout(h)
        symbol = pick(key, logits).astype(int)
        return jnp.where(jnp.isnan(logits).any(axis=-1), -1, symbol)[..., None]

    return feed
