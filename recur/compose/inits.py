"""Initialisers: they change how a cell draws its parameters, cell -> cell.

    orthogonal      W = sigma_w Q for each gate, Q a random rotation or reflection
    identity        W = sigma_w I for each gate
    glorot          W and V uniform with variances sigma_w^2 2/(n + n) and sigma_v^2 2/(d + n)
    sparse          W with a given density and spectral radius, as in echo-state networks
    forget_bias     one bias for the gate that keeps the state
    chrono          biases that spread the memories of the units over 1 .. T_max steps

They can be combined, as in chrono(orthogonal(cell), 100). Apply them before any other combinator.
The cell's `init` still takes a prior, and draws all other parameters as before.
"""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect
from recur.compose.gates import keeping, writing
from recur.core import Cell, PerGate, Prior, Tree, Unitwise, recurrence
from recur.eigenvalues import eigenvalues
from recur.functions import Given


@expect.arguments(cell=recurrence)
def orthogonal(cell: Cell | Unitwise) -> Any:
    """The cell whose recurrent weights are drawn as random orthogonal matrices.

        W = sigma_w Q   for each gate, with Q (n, n) uniform over the orthogonal matrices

    Saxe, McClelland and Ganguli 2014, arXiv:1312.6120.

    Args:
        cell: A `Cell` or a `Unitwise`.

    Returns:
        The cell. Its `init` raises ValueError if the parameters have no W (n, gates*n).

    Raises:
        ValueError: The cell is neither a `Cell` nor a `Unitwise`.

    Example:
        >>> init = compose.orthogonal(cells.vanilla.cell).init
        >>> W = init(jax.random.key(0), Prior(sigma_w=2.0), d=1, n=3).W
        >>> print(jnp.allclose(W.T @ W, 4 * jnp.eye(3), atol=1e-5))
        True
    """
    return _redrawn(cell, _orthogonal)


@expect.arguments(cell=recurrence)
def identity(cell: Cell | Unitwise) -> Any:
    """The cell whose recurrent weights are drawn as scaled identity matrices.

        W = sigma_w I   for each gate

    With `cells.vanilla.relu` this is the IRNN. Le, Jaitly and Hinton 2015, arXiv:1504.00941.

    Args:
        cell: A `Cell` or a `Unitwise`.

    Returns:
        The cell. Its `init` raises ValueError if the parameters have no W (n, gates*n).

    Raises:
        ValueError: The cell is neither a `Cell` nor a `Unitwise`.

    Example:
        >>> init = compose.identity(cells.mgu.cell).init
        >>> print(init(jax.random.key(0), Prior(sigma_w=(1.0, 0.5)), d=1, n=2).W)
        [[1.  0.  0.5 0. ]
         [0.  1.  0.  0.5]]
    """
    return _redrawn(cell, _identity)


@expect.arguments(cell=recurrence)
def glorot(cell: Cell | Unitwise) -> Any:
    """The cell whose weights are drawn from Glorot's uniform distribution, for each gate.

        W ~ U(-sigma_w a, sigma_w a),  a = sqrt(6 / (n + n));   V likewise,  a = sqrt(6 / (d + n))

    Their variances are sigma_w^2 / n and 2 sigma_v^2 / (d + n). Glorot and Bengio 2010, AISTATS 9,
    equation 16.

    Args:
        cell: A `Cell` or a `Unitwise`.

    Returns:
        The cell. Its `init` raises ValueError if the parameters have neither W nor V.

    Raises:
        ValueError: The cell is neither a `Cell` nor a `Unitwise`.

    Example:
        >>> init = compose.glorot(cells.vanilla.cell).init
        >>> V = init(jax.random.key(0), Prior(), d=1, n=3).V
        >>> print(V.shape, (abs(V) <= np.sqrt(6 / (1 + 3))).all())
        (1, 3) True
    """
    return _redrawn(cell, _glorot)


@expect.arguments(cell=recurrence, density=expect.scalar, spectral_radius=expect.scalar)
def sparse(cell: Cell | Unitwise, density: float, spectral_radius: float) -> Any:
    """The cell with sparse recurrent weights of a given spectral radius, as in echo-state networks.

        W = spectral_radius G / max |eigenvalue(G)|   for each gate

    Each column of G has exactly max(1, round(density n)) Gaussian entries at random places, and
    zeros elsewhere. sigma_w has no effect. Jaeger 2001, GMD report 148.

    Args:
        cell: A `Cell` or a `Unitwise`.
        density: The fraction of units that each unit receives from, 0 < density <= 1.
        spectral_radius: The largest |eigenvalue| of W, 0 or more.

    Returns:
        The cell. Its `init` raises ValueError if the parameters have no W (n, gates*n).

    Raises:
        ValueError: The cell is neither a `Cell` nor a `Unitwise`, or density or spectral_radius is
            out of range.
        TypeError: density or spectral_radius is not a number.

    Example:
        >>> init = compose.sparse(cells.vanilla.cell, density=0.25, spectral_radius=0.9).init
        >>> W = init(jax.random.key(0), Prior(), d=1, n=8).W
        >>> print((W != 0).sum(axis=0), f"{abs(np.linalg.eigvals(W)).max():.2f}")
        [2 2 2 2 2 2 2 2] 0.90
    """
    if not (0 < density <= 1 and 0 <= spectral_radius < inf):
        raise ValueError(
            "sparse takes 0 < density <= 1 and 0 <= spectral_radius < inf, got "
            f"density={density}, spectral_radius={spectral_radius}"
        )
    return _redrawn(cell, _sparse, density, spectral_radius)


