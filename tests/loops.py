"""Networks as plain values, what recur builds of them, and a Python loop that says what they do.

    Leaf("gru", ("learned", "zoneout"))     a cell by its name, and what is put around it, in order
    Skip("residual", Leaf("vanilla"))       a skip around a network
    Both(Leaf("lstm"), Leaf("gru"))         one network forward in time, another backward
    Stack((..., ...))                       one above the other

`loop` knows masks, resets, directions, skips and noise by their equations. All that it takes from
recur is one step of a cell.
"""

from collections import Counter
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from conftest import MADE
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recur import Prior, Unitwise, cells, compose
from recur.compose.dropout import recurrent_dropout
from recur.compose.zoneout_noise import zoneout
from recur.core import hidden

N = 4  # inputs and units, so that any skip fits around any cell


class Leaf(NamedTuple):
    name: str
    around: tuple[str, ...] = ()


class Skip(NamedTuple):
    kind: str
    inner: tuple


class Both(NamedTuple):
    forward: tuple
    backward: tuple


class Stack(NamedTuple):
    layers: tuple


class Asked(NamedTuple):
    """What a pass is asked for beside its inputs: arrays (T, ...batch), and how it goes."""

    there: jax.Array
    reset: jax.Array
    reverse: bool = False
    truncate: int = 0  # 0: gradients pass everywhere
    ahead: bool = False  # whether its derivative is forward mode, or else backward


AROUND = {
    "learned": compose.learned_start,
    "normed": compose.layer_normed,
    "zoneout": zoneout,
    "dropout": recurrent_dropout,
}
SKIPS = {"residual": compose.Residual, "highway": compose.HighwaySkip}
NOISY = {"zoneout", "dropout"}
WAVE = cells.wave.Medium((2, 2), ((0, 0), (0, 1), (1, 0), (1, 1)), border=1, steepness=2.0)
OWN = {  # cells of N inputs and N units
    "wave.linear": lambda: cells.wave.linear(WAVE),
    "wave.saturable": lambda: cells.wave.saturable(WAVE, 0.5, 0.7),
}
NAMES = sorted({*cells.names(), *MADE, *OWN})


@cache
def build(network):
    """What recur makes of it."""
    if isinstance(network, Stack):
        return compose.Stacked(*map(build, network.layers))
    if isinstance(network, Both):
        return compose.Bidirectional(*map(build, network))
    if isinstance(network, Skip):
        return SKIPS[network.kind](build(network.inner))
    cell = (MADE | OWN).get(network.name, partial(cells.named, network.name))()
    for word in network.around:
        cell = AROUND[word](cell)
    return cell


def leaves(network):
    """Its cells, from the lowest."""
    if isinstance(network, Leaf):
        return [network]
    if isinstance(network, Skip):
        return leaves(network.inner)
    return [
        leaf
        for part in (network.layers if isinstance(network, Stack) else network)
        for leaf in leaves(part)
    ]


def noisy(network):
    """Whether it takes noise beside its input."""
    return any(NOISY & set(leaf.around) for leaf in leaves(network))


class Shapes(Prior):
    """A prior for those who ask for nothing but shapes: it has no random numbers to trace."""

    def draw(self, key, d, n, gates=1):
        return jnp.zeros((n, gates * n)), jnp.zeros((d, gates * n)), jnp.zeros(gates * n)


@cache
def shapes(network, batch):
    """Those of parameters and state, in the precision now set."""
    cell = build(network)

    def begin():
        params = cell.init(jax.random.key(0), Shapes(), N, N)
        return params, cell.start(params, batch)

    return jax.eval_shape(begin)


