"""Labels from the logits of a network trained with `ctc`.

    ctc_greedy     the labels of the likeliest path: argmax at each step, repeats and blanks removed
    ctc_decode     the likeliest labels, each the sum over its paths, by prefix beam search

Among the paths that spell a prefix l, those that end with a blank have probability b, those that
end with the last label k of l have probability e, and s = b + e. A step with probabilities p keeps
or lengthens l:

    b(l) = p(blank) s(l)
    e(l) = p(k) e(l) + p(k) (b(m) if m ends with k, else s(m))        l = m k

The `beams` prefixes of largest s are kept. Graves et al. 2006, ICML; the search, Hannun et al.
2014, arXiv:1408.2873 (without a language model).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp

from recur import expect, scan
from recur.flax.models.ctc_loss import NEVER, counted, require_blank


class Decoded(NamedTuple):
    """Decoded labels; log_p is NaN where a logit is NaN or a length out of range."""

    labels: Array  #: (T, ...), -1 beyond the counts
    counts: Array  #: (...) how many labels there are, or -1 where there is no answer
    log_p: Array  #: (...) log probability of the path, or of the sum over paths, nats


@expect.arguments(
    logits=expect.floats, lengths=expect.optional(expect.numeric), blank=expect.integer
)
def ctc_greedy(logits: Array, lengths: Any = None, blank: int = 0) -> Decoded:
    """The labels of the likeliest path: argmax at each step, repeats and blanks removed.

    Args:
        logits: (T, ..., K), with a class for the blank.
        lengths: Steps of each sequence, integers (...); None: all T.
        blank: The class of the blank.

    Returns:
        The labels and the log probability of the path.

    Raises:
        ValueError: blank is not a class, or a known length is out of range.
        TypeError: An array holds something other than such numbers, or blank is not an integer.

    Example:
        >>> from recur.flax import models
        >>> logits = 5 * jax.nn.one_hot(jnp.array([1, 1, 0, 2]), 3)
        >>> print(jax.jit(models.ctc_greedy)(logits).labels)
        [ 1  2 -1 -1]
    """
    log_p, there, valid = _read(logits, lengths, blank)
    path = log_p.argmax(axis=-1).astype(int)
    before = jnp.concatenate([jnp.full_like(path[:1], blank), path[:-1]])
    said = there & (path != blank) & (path != before)
    order = jnp.argsort(~said, axis=0, stable=True)  # the labels come first
    labels = jnp.where(jnp.sort(~said, axis=0), -1, jnp.take_along_axis(path, order, axis=0))
    total = jnp.sum(log_p.max(axis=-1), axis=0, where=there)
    return _answer(valid, labels, said.sum(axis=0, dtype=int), total)


@expect.arguments(
    logits=expect.floats,
    lengths=expect.optional(expect.numeric),
    blank=expect.integer,
    beams=expect.integer,
)
def ctc_decode(logits: Array, lengths: Any = None, blank: int = 0, beams: int = 16) -> Decoded:
    """The likeliest labels that a prefix beam search finds, each the sum over its paths.

    It costs beams (K + beams T) per step. Graves et al. 2006, ICML; Hannun et al. 2014,
    arXiv:1408.2873 (without a language model).

    Args:
        logits: (T, ..., K), with a class for the blank.
        lengths: Steps of each sequence, integers (...); None: all T.
        blank: The class of the blank.
        beams: Prefixes to keep, 1 or more.

    Returns:
        The labels and the log of their summed probability, at most -ctc(logits, labels), and equal
        to it if the beams hold every prefix of these labels at every step.

    Raises:
        ValueError: beams < 1, or as in `ctc_greedy`.
        TypeError: As in `ctc_greedy`.

    Example:
        >>> from recur.flax import models
        >>> logits = 5 * jax.nn.one_hot(jnp.array([1, 1, 0, 2]), 3)
        >>> decode = jax.jit(models.ctc_decode, static_argnames="beams")
        >>> print(decode(logits, beams=4).labels)
        [ 1  2 -1 -1]
    """
    if beams < 1:
        raise ValueError(f"beams must be 1 or more, the number of prefixes to keep; got {beams}")
    log_p, there, valid = _read(logits, lengths, blank)

    def search(log_p: Array, there: Array) -> tuple[Array, Array, Array]:
        start = _Beams.start(len(log_p), beams, log_p.dtype)
        end, _ = lax.scan(lambda b, now: (_step(b, *now, blank), None), start, (log_p, there))
        best = end.either.argmax()
        return end.prefix[best], end.length[best], end.either[best]

    for _ in there.shape[1:]:
        search = jax.vmap(search, in_axes=1, out_axes=(1, 0, 0))
    return _answer(valid, *search(log_p, there))


class _Beams(NamedTuple):
    """B prefixes with their labels (B, T), and the log of their paths' probabilities."""

    prefix: Array  # -1 beyond its length
    length: Array
    b: Array  # of the paths that end with a blank
    e: Array  # of those that end with the last label

    @property
    def either(self) -> Array:
        return jnp.logaddexp(self.b, self.e)

    @staticmethod
    def start(steps: int, beams: int, dtype: Any) -> "_Beams":
        """At first the empty prefix has probability 1."""
        never = jnp.full(beams, NEVER, dtype)
        return _Beams(
            jnp.full((beams, steps), -1), jnp.zeros(beams, int), never.at[0].set(0), never
        )


