"""Weights of PyTorch: a state dict, arrays by name. Gates are in rows, and there are two biases."""

import re
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from recur import expect
from recur.cells import gru, lstm, vanilla
from recur.compose import BothWays
from recur.core import Tree
from recur.weights.arrays import require_matrices, require_names, require_shape, taken, update_first

_mapping = expect.instance(Mapping)
_LAYER = re.compile(r"^(weight|bias)_(ih|hh|hr)")
_PREFIX = (
    "For a larger model, pass the part of the recurrence: "
    "{name.removeprefix('rnn.'): a for name, a in state.items() if name.startswith('rnn.')}"
)


@expect.arguments(state=_mapping)
def torch_lstm(state: Mapping[str, ArrayLike]) -> lstm.Params:
    """Weights of a PyTorch nn.LSTM of one layer or an nn.LSTMCell, for `lstm.cell`.

    Args:
        state: Its state dict, arrays by name.

    Returns:
        Parameters.

    Raises:
        ValueError: Weights are missing or unknown, belong to other layers, or have a wrong shape.
        TypeError: It is not a dict, or holds something other than numbers.

    Example:
        >>> from recur import weights
        >>> state = {"weight_ih_l0": np.ones((12, 2)), "weight_hh_l0": np.ones((12, 3))}
        >>> print(weights.torch_lstm(state).W.shape)
        (3, 12)
    """
    named = _one_layer(state)
    if "weight_hr" in named:
        raise ValueError(
            "this LSTM has weight_hr, a projection of its output (proj_size): read it with "
            "torch_projected_lstm, for lstm.projected"
        )
    W, V, b_h, b = _columns(named, "an LSTM", 4)
    return lstm.Params(W, V, b_h + b)


@expect.arguments(state=_mapping)
def torch_projected_lstm(state: Mapping[str, ArrayLike]) -> lstm.Projected:
    """Weights of a PyTorch nn.LSTM of one layer with a proj_size, for `lstm.projected`.

    Args:
        state: Its state dict, arrays by name.

    Returns:
        Parameters W (p, 4n), V (d, 4n), b (4n,) and P (n, p), with n = hidden_size and p =
        proj_size.

    Raises:
        ValueError: As in `torch_lstm`.
        TypeError: As in `torch_lstm`.

    Example:
        >>> from recur import weights
        >>> state = {"weight_ih_l0": np.ones((12, 2)), "weight_hh_l0": np.ones((12, 1))}
        >>> print(weights.torch_projected_lstm(state | {"weight_hr_l0": np.ones((1, 3))}).P.shape)
        (3, 1)
    """
    named, what = _one_layer(state), "an LSTM with a projection"
    W, V, b_h, b, P = _named_columns(named, what, ("weight_hr",))
    for name, a in (("weight_ih", V), ("weight_hh", W), ("weight_hr", P)):
        if a.ndim != 2:
            raise ValueError(f"{name} must be a matrix; got shape {a.shape}")
    n, p = P.shape
    for name, a, rows in (("weight_ih", V, V.shape[0]), ("weight_hh", W, p)):
        require_shape(
            what,
            name,
            a.T,
            (4 * n, rows),
            f"n = hidden_size and p = proj_size are those of weight_hr (p, n) = {P.T.shape}.",
        )
    for name, a in (("bias_ih", b), ("bias_hh", b_h)):
        require_shape(what, name, a, (4 * n,))
    return lstm.Projected(W, V, b_h + b, P)


@expect.arguments(state=_mapping)
def torch_gru(state: Mapping[str, ArrayLike]) -> gru.Cudnn:
    """Weights of a PyTorch nn.GRU of one layer or an nn.GRUCell, for `gru.cudnn`.

    Args:
        state: Its state dict, arrays by name.

    Returns:
        Parameters.

    Raises:
        ValueError: As in `torch_lstm`.
        TypeError: As in `torch_lstm`.

    Example:
        >>> from recur import weights
        >>> state = {"weight_ih_l0": np.ones((9, 2)), "weight_hh_l0": np.ones((9, 3))}
        >>> print(weights.torch_gru(state).W.shape)
        (3, 9)
    """
    W, V, b_h, b = _columns(_one_layer(state), "a GRU", 3)
    n = len(W)
    outside = b + b_h.at[2 * n :].set(0)
    return gru.Cudnn(update_first(W), update_first(V), update_first(outside), b_h[2 * n :])


