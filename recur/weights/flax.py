"""Weights of Flax: an nnx module, or a linen dict.

The state of an LSTM is (c, h) in Flax, and (h, c) here. A module stores its activations, so they
are compared with those of the cell, and a difference raises ValueError. A dict of weights does not
store them. A module that wraps one cell, such as an RNN, may be passed in its place.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from recur import expect
from recur.cells import gru, lstm, vanilla
from recur.weights.arrays import (
    Named,
    by_path,
    require_matrices,
    require_names,
    require_shape,
    taken,
    update_first,
)

Activation = Callable[[Array], Array]
Weights = Any  # a mapping, or an nnx module


@expect.arguments(phi=expect.function)
def flax_lstm(weights: Weights, phi: Activation = jnp.tanh) -> lstm.Params:
    """Weights of a Flax LSTMCell or OptimizedLSTMCell, for `lstm.cell` or `lstm.long_short(phi)`.

    Args:
        weights: A linen dict or an nnx module.
        phi: The activation.

    Returns:
        Parameters.

    Raises:
        ValueError: Weights are missing, unknown, or of a wrong shape, or a module has another
            activation than phi or other gates than sigmoids.
        TypeError: It is neither a dict nor a module, or phi is not a function.

    Example:
        >>> from recur import weights
        >>> given = {"kernel": np.ones((2, 12))}, {"kernel": np.ones((3, 12)), "bias": np.ones(12)}
        >>> params = weights.flax_lstm(dict(zip(("dense_i", "dense_h"), given)))
        >>> print(params.W.shape, params.V.shape)
        (3, 12) (2, 12)
    """
    named = _named(weights)
    _require_functions(weights, phi, "lstm.long_short(phi)")
    if _dense(named):
        V, W, b = _side_by_side(named, "an LSTM", "dense_h/bias", 4)
        return lstm.Params(W, V, b)
    return lstm.Params(*_gates(named, "an LSTM", "ifgo", "h"))


def flax_gru(weights: Weights) -> gru.Cudnn:
    """Weights of a Flax GRUCell, for `gru.cudnn`.

    Args:
        weights: A linen dict or an nnx module.

    Returns:
        Parameters.

    Raises:
        ValueError: As in `flax_lstm`.
        TypeError: It is neither a dict nor a module.

    Example:
        >>> from recur import weights
        >>> given = {"kernel": np.ones((2, 9)), "bias": np.ones(9)}, {"kernel": np.ones((3, 9))}
        >>> params = weights.flax_gru(dict(zip(("dense_i", "dense_h"), given)))
        >>> print(params.W.shape, params.V.shape)
        (3, 9) (2, 9)
    """
    named = _named(weights)
    _require_functions(weights, jnp.tanh)
    if _dense(named):  # nnx: the candidate has one bias, outside the reset
        V, W, b = _side_by_side(named, "a GRU", "dense_i/bias", 3)
        b_h = jnp.zeros(W.shape[0], b.dtype)
    else:
        W, V, b = _gates(named, "a GRU", "rzn", "i", "hn/bias")
        (b_h,) = taken(named, ["hn/bias"])
    return gru.Cudnn(update_first(W), update_first(V), update_first(b), b_h)


@expect.arguments(phi=expect.function)
def flax_simple(weights: Weights, phi: Activation = jnp.tanh) -> vanilla.Params:
    """Weights of a Flax SimpleCell without residual, for `vanilla.cell` or `vanilla.elman(phi)`.

    Args:
        weights: A linen dict or an nnx module.
        phi: The activation.

    Returns:
        Parameters.

    Raises:
        ValueError: The module has a residual, or as in `flax_lstm`.
        TypeError: It is neither a dict nor a module, or phi is not a function.

    Example:
        >>> from recur import weights
        >>> given = {"kernel": np.ones((2, 3)), "bias": np.ones(3)}, {"kernel": np.eye(3)}
        >>> params = weights.flax_simple(dict(zip("ih", given)))
        >>> print(params.W.shape, params.V.shape)
        (3, 3) (2, 3)
    """
    named = _named(weights)
    _require_functions(weights, phi, "vanilla.elman(phi)")
    if getattr(_cell(weights), "residual", False):
        raise ValueError(
            "this SimpleCell adds its old state (residual), and a vanilla cell cannot do so"
        )
    if _dense(named):
        V, W, b = _side_by_side(named, "a simple cell", "dense_i/bias", 1)
    else:
        V, W, b = _side_by_side(named, "a simple cell", "i/bias", 1, ("i/kernel", "h/kernel"))
    return vanilla.Params(W, V, b)


def _named(weights: Weights) -> Named:
    """The weights by path, as in "if/kernel". Raises TypeError if there are no arrays by name."""
    if isinstance(weights, Mapping):
        named = by_path(weights.get("params", weights))
    else:
        named = by_path(_cell(weights))
        if not any("/" in path for path in named):
            raise TypeError(
                "weights must be an nnx module, or a dict of arrays by name; got "
                f"{expect.told(weights)}"
            )
    return {name.removesuffix("/value").replace("if_/", "if/"): a for name, a in named.items()}


def _dense(named: Named) -> bool:
    """Whether one array holds all gates side by side."""
    return any(f"/{name}".endswith("/dense_h/kernel") for name in named)


def _cell(weights: Weights) -> Any:
    """The cell, also if an RNN wraps it."""
    return weights if isinstance(weights, Mapping) else getattr(weights, "cell", weights)


def _require_functions(weights: Weights, phi: Activation, other: str | None = None) -> None:
    """Raise ValueError for a module with other functions than sigmoid and phi; a dict has none.

    `other` names the cell that takes any phi.
    """
    cell = _cell(weights)
    for name, ours in (("gate_fn", jax.nn.sigmoid), ("activation_fn", phi)):
        theirs = getattr(cell, name, ours)
        if theirs is ours:
            continue
        with jax.ensure_compile_time_eval():
            at = jnp.linspace(-3, 3, 13)
            if jnp.allclose(theirs(at), ours(at), atol=1e-6):
                continue
        advice = f"; pass it as phi, for {other}" if other and name == "activation_fn" else ""
        raise ValueError(
            f"this {type(cell).__name__} has {name} = {getattr(theirs, '__name__', theirs)}, "
            f"but the cell has {getattr(ours, '__name__', ours)}{advice}"
        )


def _side_by_side(
    named: Named,
    what: str,
    bias: str,
    gates: int,
    kernels: tuple[str, str] = ("dense_i/kernel", "dense_h/kernel"),
) -> list[Array]:
    """V (d, gates*n), W (n, gates*n) and b (gates*n,) of weights that hold all gates at once."""
    names = [*kernels, bias]
    require_names(named, what, names, "Flax")
    V, W, b = taken(named, names)
    n = require_matrices(what, gates, (kernels[0], V), (kernels[1], W))
    require_shape(what, bias, b, (gates * n,))
    return [V, W, b]


def _gates(named: Named, what: str, gates: str, biased: str, *more: str) -> list[Array]:
    """W, V, b of weights kept gate by gate, as in "hi/kernel"; b is on the side `biased`.

    `more` names further vectors (n,).
    """
    Vs, Ws = ([f"{side}{g}/kernel" for g in gates] for side in "ih")
    bs = [f"{biased}{g}/bias" for g in gates]
    require_names(named, what, [*Vs, *Ws, *bs, *more], "Flax")
    V, W = taken(named, [Vs[0], Ws[0]])
    n = require_matrices(what, 1, (Vs[0], V), (Ws[0], W))
    parts = []
    for names, shape in ((Ws, (n, n)), (Vs, V.shape), (bs, (n,)), (more, (n,))):
        arrays = taken(named, names)
        for name, a in zip(names, arrays, strict=True):
            require_shape(what, name, a, shape)
        parts.append(arrays)
    return [jnp.concatenate(arrays, axis=-1) for arrays in parts[:3]]
