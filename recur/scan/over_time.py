"""Passes over sequences, for any cell and any stack of layers: outputs, states, truncation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect
from recur.compose.layers import causal
from recur.core import Recurrence, Tree
from recur.scan.cutting import in_pieces, joined
from recur.scan.input_checks import are_numbers, describe, length, number_of_steps
from recur.scan.parameter_precision import as_given, wide
from recur.scan.planning import Engine, Memory
from recur.scan.sharding import shared
from recur.scan.time_loop import ask, begin, walker


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
    """Scan a cell over a sequence: the state after the last step, and the output of every step.

    Layers (`Stacked`, `Bidirectional`, skips) run one after another, each in its own scan. Passing
    the final state of one piece of a sequence to the next equals one pass. A masked step does not
    happen: the state is carried over it, hs is zero there, and nothing in xs at this step, not even
    NaN, reaches a result or a gradient. The batch may be sharded over a mesh of any kind. The
    results do not depend on this, nor on `engine` and `memory`, which say how they are computed:
    see `plan` and docs/performance.md. In bfloat16, the gradient of the parameters is still summed
    over time in float32.

    Args:
        cell: A recurrence or layers of them.
        params: Its parameters.
        xs: Inputs (T, ..., d), with any batch axes between time and features. In a tuple such as
            (noise, input), the input is the last array, and each array begins with (T, ...).
        state: The state before the first step; `cell.start` if None. States (S, ..., n) share the
            inputs.
        lengths: Steps of each sequence, integers (...); None: all T.
        mask: Booleans (T, ...), True where a step is valid; None: everywhere.
        reset: Booleans (T, ...), True where a new sequence begins: the state becomes `cell.start`,
            and nothing passes from the previous step, in either direction.
        reverse: Scan from the last input of each sequence to its first; hs[t] still belongs to
            xs[t].
        unroll: As in `lax.scan`, for the engine "scan".
        engine: "auto", "scan" or "chunked".
        memory: What the derivative keeps: "mix", "states", "chunks" or "sqrt".

    Returns:
        The final state, at the end of each sequence, and outputs hs (T, ..., n). Both have the
        dtype of the parameters.

    Raises:
        ValueError: T = 0, the inputs are not floating point, the parameters belong to another cell,
            or inputs, states, lengths, masks or resets do not fit.

    Example:
        >>> one = jnp.eye(1)
        >>> params = cells.vanilla.Params(W=one, V=one, b=jnp.zeros(1))  # h = relu(h + x), a sum
        >>> xs, lengths = jnp.ones((4, 2, 1)), jnp.array([4, 2])
        >>> state, hs = scan.run(cells.vanilla.relu, params, xs, lengths=lengths)
        >>> print(state[:, 0], hs[:, 1, 0])
        [4. 2.] [1. 2. 0. 0.]
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
    """The state after every step; at a masked step, the state that is carried over it.

    Args:
        cell, params, xs, state, lengths, mask, reset: As in `run`.
        reverse, unroll, engine, memory: As in `run`.

    Returns:
        Structured as the state, arrays (T, ..., n).

    Raises:
        ValueError: As in `run`.

    Example:
        >>> params = cells.lstm.Params(W=jnp.ones((1, 4)), V=jnp.ones((1, 4)), b=jnp.zeros(4))
        >>> found = scan.states(cells.lstm.cell, params, jnp.ones((3, 1)))
        >>> print(found.c[:, 0], found.h.shape)
        [0.557 1.144 1.739] (3, 1)
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
    """`run` with gradients that stop every `truncate` steps, while the states continue.

    With k = truncate, no derivative passes between steps k-1 and k, 2k-1 and 2k, ..., in either
    mode. Derivatives with respect to the first and the final state are not stopped. There is no
    `reverse`, since a truncated pass reads a sequence as it arrives. To read it backward, flip it.

    Args:
        cell, params, xs, state: As in `run`.
        truncate: Steps of a piece, 1 or more.
        lengths, mask, reset, unroll, engine, memory: As in `run`.

    Returns:
        The final state and hs (T, ..., n), the same as those of `run`.

    Raises:
        ValueError: truncate < 1, a layer is `Bidirectional`, which needs the whole sequence, or as
            in `run`.
        TypeError: truncate is not an integer.

    Example:
        >>> one = jnp.eye(1)
        >>> params = cells.vanilla.Params(W=one, V=one, b=jnp.zeros(1))  # h = relu(h + x), a sum
        >>> def last(xs):
        ...     return scan.truncated(cells.vanilla.relu, params, xs, truncate=2)[0][0]
        >>> print(jax.grad(last)(jnp.ones((6, 1)))[:, 0])  # the cuts are after steps 1 and 3
        [0. 0. 0. 0. 1. 1.]
    """
    if truncate < 1:
        raise ValueError(f"truncate must be a number of steps, 1 or more; got {truncate}")
    if not causal(cell):
        raise ValueError(
            "a Bidirectional layer needs the whole sequence, so its gradients cannot stop every "
            "few steps; use run, or cut the sequences yourself"
        )
    number_of_steps(xs, "truncated, which cuts the sequence into pieces,")
    how = ask(xs, lengths, mask, reset, False, unroll, engine, memory)
    params, state, now = begin(cell, params, xs, state, how)

    def walk(params: Tree, state: Tree, now: tuple) -> tuple[Tree, Array]:
        kept = wide(params)

        def piece(state: Tree, now: tuple) -> tuple[Tree, Array]:
            state, (hs, _) = walker(cell, how)(as_given(params, kept), state, now)
            return state, hs

        state, outs = in_pieces(piece, state, now, truncate, between=lax.stop_gradient)
        return state, joined(outs)

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
    """The sum of a loss over time, without storing all outputs.

    A derivative keeps the state at the start of each piece and computes the rest again: memory of
    order sqrt(T), for one more pass. So `memory` is not an argument. `reverse` is not
    either, as the targets would have to be flipped with the inputs.

    Args:
        read: (hs, targets) -> a sum over the steps of one piece, from outputs (k, ..., n) and
            targets (k, ...). It does not receive `lengths` or `mask`. At a masked step hs is zero,
            and the value of `read` there is counted, so pass the mask as one of the targets.
        cell, params, xs: As in `run`.
        targets: A pytree of arrays (T, ...).
        state, lengths, mask, reset, engine: As in `run`.
        piece: Steps of a piece; about sqrt(T) if None.

    Returns:
        The final state, and the sum, in the shape that `read` returns.

    Raises:
        ValueError: A layer is `Bidirectional`, which needs the whole sequence, piece < 1, `read`
            returns another shape for another number of steps, or as in `run`.
        TypeError: read is not a function, targets hold no arrays, or piece is not an integer.

    Example:
        >>> one = jnp.eye(1)
        >>> params = cells.vanilla.Params(W=one, V=one, b=jnp.zeros(1))  # h = relu(h + x), a sum
        >>> def read(hs, targets):
        ...     return jnp.sum((hs[:, 0] - targets) ** 2)
        >>> xs, targets = jnp.ones((4, 1)), jnp.zeros(4)
        >>> print(scan.total(read, cells.vanilla.relu, params, xs, targets)[1])  # 1 + 4 + 9 + 16
        30.0
    """
    if not causal(cell):
        raise ValueError(
            "a Bidirectional layer needs the whole sequence, so its loss cannot be summed piece by "
            'piece; use run, with memory="sqrt"'
        )
    if piece is not None and piece < 1:
        raise ValueError(f"piece must be a number of steps, 1 or more; got {piece}")
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
            "read must return a sum over its steps, of the same shape for any number of steps; "
            f"got {describe(value)} for {len(hs)} steps and {describe(one)} for one"
        )
