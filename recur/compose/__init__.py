"""Combinators: functions that return a changed cell, and layers of cells."""

from recur.compose.constraints import constrained
from recur.compose.dropout import (
    input_dropout,
    recurrent_dropout,
    sequence_keep,
    step_keep,
    weight_drop,
)
from recur.compose.inits import chrono, forget_bias, glorot, identity, orthogonal, sparse
from recur.compose.layers import Bidirectional, BothWays, PerLayer, Stacked
from recur.compose.masks import masked, resetting
from recur.compose.normed import layer_normed, learned_start
from recur.compose.presence import steps_present
from recur.compose.skips import Highway, HighwaySkip, Residual
from recur.compose.zoneout_noise import zoneout, zoneout_keep

__all__ = [
    "orthogonal",
    "identity",
    "glorot",
    "sparse",
    "forget_bias",
    "chrono",
    "masked",
    "resetting",
    "steps_present",
    "recurrent_dropout",
    "sequence_keep",
    "zoneout",
    "zoneout_keep",
    "input_dropout",
    "step_keep",
    "weight_drop",
    "constrained",
    "layer_normed",
    "learned_start",
    "Stacked",
    "Residual",
    "Highway",
    "HighwaySkip",
    "Bidirectional",
    "BothWays",
    "PerLayer",
]