@expect.arguments(cell=recurrence, value=expect.scalar)
def forget_bias(cell: Cell | Unitwise, value: float = 1.0) -> Any:
    """The cell whose gate that keeps the state starts with a bias of `value`.

        b = value at the gate `keeps`,   or b = -value at the gate `overwrites`

    The cell declares one of the two in `Gates`. A larger value gives a longer memory. Gers,
    Schmidhuber and Cummins 2000, Neural Computation 12:2451; Greff et al. 2017, arXiv:1503.04069.

    Args:
        cell: A `Cell` or a `Unitwise` that declares its gates.
        value: The bias.

    Returns:
        The cell.

    Raises:
        ValueError: The cell is neither a `Cell` nor a `Unitwise`, declares no gate that keeps its
            state, or the value is not finite.
        TypeError: The value is not a number.

    Example:
        >>> init = compose.forget_bias(cells.lstm.cell, 1.0).init
        >>> b = init(jax.random.key(0), Prior(), d=1, n=2).b
        >>> print(cells.lstm.GATES, b)
        ('input', 'forget', 'candidate', 'output') [0. 0. 1. 1. 0. 0. 0. 0.]
    """
    if not -inf < value < inf:
        raise ValueError(f"forget_bias takes a finite bias, got {value}")
    return _redrawn(cell, _forget_bias, keeping(cell), value)


@expect.arguments(cell=recurrence, T_max=expect.scalar)
def chrono(cell: Cell | Unitwise, T_max: float) -> Any:
    """The cell whose units start with memories of 1 .. T_max steps, by the bias of their gates.

        b = log u at the gate that keeps,  b = -log u at the gate that writes,  u ~ U(1, T_max - 1)

    u is drawn for each unit. The gates are those that the cell declares in `Gates`, and the sign is
    that of `forget_bias`. Tallec and Ollivier 2018, arXiv:1804.11188.

    Args:
        cell: A `Cell` or a `Unitwise` that declares its gates.
        T_max: The longest memory, in steps: about the length of a sequence. More than 2.

    Returns:
        The cell. Its `init` raises ValueError if T_max overflows in the dtype of the parameters.

    Raises:
        ValueError: The cell is neither a `Cell` nor a `Unitwise`, declares no gate that keeps its
            state, or T_max is out of range.
        TypeError: T_max is not a number.

    Example:
        >>> init = compose.chrono(cells.lstm.cell, T_max=100.0).init
        >>> i, f, g, o = jnp.split(init(jax.random.key(0), Prior(), d=1, n=2).b, 4)
        >>> print((i == -f).all(), g, (f > 0).all(), (f < np.log(99)).all())
        True [0. 0.] True True
    """
    if not 2 < T_max < inf:
        raise ValueError(
            f"chrono takes the longest memory T_max > 2, in steps; got {T_max}. Choose about the "
            "length of a sequence"
        )
    return _redrawn(cell, _chrono, keeping(cell), writing(cell), T_max)


def _redrawn(cell: Cell | Unitwise, redraw: Callable[..., Tree], *settings: Any) -> Any:
    if not isinstance(cell, Cell | Unitwise):
        raise ValueError(
            f"an initialiser takes a Cell or a Unitwise; got {type(cell).__name__}. Apply it to "
            "each layer before you stack them"
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
        raise ValueError(f"glorot draws W and V; the parameters have only {params._fields}")
    return params._replace(**drawn)


def _sparse(key: Array, prior: Prior, n: int, params: Tree, density: float, radius: float) -> Tree:
    del prior
    shape = (_count(params, n), n, n)
    weights, places = jax.random.split(key)
    # every unit receives from a unit, so the graph has a cycle and the spectral radius is not 0
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
            f"chrono's T_max = {T_max} exceeds the largest number in {params.b.dtype}, "
            f"{largest:.3g}, so biases would be inf. Choose about the length of a sequence"
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
    """The number of gates in W. Raises ValueError if there is no W (n, gates*n)."""
    W = getattr(params, "W", None)
    if W is None or W.shape[0] != n or W.shape[1] % n:
        has = "none" if W is None else f"W {W.shape}"
        raise ValueError(
            f"this initialiser draws a recurrent W (n, gates*n) for n = {n}; the cell's "
            f"parameters ({type(params).__name__}) have {has}. Apply it to a cell with such a W, "
            "and before masks, noise or layer norm"
        )
    return W.shape[1] // n


def _each(sigma: PerGate, blocks: Array) -> Array:
    """A scalar, or the values of the first gates, for blocks (gates, ...)."""
    values = jnp.asarray(sigma, blocks.dtype).reshape(-1)
    return values[: len(blocks)].reshape(-1, 1, 1)


def _abreast(blocks: Array) -> Array:
    """(gates, rows, n) -> (rows, gates*n), the gates side by side."""
    return jnp.concatenate(list(blocks), axis=1)
