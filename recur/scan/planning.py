"""The plan of a pass, chosen from shapes: which engine computes it, and in which chunks."""

import math
from typing import Literal, NamedTuple

import numpy as np

from recur import expect
from recur.core import Recurrence, Tree, Unitwise, recurrence
from recur.scan.input_checks import are_numbers, input_array

Engine = Literal["auto", "scan", "chunked"]
Memory = Literal["mix", "states", "chunks", "sqrt"]

CHUNK = 8  # steps, to a quarter, whose gates fit into a core's cache; see docs/performance.md
ROWS = 64  # steps times examples below which a chunk does not repay the cost of starting it
SHORT = 32  # steps up to which a plain scan costs as little and compiles faster
SEGMENT = 64  # "chunks" keeps one state in this many steps


class Plan(NamedTuple):
    """How `run` computes one cell. `plan` returns it; it depends only on shapes and options."""

    engine: Literal["scan", "chunked"]  #: how the steps are computed
    chunk: int  #: steps a piece of the derivative, where chunked
    ahead: bool  #: whether `drive` takes the inputs of a chunk at once in the forward pass, too
    segment: int  #: steps between two states that the derivative keeps; 1 keeps all of them
    keep_mix: bool  #: whether a chunked derivative keeps mix(h) beside each state that it has


@expect.arguments(cell=recurrence, xs=expect.timed)
def plan(cell: Recurrence, xs: Tree, engine: Engine = "auto", memory: Memory = "mix") -> Plan:
    """The engine, chunk and segment with which `run` computes a cell over inputs of this shape.

    "auto" chooses `chunked` for a `Unitwise` cell over more than 32 steps, and the plain scan
    otherwise. Other cells lack the structure that `chunked` needs. For a stack, call this for each
    layer with its own inputs. A chunk has about 8 steps, or for a small batch as many steps as make
    about 64 rows, unless memory is "states". If T or a batch axis is symbolic, as in `jax.export`,
    the plan is the plain scan, and its derivative keeps everything.

    Args:
        cell: A recurrence.
        xs: Inputs (T, ..., d).
        engine: "auto", "scan" or "chunked".
        memory: What the derivative keeps; the rest is computed again. "mix": every state and its
            `mix` (or the sum with `drive`, if `update` reads only the sum); "states": every state;
            "chunks": one state in 64; "sqrt": about sqrt(T) states. For the first two, a plain scan
            keeps everything that it computed.

    Returns:
        The plan.

    Raises:
        ValueError: A name is unknown, or the engine is "chunked" and the cell is not a `Unitwise`
            or a size is symbolic.
        TypeError: The cell is not a recurrence, or xs holds no arrays.

    Example:
        >>> print(scan.plan(cells.gru.cell, jnp.zeros((100, 16, 3))))
        Plan(engine='chunked', chunk=10, ahead=False, segment=1, keep_mix=True)
    """
    for name, value, known in (
        ("engine", engine, Engine.__args__),  # type: ignore[attr-defined]
        ("memory", memory, Memory.__args__),  # type: ignore[attr-defined]
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    if engine == "chunked" and not isinstance(cell, Unitwise):
        raise ValueError(
            "the chunked engine needs the structure of a Unitwise cell, and this cell is not "
            'one; use engine="auto" or "scan", and memory="sqrt" to save memory'
        )
    shape = np.shape(input_array(xs))
    T, batch = shape[0], shape[1:-1]
    if not are_numbers(T, *batch):
        if engine == "chunked":
            raise ValueError(
                f"the chunked engine needs the length of a sequence as a number, and xs {shape} "
                'has symbolic sizes; use engine="auto" or "scan", or export for fixed sizes'
            )
        return Plan("scan", chunk=1, ahead=False, segment=1, keep_mix=False)
    wanted = engine == "chunked" or (engine == "auto" and T > SHORT)
    chunked = wanted and isinstance(cell, Unitwise)
    segment = {"chunks": min(SEGMENT, T), "sqrt": max(1, round(T**0.5))}.get(memory, 1)
    about = max(CHUNK, ROWS // max(math.prod(batch), 1) if memory != "states" else 0)
    chunk = _chunk(T if segment == 1 else min(segment, T), about)
    keep_mix = chunked and memory != "states"
    ahead = chunked and about > CHUNK and math.prod(batch) > 0
    return Plan("chunked" if chunked else "scan", chunk, ahead, segment, keep_mix)


def _chunk(T: int, about: int) -> int:
    """Steps of a chunk: the nearest number that divides T, so that no shorter piece is compiled."""
    nearby = range(3 * about // 4, min(5 * about // 4, T) + 1)
    return min(
        (k for k in nearby if T % k == 0), key=lambda k: abs(k - about), default=min(about, T)
    )
