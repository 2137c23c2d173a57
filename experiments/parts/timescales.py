"""How long is an input remembered? Three theories of one timescale, along a line of priors.

Two copies of a network of infinite width that see different noise (Sigma = 0) forget what they had
in common like exp(-t / xi).
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
SAME, DIFFERENT = 128, 128  # steps of equal and of different noise, where copies are followed
NOTHING = 1e-2  # of an overlap, of 4096 units: what is left is sampling noise


def timescales(name: str, priors: Prior, R: float) -> np.ndarray:
    """xi in steps by each of THEORIES, (3, P), for priors whose fields are (P,)."""
    return np.stack([theory(name, priors, R) for theory in (closed, redrawn, tied)])


def closed(name: str, priors: Prior, R: float) -> np.ndarray:
    """With weights redrawn at every step, in closed form, (P,)."""
    return _each(priors, lambda prior: CLOSED[name](prior, R, 0.0).xi)


def redrawn(name: str, priors: Prior, R: float) -> np.ndarray:
    """The same weights, but a population of units is followed (`overlap`), (P,)."""
    return _each(priors, lambda prior: overlap(theory.signal_untied, name, prior, R))


def tied(name: str, priors: Prior, R: float) -> np.ndarray:
    """A network with tied weights is followed, (P,)."""
    return _each(priors, lambda prior: overlap(theory.signal_tied, name, prior, R))


def overlap(signal: Callable[..., theory.Signal], name: str, prior: Prior, R: float) -> Array:
    """Two copies see the same noise for a while, then different noise: xi of what is left.

    E[h_1 h_2] is followed to a tenth of what it was, or for as long as DIFFERENT. The closed form
    has the rate at the end; where sigma_w > 1, copies that are equal at first part more slowly.
    """
    Sigmas = jnp.concatenate([jnp.ones(SAME), jnp.zeros(DIFFERENT)])
    Q, C = signal(CELLS[name], prior, R, Sigmas)
    left = jnp.maximum((Q * C)[SAME - 1 :] / (Q * C)[SAME - 1], NOTHING)
    t = jnp.where(jnp.any(left < 0.1), jnp.argmax(left < 0.1), DIFFERENT)
    return -t.astype(left.dtype) / jnp.log(left[t])


def _each(priors: Prior, xi: Callable[[Prior], Array]) -> np.ndarray:
    """At each prior: one after another, for they need room, but on all devices."""
    priors = jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), priors)
    return np.asarray(jax.jit(train.over_devices(partial(jax.lax.map, xi)))(priors))
