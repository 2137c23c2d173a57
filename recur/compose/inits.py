"""Other draws of a cell's parameters: cell -> cell. The recurrence does not change.

    orthogonal      W = sigma_w Q for each gate, Q a random rotation or reflection
    identity        W = sigma_w I for each gate
    glorot          W and V uniform, of variance sigma_w^2 2/(n + n) and sigma_v^2 2/(d + n)
    sparse          W of a given density and spectral radius: echo-state networks
    forget_bias     one bias for the gate that keeps the state
    chrono          biases that spread the units' memories over 1 .. T_max steps

They compose, as in chrono(orthogonal(cell), 100), and must be applied before any other combinator.
The prior is still an argument of the cell's `init`. All other parameters are drawn as before.
"""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from recur import expect
from recur.compose.gates import keeping, writing
from recur.core import Cell, Prior, Tree, Unitwise, recurrence
from recur.eigenvalues import eigenvalues
from recur.functions import Given


@expect.arguments(cell=recurrence)
def orthogonal(cell: Cell | Unitwise) -> Any:
    """The cell with W = sigma_w Q for each gate, Q (n, n) uniform over the orthogonal matrices.

    `init` raises ValueError where the parameters have no W (n, gates*n). arXiv:1312.6120.
    """
    return _redrawn(cell, _orthogonal)


@expect.arguments(cell=recurrence)
def identity(cell: Cell | Unitwise) -> Any:
    """The cell with W = sigma_w I for each gate; of `vanilla.relu` it makes an IRNN.

    `init` raises ValueError where the parameters have no W (n, gates*n). arXiv:1504.00941.
    """
    return _redrawn(cell, _identity)


@expect.arguments(cell=recurrence)
def glorot(cell: Cell | Unitwise) -> Any:
    """The cell with each gate's W and V uniform, of variance sigma^2 times 2 / (fan in + fan out).

    `init` raises ValueError where the parameters have neither. Glorot and Bengio 2010, AISTATS.
    """
    return _redrawn(cell, _glorot)


@expect.arguments(cell=recurrence, density=expect.scalar, spectral_radius=expect.scalar)
def sparse(cell: Cell | Unitwise, density: float, spectral_radius: float) -> Any:
    """The cell whose units each hear `density` of the others, W scaled to the spectral radius.

    Each gate's W has exactly max(1, round(density n)) entries a column, Gaussian, and is then
    divided by its largest |eigenvalue|, so sigma_w has no part. Raises ValueError unless
    0 < density <= 1 and 0 <= spectral_radius < inf; `init` raises where the parameters have no
    W (n, gates*n). Jaeger 2001, GMD report 148.
    """
    if not (0 < density <= 1 and 0 <= spectral_radius < inf):
        raise ValueError(
            "sparse takes 0 < density <= 1 and 0 <= spectral_radius < inf, got "
            f"density={density}, spectral_radius={spectral_radius}"
        )
    return _redrawn(cell, _sparse, density, spectral_radius)


@expect.arguments(cell=recurrence, value=expect.scalar)
def forget_bias(cell: Cell | Unitwise, value: float = 1.0) -> Any:
    """The cell whose bias at the gate that keeps the state is `value`: the larger, the longer.

    The cell declares the gate, by `Gates(keeps=...)`. Where it declares `overwrites=...`, as minGRU
    does, closing the gate keeps the state, and its bias is -value. Raises ValueError where no gate
    is declared to keep the state, and for a value that is not finite.
    Gers et al. 2000, Neural Computation 12:2451; arXiv:1503.04069.
    """
    if not -inf < value < inf:
        raise ValueError(f"forget_bias takes a finite bias, got {value}")
    return _redrawn(cell, _forget_bias, keeping(cell), value)


@expect.arguments(cell=recurrence, T_max=expect.scalar)
def chrono(cell: Cell | Unitwise, T_max: float) -> Any:
    """The cell whose units remember for 1 .. T_max steps: b = log U at the gate that keeps.

    U ~ uniform on [1, T_max - 1] for each unit; a separate gate that writes gets -log U. Signs are
    those of `forget_bias`. Raises ValueError unless 2 < T_max < inf, which `init` asks of T_max in
    the parameters' precision too, and where no gate is declared to keep the state.
    Tallec and Ollivier 2018, arXiv:1804.11188.
    """
    if not 2 < T_max < inf:
        raise ValueError(
            f"chrono takes the longest memory T_max > 2, in steps; got {T_max}. It is a number of "
            "steps of the order of a sequence's length"
        )
    return _redrawn(cell, _chrono, keeping(cell), writing(cell), T_max)


def _redrawn(cell: Cell | Unitwise, redraw: Callable[..., Tree], *settings: Any) -> Any:
    if not isinstance(cell, Cell | Unitwise):
        raise ValueError(
            f"an initialiser takes a Cell or a Unitwise, got {type(cell).__name__}: apply it to "
            "each layer before they are put together"
        )
    return replace(cell, init=Given(_init, cell.init, redraw, settings))