def _step(beams: _Beams, log_p: Array, there: Array, blank: int) -> _Beams:
    """One step with log probabilities (K,); nothing changes where the sequence has ended."""
    prefix, length, b, e = beams
    s, (B, T), K = beams.either, prefix.shape, len(log_p)
    alive, order = s > NEVER / 2, jnp.arange(T)
    ends_at = order == length[:, None] - 1
    last = jnp.max(jnp.where(ends_at, prefix, -1), axis=1)  # -1 of the empty prefix

    longer = log_p + jnp.where(jnp.arange(K) == last[:, None], b[:, None], s[:, None])  # (B, K)
    longer = longer.at[:, blank].set(NEVER)
    shorter = jnp.where(ends_at, -1, prefix)
    parent = (shorter[:, None] == prefix).all(axis=-1) & (length[:, None] == length + 1)
    parent &= alive[:, None] & alive  # (B, B): row l is column m with one label more
    of_parent = jnp.where(parent, longer[:, last].T, NEVER)
    stay_b = s + log_p[blank]
    stay_e = jnp.where(last < 0, NEVER, e + log_p[last])
    stay_e = jnp.logaddexp(stay_e, logsumexp(of_parent, axis=1))
    known = (parent[..., None] & (jnp.arange(K) == last[:, None, None])).any(axis=0)
    longer = jnp.where(known, NEVER, longer)

    every = jnp.concatenate([jnp.logaddexp(stay_b, stay_e), longer.ravel()])
    best, chosen = lax.top_k(jnp.maximum(every, NEVER), B)
    chosen = chosen.astype(int)
    stays, k = chosen < B, (chosen - B) % K
    of = jnp.where(stays, chosen, (chosen - B) // K)
    lengthened = jnp.where(order == length[of][:, None], k[:, None], prefix[of])
    after = _Beams(
        jnp.where(stays[:, None], prefix[of], lengthened),
        jnp.where(stays, length[of], length[of] + 1),
        jnp.maximum(jnp.where(stays, stay_b[of], NEVER), NEVER),
        jnp.maximum(jnp.where(stays, stay_e[of], best), NEVER),
    )
    return jax.tree.map(lambda after, before: jnp.where(there, after, before), after, beams)


def _read(logits: Array, lengths: Any, blank: int) -> tuple[Array, Array, Array]:
    """Log probabilities (T, ..., K), which steps are valid (T, ...), and which sequences count."""
    logits = jnp.asarray(logits)
    if logits.ndim < 2:
        raise ValueError(f"logits must be (T, ..., K), with time first; got {expect.told(logits)}")
    steps, *batch, K = logits.shape
    require_blank(blank, K)
    there, valid = counted(steps, batch, lengths)
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    log_p = jax.nn.log_softmax(jnp.where(there[..., None], logits, 0).astype(dtype))
    valid &= ~jnp.isnan(log_p).any(axis=(0, -1))
    return jnp.where(valid[..., None], log_p, 0), there, valid


def _answer(valid: Array, labels: Array, counts: Array, log_p: Array) -> Decoded:
    """The labels, or no answer where a sequence does not count."""
    return Decoded(
        jnp.where(valid, labels, -1), jnp.where(valid, counts, -1), scan.or_nan(valid, log_p)
    )
