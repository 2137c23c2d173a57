"""Long short-term memory: a cell c that is written, kept and read through gates.

    i = sigmoid(W_i h + V_i x + b_i)       write
    f = sigmoid(W_f h + V_f x + b_f)       keep
    g = phi(W_g h + V_g x + b_g)           the candidate
    o = sigmoid(W_o h + V_o x + b_o)       read
    c = f * c + i * g
    h = o * phi(c)

`cell` has phi = tanh; `long_short(phi)` takes any elementwise function.
`coupled` writes what it forgets: i = 1 - f, with the gates of COUPLED.

Two forms let the gates see the memory, and both are called peephole:

    `peephole`        diagonal, three gates: P_i * c and P_f * c of the old memory are added in i
                      and f, and P_o * c of the new one in o; P (3n,)
    `peephole_full`   full, all four: U c of the old memory is added in i, f, g and o, so that
                      c enters beside h and x; U (n, 4n)

`projected` has an output of another size than its memory: h = (o * tanh(c)) P, with P (n, p) and
W (p, 4n).

Hochreiter and Schmidhuber 1997, Neural Computation 9:1735; the forget gate, Gers et al. 2000;
diagonal peepholes, Gers et al. 2002, JMLR 3:115; projection, Sak et al. 2014, arXiv:1402.1128;
coupled gates, Greff et al. 2017, arXiv:1503.04069. The full form is that of lectures, which write
W [x, h, c] for every gate.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur import expect
from recur.cells.elementwise import require_elementwise
from recur.core import Cell, Prior, Unitwise
from recur.functions import Given
from recur.gated_cells import GateParams, gated

GATES = ("input", "forget", "candidate", "output")
COUPLED = ("forget", "candidate", "output")


class Params(GateParams):
    """W (n, 4n), V (d, 4n), b (4n,), the gates in the order of GATES."""


class Coupled(GateParams):
    """W (n, 3n), V (d, 3n), b (3n,), the gates in the order of COUPLED."""


class Peephole(NamedTuple):
    """W (n, 4n), V (d, 4n), b (4n,); P (3n,) from the memory to input, forget and output gate."""

    W: Array
    V: Array
    b: Array
    P: Array


class Projected(NamedTuple):
    """W (p, 4n), V (d, 4n), b (4n,), the gates as in GATES; P (n, p) from n units to p outputs."""

    W: Array
    V: Array
    b: Array
    P: Array


class PeepholeFull(NamedTuple):
    """W (n, 4n), V (d, 4n), b (4n,); U (n, 4n) from the old memory, the gates as in GATES."""

    W: Array
    V: Array
    b: Array
    U: Array


class State(NamedTuple):
    """h (..., n) and the memory c (..., n)."""

    h: Array
    c: Array


def update(
    phi: Callable[[Array], Array], state: State, i: Array, f: Array, g: Array, o: Array
) -> State:
    """c = f c + i phi(g), h = o phi(c)."""
    c = sigmoid(f) * state.c + sigmoid(i) * phi(g)
    return State(sigmoid(o) * phi(c), c)


@expect.arguments(phi=expect.function)
def long_short(phi: Callable[[Array], Array]) -> Unitwise:
    """The cell with this phi at the candidate and at the output; the same phi, the same cell.

    Raises ValueError for a phi by which a unit reads another, such as a softmax.
    """
    require_elementwise(phi)
    return gated(Params, Given(update, phi), GATES, keeps="forget", writes="input", state=State)


def update_coupled(state: State, f: Array, g: Array, o: Array) -> State:
    """c = f c + (1 - f) g."""
    c = sigmoid(f) * state.c + sigmoid(-f) * jnp.tanh(g)
    return State(sigmoid(o) * jnp.tanh(c), c)


def init_peephole(key: Array, prior: Prior, d: int, n: int) -> Peephole:
    """The gates drawn from the prior, the peepholes with sigma 1."""
    gates, peepholes = jax.random.split(key)
    W, V, b = cell.init(gates, prior, d, n)
    return Peephole(W, V, b, jax.random.normal(peepholes, (3 * n,), b.dtype))


def update_peephole(params: Peephole, state: State, r: list[Array], z: list[Array]) -> State:
    """The gates see the memory: i and f the old one, o the new one."""
    i, f, g, o = (a + b for a, b in zip(r, z, strict=True))
    P_i, P_f, P_o = jnp.split(params.P, 3)
    c = sigmoid(f + P_f * state.c) * state.c + sigmoid(i + P_i * state.c) * jnp.tanh(g)
    return State(sigmoid(o + P_o * c) * jnp.tanh(c), c)


def init_peephole_full(key: Array, prior: Prior, d: int, n: int) -> PeepholeFull:
    """Parameters drawn from the prior, U as W."""
    gates, memory = jax.random.split(key)
    W, V, b = cell.init(gates, prior, d, n)
    U, _, _ = cell.init(memory, prior, d, n)
    return PeepholeFull(W, V, b, U)


def step_peephole_full(params: PeepholeFull, state: State, x: Array) -> tuple[State, Array]:
    """The form in which the old memory enters all four: units meet in U as well as in W."""
    pre = state.h @ params.W + state.c @ params.U + x @ params.V + params.b
    i, f, g, o = jnp.split(pre, len(GATES), axis=-1)
    state = update(jnp.tanh, state, i, f, g, o)
    return state, state.h


def init_projected(key: Array, prior: Prior, d: int, n: int) -> Projected:
    """Parameters drawn from the prior, with as many outputs as units, P (n, n) of sigma 1."""
    gates, outputs = jax.random.split(key)
    W, V, b = cell.init(gates, prior, d, n)
    return Projected(W, V, b, Prior().draw(outputs, d, n)[0])


def start_projected(params: Projected, batch: tuple[int, ...] = ()) -> State:
    """The zero state, h (*batch, p) and c (*batch, n)."""
    n, p = params.P.shape
    return State(*(jnp.zeros((*batch, size), params.W.dtype) for size in (p, n)))


def step_projected(params: Projected, state: State, x: Array) -> tuple[State, Array]:
    """The form whose output is projected before it is fed back."""
    i, f, g, o = jnp.split(state.h @ params.W + x @ params.V + params.b, len(GATES), axis=-1)
    h, c = update(jnp.tanh, state, i, f, g, o)
    h = h @ params.P
    return State(h, c), h


cell = long_short(jnp.tanh)
coupled = gated(Coupled, update_coupled, COUPLED, keeps="forget", state=State)
peephole = replace(cell, init=init_peephole, update=update_peephole, takes=Peephole)
peephole_full = Cell(init_peephole_full, cell.start, step_peephole_full, PeepholeFull, cell.gates)
projected = Cell(init_projected, start_projected, step_projected, Projected, cell.gates)
