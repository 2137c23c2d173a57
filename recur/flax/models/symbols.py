"""Symbols as vectors: rows of an embedding, with checks of the symbols."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from recur import scan


def embedded(embed: nnx.Embed, name: str, symbols: Array, lengths: Any = None) -> Array:
    """The vector of each symbol, (T, ...) -> (T, ..., d).

    A traced symbol out of range gives NaN. Raises ValueError for a known one, and for symbols that
    are not integers. Symbols beyond a length are not checked.
    """
    read = present_symbols(symbols, lengths)
    there = scan.known_present(jnp.shape(symbols), lengths)
    scan.require_index(name, symbols, embed.num_embeddings, "symbols", there)
    return vectors(embed, read)


def present_symbols(symbols: Array, lengths: Any = None) -> Array:
    """The symbols (T, ...), 0 beyond each length."""
    there = scan.present(jnp.zeros((*jnp.shape(symbols), 0)), lengths)
    return symbols if there is None else jnp.where(there, symbols, 0)


def vectors(embed: nnx.Embed, symbols: Array) -> Array:
    """`embedded` for traced symbols, as in a loop."""
    valid = scan.inside(symbols, embed.num_embeddings)
    return scan.or_nan(valid, embed(jnp.where(valid, symbols, 0)))
