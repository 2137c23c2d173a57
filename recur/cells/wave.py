"""The wave equation as a recurrent network: a field on a grid, whose wave speed is trained.

    d^2 y / dt^2 + 2 b dy/dt = c^2 (d^2/dx^2 + d^2/dy^2) y
    (1/dt^2 + b/dt) y_t = 2/dt^2 y_{t-1} - (1/dt^2 - b/dt) y_{t-2} + c^2 Lap(y_{t-1})
    y_t <- y_t + x_t at the source pixels
    c = c0 + (c1 - c0) project(rho)

The units are the pixels, row by row, and h is the field: `mix` is Lap, the stencil of five points
over h^2 with zero outside. b is the absorbing border. Along an axis of one pixel the field does not
vary: (1, N) is a string, whose stencil has three points and whose only boundaries are its two ends.
A `Medium` holds what does not change in training: `linear(medium)` is the cell, and
`saturable(medium, b0, y0)` adds the material's own damping
project(rho) * b0 / (1 + (y_{t-1} / y0)^2), which decreases in strong fields.
`blur` smooths a rho before it is used; `intensity` is what the probes read.
Hughes et al. 2019, arXiv:1904.12831.
"""

from dataclasses import dataclass
from functools import reduce
from math import sqrt
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from recur import expect
from recur.core import Prior, Unitwise
from recur.functions import Given


@dataclass(frozen=True)
class Medium:
    """The grid, its border, and where waves enter and are read; lengths and times in one unit.

    Raises ValueError for a shape that is no grid of two pixels or more, for pixels outside it, for
    a border wider than the grid, and where dt breaks the stability condition dt <= h / (c sqrt D)
    of the faster of the two speeds, with D axes of more than one pixel.
    """

    shape: tuple[int, int]  # pixels, (ny, nx), a string (1, nx); the cell has n = ny * nx units
    sources: tuple[tuple[int, int], ...]  # one pixel (row, column) for each of the d inputs
    probes: tuple[tuple[int, int], ...] = ()  # pixels that `intensity` reads
    dt: float = 0.5  # time step
    h: float = 1.0  # distance between neighbouring pixels
    c0: float = 1.0  # speed where rho = 0
    c1: float = 0.5  # speed where rho = 1
    border: int = 20  # pixels of absorber at each side
    sigma: float = 1.0  # damping b at the rim, in units of c0 / h
    steepness: float = 100.0  # of `project`

    def __post_init__(self) -> None:
        for name in ("dt", "h", "c0", "c1", "sigma"):
            expect.number()(name, getattr(self, name))
        expect.number(0, open=True)("steepness", self.steepness)
        expect.integer("border", self.border)
        if not _is_pair(self.shape) or min(self.shape) < 1 or not self.axes:
            raise ValueError(
                f"a medium has the shape (ny, nx), two pixels or more; got {self.shape}. A string "
                "of N pixels is (1, N)"
            )
        _require_pixels("sources", self.sources)
        _require_pixels("probes", self.probes)
        fastest = float(np.max(np.abs([self.c0, self.c1])))
        D = len(self.axes)
        limit = self.h / (fastest * sqrt(D))
        if not 0 < self.dt <= limit:
            raise ValueError(
                f"dt = {self.dt} breaks the stability (CFL) condition 0 < dt <= h / (c sqrt {D}) = "
                f"{limit:.4g} for h = {self.h} and c = {fastest}: take a smaller dt "
                "or larger pixels"
            )
        for pixel in (*self.sources, *self.probes):
            if not all(0 <= i < size for i, size in zip(pixel, self.shape, strict=True)):
                raise ValueError(f"pixel {pixel} lies outside the grid (ny, nx) = {self.shape}")
        for name in ("shape", "sources", "probes"):  # which may be lists or arrays
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        if not 0 <= 2 * self.border <= min(self.shape[axis] for axis in self.axes):
            raise ValueError(
                f"a border of {self.border} pixels at each side does not fit in {self.shape}; "
                "border=0 has none, and the field is then zero outside: waves are reflected"
            )

    @property
    def n(self) -> int:
        """The number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which the field varies: those of more than one pixel."""
        return tuple(axis for axis, size in enumerate(self.shape) if size > 1)

    def flat(self, pixels: tuple[tuple[int, int], ...]) -> np.ndarray:
        """The units of these pixels."""
        return np.array([row * self.shape[1] + column for row, column in pixels], np.int32)

    def damping(self) -> np.ndarray:
        """b of every pixel, (n,): sigma times the fourth power of the depth in the border."""
        depth = [np.maximum(0, self.border - _to_rim(size)) for size in self.shape]
        depth = [d if axis in self.axes else 0 * d for axis, d in enumerate(depth)]
        profile = [self.sigma * self.c0 / self.h * (d / max(self.border, 1)) ** 4 for d in depth]
        return np.hypot(profile[0][:, None], profile[1]).ravel()