def _init(
    init: Callable[..., Tree],  # (key, prior, d, n) -> params
    redraw: Callable[..., Tree],  # (key, prior, n, params, *settings) -> params
    settings: tuple[Any, ...],
    key: Array,
    prior: Prior,
    d: int,
    n: int,
) -> Tree:
    """An `init` that draws some of another's parameters anew."""
    first, second = jax.random.split(key)
    return redraw(second, prior, n, init(first, prior, d, n), *settings)


def _orthogonal(key: Array, prior: Prior, n: int, params: Tree) -> Tree:
    gates = _count(params, n)
    Q = jax.random.orthogonal(key, n, (gates,), params.W.dtype)
    return params._replace(W=_abreast(_each(prior.sigma_w, Q) * Q))


def _identity(key: Array, prior: Prior, n: int, params: Tree) -> Tree:
    del key
    ones = jnp.broadcast_to(jnp.eye(n, dtype=params.W.dtype), (_count(params, n), n, n))
    return params._replace(W=_abreast(_each(prior.sigma_w, ones) * ones))


def _glorot(key: Array, prior: Prior, n: int, params: Tree) -> Tree:
    drawn = {}
    for name, sigma in (("W", prior.sigma_w), ("V", prior.sigma_v)):
        if name in params._fields:
            into, columns = getattr(params, name).shape
            shape = (columns // n, into, n)
            key, own = jax.random.split(key)
            bound = (6 / (into + n)) ** 0.5  # of a uniform of variance 2 / (fan in + fan out)
            U = jax.random.uniform(own, shape, params.b.dtype, -bound, bound)
            drawn[name] = _abreast(_each(sigma, U) * U)
    if not drawn:
        raise ValueError(f"glorot draws W and V; these parameters have only {params._fields}")
    return params._replace(**drawn)


def _sparse(key: Array, prior: Prior, n: int, params: Tree, density: float, radius: float) -> Tree:
    del prior
    shape = (_count(params, n), n, n)
    weights, places = jax.random.split(key)
    # every unit has an input unit, so the graph has a cycle and the spectral radius is not zero
    heard = jnp.arange(n)[:, None] < max(1, round(density * n))
    heard = jax.random.permutation(places, jnp.broadcast_to(heard, shape), 1, independent=True)
    W = jnp.where(heard, jax.random.normal(weights, shape, params.W.dtype), 0)
    largest = jnp.abs(lax.map(eigenvalues, W)).max(axis=-1)[:, None, None]
    return params._replace(W=_abreast(radius * W / largest))


def _forget_bias(
    key: Array, prior: Prior, n: int, params: Tree, keep: tuple[int, int], value: float
) -> Tree:
    del key, prior
    return _biased(params, n, keep, jnp.full(n, value, params.b.dtype))


def _chrono(
    key: Array,
    prior: Prior,
    n: int,
    params: Tree,
    keep: tuple[int, int],
    write: tuple[int, int] | None,
    T_max: float,
) -> Tree:
    del prior
    largest = float(jnp.finfo(params.b.dtype).max)
    if T_max > largest:
        raise ValueError(
            f"chrono's T_max = {T_max} is beyond {params.b.dtype}, whose largest number is "
            f"{largest:.3g}: biases would be inf"
        )
    log_u = jnp.log(jax.random.uniform(key, (n,), params.b.dtype, 1, T_max - 1))
    if write is not None:
        params = _biased(params, n, write, -log_u)
    return _biased(params, n, keep, log_u)


def _biased(params: Tree, n: int, gate: tuple[int, int], value: Array) -> Tree:
    """The parameters with sign * value as the bias of one gate, (index, sign)."""
    index, sign = gate
    return params._replace(b=params.b.at[index * n : (index + 1) * n].set(sign * value))


def _count(params: Tree, n: int) -> int:
    """How many gates W holds. Raises ValueError where there is no W (n, gates*n)."""
    W = getattr(params, "W", None)
    if W is None or W.shape[0] != n or W.shape[1] % n:
        has = "none" if W is None else f"W {W.shape}"
        raise ValueError(
            f"this draw sets a recurrent W (n, gates*n) for n = {n}; the cell's parameters "
            f"({type(params).__name__}) have {has}. Apply it to a cell with such a W, and before "
            "masks, noise or layer norm"
        )
    return W.shape[1] // n


def _each(sigma: ArrayLike, blocks: Array) -> Array:
    """A scalar, or the first of the values per gate, for blocks (gates, ...)."""
    values = jnp.asarray(sigma, blocks.dtype).reshape(-1)
    return values[: len(blocks)].reshape(-1, 1, 1)


def _abreast(blocks: Array) -> Array:
    """(gates, rows, n) -> (rows, gates*n), the gates side by side."""
    return jnp.concatenate(list(blocks), axis=1)
