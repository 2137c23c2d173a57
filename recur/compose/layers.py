"""Layers: recurrences on top of each other and side by side.

    Stacked          each layer reads the outputs of the one below
    Bidirectional    y = [h of a pass forward, h of a pass backward]

A stack is a cell: it can take single steps, and every analysis accepts it. `Bidirectional` maps
whole sequences. `scan.run` takes both, and computes them layer by layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from recur.compose.presence import tell_any, told
from recur.compose.skips import width
from recur.core import Layer, Prior, Recurrence, Tree, require_recurrence, takes
from recur.tables import tabled

NO_STEP = (
    "Bidirectional maps whole sequences and has no single step: its backward pass starts at the "
    "end, and no state is carried forward. So Lyapunov exponents, fixed points and singular values "
    "of d state_T / d state_0 have no meaning for it. You can run it by scan.run, give the map "
    "lambda xs: scan.run(cell, params, xs)[1] to analysis.network_input_output and its neighbours, "
    "or analyse one of its two cells"
)


@tabled()
class PerLayer(NamedTuple):
    """An input of a stack with noise for its layers: layer i takes (noise[i], its input)."""

    noise: tuple  #: one entry per layer, None where the layer takes only its input
    x: Tree  #: the input of the lowest layer


@dataclass(frozen=True, init=False)
class Stacked:
    """A deep recurrence, `Stacked(a, b, c)`: layer a reads x, and the output is the h of layer c.

    Parameters and states are tuples with one entry per layer. All layers have n units and are drawn
    from the same prior.

    Args:
        *layers: Recurrences, the lowest first.

    Raises:
        ValueError: There is no layer, or one is not a recurrence.

    Example:
        >>> one = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> cell = compose.Stacked(cells.vanilla.relu, cells.vanilla.relu)
        >>> state, hs = scan.run(cell, (one, one), jnp.ones((3, 1)))
        >>> print(hs[:, 0])  # sums of sums
        [1. 3. 6.]
    """

    layers: tuple[Recurrence, ...]  #: the lowest first

    def __init__(self, *layers: Recurrence):
        if not layers:
            raise ValueError("Stacked takes one or more cells, Stacked(gru.cell, gru.cell)")
        for layer in layers:
            require_recurrence(layer)
        object.__setattr__(self, "layers", layers)

    @property
    def takes(self) -> tuple:
        """What each layer takes."""
        return tuple(takes(layer) for layer in self.layers)

    def init(self, key: Array, prior: Prior, d: int, n: int) -> tuple:
        """(key, prior, d, n) -> params, one entry per layer."""
        params = []
        for k, layer in zip(jax.random.split(key, len(self.layers)), self.layers, strict=True):
            params.append(layer.init(k, prior, d, n))
            d = width(layer, n)
        return tuple(params)

    def start(self, params: tuple, batch: tuple[int, ...] = ()) -> tuple:
        """The state of every layer before the first input."""
        self.require("params", params)
        return tuple(layer.start(p, batch) for layer, p in zip(self.layers, params, strict=True))

    def step(self, params: tuple, state: tuple, x: Tree) -> tuple[tuple, Array]:
        """One step of every layer, from the lowest to the highest."""
        self.require("params", params)
        self.require("state", state)
        noise, x = self.split(x)
        after, masks = [], []
        for layer, p, s, extra in zip(self.layers, params, state, noise, strict=True):
            with told() as of_layer:
                s, x = layer.step(p, s, x if extra is None else (extra, x))
            after.append(s)
            masks.append(of_layer)
        tell_any(masks)
        return tuple(after), x

    def over(
        self, walk: Callable[..., tuple], params: tuple, xs: Tree, state: tuple, how: Any
    ) -> tuple[tuple, Array, tuple]:
        """Layer by layer, each over the outputs of the one below."""
        self.require("params", params)
        self.require("state", state)
        noise, xs = self.split(xs)
        finals, every = [], []
        for layer, p, s, extra in zip(self.layers, params, state, noise, strict=True):
            final, xs, ss = walk(layer, p, xs if extra is None else (extra, xs), s, how)
            finals.append(final)
            every.append(ss)
        return tuple(finals), xs, tuple(every)

    @property
    def causal(self) -> bool:
        """Whether every output depends on past inputs alone."""
        return all(map(causal, self.layers))

    def width(self, n: int) -> int:
        """The size of the output of the highest layer."""
        return width(self.layers[-1], n)

    def split(self, x: Tree) -> tuple[tuple, Tree]:
        """The noise of each layer, and the input of the lowest."""
        if not isinstance(x, PerLayer):
            return (None,) * len(self.layers), x
        self.require("noise", x.noise)
        return x.noise, x.x

    def require(self, name: str, value: Any) -> None:
        """Raise ValueError unless the value is a tuple with one entry per layer."""
        named = hasattr(value, "_fields")  # the state of one layer, perhaps with as many entries
        if not isinstance(value, tuple) or named or len(value) != len(self.layers):
            raise ValueError(
                f"a stack of {len(self.layers)} layers takes {name} as a tuple with one entry per "
                f"layer; got {type(value).__name__}"
                + (f" of {len(value)}" if isinstance(value, tuple) else "")
            )


@tabled()
class BothWays(NamedTuple):
    """Parameters or states of a `Bidirectional`."""

    forward: Tree  #: of the pass from the first step to the last
    backward: Tree  #: of the pass from the last step to the first


@dataclass(frozen=True)
class Bidirectional:
    """Two passes over a sequence, one forward and one backward, with outputs hs (T, ..., 2n).

    It maps whole sequences and is not a cell. The backward pass starts at the end of each sequence.
    Run it by `scan.run`, alone or as a layer of `Stacked`. Schuster and Paliwal 1997, IEEE
    Transactions on Signal Processing 45:2673.

    Raises:
        ValueError: One of the two is not a recurrence.

    Example:
        >>> one = cells.vanilla.Params(W=jnp.eye(1), V=jnp.eye(1), b=jnp.zeros(1))
        >>> layer, params = compose.Bidirectional(cells.vanilla.relu), compose.BothWays(one, one)
        >>> print(scan.run(layer, params, jnp.ones((3, 1)))[1])  # sums from either end
        [[1. 3.]
         [2. 2.]
         [3. 1.]]
    """

    forward: Recurrence  #: from the first step to the last
    backward: Recurrence | None = None  #: from the last to the first; `forward` if None

    def __post_init__(self) -> None:
        if self.backward is None:
            object.__setattr__(self, "backward", self.forward)
        for way in self.ways():
            require_recurrence(way)

    @property
    def takes(self) -> BothWays:
        """What each of the two cells takes."""
        return BothWays(*(takes(way) for way in self.ways()))

    def init(self, key: Array, prior: Prior, d: int, n: int) -> BothWays:
        """The parameters of both passes."""
        keys = jax.random.split(key)
        return BothWays(*(c.init(k, prior, d, n) for c, k in zip(self.ways(), keys, strict=True)))

    def start(self, params: BothWays, batch: tuple[int, ...] = ()) -> BothWays:
        """The states from which both passes start."""
        return BothWays(*(c.start(p, batch) for c, p in zip(self.ways(), params, strict=True)))

    def step(self, params: Tree, state: Tree, x: Tree) -> tuple[Tree, Array]:
        """Raises ValueError: the backward pass needs the end of the sequence first."""
        del params, state, x
        raise ValueError(NO_STEP)

    def over(
        self, walk: Callable[..., tuple], params: BothWays, xs: Tree, state: BothWays, how: Any
    ) -> tuple[BothWays, Array, BothWays]:
        """Two passes, the second backward through time."""
        self.require(state)
        forward, backward = self.ways()
        f, hs_f, fs = walk(forward, params.forward, xs, state.forward, how)
        b, hs_b, bs = walk(backward, params.backward, xs, state.backward, how.turned())
        return BothWays(f, b), jnp.concatenate([hs_f, hs_b], axis=-1), BothWays(fs, bs)

    @property
    def causal(self) -> bool:
        """False: outputs depend on later inputs too."""
        return False

    def width(self, n: int) -> int:
        """The size of both outputs side by side."""
        return sum(width(way, n) for way in self.ways())

    def ways(self) -> tuple[Recurrence, Recurrence]:
        """The two cells."""
        assert self.backward is not None
        return self.forward, self.backward

    def require(self, state: Any) -> None:
        """Raise ValueError unless the state holds the states of both passes."""
        if not isinstance(state, BothWays):
            raise ValueError(
                "a Bidirectional starts from states BothWays(forward, backward), as from its "
                f"start(params, batch); got {type(state).__name__}"
            )


def causal(layer: Recurrence) -> bool:
    """Whether every output of a layer depends on past inputs alone: no `Bidirectional` within."""
    return layer.causal if isinstance(layer, Layer) else True
