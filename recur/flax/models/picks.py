"""How the next symbol is chosen: a pick is a function (key, logits (..., K)) -> symbols (...).

    greedy                     the likeliest
    jax.random.categorical     drawn from p = softmax(logits)
    sampled(temperature, k)    drawn from p^(1 / temperature) of the k likeliest

Every model that writes symbols takes a pick.
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
    """The pick of the likeliest symbol; draws nothing.

    Args:
        key: Not used.
        logits: (..., K).

    Returns:
        Symbols (...), integers.

    Raises:
        TypeError: The logits are not an array of floats.

    Example:
        >>> from recur.flax import models
        >>> print(models.greedy(None, jnp.array([0.0, 2.0, 1.0])))
        1
    """
    del key
    return logits.argmax(axis=-1)


@expect.arguments(temperature=expect.real, top_k=expect.optional(expect.integer))
def sampled(temperature: Any = 1.0, top_k: int | None = None) -> Pick:
    """The pick that draws from p^(1 / temperature) of the likeliest symbols.

    Args:
        temperature: Above 0; below 1, likely symbols become more likely.
        top_k: Draw from this many of the likeliest symbols; from all if None.

    Returns:
        (key, logits (..., K)) -> symbols (...); -1 where a traced temperature is not above 0. It
        raises ValueError if top_k is above K.

    Raises:
        ValueError: The temperature is known and not above 0 (the limit is `greedy`), or top_k < 1.
        TypeError: The temperature is not a number, or top_k is not an integer.

    Example:
        >>> from recur.flax import models
        >>> pick = models.sampled(temperature=0.5, top_k=1)
        >>> print(pick(jax.random.key(0), jnp.array([0.0, 2.0, 1.0])))
        1
    """
    value = known(temperature)
    if value is not None and not np.all(value > 0):
        raise ValueError(
            f"temperature must be above 0; got {temperature}: for the limit 0, use greedy"
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be 1 or more; got top_k={top_k}")

    def pick(key: Array, logits: Array) -> Array:
        K = logits.shape[-1]
        if top_k is not None and top_k > K:
            raise ValueError(f"top_k must be at most {K}, the number of symbols; got top_k={top_k}")
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
    """Logits over the temperature, shifted so that the largest is 0 and none becomes infinite."""
    below = logits - logits.max(axis=-1, keepdims=True)
    return jnp.where(below == 0, 0, below / jnp.where(temperature > 0, temperature, 1))


def saying(readout: Callable[[Array], Array], pick: Pick) -> Feed:
    """(key, h) -> the next symbol (..., 1), or -1 if a logit is NaN."""

    def feed(key: Array, h: Array) -> Array:
        logits = readout(h)
        symbol = pick(key, logits).astype(int)
        return jnp.where(jnp.isnan(logits).any(axis=-1), -1, symbol)[..., None]

    return feed
