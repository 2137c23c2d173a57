"""The wave equation as a recurrent network: a field on a grid, with a wave speed that is trained.

    d^2 y / dt^2 + 2 b dy/dt = c^2 (d^2/dx^2 + d^2/dy^2) y
    (1/dt^2 + b/dt) y_t = 2/dt^2 y_{t-1} - (1/dt^2 - b/dt) y_{t-2} + c^2 Lap(y_{t-1})
    y_t <- y_t + x_t at the source pixels
    c = c0 + (c1 - c0) project(rho)

The units are the pixels, row by row, and the hidden state is the field y. `mix` is the Laplacian: a
stencil of five points over h^2, with zero outside the grid. b is the damping of the border, which
absorbs waves. The field does not vary along an axis of one pixel: a grid (1, N) is a string, with a
stencil of three points and no boundary but its two ends.

A `Medium` holds what training does not change. `linear(medium)` is the cell.
`saturable(medium, b0, y0)` adds a damping of the material,
project(rho) * b0 / (1 + (y_{t-1} / y0)^2), which decreases in strong fields. `blur` smooths rho
before its use, and `intensity` is what the probes measure.
Hughes et al. 2019, arXiv:1904.12831.

Example:
    >>> medium = cells.wave.Medium((1, 5), sources=((0, 2),), dt=1.0, border=0)
    >>> params, xs = cells.wave.Params(rho=jnp.zeros(5)), jnp.array([[1.0], [0.0], [0.0]])
    >>> print(scan.run(cells.wave.linear(medium), params, xs)[1])  # a pulse on a string
    [[0. 0. 1. 0. 0.]
     [0. 1. 0. 1. 0.]
     [1. 0. 1. 0. 1.]]
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
from recur.tables import tabled

__all__ = [
    "linear",
    "saturable",
    "Medium",
    "project",
    "blur",
    "neighbours",
    "intensity",
    "Params",
    "State",
]


@dataclass(frozen=True)
class Medium:
    """The grid, its absorbing border, and the pixels where waves enter and are measured.

    Units of length and time are free; dt, h, c0 and c1 must use the same ones. The step is stable
    if dt <= h / (c sqrt D), where c is the faster of the two speeds and D the number of axes with
    more than one pixel (Courant, Friedrichs and Lewy 1928).

    Raises:
        ValueError: The shape is not a grid of two pixels or more, a pixel lies outside it, the
            border does not fit, a number is out of range, or the step is not stable.
        TypeError: A field is of another type.

    Example:
        >>> medium = cells.wave.Medium((3, 4), sources=((1, 0),), probes=((1, 3),), border=1)
        >>> print(medium.n, medium.damping().reshape(3, 4))
        12 [[1.414 1.    1.    1.414]
         [1.    0.    0.    1.   ]
         [1.414 1.    1.    1.414]]
    """

    shape: tuple[int, int]  #: (ny, nx) pixels, n = ny * nx units; a string is (1, nx)
    sources: tuple[tuple[int, int], ...]  #: a pixel (row, column) for each of the d inputs
    probes: tuple[tuple[int, int], ...] = ()  #: pixels (row, column) that `intensity` reads
    dt: float = 0.5  #: the time step
    h: float = 1.0  #: the distance between neighbouring pixels
    c0: float = 1.0  #: the speed where rho = 0
    c1: float = 0.5  #: the speed where rho = 1
    border: int = 20  #: the width of the absorber at each side, in pixels
    sigma: float = 1.0  #: the damping b at the outermost pixels, in units of c0 / h
    steepness: float = 100.0  #: the slope of `project`

    def __post_init__(self) -> None:
        for name in ("dt", "h", "c0", "c1", "sigma"):
            expect.number()(name, getattr(self, name))
        expect.number(0, open=True)("steepness", self.steepness)
        expect.integer("border", self.border)
        if not _is_pair(self.shape) or min(self.shape) < 1 or not self.axes:
            raise ValueError(
                f"the shape of a medium is (ny, nx), with two pixels or more; got {self.shape}. A "
                "string of N pixels is (1, N)"
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
                f"a border of {self.border} pixels at each side does not fit into {self.shape}; "
                "with border=0 there is none, and waves are reflected at the edge"
            )

    @property
    def n(self) -> int:
        """The number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes with more than one pixel, along which the field varies."""
        return tuple(axis for axis, size in enumerate(self.shape) if size > 1)

    def flat(self, pixels: tuple[tuple[int, int], ...]) -> np.ndarray:
        """The indices of the units at these pixels (row, column)."""
        return np.array([row * self.shape[1] + column for row, column in pixels], np.int32)

    def damping(self) -> np.ndarray:
        """The damping b of every pixel (n,): it grows with the fourth power of the depth."""
        depth = [np.maximum(0, self.border - _to_rim(size)) for size in self.shape]
        depth = [d if axis in self.axes else 0 * d for axis, d in enumerate(depth)]
        profile = [self.sigma * self.c0 / self.h * (d / max(self.border, 1)) ** 4 for d in depth]
        return np.hypot(profile[0][:, None], profile[1]).ravel()


def _tuples(numbers: Any) -> Any:
    """Nested lists or arrays of integers as nested tuples, which have a hash."""
    return tuple(map(_tuples, numbers)) if np.ndim(numbers) else int(numbers)


def _is_pair(value: Any) -> bool:
    """Whether the value is a pair of whole numbers."""
    pair = np.shape(value) == (2,) and np.asarray(value).dtype.kind in "iuf"
    return pair and not np.any(np.mod(value, 1))  # NaN where the argument is not finite


def _require_pixels(name: str, pixels: Any) -> None:
    """Raise an error unless these are pairs of integers."""
    if not hasattr(pixels, "__iter__"):
        raise TypeError(f"{name} holds pixels (row, column); got {expect.told(pixels)}")
    for pixel in pixels:
        if not _is_pair(pixel):
            raise ValueError(f"a pixel is (row, column), two integers; got {pixel}")


def _to_rim(size: int) -> np.ndarray:
    """For each pixel of a row, the number of pixels between it and the nearer end."""
    i = np.arange(size)
    return np.minimum(i, size - 1 - i)


@tabled()
class Params(NamedTuple):
    """The material."""

    rho: Array  #: (n,), the material of each pixel, 0 with speed c0 and 1 with c1; drawn as a bias


@tabled()
class State(NamedTuple):
    """The field at two steps."""

    h: Array  #: (..., n), the field
    previous: Array  #: (..., n), the field one step before


def start(params: Params, batch: tuple[int, ...] = ()) -> State:
    """The field at rest, (*batch, n)."""
    zeros = jnp.zeros((*batch, params.rho.shape[0]), params.rho.dtype)
    return State(zeros, zeros)


@expect.arguments(rho=expect.real, steepness=expect.number(0, open=True))
def project(rho: Array, steepness: float) -> Array:
    """A smooth step that pushes the material of each pixel to 0 or 1.

        (tanh(s / 2) + tanh(s (rho - 1/2))) / (2 tanh(s / 2)),   s = steepness

    Args:
        rho: Numbers, any shape: 0 stays 0, 1/2 stays 1/2 and 1 stays 1.
        steepness: The slope s, > 0.

    Returns:
        An array like rho.

    Raises:
        ValueError: The steepness is not positive.
        TypeError: An argument holds no numbers.

    Example:
        >>> print(cells.wave.project(jnp.array([0.0, 0.4, 0.5, 0.6, 1.0]), steepness=20.0))
        [0.    0.018 0.5   0.982 1.   ]
    """
    edge = np.tanh(steepness / 2).item()
    return (edge + jnp.tanh(steepness * (rho - 0.5))) / (2 * edge)


def init(medium: Medium, key: Array, prior: Prior, d: int, n: int) -> Params:
    """rho drawn as a bias. Raises ValueError if d or n does not fit the medium."""
    if (d, n) != (len(medium.sources), medium.n):
        raise ValueError(
            f"the medium has d = {len(medium.sources)} sources and n = {medium.n} pixels, "
            f"{medium.shape}; got d={d}, n={n}"
        )
    _, _, rho = prior.draw(key, 1, 1, n)  # one bias per pixel, without a W (n, n)
    return Params(rho)


def drive(medium: Medium, params: Params, x: Array) -> Array:
    """x at the sources and 0 elsewhere."""
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
    """The field one step later, and the old field."""
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
    """The sum of the neighbours of each pixel: four on a grid, two on a string.

    Args:
        medium: The grid.
        field: Numbers (..., n), one per pixel.
        mode: What lies outside the grid: "constant" is zero, "edge" repeats the outermost pixels.

    Returns:
        The sums (..., n).

    Raises:
        ValueError: The last axis of the field is not n, or the mode is unknown.
        TypeError: The medium is not a `Medium`, or the field is not an array of floats.

    Example:
        >>> string = cells.wave.Medium((1, 4), sources=(), border=0)
        >>> print(cells.wave.neighbours(string, jnp.arange(4.0), "constant"))
        [1. 2. 4. 2.]
    """
    if field.shape[-1] != medium.n:
        raise ValueError(
            f"the field is (..., n) with n = {medium.n} pixels; got {expect.told(field)}"
        )
    y = field.reshape(*field.shape[:-1], *medium.shape)
    around = []
    for axis in medium.axes:
        at = y.ndim - 2 + axis
        wider = jnp.pad(y, [(int(k == at),) * 2 for k in range(y.ndim)], mode=mode)
        around += [lax.slice_in_dim(wider, i, i + y.shape[at], axis=at) for i in (0, 2)]
    return reduce(jnp.add, around).reshape(field.shape)


@expect.arguments(medium=expect.instance(Medium), rho=expect.floats)
def blur(medium: Medium, rho: Array) -> Array:
    """A smoother material: the mean of each pixel and its neighbours.

    The outermost pixels are repeated outside the grid.

    Args:
        medium: The grid.
        rho: The material (n,).

    Returns:
        An array (n,).

    Raises:
        ValueError: The last axis of rho is not n.
        TypeError: The medium is not a `Medium`, or rho is not an array of floats.

    Example:
        >>> string = cells.wave.Medium((1, 4), sources=(), border=0)
        >>> print(cells.wave.blur(string, jnp.array([3.0, 0.0, 0.0, 3.0])))
        [2. 1. 1. 2.]
    """
    return (rho + neighbours(medium, rho, "edge")) / (1 + 2 * len(medium.axes))


@expect.arguments(medium=expect.instance(Medium), hs=expect.floats)
def intensity(medium: Medium, hs: Array) -> Array:
    """The fraction of the energy that each probe receives.

        I_p = sum_t h_tp^2 / sum_q sum_t h_tq^2

    If all probes are silent, each has the same fraction and the derivative is zero. Squares of weak
    and strong fields neither underflow nor overflow.

    Args:
        medium: The grid, with P probes.
        hs: Fields (T, ..., n).

    Returns:
        Fractions (..., P), which sum to 1.

    Raises:
        ValueError: The medium has no probes, or the last axis of hs is not n.
        TypeError: The medium is not a `Medium`, or hs is not an array of floats.

    Example:
        >>> medium = cells.wave.Medium((1, 3), sources=(), probes=((0, 0), (0, 2)), border=0)
        >>> print(cells.wave.intensity(medium, jnp.array([[1.0, 5.0, 0.0], [1.0, 5.0, -1.0]])))
        [0.667 0.333]
    """
    if not medium.probes:
        raise ValueError("the medium has no probes; give it Medium(..., probes=((row, column),))")
    if hs.shape[-1] != medium.n:
        raise ValueError(f"hs is (T, ..., n) with n = {medium.n} pixels; got {expect.told(hs)}")
    heard = hs[..., medium.flat(medium.probes)]
    # the fractions do not depend on this scale
    loudest = lax.stop_gradient(jnp.abs(heard).max(axis=(0, -1), keepdims=True))
    silent = loudest == 0
    power = jnp.sum((heard / jnp.where(silent, 1, loudest)) ** 2, axis=0)
    power = jnp.where(silent[0], 1, power)
    return power / power.sum(axis=-1, keepdims=True)


@expect.arguments(medium=expect.instance(Medium))
def linear(medium: Medium) -> Unitwise:
    """The wave equation in a medium, linear in the field.

    Args:
        medium: The grid. The cell has d = number of sources inputs and n = number of pixels units.

    Returns:
        The cell. Its `init` raises ValueError if d or n does not fit the medium.

    Raises:
        TypeError: The medium is not a `Medium`.

    Example:
        >>> medium = cells.wave.Medium((2, 2), sources=((0, 0),), border=0)
        >>> cell, params = cells.wave.linear(medium), cells.wave.Params(rho=jnp.zeros(4))
        >>> print(cell.step(params, cell.start(params), jnp.ones(1))[1])
        [1. 0. 0. 0.]
    """
    return saturable(medium, 0.0, 1.0)


@expect.arguments(medium=expect.instance(Medium), b0=expect.number(), y0=expect.number())
def saturable(medium: Medium, b0: float, y0: float) -> Unitwise:
    """The wave equation in a medium with a material that absorbs weak fields.

        b = border + project(rho) * b0 / (1 + (y_{t-1} / y0)^2)

    Args:
        medium: The grid.
        b0: The damping of the material in weak fields, >= 0, per unit of time.
        y0: The field at which the damping is half of b0, > 0.

    Returns:
        The cell. Its `init` raises ValueError if d or n does not fit the medium.

    Raises:
        ValueError: b0 or y0 is out of range.
        TypeError: The medium is not a `Medium`, or b0 or y0 is not a number.

    Example:
        >>> medium = cells.wave.Medium((2, 2), sources=((0, 0),), border=0)
        >>> cell = cells.wave.saturable(medium, b0=1.0, y0=1.0)
        >>> params, field = cells.wave.Params(rho=jnp.ones(4)), jnp.ones(4)
        >>> state = cells.wave.State(h=field, previous=field)
        >>> print(cell.step(params, state, jnp.zeros(1))[1])
        [0.9 0.9 0.9 0.9]
    """
    if not (b0 >= 0 and y0 > 0):
        raise ValueError(f"saturable absorption needs b0 >= 0 and y0 > 0; got b0={b0}, y0={y0}")
    return Unitwise(
        Given(init, medium),
        start,
        Given(drive, medium),
        Given(mix, medium),
        Given(update, medium, float(b0), float(y0)),
        Params,
    )
