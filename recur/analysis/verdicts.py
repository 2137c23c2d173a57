"""What many gradients say together: quantiles over a batch, and whether they vanish or explode."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import expect
from recur.tables import tabled


@tabled()
class Verdict(NamedTuple):
    """What gradients do on their way back."""

    word: str  #: "vanish", "explode", "preserve", or "unknown" after an overflow
    rate: float  #: nats per step back

    def __str__(self) -> str:
        return f"gradients {self.word}: {self.rate:+.4f} nats per step back"


@expect.arguments(logs=expect.floats)
def verdict(logs: Array | np.ndarray) -> Verdict:
    """Whether gradients vanish, explode or are preserved. For use outside jit.

    Args:
        logs: From `gradient_map`, (..., lags + 1); nats.

    Returns:
        A word, and the slope of the median over steps (and trajectories) against the lag, in nats
        per step. "preserve": the slope changes gradients less than tenfold over all lags. An exact
        zero vanishes at -inf. Where the network overflows the word is "unknown" and the rate NaN.

    Raises:
        ValueError: There are fewer than two lags.
        TypeError: The logs are not an array of floats.

    Example:
        >>> logs = jnp.log(0.5) * jnp.arange(5.0)
        >>> print(analysis.verdict(logs[None]))
        gradients vanish: -0.6931 nats per step back
    """
    if logs.shape[-1] < 2:
        raise ValueError(
            f"a rate needs at least two lags; got {logs.shape[-1]}: call gradient_map with lags "
            ">= 1"
        )
    median = np.asarray(quantiles(logs.reshape(-1, logs.shape[-1]), [0.5]))[0]
    lag = np.arange(median.size)
    if np.isnan(median).any():
        return Verdict("unknown", np.nan)
    if np.isneginf(median).any():
        return Verdict("vanish", -np.inf)
    rate = float(np.polyfit(lag, median, 1)[0])
    if abs(rate) * lag[-1] < np.log(10):
        return Verdict("preserve", rate)
    return Verdict("explode" if rate > 0 else "vanish", rate)


@expect.arguments(logs=expect.floats, q=expect.real)
def quantiles(
    logs: Array | np.ndarray, q: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
) -> Array:
    """Quantiles over a batch of logs that may be -inf, or NaN where a step does not exist.

    They are the nearest order statistics, since -inf and a number have no mean.

    Args:
        logs: (B, ...), such as those of `gradient_map`. The last axis counts lags. Lag 0 always
            exists, so a member with NaN at every lag has overflowed, and makes the quantiles NaN.
        q: Fractions within 0 .. 1.

    Returns:
        (len(q), ...), in the units of the logs.

    Raises:
        ValueError: A fraction is outside 0 .. 1.
        TypeError: The logs are not an array of floats, or q holds no real numbers.

    Example:
        >>> logs = jnp.array([[0.0, -jnp.inf], [1.0, -2.0], [2.0, jnp.nan]])
        >>> print(analysis.quantiles(logs, q=[0.5, 1.0]))
        [[  1. -inf]
         [  2.  -2.]]
    """
    if not ((np.asarray(q) >= 0) & (np.asarray(q) <= 1)).all():
        raise ValueError(f"quantiles must be fractions within 0 .. 1; got {q}")
    found = jnp.nanquantile(logs, jnp.asarray(q, logs.dtype), axis=0, method="nearest")
    lags = jnp.atleast_2d(logs.T).T
    overflow = jnp.isnan(lags).all(axis=-1, keepdims=True).any(axis=0)
    return jnp.where(overflow, jnp.nan, found)
