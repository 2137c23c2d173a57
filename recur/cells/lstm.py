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

Hochreiter and Schmidhuber 1997, Neural Computation 9:1735; the forget gate, Gers et al. 2000;
diagonal peepholes, Gers et al. 2002, JMLR 3:115; coupled gates, Greff et al. 2017,
arXiv:1503.04069. The full form is that of lectures, which write W [x, h, c] for every gate.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from recur import expect
from recur.cells.elementwise import require_elementwise
from recur.core import Cell, Prior, Unitwise
from recur.functions import Given

GATES = ("input", "forget", "candidate", "output")
COUPLED = ("forget", "candidate", "output")


class Params(NamedTuple):
    """W (n, 4n), V (d, 4n), b (4n,), the gates in the order of GATES."""

    W: Array
    V: Array
    b: Array


class Coupled(NamedTuple):
    """W (n, 3n), V (d, 3n), b (3n,), the gates in the order of COUPLED."""

    W: Array
    V: Array
    b: Array


class Peephole(NamedTuple):
    """W (n, 4n), V (d, 4n), b (4n,); P (3n,) from the memory to input, forget and output gate."""

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


def init(key: Array, prior: Prior, d: int, n: int) -> Params:
    """Parameters drawn from the prior."""
    return Params(*prior.draw(key, d, n, len(GATES)))


def init_peephole(key: Array, prior: Prior, d: int, n: int) -> Peephole:
    """The gates drawn from the prior, the peepholes with sigma 1."""
    gates, peepholes = jax.random.split(key)
    W, V, b = prior.draw(gates, d, n, len(GATES))
    return Peephole(W, V, b, jax.random.normal(peepholes, (3 * n,), b.dtype))


def init_peephole_full(key: Array, prior: Prior, d: int, n: int) -> PeepholeFull:
    """Parameters drawn from the prior, U as W."""
    gates, memory = jax.random.split(key)
    W, V, b = prior.draw(gates, d, n, len(GATES))
    U, _, _ = prior.draw(memory, d, n, len(GATES))
    return PeepholeFull(W, V, b, U)


def init_coupled(key: Array, prior: Prior, d: int, n: int) -> Coupled:
    """Parameters drawn from the prior, one value for each gate of COUPLED."""
    return Coupled(*prior.draw(key, d, n, len(COUPLED)))


def start(params: Params | Peephole | PeepholeFull | Coupled, batch: tuple[int, ...] = ()) -> State:
    """The zero state, h and c (*batch, n)."""
    zeros = jnp.zeros((*batch, params.W.shape[0]), params.W.dtype)
    return State(zeros, zeros)


def drive(params: Params | Peephole, x: Array) -> list[Array]:
    """V x + b of each gate."""
    return jnp.split(x @ params.V + params.b, len(GATES), axis=-1)


def mix(params: Params | Peephole, h: Array) -> list[Array]:
    """W h of each gate."""
    return jnp.split(h @ params.W, len(GATES), axis=-1)


def drive_coupled(params: Coupled, x: Array) -> list[Array]:
    """V x + b of each gate of COUPLED."""
    return jnp.split(x @ params.V + params.b, len(COUPLED), axis=-1)


def mix_coupled(params: Coupled, h: Array) -> list[Array]:
    """W h of each gate of COUPLED."""
    return jnp.split(h @ params.W, len(COUPLED), axis=-1)


def update(
    phi: Callable[[Array], Array], params: Params, state: State, r: list[Array], z: list[Array]
) -> State:
    """c = f c + i phi(g), h = o phi(c)."""
    del params
    i, f, g, o = (a + b for a, b in zip(r, z, strict=True))
    c = sigmoid(f) * state.c + sigmoid(i) * phi(g)
    return State(sigmoid(o) * phi(c), c)


@expect.arguments(phi=expect.function)
def long_short(phi: Callable[[Array], Array]) -> Unitwise:
    """The cell with this phi at the candidate and at the output; the same phi, the same cell.

    Raises ValueError for a phi by which a unit reads another, such as a softmax.
    """
    require_elementwise(phi)
    return Unitwise(init, start, drive, mix, Given(update, phi), Params)


def update_peephole(params: Peephole, state: State, r: list[Array], z: list[Array]) -> State:
    """The gates see the memory: i and f the old one, o the new one."""
    i, f, g, o = (a + b for a, b in zip(r, z, strict=True))
    P_i, P_f, P_o = jnp.split(params.P, 3)
    c = sigmoid(f + P_f * state.c) * state.c + sigmoid(i + P_i * state.c) * jnp.tanh(g)
    return State(sigmoid(o + P_o * c) * jnp.tanh(c), c)


def step_peephole_full(params: PeepholeFull, state: State, x: Array) -> tuple[State, Array]:
    """The form in which the old memory enters all four: units meet in U as well as in W."""
    pre = state.h @ params.W + state.c @ params.U + x @ params.V + params.b
    i, f, g, o = jnp.split(pre, len(GATES), axis=-1)
    c = sigmoid(f) * state.c + sigmoid(i) * jnp.tanh(g)
    h = sigmoid(o) * jnp.tanh(c)
    return State(h, c), h


def update_coupled(params: Coupled, state: State, r: list[Array], z: list[Array]) -> State:
    """c = f c + (1 - f) g."""
    del params
    f, g, o = (a + b for a, b in zip(r, z, strict=True))
    c = sigmoid(f) * state.c + sigmoid(-f) * jnp.tanh(g)
    return State(sigmoid(o) * jnp.tanh(c), c)


cell = long_short(jnp.tanh)
peephole = Unitwise(init_peephole, start, drive, mix, update_peephole, Peephole)
peephole_full = Cell(init_peephole_full, start, step_peephole_full, PeepholeFull)
coupled = Unitwise(init_coupled, start, drive_coupled, mix_coupled, update_coupled, Coupled)
