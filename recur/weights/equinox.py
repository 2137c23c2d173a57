"""Weights of Equinox: the cell itself, or a mapping of names to arrays. Gates are in rows."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from recur.cells import gru, lstm
from recur.weights.arrays import (
    Named,
    require_matrices,
    require_names,
    require_shape,
    taken,
    update_first,
)

FIELDS = ("weight_ih", "weight_hh", "bias", "bias_n")


def equinox_lstm(cell: Any) -> lstm.Params:
    """Weights of an Equinox eqx.nn.LSTMCell, for `lstm.cell`.

    Args:
        cell: The cell, or its arrays by name; without a bias, zeros.

    Returns:
        Parameters.

    Raises:
        ValueError: Weights are missing, unknown or of a wrong shape.
        TypeError: It is neither a cell nor a mapping.

    Example:
        >>> from recur import weights
        >>> given = {"weight_ih": np.ones((12, 2)), "weight_hh": np.ones((12, 3))}
        >>> print(weights.equinox_lstm(given).W.shape)
        (3, 12)
    """
    named = _fields(cell)
    W, V = _columns(named, "an LSTM", 4, ["bias"])
    return lstm.Params(W, V, _bias(named, "an LSTM", "bias", W.shape[1], W))


def equinox_gru(cell: Any) -> gru.Cudnn:
    """Weights of an Equinox eqx.nn.GRUCell, for `gru.cudnn`.

    Args:
        cell: The cell, or its arrays by name; without a bias, zeros.

    Returns:
        Parameters.

    Raises:
        ValueError: As in `equinox_lstm`.
        TypeError: As in `equinox_lstm`.

    Example:
        >>> from recur import weights
        >>> given = {"weight_ih": np.ones((9, 2)), "weight_hh": np.ones((9, 3))}
        >>> print(weights.equinox_gru(given).W.shape)
        (3, 9)
    """
    named = _fields(cell)
    W, V = _columns(named, "a GRU", 3, ["bias", "bias_n"])
    b = _bias(named, "a GRU", "bias", W.shape[1], W)
    b_h = _bias(named, "a GRU", "bias_n", W.shape[0], W)
    return gru.Cudnn(update_first(W), update_first(V), update_first(b), b_h)


def _fields(cell: Any) -> Named:
    """The arrays of a mapping, or of an object that has them as attributes."""
    if not isinstance(cell, Mapping):
        if not hasattr(cell, "weight_ih"):
            raise TypeError(
                "this reads an Equinox cell, or a mapping of the names weight_ih, weight_hh, ... "
                f"to arrays; got {_told(cell)}. For a larger model, pass the cell, as in "
                "model.cell"
            )
        cell = {name: getattr(cell, name) for name in FIELDS if hasattr(cell, name)}
    return {name: a for name, a in cell.items() if a is not None}


def _told(value: Any) -> str:
    return f"a {type(value).__name__}" if not isinstance(value, str) else repr(value)


def _columns(named: Named, what: str, gates: int, biases: list[str]) -> tuple[Array, Array]:
    """W (n, gates*n) and V (d, gates*n). Raises ValueError for other names and shapes."""
    biases = biases if any(name in named for name in biases) else []
    require_names(named, what, ["weight_ih", "weight_hh", *biases], "Equinox")
    V, W = taken(named, ["weight_ih", "weight_hh"])
    require_matrices(what, gates, ("weight_ih", V), ("weight_hh", W), rows=True)
    return W.T, V.T


def _bias(named: Named, what: str, name: str, size: int, like: Array) -> Array:
    """The bias with this name and size; zeros if there is none."""
    if name not in named:
        return jnp.zeros(size, like.dtype)
    (b,) = taken(named, [name])
    require_shape(what, name, b, (size,))
    return b
