"""Long short-term memory: a memory c that gates write, keep and read.

    i = sigmoid(W_i h + V_i x + b_i)       write
    f = sigmoid(W_f h + V_f x + b_f)       keep
    g = phi(W_g h + V_g x + b_g)           the candidate
    o = sigmoid(W_o h + V_o x + b_o)       read
    c = f * c + i * g
    h = o * phi(c)

`cell` has phi = tanh; `long_short(phi)` takes any elementwise function.
`coupled` writes as much as it forgets: i = 1 - f, with the gates of COUPLED.

Two forms, both called peephole, let the gates see the memory:

    `peephole`        diagonal, three gates: P_i * c and P_f * c, with the old memory, are added
                      in i and f, and P_o * c, with the new one, in o; P (3n,)
    `peephole_full`   full, all four: U c, with the old memory, is added in i, f, g and o; U (n, 4n)

`projected` has fewer or more outputs than memory cells: h = (o * tanh(c)) P, with P (n, p) and
W (p, 4n).

Hochreiter and Schmidhuber 1997, Neural Computation 9:1735; the forget gate, Gers et al. 2000;
diagonal peepholes, Gers et al. 2002, JMLR 3:115; projection, Sak et al. 2014, arXiv:1402.1128;
coupled gates, Greff et al. 2017, arXiv:1503.04069. Lectures show the full form: they write
W [x, h, c] for every gate.

Example:
    >>> V, b = jnp.array([[0.0, 0.0, 50.0, 0.0]]), jnp.array([50.0, 50.0, 0.0, 50.0])
    >>> params = cells.lstm.Params(W=jnp.zeros((1, 4)), V=V, b=b)  # all gates are open
    >>> state, hs = scan.run(cells.lstm.cell, params, jnp.ones((3, 1)))
    >>> print(state.c, hs[:, 0])  # c counts the inputs, h = tanh(c)
    [3.] [0.762 0.964 0.995]
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur.cells.elementwise import require_elementwise
from recur.core import Cell, Prior, Unitwise
from recur.functions import Given
from recur.gated_cells import GateParams, gated
from recur.tables import tabled

__all__ = [
    "cell",
    "coupled",
    "peephole",
    "peephole_full",
    "projected",
    "long_short",
    "Params",
    "Coupled",
    "Peephole",
    "Projected",
    "PeepholeFull",
    "State",
    "GATES",
    "COUPLED",
]

GATES = ("input", "forget", "candidate", "output")  #: The gates, in their order in W, V and b.
COUPLED = ("forget", "candidate", "output")  #: The gates of `coupled`.


class Params(GateParams):
    """W (n, 4n), V (d, 4n), b (4n,), in the order of GATES."""


class Coupled(GateParams):
    """W (n, 3n), V (d, 3n), b (3n,), in the order of COUPLED."""


@tabled()
class Peephole(NamedTuple):
    """Parameters of `peephole`."""

    W: Array  #: (n, 4n), in the order of GATES
    V: Array  #: (d, 4n)
    b: Array  #: (4n,)
    P: Array  #: (3n,), from the memory to i, f and o, drawn from N(0, 1)


@tabled()
class Projected(NamedTuple):
    """Parameters of `projected`, drawn with p = n."""

    W: Array  #: (p, 4n), in the order of GATES
    V: Array  #: (d, 4n)
    b: Array  #: (4n,)
    P: Array  #: (n, p), from n units to p outputs, drawn with sigma_w = 1


@tabled()
class PeepholeFull(NamedTuple):
    """Parameters of `peephole_full`."""

    W: Array  #: (n, 4n), in the order of GATES
    V: Array  #: (d, 4n)
    b: Array  #: (4n,)
    U: Array  #: (n, 4n), acts on the old memory, drawn like W


@tabled()
class State(NamedTuple):
    """The output and the memory."""

    h: Array  #: (..., n), the output; (..., p) in `projected`
    c: Array  #: (..., n), the memory


def update(
    phi: Callable[[Array], Array], state: State, i: Array, f: Array, g: Array, o: Array
) -> State:
    """c = f c + i phi(g), h = o phi(c)."""
    c = sigmoid(f) * state.c + sigmoid(i) * phi(g)
    return State(sigmoid(o) * phi(c), c)


def long_short(phi: Callable[[Array], Array]) -> Unitwise:
    """The LSTM with another nonlinearity of the candidate and of the output.

        c = f * c + i * phi(W_g h + V_g x + b_g),   h = o * phi(c)

    Args:
        phi: An elementwise function, (..., n) -> (..., n). It is a part of the cell, so pass a
            function of a module, or one that is made once.

    Returns:
        The cell. The same phi gives an equal cell.

    Raises:
        ValueError: Through phi a unit reads another one, as in a softmax.
        TypeError: phi is not a function, or has no hash.

    Example:
        >>> print(cells.lstm.long_short(jnp.tanh) == cells.lstm.cell)
        True
    """
    require_elementwise(phi)
    return gated(Params, Given(update, phi), GATES, keeps="forget", writes="input", state=State)


def update_coupled(state: State, f: Array, g: Array, o: Array) -> State:
    """c = f c + (1 - f) g."""
    c = sigmoid(f) * state.c + sigmoid(-f) * jnp.tanh(g)
    return State(sigmoid(o) * jnp.tanh(c), c)


def init_peephole(key: Array, prior: Prior, d: int, n: int) -> Peephole:
    """The gates drawn from the prior, the peepholes from N(0, 1)."""
    gates, peepholes = jax.random.split(key)
    W, V, b = cell.init(gates, prior, d, n)
    return Peephole(W, V, b, jax.random.normal(peepholes, (3 * n,), b.dtype))


def update_peephole(params: Peephole, state: State, r: list[Array], z: list[Array]) -> State:
    """i and f see the old memory, o sees the new one."""
    i, f, g, o = (a + b for a, b in zip(r, z, strict=True))
    P_i, P_f, P_o = jnp.split(params.P, 3)
    c = sigmoid(f + P_f * state.c) * state.c + sigmoid(i + P_i * state.c) * jnp.tanh(g)
    return State(sigmoid(o + P_o * c) * jnp.tanh(c), c)


def init_peephole_full(key: Array, prior: Prior, d: int, n: int) -> PeepholeFull:
    """Parameters drawn from the prior, U like W."""
    gates, memory = jax.random.split(key)
    W, V, b = cell.init(gates, prior, d, n)
    U, _, _ = cell.init(memory, prior, d, n)
    return PeepholeFull(W, V, b, U)


def step_peephole_full(params: PeepholeFull, state: State, x: Array) -> tuple[State, Array]:
    """The form in which the old memory enters all four gates, so units interact in U too."""
    pre = state.h @ params.W + state.c @ params.U + x @ params.V + params.b
    i, f, g, o = jnp.split(pre, len(GATES), axis=-1)
    state = update(jnp.tanh, state, i, f, g, o)
    return state, state.h


def init_projected(key: Array, prior: Prior, d: int, n: int) -> Projected:
    """Parameters drawn from the prior, and P (n, n) with sigma_w = 1: as many outputs as units."""
    gates, outputs = jax.random.split(key)
    W, V, b = cell.init(gates, prior, d, n)
    return Projected(W, V, b, Prior().draw(outputs, d, n)[0])


def start_projected(params: Projected, batch: tuple[int, ...] = ()) -> State:
    """The zero state, h (*batch, p) and c (*batch, n)."""
    n, p = params.P.shape
    return State(*(jnp.zeros((*batch, size), params.W.dtype) for size in (p, n)))


def step_projected(params: Projected, state: State, x: Array) -> tuple[State, Array]:
    """The form that projects the output before it feeds it back."""
    i, f, g, o = jnp.split(state.h @ params.W + x @ params.V + params.b, len(GATES), axis=-1)
    h, c = update(jnp.tanh, state, i, f, g, o)
    h = h @ params.P
    return State(h, c), h


cell = long_short(jnp.tanh)  #: The standard LSTM.
#: One gate forgets and writes, i = 1 - f.
coupled = gated(Coupled, update_coupled, COUPLED, keeps="forget", state=State)
#: Diagonal peepholes in i, f and o.
peephole = replace(cell, init=init_peephole, update=update_peephole, takes=Peephole)
#: Full peepholes in all four gates.
peephole_full = Cell(init_peephole_full, cell.start, step_peephole_full, PeepholeFull, cell.gates)
#: An output of another size than the memory.
projected = Cell(init_projected, start_projected, step_projected, Projected, cell.gates)
