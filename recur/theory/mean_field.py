"""The result of a theory of infinite width for a recurrence."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from recur import expect
from recur.tables import tabled


@tabled()
class Squares(NamedTuple):
    """Mean and variance of the squared singular values of d state'/d state, of one step."""

    mean: Array  #: the mean
    gaussian: Array  #: the variance for Gaussian W
    orthogonal: Array  #: the variance for W = sigma_w times an orthogonal matrix


@tabled()
class MeanField(NamedTuple):
    """The stationary state of two copies of a network, driven by inputs of cosine Sigma.

    Pre-activations are W h + V x + b about their mean mu_b: one number for a cell with one gate,
    (g,) for g gates. They are found from how parameters are used, not from their names
    (`recur.theory.preactivations`). q and c are NaN if the program of a cell cannot be followed.
    """

    Q: Array  #: E[h^2]
    q: Array  #: E[(pre-activation - mu_b)^2]
    C: Array  #: cosine of the two hidden states
    c: Array  #: cosine of the two pre-activations
    chi: Array  #: growth per step of E[d state_1 . d state_2]; of E|d state|^2 where Sigma = 1
    xi: Array  #: timescale -1 / log(chi), steps; negative where perturbations grow
    error: Any = None  #: a MeanField of standard errors of the above; None where computed
    squares: Squares | None = None  #: of the one-step Jacobian; None where not computed
    path: Any = None  #: Q(t) and C(t, s) of `theory.tied`
    converged: Any = (
        None  #: whether all became stationary within the limit of steps; None where computed
    )


@expect.arguments(chi=expect.real)
def timescale(chi: Array) -> Array:
    """xi = -1 / log(chi): perturbations decay as exp(-t / xi), or grow where xi < 0.

    Args:
        chi: Growth of their mean square per step.

    Returns:
        xi in steps, shaped like chi.

    Raises:
        TypeError: chi holds no real numbers.

    Example:
        >>> print(theory.timescale(jnp.array([0.9, 0.5])))
        [9.491 1.443]
    """
    return -1 / jnp.log(chi)


def cosines(name: str, value: Any) -> None:
    """A check of `expect`: one number per step, (T,)."""
    expect.numbers(name, value)
    if np.ndim(value) != 1:
        raise ValueError(f"{name} must hold one cosine per step, (T,); got {expect.told(value)}")


@expect.arguments(R=expect.real, Sigma=expect.real)
def check_inputs(R: ArrayLike, Sigma: ArrayLike) -> None:
    """Raise ValueError unless R > 0 and |Sigma| <= 1. Traced values are not checked."""
    if not isinstance(R, jax.core.Tracer) and not np.all(np.asarray(R) > 0):
        raise ValueError(
            f"R = E[x_i^2] must be positive; got {R}. Without input the stationary state is that "
            "of an autonomous network; use a small R > 0 for this limit"
        )
    if not isinstance(Sigma, jax.core.Tracer) and not np.all(np.abs(np.asarray(Sigma)) <= 1):
        raise ValueError(
            f"Sigma, the cosine between two input sequences, must be within -1 .. 1; got {Sigma}"
        )