def loop(network, params, state, xs, asked):
    """(final state, hs, state after every step) by Python loops over time, one a layer.

    Where a step is not there the state is carried and h is zero.
    """
    if isinstance(network, Stack):
        noise, xs = (xs.noise, xs.x) if isinstance(xs, compose.PerLayer) else (None, xs)
        finals, every = [], []
        for i, layer in enumerate(network.layers):
            given = xs if noise is None or noise[i] is None else (noise[i], xs)
            final, xs, states = loop(layer, params[i], state[i], given, asked)
            finals.append(final)
            every.append(states)
        return tuple(finals), xs, tuple(every)
    if isinstance(network, Both):
        ways = [
            loop(way, params[i], state[i], xs, asked._replace(reverse=bool(i) != asked.reverse))
            for i, way in enumerate(network)
        ]
        finals, hs, every = zip(*ways, strict=True)
        return compose.BothWays(*finals), jnp.concatenate(hs, -1), compose.BothWays(*every)
    if isinstance(network, Skip):
        gated = network.kind == "highway"
        final, hs, every = loop(network.inner, params.cell if gated else params, state, xs, asked)
        return final, _joined(gated, params, jax.tree.leaves(xs)[-1], hs, asked.there), every
    return _loop_of_cell(network, params, state, xs, asked)


@partial(jax.jit, static_argnums=0)
def _joined(gated, params, x, h, there):
    x = jnp.where(there[..., None], x, 0)
    g = jax.nn.sigmoid(x @ params.V + params.b) if gated else 0.5
    return jnp.where(there[..., None], g * h + (1 - g) * x if gated else x + h, 0)


def _loop_of_cell(leaf, params, state, xs, asked):
    """(final state, hs, every state). Derivatives are loops, too: JAX's own is that of one step."""
    T = len(asked.there)
    order = list(range(T))[:: -1 if asked.reverse else 1]
    cuts = {order[i] for i in range(T) if asked.truncate and i and i % asked.truncate == 0}

    def now(xs, t):
        begins = t + 1 if asked.reverse else t  # what began later ends before t is reached
        anew = asked.reset[begins] if begins < T else np.zeros_like(asked.reset[0])
        return jax.tree.map(lambda a: a[t], xs), asked.there[t], anew

    def forward(params, state, xs):
        xs, before, hs = jax.device_get(xs), [None] * T, [None] * T
        every = list(before)
        for t in order:
            before[t] = state
            state, hs[t] = _step(leaf, params, state, *now(xs, t))
            every[t] = state
        return (state, _stack(hs), _stack(every)), (params, xs, before)

    def backward(kept, cotangents):
        params, xs, before = kept
        ds, dhs, devery = jax.device_get(cotangents)
        dparams, dxs = jax.tree.map(np.zeros_like, params), [None] * T
        for t in reversed(order):
            ds = jax.tree.map(lambda a, b, t=t: a + b[t], ds, devery)
            dp, ds, dxs[t] = _pull(leaf, (params, before[t]), now(xs, t), (ds, dhs[t]))
            dparams = jax.tree.map(np.add, dparams, dp)
            ds = jax.tree.map(np.zeros_like, ds) if t in cuts else ds
        return dparams, ds, _stack(dxs)

    def along(primals, tangents):
        (params, state, xs), (dp, ds, dxs) = primals, jax.device_get(tangents)
        xs, pairs = jax.device_get(xs), [None] * T
        for t in order:
            ds = jax.tree.map(np.zeros_like, ds) if t in cuts else ds
            dx = jax.tree.map(lambda a, t=t: a[t], dxs)
            pairs[t] = _push(leaf, (params, state), now(xs, t), (dp, ds, dx))
            (state, _), (ds, _) = pairs[t]
        (every, hs), (devery, dhs) = _stack(pairs)
        return (state, hs, every), (ds, dhs, devery)

    def value(params, state, xs):
        return forward(params, state, xs)[0]

    if asked.ahead:
        walk = jax.custom_jvp(value)
        walk.defjvp(along)
    else:
        walk = jax.custom_vjp(value)
        walk.defvjp(forward, backward)
    return walk(params, state, xs)


def _stack(trees):
    return jax.tree.map(lambda *a: np.stack(a), *jax.device_get(trees))


def _of_step(leaf, now):
    x, there, anew = now
    return lambda params, state, x: _step(leaf, params, state, x, there, anew), x


@partial(jax.jit, static_argnums=0)
def _pull(leaf, before, now, cotangents):
    f, x = _of_step(leaf, now)
    return jax.vjp(f, *before, x)[1](cotangents)


