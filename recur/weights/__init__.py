"""Weights of networks that were trained elsewhere, as parameters of recur cells.

    torch_lstm, torch_gru, torch_rnn       one layer of a PyTorch state dict
    torch_projected_lstm                   the same of an LSTM with a proj_size
    torch_layers                           all layers of it, and both directions
    keras_lstm, keras_gru, keras_simple    layer.get_weights() of Keras
    keras_gru_reset_before                 the same of a GRU with reset_after=False
    equinox_lstm, equinox_gru              an Equinox cell
    haiku_lstm, haiku_gru, haiku_vanilla   the parameters of a Haiku module
    flax_lstm, flax_gru, flax_simple       an nnx module or a dict of linen

Each returns parameters for the cell named in this table. With them `scan.run` gives the outputs of
the original network. For activations other than tanh use `lstm.long_short(phi)` and
`vanilla.elman(phi)`.

                LSTM                             GRU                           simple
    PyTorch     lstm.cell                        gru.cudnn                     vanilla.cell or .relu
                or .projected with a proj_size
    Keras       lstm.cell                        gru.cudnn or .reset_before    vanilla.cell
    Equinox     lstm.cell                        gru.cudnn
    Haiku       lstm.cell                        gru.reset_before              vanilla.relu
    Flax        lstm.cell                        gru.cudnn                     vanilla.cell

This module imports none of these libraries: pass arrays by name. If names or shapes belong to
another library or another network, the error says which. Shapes do not reveal the order of gates,
or whether a square matrix is transposed. `recur.flax.weights.with_params` puts the parameters into
a model.
"""

from recur.weights.equinox import equinox_gru, equinox_lstm
from recur.weights.flax import flax_gru, flax_lstm, flax_simple
from recur.weights.haiku import haiku_gru, haiku_lstm, haiku_vanilla
from recur.weights.keras import keras_gru, keras_gru_reset_before, keras_lstm, keras_simple
from recur.weights.torch import (
    torch_gru,
    torch_layers,
    torch_lstm,
    torch_projected_lstm,
    torch_rnn,
)

__all__ = [
    "torch_lstm",
    "torch_projected_lstm",
    "torch_gru",
    "torch_rnn",
    "torch_layers",
    "keras_lstm",
    "keras_gru",
    "keras_gru_reset_before",
    "keras_simple",
    "equinox_lstm",
    "equinox_gru",
    "haiku_lstm",
    "haiku_gru",
    "haiku_vanilla",
    "flax_lstm",
    "flax_gru",
    "flax_simple",
]
