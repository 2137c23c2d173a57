"""The timescale on which an input is forgotten, by three theories, along a line of priors.

If two copies of a network of infinite width see different noise (Sigma = 0), their overlap decays
as exp(-t / xi).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import cells, theory, train
from recur.core import Prior

CELLS = {"vanilla": cells.vanilla.cell, "minimal": cells.minimal.bare}
CLOSED = {"vanilla": theory.closed.vanilla, "minimal": theory.closed.minimal}
THEORIES = ("closed form", "redrawn", "tied")
SAME, DIFFERENT = 128, 128  # steps with equal noise, then with different noise
NOTHING = 1e-2  # below this, the overlap of 4096 units is sampling noise


def timescales(name: str, priors: Prior, R: float) -> np.ndarray:
    """xi in steps, (3, P), by each of THEORIES, for priors whose fields are (P,)."""
    return np.stack([theory(name, priors, R) for theory in (closed, redrawn, tied)])


def closed(name: str, priors: Prior, R: float) -> np.ndarray:
    """xi for weights redrawn at every step, in closed form, (P,)."""
    return _each(priors, lambda prior: CLOSED[name](prior, R, 0.0).xi)


def redrawn(name: str, priors: Prior, R: float) -> np.ndarray:
    """xi for redrawn weights too, (P,), but from a simulated population of units (`overlap`)."""
    return _each(priors, lambda prior: overlap(theory.signal_untied, name, prior, R))


def tied(name: str, priors: Prior, R: float) -> np.ndarray:
    """xi for tied weights, (P,), from the simulation of a network (`overlap`)."""
    return _each(priors, lambda prior: overlap(theory.signal_tied, name, prior, R))


def overlap(signal: Callable[..., theory.Signal], name: str, prior: Prior, R: float) -> Array:
    """xi from the overlap of two copies that see the same noise first, and then different noise.

    E[h_1 h_2] is followed until it has fallen to a tenth, or for DIFFERENT steps. The closed form
    gives the final rate of decay. If sigma_w > 1, copies that are equal at first part more slowly.
    """
    Sigmas = jnp.concatenate([jnp.ones(SAME), jnp.zeros(DIFFERENT)])
    Q, C = signal(CELLS[name], prior, R, Sigmas)
    left = jnp.maximum((Q * C)[SAME - 1 :] / (Q * C)[SAME - 1], NOTHING)
    t = jnp.where(jnp.any(left < 0.1), jnp.argmax(left < 0.1), DIFFERENT)
    return -t.astype(left.dtype) / jnp.log(left[t])


def _each(priors: Prior, xi: Callable[[Prior], Array]) -> np.ndarray:
    """Compute xi at each prior. To save memory, each device computes one prior after another."""
    priors = jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), priors)
    return np.asarray(jax.jit(train.over_devices(partial(jax.lax.map, xi)))(priors))
