"""An orthonormal frame carried along a trajectory by the Jacobians of its steps.

A stretch is a number of steps with one QR at the end. Within it the directions of the frame turn
toward the one that grows most, and rounding destroys the differences between them. A probe measures
this loss. It is one more direction, the sum of the frame's directions with random signs, pushed
separately and from a state moved by one rounding. In exact arithmetic it remains that sum. Its
departure from the sum, along each new direction, is the rounding error of that direction's growth.
The QR adds another error: sqrt(m) roundings of the length that the direction has before the
components along faster-growing directions are removed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur import scan
from recur.analysis.numerics.flat_state import Step, affordable
from recur.analysis.numerics.qr import lq, qr
from recur.analysis.numerics.step_jacobian import Push
from recur.core import Tree

STRETCH = 8  # steps that share a QR where this is safe
LOST = 0.25  # relative rounding above which only an upper bound of a growth is known


class Growth(NamedTuple):
    """Growth of k directions per step. A step without a QR has zeros; the next QR has it."""

    logs: Array  # (T, k) log |R_ii|; NaN once the state or the frame is not finite
    rounding: Array  # (T, k) nats by which one rounding of state and directions moves them
    closed: Array  # (T,) whether a QR came after this step


class Frame(NamedTuple):
    """The carry from step to step."""

    state: Array  # (m,)
    Q: Array  # (k, m), a direction a row
    finite: Array  # () whether everything was finite so far


Stretch = Callable[[Frame, tuple[Tree, Array]], tuple[Frame, Growth]]


def transport(
    key: Array,
    push: Push,
    step: Step,
    start: Array,
    xs: Tree,
    k: int,
    discard: int,
    every: int | None,
) -> Growth:
    """The growth of k random directions. There is a QR after step `discard` and after the last.

    In between there is one after every `every` steps. If None, it comes after STRETCH steps where
    the probe shows that rounding stays below eps^(3/5), and after each step elsewhere.
    """
    T = scan.length(xs)
    b = min(STRETCH if every is None else every, T)
    idle = -discard % b, (discard - T) % b  # steps that do nothing, before and after
    whole = stretch(push, step, jax.random.fold_in(key, 1), start, k)

    def each(frame: Frame, now: tuple[Tree, Array]) -> tuple[Frame, Growth]:
        singly = jax.tree.map(lambda leaf: leaf[:, None], now)
        frame, growth = lax.scan(whole, frame, singly)
        return frame, jax.tree.map(lambda leaf: leaf[:, 0], growth)

    def adaptive(
        carry: tuple[Frame, Array], now: tuple[Tree, Array]
    ) -> tuple[tuple[Frame, Array], Growth]:
        frame, calm = carry

        def attempt() -> tuple[Frame, Growth, Array]:
            after, growth = whole(frame, now)
            return after, growth, safe(growth)

        def skip() -> tuple[Frame, Growth, Array]:
            return frame, nothing, jnp.zeros((), bool)

        nothing = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(whole, frame, now)[1]
        )
        after, growth, fits = lax.cond(calm, attempt, skip)
        after, growth = lax.cond(fits, lambda: (after, growth), lambda: each(frame, now))
        total = growth.logs.sum(axis=0)
        spread = jnp.maximum(total.max() - total.min(), jnp.abs(total).max() / 2)
        return (after, spread < affordable(total.dtype)), growth

    frame = Frame(start, directions(key, start, k), jnp.ones((), bool))
    pieces = (T + sum(idle)) // b
    active = jnp.asarray(np.pad(np.ones(T, bool), idle).reshape(pieces, b))
    now = jax.tree.map(lambda leaf: _padded(leaf, *idle).reshape(pieces, b, *leaf.shape[1:]), xs)
    if every is None and b > 1:
        _, growth = lax.scan(adaptive, (frame, jnp.zeros((), bool)), (now, active))
    else:
        _, growth = lax.scan(whole, frame, (now, active))
    return jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[idle[0] : idle[0] + T], growth
    )


def directions(key: Array, start: Array, k: int) -> Array:
    """k random orthonormal directions, (k, m)."""
    return qr(jax.random.normal(key, (start.size, k), start.dtype))[0].T


def stretch(push: Push, step: Step, key: Array, start: Array, k: int) -> Stretch:
    """(frame, (xs (b, ...), active (b,))) -> (frame, growth): b steps and one QR.

    Steps that are not active change nothing.
    """
    m, dtype = start.size, start.dtype
    eps = jnp.finfo(dtype).eps
    signs, moves = jnp.split(jax.random.rademacher(key, (k + m,), dtype), [k])

    def one(carry: tuple[Frame, Array], now: tuple[Tree, Array]) -> tuple[tuple, None]:
        (state, Q, finite), probe = carry
        x, active = now
        after, pushed = push(state, Q, x)
        near = lax.stop_gradient((state * (1 + eps * moves), probe))
        _, probed = jax.jvp(lambda s: step(s, x)[0], near[:1], near[1:])
        well = jnp.isfinite(after).all() & jnp.isfinite(pushed).all()
        new = Frame(after, pushed, finite & well), probed
        return jax.tree.map(lambda new, old: jnp.where(active, new, old), new, carry), None

    def run(frame: Frame, now: tuple[Tree, Array]) -> tuple[Frame, Growth]:
        active = now[1]
        (frame, probe), _ = lax.scan(one, (frame, signs @ frame.Q), now)
        L, Q = lq(frame.Q)
        moved = jnp.any(frame.Q != 0, axis=0).sum()  # directions beyond this rank are zero
        alive = jnp.arange(k) < moved
        length = eps * jnp.linalg.norm(frame.Q, axis=1)  # one rounding of it
        size = jnp.where(alive, jnp.maximum(jnp.abs(jnp.diagonal(L)), length), 0)
        pushing = jnp.abs((probe - signs @ frame.Q) @ Q.T) / np.sqrt(k)
        relative = (pushing + np.sqrt(m) * length) / jnp.where(alive, size, jnp.inf)
        relative = lax.stop_gradient(relative)
        rounding = jnp.where(relative < LOST, relative, -jnp.log(eps))
        logs = jnp.where(frame.finite, jnp.log(size), jnp.nan)
        steps = jnp.arange(active.size)
        closed = active & (steps == jnp.max(jnp.where(active, steps, 0)))
        growth = Growth(
            jnp.where(closed[:, None], logs, 0), jnp.where(closed[:, None], rounding, 0), closed
        )
        return frame._replace(Q=Q), growth

    return run


def safe(growth: Growth) -> Array:
    """Whether a stretch had little rounding, and stayed far from the limits of floats."""
    info = jnp.finfo(growth.logs.dtype)
    within = (growth.logs > jnp.log(info.tiny / info.eps)) & (growth.rounding < info.eps**0.6)
    return jnp.all(within)


def _padded(leaf: Array, before: int, after: int) -> Array:
    """The first and the last entry repeated."""
    if before == after == 0:
        return leaf
    return jnp.concatenate([leaf[:1]] * before + [leaf] + [leaf[-1:]] * after)
