"""Weights from elsewhere as the parameters of our cells, with which `scan.run` gives equal numbers.

    flax_lstm, flax_gru, flax_simple    of a linen dict or an nnx module (LSTMCell, GRUCell ...)
    torch_lstm, torch_gru, torch_rnn    of one layer of a PyTorch state dict, arrays by name
    torch_layers                        of all layers and both directions, for Stacked
    with_params                         a model with such parameters in its recurrence

LSTM's are for `lstm.cell`, a GRU's for `gru.cudnn`, the simple ones for `vanilla.cell`; with
another activation phi, for `lstm.long_short(phi)` and `vanilla.elman(phi)`. An nnx module says what
it computes with, and is refused where that is not the cell's; a dict of weights does not. An LSTM's
state is (h, c) here, (c, h) in Flax. PyTorch is not needed:
`{name: p.numpy() for name, p in module.state_dict().items()}`. A PyTorch model whose parts are
named rnn and fc becomes ours by

    part = {name.removeprefix("rnn."): a for name, a in state.items() if name.startswith("rnn.")}
    model = with_params(Classifier(Stacked(cell, cell), d, n, classes, rngs=rngs),
                        torch_layers(torch_lstm, part))
    model.readout.kernel[...], model.readout.bias[...] = state["fc.weight"].T, state["fc.bias"]
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict
from jax import Array
from jax.typing import ArrayLike

from recur import expect
from recur.cells import gru, lstm, vanilla
from recur.compose import BothWays
from recur.core import Tree, require_params, takes
from recur.flax.cells import NnxCell

Weights = Mapping[str, Any] | nnx.Module
Model = TypeVar("Model", bound=nnx.Module)
_mapping = expect.instance(Mapping, nnx.Module)
Activation = Callable[[Array], Array]


@expect.arguments(weights=_mapping, phi=expect.function)
def flax_lstm(weights: Weights, phi: Activation = jnp.tanh) -> lstm.Params:
    """For `lstm.cell`, or `lstm.long_short(phi)`, from a Flax LSTMCell or OptimizedLSTMCell.

    Raises ValueError for weights that are missing, unknown, or of a wrong shape, and for a module
    with another activation than phi or other gates than sigmoids.
    """
    _require_functions(weights, phi, "lstm.long_short(phi)")
    named = _flax(weights)
    if "dense_h/kernel" in named:
        _require(named, "an LSTM", ("dense_i/kernel", "dense_h/kernel"), ("dense_h/bias",), 4)
        return lstm.Params(named["dense_h/kernel"], named["dense_i/kernel"], named["dense_h/bias"])
    W, V, b = _gates(named, "an LSTM", "ifgo", "h")
    return lstm.Params(W, V, b)


@expect.arguments(weights=_mapping)
def flax_gru(weights: Weights) -> gru.Cudnn:
    """For `gru.cudnn`, from a Flax GRUCell. Raises ValueError as `flax_lstm` does."""
    _require_functions(weights, jnp.tanh)
    named = _flax(weights)
    if "dense_h/kernel" in named:  # nnx: the candidate has one bias, outside the reset
        _require(named, "a GRU", ("dense_i/kernel", "dense_h/kernel"), ("dense_i/bias",), 3)
        W, V, b = named["dense_h/kernel"], named["dense_i/kernel"], named["dense_i/bias"]
        b_h = jnp.zeros(W.shape[0], b.dtype)
    else:
        W, V, b = _gates(named, "a GRU", "rzn", "i", ("hn/bias",))
        b_h = named["hn/bias"]
    return gru.Cudnn(_update_first(W), _update_first(V), _update_first(b), b_h)


@expect.arguments(weights=_mapping, phi=expect.function)
def flax_simple(weights: Weights, phi: Activation = jnp.tanh) -> vanilla.Params:
    """For `vanilla.cell`, or `vanilla.elman(phi)`, from a Flax SimpleCell without residual.

    Raises ValueError as `flax_lstm` does, and for a module with a residual.
    """
    _require_functions(weights, phi, "vanilla.elman(phi)")
    if getattr(weights, "residual", False):
        raise ValueError("this SimpleCell adds its old state (residual); a vanilla cell does not")
    named = {name.removeprefix("dense_"): a for name, a in _flax(weights).items()}
    _require(named, "a simple cell", ("i/kernel", "h/kernel"), ("i/bias",), 1)
    return vanilla.Params(named["h/kernel"], named["i/kernel"], named["i/bias"])


@expect.arguments(state=_mapping)
def torch_lstm(state: Mapping[str, ArrayLike]) -> lstm.Params:
    """For `lstm.cell`, from the state dict of an nn.LSTM of one layer or an nn.LSTMCell.

    Raises ValueError for weights that are missing, unknown, of other layers or a wrong shape.
    """
    W, V, b_h, b = _torch(state, "an LSTM", 4)
    return lstm.Params(W, V, b_h + b)


@expect.arguments(state=_mapping)
def torch_gru(state: Mapping[str, ArrayLike]) -> gru.Cudnn:
    """For `gru.cudnn`, from an nn.GRU of one layer or an nn.GRUCell. Raises as `torch_lstm`."""
    W, V, b_h, b = _torch(state, "a GRU", 3)
    n = len(W)
    outside = b + b_h.at[2 * n :].set(0)
    return gru.Cudnn(_update_first(W), _update_first(V), _update_first(outside), b_h[2 * n :])


@expect.arguments(state=_mapping)
def torch_rnn(state: Mapping[str, ArrayLike]) -> vanilla.Params:
    """For `vanilla.cell` (tanh) or `vanilla.relu`, from an nn.RNN of one layer or an nn.RNNCell.

    Raises ValueError as `torch_lstm` does.
    """
    W, V, b_h, b = _torch(state, "a simple network", 1)
    return vanilla.Params(W, V, b_h + b)


@expect.arguments(one=expect.function, state=_mapping)
def torch_layers(
    one: Callable[[Mapping[str, ArrayLike]], Tree], state: Mapping[str, ArrayLike]
) -> tuple:
    """One entry a layer, for `Stacked`, by `torch_lstm`, `torch_gru` or `torch_rnn`.

    Of a bidirectional network the entries are BothWays, for `Stacked(Bidirectional(cell), ...)`.
    Raises ValueError as these do.
    """
    parts: dict[str, dict] = {}
    for name, array in state.items():
        parts.setdefault(_TORCH_LAYER.sub("", name, count=1), {})[name] = array
    both = any(suffix.endswith("_reverse") for suffix in parts)
    depth = len(parts) // (2 if both else 1)
    ways = ("", "_reverse") if both else ("",)
    expected = {f"_l{layer}{way}" for layer in range(depth) for way in ways}
    if set(parts) != expected or not parts:
        raise ValueError(
            "the layers of a PyTorch network end in _l0, _l1, ... and, where it is bidirectional, "
            f"also in _l0_reverse, ...; got {sorted(state)}. {_PREFIX}"
        )
    layers = [[one(parts[f"_l{layer}{way}"]) for way in ways] for layer in range(depth)]
    return tuple(BothWays(*pair) if both else pair[0] for pair in layers)


@expect.arguments(model=expect.instance(nnx.Module), params=expect.tree)
def with_params(model: Model, params: Tree) -> Model:
    """The model with these parameters in its recurrence; the one that is given stays as it is.

    `params` are what `init` of the model's cell gives: of a weight converter here, of training or
    of a draw; for a `Stacked` a tuple, one entry a layer. They keep their dtype. Of a model with
    several recurrences take the part that is meant: model.encoder =
    with_params(model.encoder, params). Raises ValueError for a model without a recurrence or with
    several, for the parameters of another cell, and for shapes other than the model's.
    """
    found = [(path, part) for path, part in nnx.iter_modules(model) if isinstance(part, NnxCell)]
    if len(found) != 1:
        names = ", ".join(".".join(map(str, path)) for path, _ in found)
        advice = f" ({names}): pass one of those, an NnxCell, and put back what it gives"
        raise ValueError(
            f"with_params fills the one recurrence of a model; this {type(model).__name__} has "
            f"{len(found)}{advice if found else ''}"
        )
    ((_, own),) = found
    require_params(takes(own.cell), params)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (own.values, params)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"the recurrence of this {type(model).__name__} has parameters of the shapes "
            f"{shapes[0]}; got {shapes[1]}"
        )
    new = jax.tree.unflatten(jax.tree.structure(own), map(jnp.asarray, jax.tree.leaves(params)))
    return jax.tree.map(
        lambda part: new if isinstance(part, NnxCell) else part,
        model,
        is_leaf=lambda part: isinstance(part, NnxCell),
    )


_TORCH_LAYER = re.compile(r"^(weight|bias)_(ih|hh)")
_PREFIX = (
    "Of a larger model take the part of the recurrence: "
    "{name.removeprefix('rnn.'): a for name, a in state.items() if name.startswith('rnn.')}"
)


def _torch(
    state: Mapping[str, ArrayLike], what: str, gates: int
) -> tuple[Array, Array, Array, Array]:
    """W (n, gates*n), V (d, gates*n) and both biases of one layer; without biases, zeros."""
    suffixes = sorted({_TORCH_LAYER.sub("", name, count=1) for name in state})
    if len(suffixes) > 1 and all(suffix.startswith("_l") for suffix in suffixes):
        raise ValueError(f"one layer is asked for, got {suffixes}: use torch_layers for all")
    end = suffixes[0] if suffixes else ""
    for name, a in state.items():
        expect.numeric(name, a)
    named = {name.removesuffix(end): jnp.asarray(a) for name, a in state.items()}
    named = {name: a.T if name.startswith("weight") else a for name, a in named.items()}
    biases = ("bias_ih", "bias_hh") if any(name.startswith("bias") for name in named) else ()
    _require(named, what, ("weight_ih", "weight_hh"), biases, gates, _PREFIX)
    W, V = named["weight_hh"], named["weight_ih"]
    zeros = jnp.zeros(W.shape[1], W.dtype)
    return W, V, named.get("bias_hh", zeros), named.get("bias_ih", zeros)


def _require_functions(weights: Weights, phi: Activation, other: str | None = None) -> None:
    """Raise ValueError for a module with other functions than sigmoid and phi; a dict has none.

    `other` names the cell that takes any phi.
    """
    for name, ours in (("gate_fn", jax.nn.sigmoid), ("activation_fn", phi)):
        theirs = getattr(weights, name, ours)
        if theirs is ours:
            continue
        with jax.ensure_compile_time_eval():
            at = jnp.linspace(-3, 3, 13)
            if jnp.allclose(theirs(at), ours(at), atol=1e-6):
                continue
        advice = f"; pass it as phi, for {other}" if other and name == "activation_fn" else ""
        raise ValueError(
            f"this {type(weights).__name__} has {name} = {getattr(theirs, '__name__', theirs)}, "
            f"the cell {getattr(ours, '__name__', ours)}{advice}"
        )


def _flax(weights: Weights) -> dict[str, Array]:
    """The weights of a linen dict or an nnx module by path, as in "if/kernel"."""
    if isinstance(weights, nnx.Module):
        weights = nnx.to_pure_dict(nnx.state(weights, nnx.Param))
    flat = flatten_dict(dict(weights.get("params", weights)), sep="/")
    for name, a in flat.items():
        expect.numeric(name, a)
    return {name.replace("if_/", "if/"): jnp.asarray(a) for name, a in flat.items()}


def _gates(
    named: dict[str, Array], what: str, gates: str, biased: str, more: tuple[str, ...] = ()
) -> tuple[Array, Array, Array]:
    """W, V, b of weights kept gate by gate, as in "hi/kernel"; b is on the side `biased`.

    `more` names further vectors (n,) that are there.
    """
    parts = [[f"{side}{g}/kernel" for g in gates] for side in "ih"]
    parts += [[f"{biased}{g}/bias" for g in gates]]
    names = [name for part in parts for name in part]
    _require_names(named, what, [*names, *more])
    (d, n), _ = (_matrix(named, f"{side}{gates[0]}/kernel") for side in "ih")
    for part, shape in zip(parts, ((d, n), (n, n), (n,)), strict=True):
        _require_shapes(named, what, dict.fromkeys(part, shape))
    _require_shapes(named, what, dict.fromkeys(more, (n,)))
    V, W, b = (jnp.concatenate([named[name] for name in part], axis=-1) for part in parts)
    return W, V, b


def _require(
    named: dict[str, Array],
    what: str,
    kernels: tuple[str, str],
    biases: tuple[str, ...],
    gates: int,
    advice: str = "",
) -> None:
    """Raise ValueError unless these are V (d, gates*n), W (n, gates*n) and biases (gates*n,)."""
    _require_names(named, what, [*kernels, *biases], advice)
    d, n = (_matrix(named, name)[0] for name in kernels)
    shapes = {kernels[0]: (d, gates * n), kernels[1]: (n, gates * n)}
    _require_shapes(named, what, shapes | dict.fromkeys(biases, (gates * n,)))


def _require_names(named: dict[str, Array], what: str, names: list[str], advice: str = "") -> None:
    missing, unknown = sorted(set(names) - set(named)), sorted(set(named) - set(names))
    if missing or unknown:
        raise ValueError(
            f"{what} has the weights {', '.join(names)}; missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}. {advice}".rstrip()
        )


def _matrix(named: dict[str, Array], name: str) -> tuple[int, int]:
    """The shape of a matrix. Raises ValueError where it is none."""
    if named[name].ndim != 2:
        raise ValueError(f"{name} is a matrix; got shape {named[name].shape}")
    rows, columns = named[name].shape
    return rows, columns


def _require_shapes(named: dict[str, Array], what: str, shapes: dict[str, tuple]) -> None:
    for name, shape in shapes.items():
        if named[name].shape != shape:
            raise ValueError(
                f"{what} of these sizes has {name} of shape {shape}, as in x @ V and h @ W; got "
                f"{named[name].shape}"
            )


def _update_first(gates: Array) -> Array:
    """(reset, update, candidate) -> (update, reset, candidate)."""
    r, u, c = jnp.split(gates, 3, axis=-1)
    return jnp.concatenate([u, r, c], axis=-1)
