"""Passes over sequences: outputs, states, gradients that stop; any cell, any stack of layers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur.compose.layers import Bidirectional, BothWays, Stacked, causal
from recur.compose.masks import clean, masked, resetting
from recur.compose.skips import HighwaySkip, Residual
from recur.core import Recurrence, Tree
from recur.scan.bodies import tied
from recur.scan.checks import check, input_array, length, require_float
from recur.scan.ragged import present, require_flags


def run(
    cell: Recurrence,
    params: Tree,
    xs: Tree,
    state: Tree = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    unroll: int = 1,
) -> tuple[Tree, Array]:
    """Scan a cell over a sequence: xs (T, ..., d) -> (final state, hs (T, ..., n)).

    Any batch axes lie between time and features. `state` defaults to `cell.start`; feeding the
    final state of one piece of a sequence to the next equals one pass. With `reverse` the scan
    goes from the last input to the first, and hs[t] still belongs to xs[t]. `unroll` is that of
    `lax.scan`. Where xs is a tuple (masks, noise, input), the input is its last array. Layers
    (`Stacked`, `Bidirectional`, skips) run one after another, each in its own scan.

    Sequences of different lengths: `lengths` (...) integers, or `mask` (T, ...) booleans, True
    where a step is there. A step that is not there never happens: the state is carried over it,
    hs is zero at it, and nothing in xs, not even NaN, reaches a result or a gradient through it.
    The final state is that at each sequence's own end, from which `reverse` starts. `reset`
    (T, ...) booleans, True where a new sequence begins: from the step before it to this one
    nothing passes, in neither direction, and the state becomes `cell.start`.

    Raises ValueError, when traced, for T = 0, inputs that are not floating point, inputs or
    states that do not fit the parameters, and lengths, masks or resets that do not fit the inputs.
    """
    how = _how(xs, lengths, mask, reset, reverse, unroll)
    state, hs, _ = _walk(cell, params, xs, _begin(cell, params, xs, state), how)
    return state, hs if how.mask is None else clean(how.mask, hs)


def states(
    cell: Recurrence,
    params: Tree,
    xs: Tree,
    state: Tree = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    unroll: int = 1,
) -> Tree:
    """The state after every step, structured as the state, arrays (T, ..., n); arguments of `run`.

    At a step that is not there it is the state carried over it.
    """
    how = _how(xs, lengths, mask, reset, reverse, unroll, every=True)
    return _walk(cell, params, xs, _begin(cell, params, xs, state), how)[2]


def truncated(
    cell: Recurrence,
    params: Tree,
    xs: Tree,
    state: Tree = None,
    *,
    truncate: int,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    unroll: int = 1,
) -> tuple[Tree, Array]:
    """`run` whose gradients stop every `truncate` steps, while the states go on.

    Between steps k-1 and k, 2k-1 and 2k, ... of k = truncate no derivative passes, in neither
    mode; the first and the last piece are open at the ends of the sequence. Raises ValueError for
    k < 1 and for `Bidirectional` layers, which need the whole sequence.
    """
    if truncate < 1:
        raise ValueError(f"truncate is a number of steps, 1 or more; got {truncate}")
    if not causal(cell):
        raise ValueError(
            "a Bidirectional layer needs the whole sequence, so its gradients cannot stop every "
            "few steps; use run, or cut the sequences themselves"
        )
    how = _how(xs, lengths, mask, reset, False, unroll)
    state = _begin(cell, params, xs, state)

    def piece(state: Tree, now: tuple) -> tuple[Tree, Array]:
        xs, mask, reset = now
        return run(cell, params, xs, state, mask=mask, reset=reset, unroll=unroll)

    def cut(state: Tree, now: tuple) -> tuple[Tree, Array]:
        state, hs = piece(state, now)
        return lax.stop_gradient(state), hs

    whole = (length(xs) - 1) // truncate  # pieces that a cut follows; one of 1 .. k steps remains
    split = whole * truncate
    now = (xs, how.mask, how.reset)
    rest = jax.tree.map(lambda a: a[split:], now)
    if whole == 0:
        return piece(state, rest)
    pieces = jax.tree.map(lambda a: a[:split].reshape(whole, truncate, *a.shape[1:]), now)
    state, hs = lax.scan(cut, state, pieces)
    state, last = piece(state, rest)
    return state, jnp.concatenate([hs.reshape(split, *hs.shape[2:]), last])


class _How(NamedTuple):
    """How a sequence is walked; every layer walks it alike."""

    mask: Array | None
    reset: Array | None
    reverse: bool
    unroll: int
    every: bool  # whether the state of every step is wanted


def _how(
    xs: Tree, lengths: Any, mask: Any, reset: Any, reverse: bool, unroll: int, every: bool = False
) -> _How:
    """The arguments of a pass, checked against its inputs."""
    require_float(xs)
    reset = None if reset is None else require_flags("reset", reset, xs)
    return _How(present(xs, lengths, mask), reset, reverse, unroll, every)


def _begin(cell: Recurrence, params: Tree, xs: Tree, state: Tree) -> Tree:
    """The state before the first step."""
    return cell.start(params, input_array(xs).shape[1:-1]) if state is None else state


def _walk(
    cell: Recurrence, params: Tree, xs: Tree, state: Tree, how: _How
) -> tuple[Tree, Array, Tree]:
    """The walk of each kind of layer: final state, outputs, states of every step if wanted."""
    if isinstance(cell, Stacked):
        return _walk_stack(cell, params, xs, state, how)
    if isinstance(cell, Bidirectional):
        cell.require(state)
        back = how._replace(reverse=not how.reverse)
        forward, backward = cell.ways()
        f, hs_f, fs = _walk(forward, params.forward, xs, state.forward, how)
        b, hs_b, bs = _walk(backward, params.backward, xs, state.backward, back)
        return BothWays(f, b), jnp.concatenate([hs_f, hs_b], axis=-1), BothWays(fs, bs)
    if isinstance(cell, Residual | HighwaySkip):
        final, hs, every = _walk(cell.cell, cell.inner(params), xs, state, how)
        xs = xs if how.mask is None else clean(how.mask, xs)
        return final, cell.join(params, xs, hs), every
    return _walk_cell(cell, params, xs, state, how)


def _walk_stack(
    stack: Stacked, params: tuple, xs: Tree, state: tuple, how: _How
) -> tuple[tuple, Array, tuple]:
    stack.require("params", params)
    stack.require("state", state)
    noise, xs = stack.split(xs)
    finals, every = [], []
    for layer, p, s, extra in zip(stack.layers, params, state, noise, strict=True):
        final, xs, ss = _walk(layer, p, xs if extra is None else (extra, xs), s, how)
        finals.append(final)
        every.append(ss)
    return tuple(finals), xs, tuple(every)


def _walk_cell(
    cell: Any, params: Tree, xs: Tree, state: Tree, how: _How
) -> tuple[Tree, Array, Tree]:
    if how.mask is not None:
        cell, xs = masked(cell), (how.mask, xs)
    if how.reset is not None:  # backward, what begins at t + 1 ends before t is reached
        later = jnp.concatenate([how.reset[1:], jnp.zeros_like(how.reset[:1])])
        cell, xs = resetting(cell), (later if how.reverse else how.reset, xs)
    body = tied(cell, params)
    check(body, state, xs)
    if not how.every:
        final, hs = lax.scan(body, state, xs, reverse=how.reverse, unroll=how.unroll)
        return final, hs, ()

    def step(state: Tree, x: Tree) -> tuple[Tree, tuple[Array, Tree]]:
        state, h = body(state, x)
        return state, (h, state)

    final, (hs, every) = lax.scan(step, state, xs, reverse=how.reverse, unroll=how.unroll)
    return final, hs, every
