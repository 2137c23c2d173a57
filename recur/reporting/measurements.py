"""What a report measures: one pure function per question, of a body, a state and inputs.

`recur.analysis` computes the numbers; this module chooses the lags, steps and points.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from recur import analysis, scan
from recur.core import Body, Tree
from recur.reporting.sizes import Sizes
from recur.tables import tabled
from recur.theory import MeanField

LAGS = 24  # lags at which singular values are found, spread over all lags
SLOW = 1e-3  # |F(s) - s| at a slow point, as a fraction of the median step along the data
MANY = 8  # states that run forward, per start chosen from them
FORWARD = 300  # steps for which these states run under constant input


class Network(NamedTuple):
    """The sizes of the network and its data."""

    m: int  #: numbers in a state
    n: int  #: numbers in an output
    d: int  #: numbers in an input
    T: int  #: steps of data
    dtype: str  #: the dtype of the state


class Path(NamedTuple):
    """The network on its data, for the S steps that are measured."""

    start: Tree  #: the state before them
    states: Tree  #: after each of them, leaves (S, ...)
    square: float  #: mean of h^2 over units and these steps
    overflow: int  #: the first step of all after which a number is not finite, 1 .. T; 0 if none


class Reach(NamedTuple):
    """Singular values of dh_T/dx_{T-lag}."""

    lags: np.ndarray  #: (L,)
    logs: np.ndarray  #: (L, k) nats, descending


class Standstill(NamedTuple):
    """Fixed and slow points under a constant input."""

    x: Tree  #: the input
    starts: Tree  #: where the searches started, leaves (B, ...)
    found: analysis.Points  #: where each of them ended
    kept: analysis.Points  #: the distinct ones of these, slowest first
    about: analysis.Stability  #: their modes


class OneStep(NamedTuple):
    """Singular values of d state_t / d state_{t-1} at some steps."""

    at: np.ndarray  #: (K,) of all T steps, 1 .. T
    values: np.ndarray  #: (K, m) descending


@tabled()
class Results(NamedTuple):
    """All numbers of a report. A part that was left out is None."""

    network: Network  #: the sizes of the network and its data
    sizes: Sizes  #: how much of it was measured
    path: Path | None = None  #: the states along the data
    reach: Reach | None = None  #: how far back outputs see inputs
    gradients: np.ndarray | None = None  #: (S, lags + 1) of `analysis.gradient_map`
    exponents: analysis.Lyapunov | None = None  #: of `analysis.lyapunov_details`
    standstill: Standstill | None = None  #: fixed and slow points
    gates: list[np.ndarray] | None = None  #: (S, ...) each, of `analysis.openness`
    one_step: OneStep | None = None  #: what single steps do
    theory: MeanField | None = None  #: of the prior, where there is one


def mean_square(xs: Tree) -> np.ndarray:
    """E[x^2] of the inputs, R of the theory."""
    return np.mean(np.square(np.asarray(scan.input_array(xs), float)))


def trajectory(body: Body, state: Tree, xs: Tree) -> tuple[Tree, Array, Array]:
    """States after each step, leaves (T, ...), the mean of h^2 at each, and which are finite."""

    def advance(state: Tree, x: Tree) -> tuple[Tree, tuple[Tree, Array, Array]]:
        state, h = body(state, x)
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((state, h))]).all()
        return state, (state, jnp.mean(jnp.square(h)), finite)

    return lax.scan(advance, state, xs)[1]


def input_lags(furthest: int) -> list[int]:
    """Lags from 0 to the furthest, each about as many times the last one."""
    spread = np.round(np.geomspace(1, max(furthest, 1), LAGS)).astype(int)
    return sorted({0, *spread[spread <= furthest].tolist()})


def random_losses(key: Array, n: int, dtype: Any) -> Callable[[Array], Array]:
    """hs (T, ..., n) -> (T,): each output in one random direction, a unit vector."""
    u = jax.random.normal(key, (n,), dtype)
    u = u / jnp.linalg.norm(u)
    return lambda hs: hs.reshape(len(hs), -1) @ u


def standstill(
    key: Array, count: int, body: Body, visited: Tree, x: Tree
) -> tuple[Tree, analysis.Points, analysis.Stability]:
    """`count` starts, the points at which searches from them end, and the modes there.

    A third of the starts are states that the network reaches by running forward from visited
    states, which leads to attractors. They are chosen from MANY times as many, to be far from each
    other. A third lie halfway between two visited states, near the boundaries between attractors.
    A third are Gaussian, with the mean square of the visited states, in places that the data does
    not reach.
    """
    S = len(jax.tree.leaves(visited)[0])
    ahead, apart = -(-count // 3), -(-2 * count // 3)

    def forward(state: Tree) -> Tree:
        return lax.fori_loop(0, FORWARD, lambda _, s: body(s, x)[0], state)

    often = np.linspace(0, S - 1, MANY * ahead).round().astype(int)
    ends = jax.vmap(forward)(jax.tree.map(lambda leaf: leaf[often], visited))
    chosen = spread(jax.vmap(lambda state: ravel_pytree(state)[0])(ends), ahead)
    far = jax.tree.map(lambda leaf: leaf[chosen], ends)
    one, two = jax.random.randint(key, (2, apart - ahead), 0, S)
    between = jax.tree.map(lambda leaf: (leaf[one] + leaf[two]) / 2, visited)

    def elsewhere(leaf: Array) -> Array:
        size = jnp.sqrt(jnp.mean(jnp.square(leaf)))
        return size * jax.random.normal(key, (count - apart, *leaf.shape[1:]), leaf.dtype)

    new = jax.tree.map(elsewhere, visited)
    starts = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), far, between, new)
    points = analysis.fixed_points(body, starts, x)
    return starts, points, analysis.modes(body, points.states, x)


def spread(s: Array, count: int) -> Array:
    """Indices of `count` points of s (N, m), each the furthest from all that come before it."""

    def one(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        nearest, last = carry
        distance = jnp.linalg.norm(s - s[last], axis=1)
        nearest = jnp.minimum(nearest, jnp.nan_to_num(distance, nan=-1))
        return (nearest, nearest.argmax()), last

    start = jnp.full(len(s), jnp.inf, s.dtype), jnp.zeros((), int)
    return lax.scan(one, start, None, length=count)[1]


def apart(
    path: Path, x: Tree, found: tuple[Tree, analysis.Points, analysis.Stability]
) -> Standstill:
    """The distinct points that are fixed, or slow compared with the steps along the data."""
    starts, points, about = jax.tree.map(np.asarray, found)
    moved = [
        np.sum(np.diff(leaf, axis=0) ** 2, axis=tuple(range(1, leaf.ndim)))
        for leaf in jax.tree.leaves(path.states)
    ]
    usual = np.median(np.sqrt(sum(moved))) if len(moved[0]) else 0.0
    numbers = np.arange(len(points.speed))  # passed along in place of the distance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the finding says how the search ended
        numbered = points._replace(distance=numbers)
        at = analysis.distinct(numbered, max((SLOW * usual) ** 2 / 2, 1e-10)).distance
    kept, about = jax.tree.map(lambda leaf: leaf[at], (tuple(points), tuple(about)))
    return Standstill(x, starts, points, analysis.Points(*kept), analysis.Stability(*about))


def one_step(body: Body, states: Tree, xs: Tree) -> Array:
    """Singular values of the step from each of K states under its own input, (K, m)."""

    def one(now: tuple[Tree, Tree]) -> Array:
        state, x = now
        step = jax.tree.map(lambda leaf: leaf[None], x)
        return analysis.one_step_spectra(body, state, step)[0]

    return lax.map(one, (states, xs))
