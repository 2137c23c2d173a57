"""Weights of Keras: layer.get_weights(), or arrays by the names kernel, recurrent_kernel, bias.

Gates are in columns, as here. The first half of the weights in a Bidirectional is the forward pass:

    w = layer.get_weights()
    params = BothWays(keras_lstm(w[:3]), keras_lstm(w[3:]))

The group "layers/gru/cell/vars" of a .weights.h5 file is such a mapping, with names 0, 1 and 2.
Weights do not reveal the activation. These readers assume the defaults of Keras: tanh, and sigmoids
for gates. Use `vanilla.elman(phi)` and `lstm.long_short(phi)` for another activation. Keras has the
batch first: transpose inputs with xs.swapaxes(0, 1), and outputs back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from recur.cells import gru, lstm, vanilla
from recur.weights.arrays import (
    by_path,
    require_matrices,
    require_names,
    require_shape,
    taken,
)

Weights = Sequence[ArrayLike] | Mapping[str, Any]
NAMES = ("kernel", "recurrent_kernel", "bias")


def keras_simple(weights: Weights) -> vanilla.Params:
    """Weights of a Keras SimpleRNN, for `vanilla.cell`.

    Args:
        weights: layer.get_weights(), or arrays by name; without a bias, zeros.

    Returns:
        Parameters.

    Raises:
        ValueError: Weights are missing, unknown or of a wrong shape.
        TypeError: It is neither a list of arrays nor a mapping.

    Example:
        >>> from recur import weights
        >>> print(weights.keras_simple([np.ones((2, 3)), np.eye(3), np.ones(3)]).V.shape)
        (2, 3)
    """
    V, W, b = _columns(weights, "a SimpleRNN", 1)
    return vanilla.Params(W, V, _one_bias("a SimpleRNN", b, W))


def keras_lstm(weights: Weights) -> lstm.Params:
    """Weights of a Keras LSTM, for `lstm.cell`.

    Args:
        weights: layer.get_weights(), or arrays by name; without a bias, zeros.

    Returns:
        Parameters.

    Raises:
        ValueError: As in `keras_simple`.
        TypeError: As in `keras_simple`.

    Example:
        >>> from recur import weights
        >>> print(weights.keras_lstm([np.ones((2, 12)), np.ones((3, 12)), np.ones(12)]).W.shape)
        (3, 12)
    """
    V, W, b = _columns(weights, "an LSTM", 4)
    return lstm.Params(W, V, _one_bias("an LSTM", b, W))


def keras_gru(weights: Weights) -> gru.Cudnn:
    """Weights of a Keras GRU with reset_after=True, which is its default, for `gru.cudnn`.

    Args:
        weights: layer.get_weights(), or arrays by name. The bias has two rows, of the input and of
            the state; without one, zeros.

    Returns:
        Parameters.

    Raises:
        ValueError: As in `keras_simple`.
        TypeError: As in `keras_simple`.

    Example:
        >>> from recur import weights
        >>> print(weights.keras_gru([np.ones((2, 9)), np.ones((3, 9)), np.ones((2, 9))]).W.shape)
        (3, 9)
    """
    V, W, b = _columns(weights, "a GRU", 3)
    n = len(W)
    b = jnp.zeros((2, 3 * n), W.dtype) if b is None else b
    require_shape(
        "a GRU with reset_after=True",
        "bias",
        b,
        (2, 3 * n),
        "One row is that of reset_after=False: use keras_gru_reset_before." if b.ndim == 1 else "",
    )
    outside = b[0] + b[1].at[2 * n :].set(0)
    return gru.Cudnn(W, V, outside, b[1, 2 * n :])


def keras_gru_reset_before(weights: Weights) -> gru.ResetBefore:
    """Weights of a Keras GRU with reset_after=False, for `gru.reset_before`.

    Without a bias, both forms of a GRU have the same shapes. Look at the layer to see which it is.

    Args:
        weights: layer.get_weights(), or arrays by name; without a bias, zeros.

    Returns:
        Parameters.

    Raises:
        ValueError: As in `keras_simple`.
        TypeError: As in `keras_simple`.

    Example:
        >>> from recur import weights
        >>> given = [np.ones((2, 9)), np.ones((3, 9)), np.ones(9)]
        >>> print(weights.keras_gru_reset_before(given).W.shape)
        (3, 9)
    """
    V, W, b = _columns(weights, "a GRU", 3)
    two = b is not None and b.ndim == 2
    advice = "Two rows belong to reset_after=True: use keras_gru." if two else ""
    return gru.ResetBefore(W, V, _one_bias("a GRU with reset_after=False", b, W, advice))


def _columns(weights: Weights, what: str, gates: int) -> tuple[Array, Array, Array | None]:
    """V (d, gates*n), W (n, gates*n) and the bias, if any. Raises ValueError for other shapes."""
    named = _named(weights)
    names = NAMES[: 3 if "bias" in named else 2]
    require_names(named, what, names, "Keras")
    V, W, *bias = taken(named, names)
    require_matrices(what, gates, ("kernel", V), ("recurrent_kernel", W))
    return V, W, bias[0] if bias else None


def _named(weights: Weights) -> dict[str, Any]:
    """Arrays by name, from a list in the order of Keras or from a mapping."""
    if isinstance(weights, Mapping):
        named = by_path(weights)
        if set(named) <= {"0", "1", "2"}:  # of an h5 file
            named = {NAMES[int(name)]: a for name, a in named.items()}
        return named
    if not isinstance(weights, list | tuple) or isinstance(weights, str):
        raise TypeError(
            "weights must be layer.get_weights(), a list of arrays, or a mapping of the names "
            f"{', '.join(NAMES)} to arrays; got a {type(weights).__name__}"
        )
    if len(weights) not in (2, 3):
        half = len(weights) // 2
        halves = f"weights[:{half}] and weights[{half}:]"
        both = f" For a Bidirectional layer, pass {halves}." if len(weights) in (4, 6) else ""
        raise ValueError(
            f"one recurrent layer of Keras must have {', '.join(NAMES)}, or the first two; got "
            f"{len(weights)} arrays.{both} For a model, pass the weights of one layer."
        )
    return dict(zip(NAMES, weights, strict=False))


def _one_bias(what: str, b: Array | None, W: Array, advice: str = "") -> Array:
    """The bias (gates*n,), or zeros if there is none."""
    if b is None:
        return jnp.zeros(W.shape[1], W.dtype)
    require_shape(what, "bias", b, (W.shape[1],), advice)
    return b
