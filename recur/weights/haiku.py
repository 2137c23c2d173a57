"""Weights of Haiku: the parameters of one module, as hk.transform gives them. Gates are in columns.

`params` may be the dict of the module, as in params["lstm/linear"], or a mapping that holds only
this module. Haiku's VanillaRNN has phi = relu, so its weights are for `vanilla.relu`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from recur import expect
from recur.cells import gru, lstm, vanilla
from recur.weights.arrays import (
    by_path,
    reordered,
    require_matrices,
    require_names,
    require_shape,
    taken,
)

_mapping = expect.instance(Mapping)


@expect.arguments(params=_mapping)
def haiku_vanilla(params: Mapping[str, Any]) -> vanilla.Params:
    """Weights of a Haiku hk.VanillaRNN, for `vanilla.relu`.

    Args:
        params: The parameters of the module: linear (of the input) and linear_1.

    Returns:
        Parameters.

    Raises:
        ValueError: Weights are missing, unknown or of a wrong shape.
        TypeError: It is not a mapping.

    Example:
        >>> from recur import weights
        >>> given = {"linear": {"w": np.ones((2, 3)), "b": np.ones(3)}}
        >>> given |= {"linear_1": {"w": np.eye(3)}}
        >>> print(weights.haiku_vanilla(given).V.shape)
        (2, 3)
    """
    named, what = by_path(params), "a VanillaRNN"
    double = ["linear_1/b"] if "linear_1/b" in named else []
    require_names(named, what, ["linear/w", "linear/b", "linear_1/w", *double], "Haiku")
    V, W, *biases = taken(named, ["linear/w", "linear_1/w", "linear/b", *double])
    n = require_matrices(what, 1, ("linear/w", V), ("linear_1/w", W))
    for name, b in zip(["linear/b", *double], biases, strict=True):
        require_shape(what, name, b, (n,))
    return vanilla.Params(W, V, sum(biases[1:], biases[0]))


@expect.arguments(params=_mapping)
def haiku_lstm(params: Mapping[str, Any]) -> lstm.Params:
    """Weights of a Haiku hk.LSTM, for `lstm.cell`.

    Haiku adds 1 to the forget gate when it runs; here this 1 is part of the bias.

    Args:
        params: The parameters of the module.

    Returns:
        Parameters.

    Raises:
        ValueError: As in `haiku_vanilla`.
        TypeError: As in `haiku_vanilla`.

    Example:
        >>> from recur import weights
        >>> print(weights.haiku_lstm({"w": np.ones((5, 12)), "b": np.zeros(12)}).b)
        [0. 0. 0. 1. 1. 1. 0. 0. 0. 0. 0. 0.]
    """
    named, what = by_path(params), "an LSTM"
    require_names(named, what, ["w", "b"], "Haiku")
    both, b = taken(named, ["w", "b"])
    n = b.size // 4
    rows, columns = both.shape if both.ndim == 2 else (0, 0)
    if both.ndim != 2 or b.shape != (4 * n,) or columns != 4 * n or rows < n:
        turned = both.ndim == 2 and rows == 4 * n
        raise ValueError(
            "an LSTM of Haiku must have w of shape (d + n, 4n), with the rows of the input above "
            f"those of the state, and b (4n,); got {both.shape} and {b.shape}"
            f"{': transpose w' if turned else ''}"
        )
    V, W = both[: rows - n], both[rows - n :]
    b = b.at[2 * n : 3 * n].add(1)
    order = (0, 2, 1, 3)  # Haiku has input, candidate, forget, output
    return lstm.Params(*(reordered(a, order) for a in (W, V, b)))


@expect.arguments(params=_mapping)
def haiku_gru(params: Mapping[str, Any]) -> gru.ResetBefore:
    """Weights of a Haiku hk.GRU, for `gru.reset_before`.

    The update gate of Haiku writes, and ours keeps: 1 - sigmoid(a) = sigmoid(-a).

    Args:
        params: The parameters of the module.

    Returns:
        Parameters.

    Raises:
        ValueError: As in `haiku_vanilla`.
        TypeError: As in `haiku_vanilla`.

    Example:
        >>> from recur import weights
        >>> given = {"w_i": np.ones((2, 9)), "w_h": np.ones((3, 9)), "b": np.zeros(9)}
        >>> print(weights.haiku_gru(given).W.shape)
        (3, 9)
    """
    named, what = by_path(params), "a GRU"
    require_names(named, what, ["w_i", "w_h", "b"], "Haiku")
    V, W, b = taken(named, ["w_i", "w_h", "b"])
    n = require_matrices(what, 3, ("w_i", V), ("w_h", W))
    require_shape(what, "b", b, (3 * n,))
    sign = jnp.repeat(jnp.array([-1, 1, 1], b.dtype), n)
    return gru.ResetBefore(W * sign, V * sign, b * sign)
