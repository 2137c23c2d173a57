"""Losses over sequences of different lengths, in nats."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from recur import expect, scan


@expect.arguments(logits=expect.floats, labels=expect.numbers)
def cross_entropy(logits: Array, labels: Array, lengths: Any = None, mask: Any = None) -> Array:
    """The mean of -log p(label) over all unmasked steps.

    Steps that lengths and mask leave out are never read, so `mask=labels >= 0` skips labels that
    mean "none".

    Args:
        logits: (T, ..., K).
        labels: (T, ...) integers 0 .. K - 1.
        lengths: Steps of each sequence, integers (...); None: all T.
        mask: Booleans (T, ...), True where a step counts; None: everywhere.

    Returns:
        The mean, (), nats; 0 if all steps are masked. If traced labels or lengths are out of range,
        it and its derivative are NaN.

    Raises:
        ValueError: Labels are not integers that fit the logits, or known labels or lengths are out
            of range.
        TypeError: The logits are not an array of floats, or the labels are not an array of numbers.

    Example:
        >>> from recur.flax import models
        >>> loss = models.cross_entropy(jnp.zeros((3, 2, 4)), jnp.ones((3, 2), int))
        >>> print(f"{loss:.4f}")  # log 4
        1.3863
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels must hold one label per step of the logits {logits.shape}, "
            f"{logits.shape[:-1]}; got shape {labels.shape}"
        )
    each = optax.softmax_cross_entropy_with_integer_labels
    return mean_present(each, logits, labels, logits.shape[-1], lengths, mask)


def mean_present(
    loss: Callable[[Array, Array], Array],
    features: Array,
    labels: Array,
    classes: int,
    lengths: Any,
    mask: Any,
) -> Array:
    """The mean of loss(features, labels) over unmasked steps; 0 if there are none.

    NaN where a label or a length is out of range. Raises ValueError if that is known.
    """
    present = scan.present(features, lengths, mask)
    there = scan.known_present(labels.shape, lengths, mask)
    scan.require_index("labels", labels, classes, "classes", there)
    labels = jnp.asarray(labels).astype(int)
    valid = scan.inside(labels, classes)
    if present is None:
        return scan.or_nan(valid, loss(features, jnp.where(valid, labels, 0))).mean()
    clean = jnp.where(present[..., None], features, 0), jnp.where(present & valid, labels, 0)
    each = jnp.where(present, scan.or_nan(valid | ~present, loss(*clean)), 0)
    mean = each.sum() / jnp.maximum(present.sum(), 1).astype(each.dtype)
    if lengths is None:
        return mean
    return scan.or_nan(scan.require_lengths(lengths, *_split(labels.shape))[1].all(), mean)


def _split(shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """(T, ...) -> T and the batch axes."""
    return shape[0], shape[1:]
