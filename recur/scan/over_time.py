"""Passes over sequences: outputs, states, gradients that stop; any cell, any stack of layers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect
from recur.compose.layers import causal
from recur.core import Recurrence, Tree
from recur.scan.chunks import in_pieces
from recur.scan.input_checks import are_numbers, describe, length, number_of_steps
from recur.scan.layer_by_layer import ask, begin, walker
from recur.scan.parameter_precision import as_given, wide
from recur.scan.planning import Engine, Memory
from recur.scan.sharding import shared


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
    engine: Engine = "auto",
    memory: Memory = "mix",
) -> tuple[Tree, Array]:
    """Scan a cell over a sequence: xs (T, ..., d) -> (final state, hs (T, ..., n)).

    Any batch axes lie between time and features. `state` defaults to `cell.start`; feeding the
    final state of one piece of a sequence to the next equals one pass; states (S, ..., n) share
    the inputs. With `reverse` the scan goes from the last input to the first, and hs[t] still
    belongs to xs[t]. Where xs is a tuple (noise, input), the input is its last array, and each
    begins with (T, ...). Layers (`Stacked`, `Bidirectional`, skips) run one after another, each in
    its own scan.

    Sequences of different lengths: `lengths` (...) integers, or `mask` (T, ...) booleans, True
    where a step is there. A step that is not there never happens: the state is carried over it,
    hs is zero at it, and nothing in xs, not even NaN, reaches a result or a gradient through it.
    The final state is that at each sequence's own end, from which `reverse` starts. `reset`
    (T, ...) booleans, True where a new sequence begins: from the step before it to this one
    nothing passes, in neither direction, and the state becomes `cell.start`.

    The batch may be sharded over a mesh of any kind. The numbers do not depend on that, nor on how
    they are computed, which `engine` and `memory` say: see `plan`, and docs/performance.md.
    `unroll` is that of `lax.scan`, for the engine "scan". States and outputs have the dtype of the
    parameters; in bfloat16 the gradient of these is summed over time in float32 all the same.

    Raises ValueError, when traced, for T = 0, inputs that are not floating point, parameters of a
    type that another cell takes, inputs or states that do not fit the parameters, and lengths,
    masks or resets that do not fit the inputs.
    """
    how = ask(xs, lengths, mask, reset, reverse, unroll, engine, memory)
    params, state, now = begin(cell, params, xs, state, how)
    state, (hs, _) = shared(walker(cell, how), params, state, now)
    return state, hs


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
    engine: Engine = "auto",
    memory: Memory = "mix",
) -> Tree:
    """The state after every step, structured as the state, arrays (T, ..., n); arguments of `run`.

    At a step that is not there it is the state carried over it.
    """
    how = ask(xs, lengths, mask, reset, reverse, unroll, engine, memory, every=True)
    params, state, now = begin(cell, params, xs, state, how)
    return shared(walker(cell, how), params, state, now)[1][1]


@expect.arguments(truncate=expect.integer)
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
    engine: Engine = "auto",
    memory: Memory = "mix",
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
    T = number_of_steps(xs, "truncated, which cuts the sequence into pieces,")
    how = ask(xs, lengths, mask, reset, False, unroll, engine, memory)
    params, state, now = begin(cell, params, xs, state, how)

    whole = (T - 1) // truncate  # pieces that a cut follows; one of 1 .. k steps remains
    split = whole * truncate

    def walk(params: Tree, state: Tree, now: tuple) -> tuple[Tree, Array]:
        one, kept = walker(cell, how), wide(params)

        def piece(state: Tree, now: tuple) -> tuple[Tree, tuple[Array, Tree]]:
            return one(as_given(params, kept), state, now)

        def cut(state: Tree, now: tuple) -> tuple[Tree, Array]:
            state, (hs, _) = piece(state, now)
            return lax.stop_gradient(state), hs

        rest = jax.tree.map(lambda a: a[split:], now)
        if whole == 0:
            state, (hs, _) = piece(state, rest)
            return state, hs
        pieces = jax.tree.map(lambda a: a[:split].reshape(whole, truncate, *a.shape[1:]), now)
        state, hs = lax.scan(cut, state, pieces)
        state, (last, _) = piece(state, rest)
        return state, jnp.concatenate([hs.reshape(split, *hs.shape[2:]), last])

    return shared(walk, params, state, now)


@expect.arguments(read=expect.function, targets=expect.tree, piece=expect.optional(expect.integer))
def total(
    read: Callable[[Array, Tree], Array],
    cell: Recurrence,
    params: Tree,
    xs: Tree,
    targets: Tree,
    state: Tree = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    engine: Engine = "auto",
    piece: int | None = None,
) -> tuple[Tree, Array]:
    """The sum of a loss over time, never holding all outputs: -> (final state, total).

    `read(hs, targets)` maps outputs (k, ..., n) and targets, arrays (k, ...), of k steps to a sum
    over these steps; it is called for one piece of the sequence after the other. It is not told of
    `lengths` or `mask`: at a step that is not there hs is zero, and what `read` says of that is
    counted, so give it the mask as one of the targets. A derivative keeps the state at the start of
    each piece, sqrt(T) steps long unless `piece` says otherwise, and computes the rest again:
    memory of order sqrt(T), for one more pass. Other arguments and errors as in `run`; raises
    ValueError for `Bidirectional` layers, which need the whole sequence, for piece < 1, and where
    what `read` returns has another shape for another number of steps.
    """
    if not causal(cell):
        raise ValueError(
            "a Bidirectional layer needs the whole sequence, so its loss cannot be summed piece by "
            'piece; use run, with memory="sqrt"'
        )
    if piece is not None and piece < 1:
        raise ValueError(f"piece is a number of steps, 1 or more; got {piece}")
    T = length(xs)
    if piece is not None:
        number_of_steps(xs, f"piece={piece}")
    size = piece or (max(1, round(T**0.5)) if are_numbers(T) else T)
    how = ask(xs, lengths, mask, reset, False, 1, engine, "mix")
    params, state, now = begin(cell, params, xs, state, how)

    kept = wide(params)

    def step(state: Tree, given: tuple) -> tuple[Tree, Array]:
        now, targets = given
        state, (hs, _) = shared(walker(cell, how), as_given(params, kept), state, now)
        value = read(hs, targets)
        _require_sum(read, hs, targets, value)
        return state, value

    again = jax.checkpoint(step, prevent_cse=False)
    state, sums = in_pieces(again, state, (now, targets), size)
    return state, sum((part.sum(axis=0) for part in sums[1:]), start=sums[0].sum(axis=0))


def _require_sum(read: Callable, hs: Array, targets: Tree, value: Array) -> None:
    one = jax.eval_shape(read, *jax.tree.map(lambda a: a[:1], (hs, targets)))
    if one.shape != jnp.shape(value):
        raise ValueError(
            f"read returns a sum over its steps, of one shape for any number of them; got "
            f"{describe(value)} for {len(hs)} steps and {describe(one)} for one"
        )
