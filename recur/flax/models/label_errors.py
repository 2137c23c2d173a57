"""The error rate of labels that are not aligned with the true ones.

    d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i != b_j])

d is the least number of deletions, insertions and substitutions. The rate is the sum of d over all
sequences, divided by the number of true labels. Levenshtein 1966; Graves et al. 2006, ICML.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from recur import expect, scan
from recur.flax.models.ctc_loss import counted


@expect.arguments(
    answer_lengths=expect.optional(expect.numeric), label_lengths=expect.optional(expect.numeric)
)
def edit_distance(
    answers: Array, labels: Array, answer_lengths: Any = None, label_lengths: Any = None
) -> Array:
    """The least number of deletions, insertions and substitutions between two label sequences.

        d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i != b_j])

    Levenshtein 1966.

    Args:
        answers: (M, ...) integers.
        labels: (L, ...) integers.
        answer_lengths: Labels in each sequence, integers (...); entries beyond are not read. None:
            all M.
        label_lengths: How many in each sequence, integers (...); None: all L.

    Returns:
        d of each sequence, (...), float; NaN where a traced length is out of range, such as that of
        a `Decoded` without an answer.

    Raises:
        ValueError: A known length is out of range, the batch axes differ, or labels are not
            integers.
        TypeError: They are not numbers.

    Example:
        >>> from recur.flax import models
        >>> print(models.edit_distance(jnp.array([1, 2, 3]), jnp.array([1, 3])))
        1.0
    """
    answers, labels = _integers("answers", answers), _integers("labels", labels)
    if answers.shape[1:] != labels.shape[1:]:
        raise ValueError(
            "answers (M, ...batch) and labels (L, ...batch) must belong to the same sequences; "
            f"got shapes {answers.shape} and {labels.shape}"
        )
    batch = list(labels.shape[1:])
    there, valid = counted(len(answers), batch, answer_lengths)
    wanted, known_count = counted(len(labels), batch, label_lengths)
    columns = jnp.arange(len(labels) + 1).reshape(-1, *(1 for _ in batch))

    def row(above: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        answer, there = now
        either = jnp.minimum(above[1:] + 1, above[:-1] + (labels != answer).astype(int))
        d = jnp.concatenate([above[:1] + 1, either])
        d = columns + lax.cummin(d - columns, axis=0)  # d(i, j-1) + 1, from the left
        return jnp.where(there, d, above), None

    first = jnp.broadcast_to(columns, (len(labels) + 1, *batch))
    d, _ = lax.scan(row, first, (answers, there))
    end = wanted.sum(axis=0, dtype=int)[None]
    return scan.or_nan(valid & known_count, jnp.take_along_axis(d, end, axis=0)[0].astype(float))


@expect.arguments(
    answer_lengths=expect.optional(expect.numeric), label_lengths=expect.optional(expect.numeric)
)
def label_error_rate(
    answers: Array, labels: Array, answer_lengths: Any = None, label_lengths: Any = None
) -> Array:
    """The sum of `edit_distance` over all sequences, divided by the number of labels.

    Graves et al. 2006, ICML.

    Args:
        answers: (M, ...) integers.
        labels: (L, ...) integers.
        answer_lengths: How many in each sequence, integers (...); None: all M.
        label_lengths: How many in each sequence, integers (...); None: all L.

    Returns:
        The rate, (); 0 is perfect, and values above 1 are possible. NaN if a sequence has no
        answer, or if there are no labels and no answers.

    Raises:
        ValueError: As in `edit_distance`.
        TypeError: As in `edit_distance`.

    Example:
        >>> from recur.flax import models
        >>> print(models.label_error_rate(jnp.array([1, 2, 3]), jnp.array([1, 3])))
        0.5
    """
    d = edit_distance(answers, labels, answer_lengths, label_lengths)
    wanted, _ = counted(len(labels), list(jnp.shape(labels)[1:]), label_lengths)
    return d.sum() / wanted.sum().astype(d.dtype)


def _integers(name: str, labels: Any) -> Array:
    """The labels as int. Raises ValueError if they are not integers."""
    expect.numeric(name, labels)
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{name} must hold integers, the labels themselves; got {labels.dtype}")
    if labels.ndim == 0:
        raise ValueError(
            f"{name} must be (M, ...), one label after another; got {expect.told(labels)}"
        )
    return labels.astype(int)
