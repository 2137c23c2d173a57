"""A pass of any recurrence over a sequence: layer by layer, each cell by its planned engine."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur import expect
from recur.compose.masks import clean, masked, resetting
from recur.core import Layer, Recurrence, Tree, hidden, require_params, require_recurrence, takes
from recur.scan.cutting import in_pieces, joined
from recur.scan.engine import trajectory
from recur.scan.input_checks import (
    check,
    describe,
    input_array,
    length,
    require_batch,
    require_float,
)
from recur.scan.one_step import tied
from recur.scan.parameter_precision import as_given, wide
from recur.scan.planning import Engine, Memory, Plan, plan
from recur.scan.sharding import alike
from recur.scan.valid_steps import present, require_flags

_log = logging.getLogger("recur.scan")


class How(NamedTuple):
    """How to compute a pass over a sequence; the same for every layer."""

    mask: Array | None
    reset: Array | None
    reverse: bool
    unroll: int
    engine: Engine
    memory: Memory
    every: bool  # whether the state of every step is wanted

    def turned(self) -> "How":
        """The same pass in the other direction of time."""
        return self._replace(reverse=not self.reverse)

    def there(self, xs: Tree) -> Tree:
        """xs, zero at masked steps."""
        return xs if self.mask is None else clean(self.mask, xs)


def ask(
    xs: Tree,
    lengths: Any,
    mask: Any,
    reset: Any,
    reverse: bool,
    unroll: int,
    engine: Engine,
    memory: Memory,
    every: bool = False,
) -> How:
    """The arguments of a pass, checked against its inputs."""
    require_float(xs)
    require_batch(xs)
    expect.instance(bool, np.bool_)("reverse", reverse)
    expect.count(1)("unroll", int(unroll) if isinstance(unroll, bool) else unroll)
    reset = None if reset is None else require_flags("reset", reset, xs)
    return How(present(xs, lengths, mask), reset, reverse, unroll, engine, memory, every)


def begin(
    cell: Recurrence, params: Tree, xs: Tree, state: Tree, how: How
) -> tuple[Tree, Tree, tuple]:
    """(params, state, (xs, mask, reset)) before the first step, with the batch axes of the state.

    If the state is None, `cell.start` makes it. If several states share the inputs, (S, B, n) over
    (T, B, d), each gets a copy of the inputs.
    """
    require_recurrence(cell)
    require_params(takes(cell), params)
    expect.tree("state", state)
    if state is not None:
        xs, how = _copied(_batch(cell, params, state), xs, how)
    return alike(cell.start, params, state, (xs, how.mask, how.reset))


def _copied(wanted: tuple[int, ...], xs: Tree, how: How) -> tuple[Tree, How]:
    """Inputs and flags, broadcast to these batch axes."""
    steps, *batch = input_array(xs).shape[:-1]
    if not _stretches(tuple(batch), wanted):
        return xs, how

    def copies(a: Array) -> Array:
        own = a.shape[1 + len(batch) :]
        a = a.reshape(steps, *(1,) * (len(wanted) - len(batch)), *batch, *own)
        return jnp.broadcast_to(a, (steps, *wanted, *own))

    xs, mask, reset = jax.tree.map(copies, (xs, how.mask, how.reset))
    return xs, how._replace(mask=mask, reset=reset)


def _batch(cell: Recurrence, params: Tree, state: Tree) -> tuple[int, ...]:
    """The batch axes of a state: the axes before those of a state without batch axes."""
    try:
        one = jax.eval_shape(lambda: cell.start(params))
    except Exception:  # parameters of another cell: `check` says what it was given
        return ()
    if jax.tree.structure(one) != jax.tree.structure(state):  # type: ignore[operator]
        return ()
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(state), strict=True)
    shapes = (jnp.shape(a)[: jnp.ndim(a) - s.ndim] for s, a in pairs)
    return max(shapes, key=len, default=())


def _stretches(batch: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether states with the second batch axes can share inputs with the first."""
    fitted = (1,) * (len(wanted) - len(batch)) + batch
    pairs = zip(fitted, wanted, strict=False)
    return batch != wanted and len(fitted) == len(wanted) and all(a in (1, b) for a, b in pairs)


