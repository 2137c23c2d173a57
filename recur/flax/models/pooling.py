"""One vector from a sequence: a pool is (hs (T, ..., n), lengths (...) or None) -> (..., n).

    last             h at the end of each sequence
    ends             for a Bidirectional: each pass at its own end
    mean             the mean over all steps
    AttentionPool    sum_t a_t h_t,  a = softmax_t(v . tanh(A h_t + b))

A sequence of length 0 gives zeros. Steps beyond a length are not read. hs may also be logits.
Known lengths outside 0 .. T raise ValueError; traced ones give NaN.
Feed-forward attention: Raffel and Ellis 2015, arXiv:1512.08756.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from recur import expect, scan

Pool = Callable[[Array, Array | None], Array]


@expect.arguments(hs=expect.floats)
def last(hs: Array, lengths: Array | None = None) -> Array:
    """The h of the last step of each sequence.

    Args:
        hs: (T, ..., n).
        lengths: Steps of each sequence, integers (...); None: all T.

    Returns:
        (..., n); zeros for a sequence of length 0, NaN for a traced length out of range.

    Raises:
        ValueError: A length that is known is out of range.
        TypeError: hs is not an array of floats.

    Example:
        >>> from recur.flax import models
        >>> hs = jnp.arange(6.0).reshape(3, 2, 1)
        >>> print(models.last(hs, jnp.array([3, 1]))[:, 0])
        [4. 1.]
    """
    if lengths is None:
        return hs[-1]
    counts, _ = _lengths(hs, lengths)
    at = jnp.clip(counts - 1, 0, hs.shape[0] - 1)
    return _of_steps(jnp.take_along_axis(hs, at[None, ..., None], axis=0)[0], hs, lengths)


@expect.arguments(hs=expect.floats)
def ends(hs: Array, lengths: Array | None = None) -> Array:
    """For a `Bidirectional` of two cells of one size: each pass after the whole sequence.

    Args:
        hs: (T, ..., 2n).
        lengths: Steps of each sequence, integers (...); None: all T.

    Returns:
        The forward half of the last step and the backward half of the first, (..., 2n); zeros for a
        sequence of length 0, NaN for a traced length out of range.

    Raises:
        ValueError: A length that is known is out of range.
        TypeError: hs is not an array of floats.

    Example:
        >>> from recur.flax import models
        >>> print(models.ends(jnp.arange(6.0).reshape(3, 2)))
        [4. 1.]
    """
    forward, backward = jnp.split(hs, 2, axis=-1)
    first = backward[0] if lengths is None else _of_steps(backward[0], hs, lengths)
    return jnp.concatenate([last(forward, lengths), first], axis=-1)


@expect.arguments(hs=expect.floats)
def mean(hs: Array, lengths: Array | None = None) -> Array:
    """The mean h over the steps of each sequence.

    Args:
        hs: (T, ..., n).
        lengths: Steps of each sequence, integers (...); None: all T.

    Returns:
        (..., n); zeros for a sequence of length 0, NaN for a traced length out of range.

    Raises:
        ValueError: A length that is known is out of range.
        TypeError: hs is not an array of floats.

    Example:
        >>> from recur.flax import models
        >>> hs = jnp.arange(6.0).reshape(3, 2, 1)
        >>> print(models.mean(hs, jnp.array([3, 1]))[:, 0])
        [2. 1.]
    """
    if lengths is None:
        return hs.mean(axis=0)
    counts, _ = _lengths(hs, lengths)
    steps = jnp.maximum(counts, 1).astype(hs.dtype)[..., None]
    total = jnp.sum(hs, axis=0, where=_there(hs, lengths))
    return _of_steps(total / steps, hs, lengths)


class AttentionPool(nnx.Module):
    """The mean h, weighted by a learned score of each step.

        sum_t a_t h_t,  a = softmax_t(v . tanh(A h_t + b))

    Raffel and Ellis 2015, arXiv:1512.08756.

    Args:
        width: Features of h, 1 or more.
        rngs: Its `params` draws A and v.

    Raises:
        ValueError: width < 1.
        TypeError: width is not an integer, or rngs is not an nnx.Rngs.

    Example:
        >>> from flax import nnx
        >>> from recur.flax import models
        >>> pool = models.AttentionPool(3, rngs=nnx.Rngs(0))
        >>> print(pool(jnp.ones((5, 2, 3)))[0])  # a mean of ones
        [1. 1. 1.]
    """

    @expect.arguments(width=expect.count(1), rngs=expect.instance(nnx.Rngs))
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.project = nnx.Linear(width, width, rngs=rngs)
        self.score = nnx.Linear(width, 1, use_bias=False, rngs=rngs)

    def __call__(self, hs: Array, lengths: Array | None = None) -> Array:
        """hs (T, ..., width) -> (..., width)."""
        scores = self.score(jnp.tanh(self.project(hs)))[..., 0]
        return attend(scores, hs, lengths)


def attend(scores: Array, hs: Array, lengths: Array | None = None) -> Array:
    """sum_t softmax_t(scores) hs over each sequence's own steps: (T, ...), (T, ..., n) -> (..., n).

    A sequence of length 0 gives zeros.
    """
    if lengths is None:
        return jnp.einsum("t...,t...n->...n", jax.nn.softmax(scores, axis=0), hs)
    there = _there(hs, lengths)
    weights = jax.nn.softmax(scores, axis=0, where=there[..., 0])
    return _of_steps(jnp.einsum("t...,t...n->...n", weights, jnp.where(there, hs, 0)), hs, lengths)


def _there(hs: Array, lengths: Array) -> Array:
    """Which steps of hs (T, ..., n) are valid, (T, ..., 1)."""
    there = scan.present(hs, lengths)
    assert there is not None
    return there[..., None]


def _of_steps(pooled: Array, hs: Array, lengths: Array) -> Array:
    """The pooled vector, (..., n): zeros for length 0, NaN for a length out of range."""
    counts, valid = _lengths(hs, lengths)
    return scan.or_nan(valid, jnp.where(counts[..., None] != 0, pooled, 0))


def _lengths(hs: Array, lengths: Array) -> tuple[Array, Array]:
    """The lengths of the sequences hs (T, ..., n), and which of them are 0 .. T."""
    return scan.require_lengths(lengths, hs.shape[0], hs.shape[1:-1])
