"""Losses over sequences of different lengths, in nats."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from recur import scan


def cross_entropy(logits: Array, labels: Array, lengths: Any = None) -> Array:
    """Mean -log p(label) over all steps that are there, a number, nats.

    logits (T, ..., K), labels (T, ...) integers, lengths (...); whatever lies beyond a length is
    never read. Raises ValueError where the labels are not integers of the logits' shape.
    """
    require_symbols("labels", labels)
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels has shape {labels.shape}, one label a step of logits {logits.shape} is "
            f"{logits.shape[:-1]}"
        )
    return mean_present(
        lambda logits, labels: optax.softmax_cross_entropy_with_integer_labels(logits, labels),
        logits,
        labels,
        lengths,
    )


def ctc(
    logits: Array, labels: Array, lengths: Any = None, label_lengths: Any = None, blank: int = 0
) -> Array:
    """-log p(labels) of each sequence, (...), nats, summed over all alignments with the inputs.

    logits (T, ..., K) with a class for the blank; labels (L, ...) integers; lengths (...) and
    label_lengths (...) count the steps and labels of each sequence. A label takes a step, and a
    repeated one a blank before it: raises ValueError where these are more than the inputs, if the
    values are known. Traced ones that do not fit cost about 1e5 nats. Graves et al. 2006, ICML.
    """
    require_symbols("labels", labels)
    if labels.shape[1:] != logits.shape[1:-1]:
        raise ValueError(
            f"labels has shape {labels.shape}; for logits {logits.shape} it is (L, ...batch) with "
            f"batch axes {logits.shape[1:-1]}"
        )
    there = _flags(logits, lengths)
    wanted = _flags(labels[..., None], label_lengths)
    _require_room(len(logits), lengths, labels, label_lengths)
    K, flat = logits.shape[-1], lambda a: a.reshape(a.shape[0], -1).T  # (B, T)
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes integers and floats
        each = optax.ctc_loss(
            jnp.where(there[..., None], logits, 0).reshape(len(logits), -1, K).swapaxes(0, 1),
            flat(1 - there.astype(logits.dtype)),
            flat(jnp.where(wanted, labels, blank)),
            flat(1 - wanted.astype(logits.dtype)),
            blank_id=blank,
        )
    return each.reshape(logits.shape[1:-1])


def mean_present(loss: Any, logits: Array, labels: Array, lengths: Any) -> Array:
    """The mean of loss(logits, labels) over the steps that are there; 0 where none is."""
    mask = scan.present(logits, lengths)
    if mask is None:
        return loss(logits, labels).mean()
    clean = jnp.where(mask[..., None], logits, 0), jnp.where(mask, labels, 0)
    each = jnp.where(mask, loss(*clean), 0)
    return each.sum() / jnp.maximum(mask.sum(), 1).astype(each.dtype)


def require_symbols(name: str, symbols: Any) -> None:
    """Raise ValueError unless these are integers."""
    if not jnp.issubdtype(jnp.result_type(symbols), jnp.integer):
        raise ValueError(f"{name} holds {jnp.result_type(symbols)}; symbols are integers 0, 1, ...")


def _flags(xs: Array, lengths: Any) -> Array:
    """Which steps are there, (T, ...), all of them by default."""
    mask = scan.present(xs, lengths)
    return jnp.ones(xs.shape[:-1], bool) if mask is None else mask


def _require_room(steps: int, lengths: Any, labels: Any, label_lengths: Any) -> None:
    """Raise ValueError where labels need more steps than their sequence has.

    By NumPy alone: what jnp makes under jit is traced, even of values that are known.
    """
    if isinstance(label_lengths, jax.core.Tracer):
        return
    batch = labels.shape[1:]
    known = lengths is not None and not isinstance(lengths, jax.core.Tracer)
    room = np.broadcast_to(np.asarray(lengths) if known else steps, batch)
    counts = np.asarray(len(labels) if label_lengths is None else label_lengths)
    needed = np.broadcast_to(counts, batch)
    if not isinstance(labels, jax.core.Tracer):
        labels = np.asarray(labels)
        inside = np.arange(1, len(labels)).reshape(-1, *(1 for _ in batch)) < counts
        needed = needed + ((labels[1:] == labels[:-1]) & inside).sum(axis=0)
    short = np.flatnonzero(needed > room)
    if short.size:
        first = short[0]
        raise ValueError(
            f"sequence {first} has {room.flat[first]} steps, but its labels need "
            f"{needed.flat[first]}, one each and one more for each that repeats the one before it "
            f"({short.size} such sequences). CTC is for outputs shorter than inputs: drop these, "
            "or let the inputs have more steps; for outputs that are longer, take EncoderDecoder"
        )
