"""Figures, one function per question: each draws the result of an analysis and returns the axes.

    input_output          how far back does the output see?
    singular_values       how much of each direction of the first state is left in the last?
    one_step_spectra      what does each step do to perturbations?
    gradient_norms        how much gradient reaches each step?
    gradient_map          how much of it crosses each lag, at each step?
    lyapunov              which directions grow, which decay?
    lyapunov_convergence  was the trajectory long enough for the exponents to converge?
    eigenvalues           which modes of a fixed point last, and for how long?
    fixed_points          where are the fixed points, and along which directions are they unstable?
    gates                 when is each gate open?
    phase_diagram         which priors remember, and where is the edge?
    trainability          which priors can be trained at which length?
    band                  where do most of several curves lie?

Each takes an optional `ax`, and makes a new figure without one. Vertical axes of logarithms
hold nats, as the analyses do, and are labelled with powers of ten. NaN and -inf leave gaps, and a
note in the axes counts both. `dt`, the seconds per step, converts steps to seconds. `COLOURS` can
be distinguished by colour-blind readers and in grey.
Needs matplotlib: pip install 'recur-jax[plot]'. For use outside jit.
"""

from importlib import import_module

try:
    import_module("matplotlib")
except ImportError as error:
    raise ImportError(
        "recur.plot needs matplotlib, which is not installed: pip install 'recur-jax[plot]'"
    ) from error

from recur.plot.bands import band
from recur.plot.gate_openness import gates
from recur.plot.gradients import gradient_map, gradient_norms
from recur.plot.long_products import singular_values
from recur.plot.lyapunov_exponents import lyapunov, lyapunov_convergence
from recur.plot.phases import phase_diagram
from recur.plot.reach import input_output
from recur.plot.single_steps import one_step_spectra
from recur.plot.state_space import fixed_points
from recur.plot.style import COLOURS, decades
from recur.plot.trained_lengths import trainability
from recur.plot.unit_circle import eigenvalues

__all__ = [
    "input_output",
    "singular_values",
    "one_step_spectra",
    "gradient_norms",
    "gradient_map",
    "lyapunov",
    "lyapunov_convergence",
    "eigenvalues",
    "fixed_points",
    "gates",
    "phase_diagram",
    "trainability",
    "band",
    "decades",
    "COLOURS",
]