def _tuples(numbers: Any) -> Any:
    """Integers in tuples of any depth, which have a hash."""
    return tuple(map(_tuples, numbers)) if np.ndim(numbers) else int(numbers)


def _is_pair(value: Any) -> bool:
    """Whether this is a pair of whole numbers."""
    pair = np.shape(value) == (2,) and np.asarray(value).dtype.kind in "iuf"
    return pair and not np.any(np.mod(value, 1))  # NaN where the argument is not finite


def _require_pixels(name: str, pixels: Any) -> None:
    """Raise unless these are pairs of integers."""
    if not hasattr(pixels, "__iter__"):
        raise TypeError(f"{name} holds pixels, (row, column) each; got {expect.told(pixels)}")
    for pixel in pixels:
        if not _is_pair(pixel):
            raise ValueError(f"a pixel is (row, column), two integers; got {pixel}")


def _to_rim(size: int) -> np.ndarray:
    """How many pixels lie between each of a row and the nearer end."""
    i = np.arange(size)
    return np.minimum(i, size - 1 - i)


class Params(NamedTuple):
    """rho (n,), the material of each pixel, drawn as a bias: 0 has speed c0 and 1 has c1."""

    rho: Array


class State(NamedTuple):
    """The field h (..., n) and the field one step before."""

    h: Array
    previous: Array


def start(params: Params, batch: tuple[int, ...] = ()) -> State:
    """The field at rest, (*batch, n)."""
    zeros = jnp.zeros((*batch, params.rho.shape[0]), params.rho.dtype)
    return State(zeros, zeros)


@expect.arguments(rho=expect.real, steepness=expect.number(0, open=True))
def project(rho: Array, steepness: float) -> Array:
    """A steep tanh that takes rho < 1/2 to 0 and rho > 1/2 to 1, pixel by pixel."""
    edge = np.tanh(steepness / 2).item()
    return (edge + jnp.tanh(steepness * (rho - 0.5))) / (2 * edge)


def init(medium: Medium, key: Array, prior: Prior, d: int, n: int) -> Params:
    """rho drawn as a bias. Raises ValueError where d or n is not the medium's."""
    if (d, n) != (len(medium.sources), medium.n):
        raise ValueError(
            f"this medium has d = {len(medium.sources)} sources and n = {medium.n} pixels, "
            f"{medium.shape}; got d={d}, n={n}"
        )
    _, _, rho = prior.draw(key, 1, 1, n)  # a bias a pixel: W would be n by n
    return Params(rho)


def drive(medium: Medium, params: Params, x: Array) -> Array:
    """x at the sources, 0 elsewhere."""
    del params
    sources = medium.flat(medium.sources)
    return jnp.zeros((*x.shape[:-1], medium.n), x.dtype).at[..., sources].add(x)


def mix(medium: Medium, params: Params, h: Array) -> Array:
    """Lap h."""
    del params
    return (neighbours(medium, h, "constant") - 2 * len(medium.axes) * h) / medium.h**2


