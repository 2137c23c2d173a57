"""Dropout of features and of words."""

import jax
import jax.numpy as jnp
from jax import Array


def drop(key: Array | None, xs: Array, share: float) -> Array:
    """Set a share of xs to zero and scale up the rest to keep the mean; xs itself without a key."""
    if key is None:
        return xs
    return jnp.where(jax.random.bernoulli(key, 1 - share, xs.shape), xs / (1 - share), 0)


def lose(key: Array, words: Array, share: float, unknown: int = 0) -> Array:
    """Replace a share of the words by the unknown word."""
    return jnp.where(jax.random.bernoulli(key, share, words.shape), unknown, words)
