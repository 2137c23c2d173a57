"""Trained weights of other libraries in a model of `recur.flax.models`.

`recur.weights` reads them; its readers of Flax and PyTorch can also be imported from here. A
PyTorch model whose parts are named rnn and fc is converted by

    part = {name.removeprefix("rnn."): a for name, a in state.items() if name.startswith("rnn.")}
    model = with_params(Classifier(Stacked(cell, cell), d, n, classes, rngs=rngs),
                        torch_layers(torch_lstm, part))
    model.readout.kernel[...], model.readout.bias[...] = state["fc.weight"].T, state["fc.bias"]
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from recur import expect
from recur.core import Tree, require_params, takes
from recur.flax.cells import NnxCell
from recur.weights import flax_gru as flax_gru
from recur.weights import flax_lstm as flax_lstm
from recur.weights import flax_simple as flax_simple
from recur.weights import torch_gru as torch_gru
from recur.weights import torch_layers as torch_layers
from recur.weights import torch_lstm as torch_lstm
from recur.weights import torch_rnn as torch_rnn

Model = TypeVar("Model", bound=nnx.Module)


@expect.arguments(model=expect.instance(nnx.Module), params=expect.tree)
def with_params(model: Model, params: Tree) -> Model:
    """A copy of the model with these parameters in its recurrence.

    If a model has several recurrences, pass the part that you mean: model.encoder =
    with_params(model.encoder, params).

    Args:
        model: A model with one `NnxCell`, or one itself.
        params: Parameters of the cell of the model, from `init`, from training or from a reader of
            weights; for a `Stacked`, a tuple with one entry per layer. They keep their dtype.

    Returns:
        The model.

    Raises:
        ValueError: The model has no recurrence or several, or the parameters belong to another cell
            or have other shapes.
        TypeError: It is not an nnx module, or params hold something other than arrays.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import cells as bridge, weights
        >>> module = bridge.NnxCell(cells.vanilla.cell, 2, 3, rngs=nnx.Rngs(0))
        >>> new = weights.with_params(module, jax.tree.map(jnp.zeros_like, module.values))
        >>> print(new.values.W[0], (module.values.W == 0).any())
        [0. 0. 0.] False
    """
    found = [(path, part) for path, part in nnx.iter_modules(model) if isinstance(part, NnxCell)]
    if len(found) != 1:
        names = ", ".join(".".join(map(str, path)) for path, _ in found)
        advice = f" ({names}): pass one of these, an NnxCell, and put the result back"
        raise ValueError(
            f"with_params needs a model with one recurrence; this {type(model).__name__} has "
            f"{len(found)}{advice if found else ''}"
        )
    ((_, own),) = found
    require_params(takes(own.cell), params)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (own.values, params)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "the parameters must have the shapes of the recurrence of this "
            f"{type(model).__name__}, {shapes[0]}; got {shapes[1]}"
        )
    new = jax.tree.unflatten(jax.tree.structure(own), map(jnp.asarray, jax.tree.leaves(params)))
    return jax.tree.map(
        lambda part: new if isinstance(part, NnxCell) else part,
        model,
        is_leaf=lambda part: isinstance(part, NnxCell),
    )
