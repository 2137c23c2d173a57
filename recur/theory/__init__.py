"""Theory of cells at infinite width, with weights redrawn at every step or tied.

`untied` and `tied` run any `Unitwise` cell's own functions on matrices of infinite width; `closed`
has the quadrature forms of two cells, `spectrum` their singular values over many steps; `critical`,
`critical_minimal` and `slowest` find priors.
R is E[x_i^2] of the inputs, Sigma the cosine of two input sequences; times are in steps, growth in
nats per step. A cell or prior without a theory raises ValueError with the reason.
"""

from recur.theory import closed, spectrum
from recur.theory.critical_priors import critical, critical_minimal, slowest
from recur.theory.mean_field import MeanField, Squares, timescale
from recur.theory.redrawn_weights import Signal, signal_untied, untied
from recur.theory.tied_weights import signal_tied, tied

__all__ = [
    "MeanField",
    "Signal",
    "Squares",
    "closed",
    "critical",
    "critical_minimal",
    "signal_tied",
    "signal_untied",
    "slowest",
    "spectrum",
    "tied",
    "timescale",
    "untied",
]
