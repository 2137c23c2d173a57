"""Which gate holds a cell's memory, read off its own step instead of a name.

A gate is a block of the bias b. Run on one unit without recurrent weights and drive its bias to
plus and minus infinity: the gate *keeps* where the state then stays as it is, and *writes* where
nothing can enter any more. So LSTM's forget gate keeps and its input gate writes; the update gate
of a GRU does both; the simple network has neither.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from recur.core import Cell, Prior, Tree, Unitwise

OPEN = 30.0  # sigmoid(-30) = 1e-13: as good as closed, in float32 too

Gate = tuple[int, int]  # (index, sign)


def keeping(cell: Cell | Unitwise) -> Gate:
    """(gate, sign): the state stays as it is where sign * b_gate is large.

    Raises ValueError where there is no such gate, or more than one.
    """
    keep, _ = memory(cell)
    if len(keep) != 1:
        raise ValueError(
            f"{'no' if not keep else 'more than one'} gate of this cell keeps its state as its "
            "bias grows: this needs a gated cell such as an LSTM, GRU or MinimalRNN, before masks, "
            "noise or layer norm. Any bias can be set by Prior(mu_b=one value per gate)"
        )
    return keep[0]


def writing(cell: Cell | Unitwise) -> Gate | None:
    """(gate, sign): nothing enters the state where sign * b_gate is very negative.

    None where the gate that keeps the state is also the one that writes, or there is no such gate.
    """
    keep, write = memory(cell)
    apart = [gate for gate in write if gate[0] not in {index for index, _ in keep}]
    return apart[0] if len(apart) == 1 else None


@cache
def memory(cell: Cell | Unitwise) -> tuple[list[Gate], list[Gate]]:
    """The gates that keep the state and those that write it, found by trying each."""
    try:
        with jax.ensure_compile_time_eval():
            gates, kept, written = probes(cell)
            signed = [(gate, sign) for gate in range(gates) for sign in (1, -1)]
            keep = [(g, s) for g, s in signed if abs(kept(g, s) - 1) < 1e-4 and kept(g, -s) < 0.9]
            write = [(g, s) for g, s in signed if written(g, -s) < 1e-6 < written(g, s)]
    except Exception as error:  # whatever is no gated cell of arrays W, V, b ...
        raise ValueError(
            "the gates of a cell are found by running it on d = 1 input and n = 1 unit with the "
            f"biases b of its parameters; this one does not run so: {error}"
        ) from error
    return keep, write


def probes(cell: Cell | Unitwise) -> tuple[int, Callable[..., float], Callable[..., float]]:
    """The number of gates; how much of the state is kept, and how much is written, (g, sign)."""
    params = cell.init(jax.random.key(0), Prior(), 1, 1)
    zeros, ones = (jax.tree.map(like, params) for like in (jnp.zeros_like, jnp.ones_like))
    if "W" in params._fields:
        ones = ones._replace(W=zeros.W)
    rest, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, cell.start(params)))

    def step(params: Tree, s: Array, x: float) -> Array:
        x_ = jnp.full(1, x, params.b.dtype)
        return ravel_pytree(cell.step(params, unravel(s), x_)[0])[0]

    def biased(params: Tree, gate: int, sign: int) -> Tree:
        return params._replace(b=params.b.at[gate].set(sign * OPEN))

    def kept(gate: int, sign: int) -> float:
        J = jax.jacfwd(lambda s: step(biased(zeros, gate, sign), s, 0.0))(rest)
        return float(np.abs(np.linalg.eigvals(np.asarray(J))).max())

    def written(gate: int, sign: int) -> float:
        return float(jnp.abs(step(biased(ones, gate, sign), rest, 1.0)).max())

    return params.b.shape[0], kept, written