@partial(jax.jit, static_argnums=0)
def _push(leaf, before, now, tangents):
    f, x = _of_step(leaf, now)
    return jax.jvp(f, (*before, x), tangents)


@partial(jax.jit, static_argnums=0)
def _step(leaf, params, state, x, there, anew):
    """One step of a cell that may not be there, or may begin anew."""
    state = _where(anew, _start(leaf, params, there.shape), state)
    x = _where(there, x, jax.tree.map(jnp.zeros_like, x))
    after, h = _plain_step(leaf, params, state, x)
    return _where(there, after, state), _where(there, h, jnp.zeros_like(h))


def _plain_step(leaf, params, state, x):
    if leaf.around[-1:] == ("zoneout",):
        keep, x = x
        after, _ = _plain_step(leaf._replace(around=leaf.around[:-1]), params, state, x)
        state = jax.tree.map(lambda k, a, b: k * a + (1 - k) * b, keep, state, after)
        return state, hidden(state)
    if leaf.around[-1:] == ("learned",):
        return _plain_step(leaf._replace(around=leaf.around[:-1]), params.cell, state, x)
    return build(leaf).step(params, state, x)


def _start(leaf, params, batch):
    if leaf.around[-1:] == ("learned",):
        return jax.tree.map(lambda s: jnp.broadcast_to(s, (*batch, *s.shape)), params.start)
    return build(leaf).start(params, batch)


def _where(flag, new, old):
    """The axes of the flag are the first of each array."""
    return jax.tree.map(
        lambda a, b: jnp.where(flag.reshape(flag.shape + (1,) * (a.ndim - flag.ndim)), a, b),
        new,
        old,
    )


def begin(network, params, batch):
    """The state before the first input."""
    if isinstance(network, Stack):
        return tuple(begin(n, p, batch) for n, p in zip(network.layers, params, strict=True))
    if isinstance(network, Both):
        return compose.BothWays(*(begin(n, p, batch) for n, p in zip(network, params, strict=True)))
    if isinstance(network, Skip):
        return begin(network.inner, params.cell if network.kind == "highway" else params, batch)
    return _start(network, params, batch)


def before(T, lengths):
    """Which steps lie before the end of each sequence, (T, ...)."""
    return np.arange(T).reshape(T, *(1,) * np.ndim(lengths)) < lengths


def spoiled(there, xs):
    """The arrays of xs with NaN at every step that is not there."""
    return jax.tree.map(
        lambda a: np.where(there.reshape(there.shape + (1,) * (a.ndim - there.ndim)), a, np.nan), xs
    )


FITTING = (
    (),
    ("learned",),
    ("normed",),
    ("learned", "normed"),
    ("normed", "learned"),
    ("zoneout",),
    ("learned", "zoneout"),
    ("normed", "zoneout"),
    ("dropout",),
)


@cache
def unitwise(leaf):
    return isinstance(build(leaf), Unitwise)


@st.composite
def leaf_of(draw, d, quiet):
    """A cell of d inputs; a quiet one takes no noise."""
    square = {"minimal.bare", *OWN}
    name = draw(st.sampled_from([n for n in NAMES if d == N or n not in square]))
    plain = unitwise(Leaf(name))
    fit = [
        around
        for around in FITTING
        if not (quiet and NOISY & {*around}) and (plain or not {"normed", "dropout"} & {*around})
    ]
    return Leaf(name, draw(st.sampled_from(fit)))


def search(check, programs, many, each, at_random=False):
    """check(program, seed) in float64, for so many programs and `each` seeds of data by each.

    The same ones every time, unless they are drawn at random; then a failure is made smaller.
    """
    done = Counter()

    @settings(
        max_examples=many,
        derandomize=not at_random,
        phases=[Phase.generate, *[Phase.shrink] * at_random],
        suppress_health_check=list(HealthCheck),
        database=None,
        deadline=None,
    )
    @given(programs, st.integers(0, 2**32 - 1))
    def case(program, seed):
        with jax.enable_x64(True):
            for k in range(each):
                check(program, seed + k)
        done.update(programs=1, cases=each)

    case()
    print(f"{done['cases']} cases by {done['programs']} programs")
