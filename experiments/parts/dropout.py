"""What a network is not shown in training, so that it learns to do without."""

import jax
import jax.numpy as jnp
from jax import Array


def drop(key: Array | None, xs: Array, share: float) -> Array:
    """xs with a share of its entries zero, the others larger; as it is without a key."""
    if key is None:
        return xs
    return jnp.where(jax.random.bernoulli(key, 1 - share, xs.shape), xs / (1 - share), 0)


def lose(key: Array, words: Array, share: float, unknown: int = 0) -> Array:
    """Numbers of words, a share of them the unknown word."""
    return jnp.where(jax.random.bernoulli(key, share, words.shape), unknown, words)