def walker(cell: Recurrence, how: How) -> Callable[[Tree, Tree, tuple], tuple[Tree, tuple]]:
    """The pass as a function of arrays: (params, state, (xs, mask, reset)) -> (state, (hs, every)).

    hs is zero at a masked step.
    """

    def piece(params: Tree, state: Tree, now: tuple) -> tuple[Tree, tuple[Array, Tree]]:
        xs, mask, reset = now
        state, hs, every = walk(cell, params, xs, state, how._replace(mask=mask, reset=reset))
        return state, (hs if mask is None else clean(mask, hs), every)

    return piece


def walk(
    cell: Recurrence, params: Tree, xs: Tree, state: Tree, how: How
) -> tuple[Tree, Array, Tree]:
    """The final state, the outputs, and the states of every step if wanted.

    A layer of other recurrences defines its own pass, `over`.
    """
    if isinstance(cell, Layer):
        return cell.over(walk, params, xs, state, how)
    return _walk_cell(cell, params, xs, state, how)


def _walk_cell(
    cell: Any, params: Tree, xs: Tree, state: Tree, how: How
) -> tuple[Tree, Array, Tree]:
    if how.mask is not None:
        cell, xs = masked(cell), (how.mask, xs)
    if how.reset is not None:  # backward, a sequence that begins at t + 1 ends before t
        later = jnp.concatenate([how.reset[1:], jnp.zeros_like(how.reset[:1])])
        cell, xs = resetting(cell), (later if how.reverse else how.reset, xs)
    body = tied(cell, params)
    check(body, state, xs)
    chosen = plan(cell, xs, how.engine, how.memory)
    _log.debug("%s steps of state %s: %s", length(xs), describe(state), chosen)  # when traced
    if how.reverse:
        xs = _flip(xs)
    final, hs, every = _segments(chosen, partial(_piece, cell, chosen, how), params, state, xs)
    return final, *(_flip((hs, every)) if how.reverse else (hs, every))


def _piece(
    cell: Any, chosen: Plan, how: How, params: Tree, state: Tree, xs: Tree
) -> tuple[Tree, tuple[Array, Tree]]:
    """A pass of one cell over a sequence, by its engine: final state, outputs, states if wanted."""
    if chosen.engine == "chunked":
        state = jax.tree.map(jnp.asarray, state)
        final, ss = trajectory(cell, chosen, params, state, xs)
        return final, (hidden(ss), ss if how.every else ())

    kept = wide(params)

    def step(state: Tree, x: Tree) -> tuple[Tree, tuple[Array, Tree]]:
        state, h = cell.step(as_given(params, kept), state, x)
        return state, (h, state if how.every else ())

    return lax.scan(step, state, xs, unroll=how.unroll)


def _segments(
    chosen: Plan, piece: Callable, params: Tree, state: Tree, xs: Tree
) -> tuple[Tree, Array, Tree]:
    """The pass in segments. A derivative keeps only the first state of each segment."""
    T, segment = length(xs), chosen.segment
    if segment <= 1 or segment >= T:
        final, (hs, every) = piece(params, state, xs)
        return final, hs, every

    def again(kept: Tree, state: Tree, xs: Tree) -> tuple[Tree, tuple[Array, Tree]]:
        return piece(as_given(params, kept), state, xs)

    kept = partial(jax.checkpoint(again, prevent_cse=False), wide(params))
    final, outs = in_pieces(kept, state, xs, segment)
    return final, *joined(outs)


def _flip(tree: Tree) -> Tree:
    """The arrays with time reversed."""
    return jax.tree.map(lambda a: jnp.flip(a, axis=0), tree)
