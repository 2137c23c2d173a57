"""Models around a recurrence, as nnx modules: pytrees, so `grad`, `vmap` and Optax take them.

    Classifier, Tagger, Embedded            many to one, and to as many; from symbols
    LanguageModel, Generator                symbols after symbols; one to many
    EncoderDecoder, AttentiveDecoder        many to many, of another length
    Autoencoder, HierarchicalAutoencoder    a sequence through one vector and back
    ctc, ctc_decode, ctc_greedy             labels without alignment: their loss, and labels found

Any recurrence can be the cell of any model. So can a `Stacked`, and a `Bidirectional` if the model
does not write its own input. The symbols that a model writes are drawn, `greedy`, `sampled`, or the
likeliest that `beam_search` finds. Time is the first axis; sequences of different lengths share an
array and are described by `lengths`. Every recurrence is an `NnxCell` of the model, so one line
passes its parameters to an analysis: `scan.tied(model.rnn.cell, model.rnn.values)`.
`weights.with_params` puts parameters into a model.
"""

from recur.flax.models.autoencoder import Autoencoder
from recur.flax.models.beams import Found, beam_search
from recur.flax.models.classifier import Classifier
from recur.flax.models.ctc_decoding import Decoded, ctc_decode, ctc_greedy
from recur.flax.models.ctc_loss import ctc
from recur.flax.models.encoder_decoder import AttentiveDecoder, EncoderDecoder
from recur.flax.models.generator import Generator
from recur.flax.models.hierarchical import HierarchicalAutoencoder
from recur.flax.models.label_errors import edit_distance, label_error_rate
from recur.flax.models.language import LanguageModel, sampled_cross_entropy
from recur.flax.models.losses import cross_entropy
from recur.flax.models.picks import greedy, sampled
from recur.flax.models.pooling import AttentionPool, ends, last, mean
from recur.flax.models.tagger import Embedded, Tagger

__all__ = [
    "Classifier",
    "last",
    "ends",
    "mean",
    "AttentionPool",
    "Tagger",
    "Embedded",
    "LanguageModel",
    "sampled_cross_entropy",
    "Generator",
    "greedy",
    "sampled",
    "EncoderDecoder",
    "AttentiveDecoder",
    "beam_search",
    "Found",
    "Autoencoder",
    "HierarchicalAutoencoder",
    "cross_entropy",
    "ctc",
    "ctc_greedy",
    "ctc_decode",
    "Decoded",
    "edit_distance",
    "label_error_rate",
]