def update(
    medium: Medium, b0: float, y0: float, params: Params, state: State, r: Array, z: Array
) -> State:
    """The field one step on, and the field that was."""
    y, before = state
    dt, material = medium.dt, project(params.rho, medium.steepness)
    c = medium.c0 + (medium.c1 - medium.c0) * material
    b = jnp.asarray(medium.damping(), y.dtype)
    if b0:
        b = b + material * b0 / (1 + (y / y0) ** 2)
    field = (2 * y - (1 - b * dt) * before + (c * dt) ** 2 * r) / (1 + b * dt)
    return State(field + z, y)


@expect.arguments(
    medium=expect.instance(Medium),
    field=expect.floats,
    mode=expect.one_of("edge", "constant"),
)
def neighbours(medium: Medium, field: Array, mode: str) -> Array:
    """The sum of each pixel's neighbours, (..., n): four on a grid, two on a string.

    `mode` is jnp.pad's, for the outside.
    """
    if field.shape[-1] != medium.n:
        raise ValueError(f"the last axis is the {medium.n} pixels; got {expect.told(field)}")
    y = field.reshape(*field.shape[:-1], *medium.shape)
    around = []
    for axis in medium.axes:
        at = y.ndim - 2 + axis
        wider = jnp.pad(y, [(int(k == at),) * 2 for k in range(y.ndim)], mode=mode)
        around += [lax.slice_in_dim(wider, i, i + y.shape[at], axis=at) for i in (0, 2)]
    return reduce(jnp.add, around).reshape(field.shape)


@expect.arguments(medium=expect.instance(Medium), rho=expect.floats)
def blur(medium: Medium, rho: Array) -> Array:
    """The mean of each pixel of rho (n,) and its neighbours; the outside repeats the rim."""
    return (rho + neighbours(medium, rho, "edge")) / (1 + 2 * len(medium.axes))


@expect.arguments(medium=expect.instance(Medium), hs=expect.floats)
def intensity(medium: Medium, hs: Array) -> Array:
    """The share of each probe in the summed squared field: hs (T, ..., n) -> (..., probes).

    Where all probes are silent, each has the same share and the derivative is zero. Squares of a
    faint or a strong field neither vanish nor overflow. Raises ValueError for a medium without
    probes.
    """
    if not medium.probes:
        raise ValueError("this medium has no probes; give it Medium(..., probes=((row, column),))")
    if hs.shape[-1] != medium.n:
        raise ValueError(f"the last axis is the {medium.n} pixels; got {expect.told(hs)}")
    heard = hs[..., medium.flat(medium.probes)]
    loudest = lax.stop_gradient(jnp.abs(heard).max(axis=(0, -1), keepdims=True))  # no share moves
    silent = loudest == 0
    power = jnp.sum((heard / jnp.where(silent, 1, loudest)) ** 2, axis=0)
    power = jnp.where(silent[0], 1, power)
    return power / power.sum(axis=-1, keepdims=True)


@expect.arguments(medium=expect.instance(Medium))
def linear(medium: Medium) -> Unitwise:
    """The cell of a medium: d = number of sources, n = number of pixels, linear in its state."""
    return saturable(medium, 0.0, 1.0)


@expect.arguments(medium=expect.instance(Medium), b0=expect.number(), y0=expect.number())
def saturable(medium: Medium, b0: float, y0: float) -> Unitwise:
    """The cell whose material absorbs weak fields by b0, and half as much where |y| = y0.

    Raises ValueError unless b0 >= 0 and y0 > 0; its `init` raises where d or n is not the medium's.
    """
    if not (b0 >= 0 and y0 > 0):
        raise ValueError(f"saturable absorption needs b0 >= 0 and y0 > 0, got b0={b0}, y0={y0}")
    return Unitwise(
        Given(init, medium),
        start,
        Given(drive, medium),
        Given(mix, medium),
        Given(update, medium, float(b0), float(y0)),
        Params,
    )
