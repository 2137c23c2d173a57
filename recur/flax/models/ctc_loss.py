"""The loss of labels whose alignment with the inputs is not known.

    p(labels) = sum over all paths of labels and blanks that spell them, of prod_t p_t(path_t)

A path may stay at a symbol, go on to the next, and skip a blank between two different labels.
Graves et al. 2006, ICML.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur import expect, scan
from recur.scan.indices import known

NEVER = -1e30  # the log of zero: finite, so that derivatives are finite


@expect.arguments(
    logits=expect.floats,
    labels=expect.timed,
    lengths=expect.optional(expect.numeric),
    label_lengths=expect.optional(expect.numeric),
    blank=expect.integer,
)
def ctc(
    logits: Array, labels: Array, lengths: Any = None, label_lengths: Any = None, blank: int = 0
) -> Array:
    """-log p(labels) where the alignment of the labels with the inputs is not known.

        p(labels) = sum over all paths of labels and blanks that say them, of prod_t p_t(path_t)

    A label takes a step, and a repeated label also takes a blank before it. A sequence without
    labels, by length or because L = 0, is all blanks. Values beyond the lengths are never read.
    Graves et al. 2006, ICML.

    Args:
        logits: (T, ..., K), with a class for the blank.
        labels: (L, ...) integers, classes other than the blank.
        lengths: Steps of each sequence, integers (...); None: all T.
        label_lengths: Labels of each sequence, integers (...); None: all L.
        blank: The class of the blank.

    Returns:
        The loss of each sequence, (...), nats. Traced labels that do not fit into the inputs give
        inf, with a derivative of zero. Traced labels or lengths out of range give NaN.

    Raises:
        ValueError: Known labels do not fit into the inputs, are not classes or are the blank, a
            known length is out of range, or the batch axes differ.
        TypeError: An array holds something other than such numbers, or blank is not an integer.

    Example:
        >>> from recur.flax import models
        >>> loss = jax.jit(models.ctc)(jnp.zeros((2, 3)), jnp.array([1]))
        >>> print(f"{jnp.exp(-loss):.4f}")  # three paths of nine say it
        0.3333
    """
    logits = jnp.asarray(logits)
    steps, *batch, K = logits.shape
    if labels.shape[1:] != tuple(batch):
        raise ValueError(
            f"for logits {logits.shape}, labels must be (L, ...batch) with batch axes "
            f"{logits.shape[1:-1]}; got {labels.shape}"
        )
    require_blank(blank, K)
    there, there_ok = counted(steps, batch, lengths)
    wanted, wanted_ok = counted(len(labels), batch, label_lengths)
    _require_labels(labels, label_lengths, K, blank)
    _require_room(steps, lengths, labels, label_lengths)
    labels = jnp.asarray(labels).astype(int)
    valid = there_ok & wanted_ok & ((scan.inside(labels, K) & (labels != blank)) | ~wanted).all(0)

    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    log_p = jax.nn.log_softmax(jnp.where(there[..., None], logits, 0).astype(dtype))
    path = jnp.full((2 * len(labels) + 1, *batch), blank, int)  # blank, label, blank, ..., blank
    path = path.at[1::2].set(jnp.where(wanted & scan.inside(labels, K), labels, blank))
    path = jnp.moveaxis(path, 0, -1)
    scores = jnp.take_along_axis(log_p, jnp.broadcast_to(path, (steps, *path.shape)), axis=-1)
    passes = (path != blank) & (path != jnp.roll(path, 2, axis=-1))

    def shifted(alpha: Array, by: int) -> Array:
        front = [(0, 0)] * len(batch) + [(by, 0)]
        return jnp.pad(alpha, front, constant_values=NEVER)

    def step(alpha: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        score, there = now
        one, two = shifted(alpha, 1)[..., :-1], shifted(alpha, 2)[..., :-2]
        ways = jnp.stack([alpha, one, jnp.where(passes, two, NEVER)])
        after = jax.nn.logsumexp(ways, axis=0) + jnp.maximum(score, NEVER)
        return jnp.where(there[..., None], after, alpha), None

    before = jnp.full(path.shape, NEVER, dtype).at[..., 0].set(0)
    alpha, _ = lax.scan(step, before, (scores, there))
    end = 2 * wanted.sum(axis=0, dtype=int)[..., None] + np.arange(2)  # last label, blank after it
    loss = -jax.nn.logsumexp(jnp.take_along_axis(shifted(alpha, 1), end, axis=-1), axis=-1)
    return scan.or_nan(valid, jnp.where(loss > -NEVER / 2, jnp.inf, loss)).astype(logits.dtype)


def counted(steps: int, batch: list[int], lengths: Any) -> tuple[Array, Array]:
    """Which of T steps are valid, (T, ...), and which sequences have a possible length."""
    if lengths is None:
        return jnp.ones((steps, *batch), bool), jnp.ones(batch, bool)
    lengths, valid = scan.require_lengths(lengths, steps, tuple(batch))
    return jnp.arange(steps).reshape(steps, *(1 for _ in batch)) < lengths, valid


def require_blank(blank: int, classes: int) -> None:
    """Raise ValueError for a blank that is not a class."""
    if not 0 <= blank < classes:
        raise ValueError(
            f"blank must be one of the {classes} classes of the logits, 0 .. {classes - 1}; got "
            f"{blank}"
        )


def _require_labels(labels: Any, label_lengths: Any, classes: int, blank: int) -> None:
    """Raise ValueError for known labels that are not classes, or are the blank."""
    there = scan.known_present(labels.shape, label_lengths)
    scan.require_index("labels", labels, classes, "classes", there)
    values = known(labels)
    if values is not None and there is not None and np.any((values == blank) & there):
        raise ValueError(
            f"labels must not hold the blank, {blank}, which separates labels. Keep this class "
            "free, or choose another one with blank="
        )


def _require_room(steps: int, lengths: Any, labels: Any, label_lengths: Any) -> None:
    """Raise ValueError if labels need more steps than their sequence has.

    It uses only NumPy, since jnp under jit returns traced arrays even for known values.
    """
    counts = known(len(labels) if label_lengths is None else label_lengths)
    if counts is None:
        return
    batch, own = labels.shape[1:], None if lengths is None else known(lengths)
    room = np.broadcast_to(steps if own is None else own, batch)
    needed = np.broadcast_to(counts, batch)
    values = known(labels)
    if values is not None:
        within = np.arange(1, len(values)).reshape(-1, *(1 for _ in batch)) < counts
        needed = needed + ((values[1:] == values[:-1]) & within).sum(axis=0)
    short = np.flatnonzero(needed > room)
    if short.size:
        first = short[0]
        raise ValueError(
            f"sequence {first} has {room.flat[first]} steps, but its labels need "
            f"{needed.flat[first]}: one for each label, and one more for each label that repeats "
            f"the one before it ({short.size} such sequences). CTC needs outputs shorter than "
            "inputs: remove these sequences, or give the inputs more steps. For longer outputs, "
            "use EncoderDecoder"
        )
