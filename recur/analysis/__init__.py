"""Analyses of the Jacobians along a trajectory.

Every function takes a body `(state, x) -> (state, h)`: `scan.tied(cell, params)`, a Flax cell, or
any other function. Those named `network_...` take a whole map of sequences, xs -> hs. Each function
follows one trajectory, and `batched` turns it into an analysis of many. The inputs `xs` are arrays
(T, ..., d). For a network without inputs, `xs` is a number of steps, an int, and the body's x is an
array (0,). Where the body has a mask (`scan.masked`, `compose.masked`), a masked step takes no time
and does not count towards a lag, and results for single steps are NaN there.

Results are natural logarithms (nats), so they stay finite where the quantities themselves do not.
In float32 a step's own relative rounding is 1e-7: set `jax_enable_x64` for small singular values.
"""

from recur.analysis.equilibria import OUTCOMES, Points, describe_points, distinct, fixed_points
from recur.analysis.gate_openness import openness
from recur.analysis.gradients import gradient_norms
from recur.analysis.gradients_by_lag import gradient_by_lag, gradient_map
from recur.analysis.linear_stability import Stability, modes, stability
from recur.analysis.lyapunov_exponents import (
    Lyapunov,
    entropy_rate,
    finite_growth,
    flossing,
    kaplan_yorke,
    lyapunov,
    lyapunov_details,
)
from recur.analysis.many_trajectories import batched
from recur.analysis.matrix_free import Density, singular_density, top_log_singular_values
from recur.analysis.perturbation_gain import log_gain
from recur.analysis.singular_values import (
    SingularValues,
    input_output,
    log_singular_values,
    singular_value_details,
)
from recur.analysis.singular_vectors import InputDirections, input_directions, one_step_spectra
from recur.analysis.verdicts import Verdict, quantiles, verdict
from recur.analysis.whole_networks import (
    network_gradient_norms,
    network_input_output,
    network_jacobian,
)

__all__ = [
    "batched",
    "log_gain",
    "log_singular_values",
    "singular_value_details",
    "SingularValues",
    "input_output",
    "input_directions",
    "InputDirections",
    "one_step_spectra",
    "network_jacobian",
    "network_input_output",
    "network_gradient_norms",
    "top_log_singular_values",
    "singular_density",
    "Density",
    "gradient_norms",
    "gradient_map",
    "gradient_by_lag",
    "quantiles",
    "verdict",
    "Verdict",
    "lyapunov",
    "lyapunov_details",
    "Lyapunov",
    "kaplan_yorke",
    "entropy_rate",
    "flossing",
    "finite_growth",
    "fixed_points",
    "distinct",
    "describe_points",
    "OUTCOMES",
    "Points",
    "stability",
    "modes",
    "openness",
    "Stability",
]