@expect.arguments(state=_mapping)
def torch_rnn(state: Mapping[str, ArrayLike]) -> vanilla.Params:
    """Weights of a PyTorch nn.RNN of one layer or an nn.RNNCell, for a vanilla cell.

    Args:
        state: Its state dict, arrays by name.

    Returns:
        Parameters of `vanilla.cell` (tanh) or `vanilla.relu`.

    Raises:
        ValueError: As in `torch_lstm`.
        TypeError: As in `torch_lstm`.

    Example:
        >>> from recur import weights
        >>> state = {"weight_ih_l0": np.ones((3, 2)), "weight_hh_l0": np.ones((3, 3))}
        >>> print(weights.torch_rnn(state).W.shape)
        (3, 3)
    """
    W, V, b_h, b = _columns(_one_layer(state), "a simple network", 1)
    return vanilla.Params(W, V, b_h + b)


@expect.arguments(one=expect.function, state=_mapping)
def torch_layers(
    one: Callable[[Mapping[str, ArrayLike]], Tree], state: Mapping[str, ArrayLike]
) -> tuple:
    """Weights of all layers of a PyTorch network, and of both directions, for `Stacked`.

    Args:
        one: `torch_lstm`, `torch_gru` or another of these.
        state: The state dict of the network, arrays by name.

    Returns:
        One entry per layer. For a bidirectional network the entries are BothWays, for
        `Stacked(Bidirectional(cell), ...)`.

    Raises:
        ValueError: The names are not those of such layers, or as in `torch_lstm`.
        TypeError: one is not a function, or state is not a dict of numbers.

    Example:
        >>> from recur import weights
        >>> state = {"weight_ih_l0": np.ones((3, 2)), "weight_hh_l0": np.ones((3, 3))}
        >>> state |= {"weight_ih_l1": np.ones((3, 3)), "weight_hh_l1": np.ones((3, 3))}
        >>> print([params.V.shape for params in weights.torch_layers(weights.torch_rnn, state)])
        [(2, 3), (3, 3)]
    """
    parts: dict[str, dict] = {}
    for name, array in state.items():
        parts.setdefault(_LAYER.sub("", name, count=1), {})[name] = array
    both = any(suffix.endswith("_reverse") for suffix in parts)
    depth = len(parts) // (2 if both else 1)
    ways = ("", "_reverse") if both else ("",)
    expected = {f"_l{layer}{way}" for layer in range(depth) for way in ways}
    if set(parts) != expected or not parts:
        raise ValueError(
            "the names of the layers of a PyTorch network must end in _l0, _l1, ... and, if it "
            f"is bidirectional, also in _l0_reverse, ...; got {sorted(state)}. {_PREFIX}"
        )
    layers = [[one(parts[f"_l{layer}{way}"]) for way in ways] for layer in range(depth)]
    return tuple(BothWays(*pair) if both else pair[0] for pair in layers)


def _one_layer(state: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
    """The state, by name without the layer number. Raises ValueError for several layers."""
    suffixes = sorted({_LAYER.sub("", name, count=1) for name in state})
    if len(suffixes) > 1 and all(suffix.startswith("_l") for suffix in suffixes):
        raise ValueError(f"this function reads one layer; got {suffixes}: use torch_layers for all")
    end = suffixes[0] if len(suffixes) == 1 and suffixes[0].startswith("_l") else ""
    return {name.removesuffix(end): a for name, a in state.items()}


def _named_columns(
    named: dict[str, ArrayLike], what: str, more: tuple[str, ...] = ()
) -> tuple[Array, ...]:
    """W, V, b_hh, b_ih and the matrices of `more`, gates in columns; without biases, zeros."""
    names = ["weight_hh", "weight_ih"]
    biases = ["bias_hh", "bias_ih"] if any(name.startswith("bias") for name in named) else []
    require_names(named, what, ["weight_ih", "weight_hh", *more, *biases[::-1]], "PyTorch", _PREFIX)
    W, V, *others = taken(named, [*names, *more])
    zeros = jnp.zeros(W.shape[:1], W.dtype)
    b_h, b = taken(named, biases) if biases else (zeros, zeros)
    return W.T, V.T, b_h, b, *(a.T for a in others)


def _columns(named: dict[str, ArrayLike], what: str, gates: int) -> tuple[Array, ...]:
    """W (n, gates*n), V (d, gates*n) and both biases (gates*n,). Raises ValueError for others."""
    W, V, b_h, b = _named_columns(named, what)
    n = require_matrices(what, gates, ("weight_ih", V.T), ("weight_hh", W.T), rows=True)
    for name, a in (("bias_ih", b), ("bias_hh", b_h)):
        require_shape(what, name, a, (gates * n,))
    return W, V, b_h, b
