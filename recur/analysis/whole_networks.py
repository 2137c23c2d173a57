"""Whole networks: dh_t/dx_s of any map of sequences, xs (T, ..., d) -> hs (S, ..., n).

The network may be a stack of layers, bidirectional, or a model of another library. Only its outputs
and its derivative are known, so the Jacobian is dense and computed by reverse mode. The lag t - s
has a sign: a network that also reads backward depends on later inputs, which have lags below 0.

Nothing is renormalised along the way, so values can leave the range of floats. Each Jacobian is
computed twice: from the outputs, and from rotated outputs with the inputs moved by one rounding.
The difference is the effect of rounding. A cotangent of NaN finds the inputs that have no path to
h_t. Only their derivative is exactly zero; any other zero is an underflow.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import expect, scan
from recur.analysis.numerics import matrix_product as product
from recur.analysis.numerics.flat_state import finite_or_nan, integers, log_norm, precise
from recur.analysis.numerics.qr import singular_values
from recur.analysis.numerics.rounding import COARSE, SWAMPED

Network = Callable[[Array], Array]  # xs (T, ..., d) -> hs (S, ..., n)


@expect.arguments(network=expect.function, t=expect.integer)
@precise
def network_jacobian(network: Network, xs: Array, t: int) -> Array:
    """How an output of a whole network depends on each input: dh_t/dx_s for every s.

    n backward passes side by side, with memory for T n d numbers.

    Args:
        network: xs (T, ..., d) -> outputs hs (S, ..., n), such as `lambda xs: scan.run(cell,
            params, xs)[1]`. Axes between time and features are taken with the features, so give it
            one sequence and `vmap` over more.
        xs: Inputs (T, ..., d).
        t: The output, 0 .. S-1.

    Returns:
        (T, n, d); NaN where h_t is not finite, and for a traced t out of range.

    Raises:
        ValueError: The inputs are not float32 or float64, t is out of range, or the network does
            not take xs, or does not return a floating-point array with time first.
        TypeError: The network is not a function, or t is not an integer.

    Example:
        >>> def network(xs):
        ...     return jnp.cumsum(xs, axis=0)
        >>> print(analysis.network_jacobian(network, jnp.ones((4, 1)), t=2)[:, 0, 0])
        [1. 1. 1. 0.]
    """
    n = _require(network, xs, t)[1]
    return _rows(network, xs, t, jnp.eye(n, dtype=xs.dtype))


@expect.arguments(network=expect.function, t=expect.integer)
@precise
def network_input_output(network: Network, xs: Array, t: int, lags: Sequence[int]) -> Array:
    """How far back and ahead an output of a whole network sees: dh_t/dx_{t-lag}, each lag in turn.

    It does for a map of sequences, and at any time t, what `input_output` does for a body. Twice
    the cost of `network_jacobian`. Differentiable where singular values differ.

    Args:
        network: xs (T, ..., d) -> outputs hs (T, ..., n).
        xs: Inputs (T, ..., d).
        t: The output, 0 .. T-1.
        lags: Within +-(T-1); one below 0 means a later input.

    Returns:
        Logs of the singular values (len(lags), min(n, d)), nats, descending. NaN where there is no
        step t - lag, and where 16 roundings move a value by a nat or more; -inf where no path leads
        from x_{t-lag} to h_t. Values below 1e-37 are beyond float32 and NaN, so use float64 for
        inputs and parameters there.

    Raises:
        ValueError: The outputs have another number of steps than the inputs, a lag is beyond
            +-(T-1), or as in `network_jacobian`.
        TypeError: A lag is not an integer, or as in `network_jacobian`.

    Example:
        >>> @jax.jit
        ... def measure(xs):
        ...     network = lambda xs: jnp.cumsum(xs, axis=0)
        ...     return analysis.network_input_output(network, xs, t=2, lags=[-1, 0, 1])
        >>> print(measure(jnp.ones((4, 1)))[:, 0])
        [-inf   0.   0.]
    """
    S, n = _require(network, xs, t)
    T, lags = len(xs), integers("lags", lags)
    if S != T:
        raise ValueError(
            f"lags need one output for each input, and this network returns {S} outputs for {T} "
            "inputs: use network_jacobian"
        )
    if not lags or max(map(abs, lags)) >= T:
        raise ValueError(f"lags must be a list of steps within +-(T-1) = +-{T - 1}; got {lags}")
    at = t - jnp.asarray(lags)
    there = (at >= 0) & (at < T)
    at = jnp.where(there, at, 0)
    J = _rows(network, xs, t, jnp.eye(n, dtype=xs.dtype))[at]
    apart, reached = lax.stop_gradient(_rounding(network, xs, t, at, J))
    values = jax.vmap(singular_values)(J)
    known = values * (SWAMPED / COARSE) > apart[:, None]
    logs = jnp.where(known, jnp.log(jnp.where(known, values, 1)), jnp.nan)
    logs = jnp.where(reached[:, None], logs, -jnp.inf)
    return jnp.where(there[:, None], logs, jnp.nan)


@expect.arguments(loss=expect.function, network=expect.function)
@precise
def network_gradient_norms(loss: Callable[[Array], Array], network: Network, xs: Array) -> Array:
    """How strongly each input of a whole network acts on the loss: |dloss/dx_t| for every t.

    Two backward passes.

    Args:
        loss: hs (S, ..., n) -> a number.
        network: xs (T, ..., d) -> outputs hs (S, ..., n).
        xs: Inputs (T, ..., d).

    Returns:
        log |dloss/dx_t| (T,), nats. -inf where no path leads from x_t to the loss; NaN where an
        output or the gradient is not finite, and where the gradient has left the range of floats.

    Raises:
        ValueError: The loss is not one number, or as in `network_jacobian`.
        TypeError: The loss or the network is not a function.

    Example:
        >>> @jax.jit
        ... def measure(xs):
        ...     network = lambda xs: jnp.cumsum(xs, axis=0)
        ...     return analysis.network_gradient_norms(lambda hs: 2 * hs[2].sum(), network, xs)
        >>> print(measure(jnp.ones((4, 1))))  # log 2
        [0.693 0.693 0.693  -inf]
    """
    _require(network, xs, 0)
    hs, pull = jax.vjp(network, xs)
    shape = jax.eval_shape(loss, hs).shape
    if shape != ():
        raise ValueError(f"loss must map all outputs to one number, (); it returned {shape}")
    direct = finite_or_nan(jax.grad(loss)(hs), hs)
    probe = jnp.where(direct == 0, 0, jnp.nan).astype(hs.dtype)
    gradient, reached = jax.vmap(lambda v: pull(v)[0].reshape(len(xs), -1))(
        jnp.stack([direct, probe])
    )
    logs = log_norm(gradient, axis=1)[0]
    unknown = jnp.isnan(reached).any(axis=1) & (logs < jnp.log(jnp.finfo(hs.dtype).tiny))
    return jnp.where(unknown, jnp.nan, logs)


def _rounding(network: Network, xs: Array, t: int, at: Array, J: Array) -> tuple[Array, Array]:
    """How much rounding changes each J = dh_t/dx_at, (L,), and whether any path leads there."""
    pure, closed_over = jax.closure_convert(network, xs)
    xs, closed_over, J = lax.stop_gradient((xs, closed_over, J))
    info, n = jnp.finfo(xs.dtype), J.shape[1]
    moved = xs * (1 + info.eps * jax.random.rademacher(jax.random.key(0), xs.shape, xs.dtype))
    turn = product.orthogonal(n, xs.dtype)
    probes = jnp.concatenate([turn, jnp.full((1, n), jnp.nan, xs.dtype)])
    rows = _rows(lambda xs: pure(xs, *closed_over), moved, t, probes)[at]
    apart = jnp.linalg.norm(J - turn.T @ rows[:, :n], axis=(1, 2))
    return jnp.maximum(apart, info.tiny), jnp.isnan(rows[:, n]).any(axis=1)


def _rows(network: Network, xs: Array, t: int, V: Array) -> Array:
    """v' dh_t/dx_s for every s and each row v of V, (T, len(V), d)."""
    hs, pull = jax.vjp(network, xs)
    h = scan.or_nan(scan.inside(jnp.asarray(t), len(hs)), hs[t])

    def one(v: Array) -> Array:
        cotangent = jnp.zeros_like(hs).at[t].set(v.reshape(h.shape).astype(h.dtype))
        return pull(cotangent)[0].reshape(len(xs), -1)

    return finite_or_nan(jax.vmap(one, out_axes=1)(V), h)


def _require(network: Network, xs: Any, t: int) -> tuple[int, int]:
    """The number of outputs S and the size n of each. Raises ValueError if they do not fit."""
    scan.require_float(xs)
    if len(jax.tree.leaves(xs)) != 1 or not hasattr(xs, "shape") or 0 in xs.shape:
        raise ValueError(
            "xs must be one array of inputs (T, ..., d) without empty axes; got "
            f"{expect.told(xs)}. Put other arguments of the network, such as a mask, into the "
            "function"
        )
    if jnp.finfo(xs.dtype).bits < 32:
        raise ValueError(f"singular values need float32 or float64; xs holds {xs.dtype}: cast it")
    try:
        hs = jax.eval_shape(network, xs)
    except Exception as error:  # whatever the network raised, say what it was given
        raise ValueError(
            f"the network does not accept xs {expect.told(xs)}. It must be a function of one "
            "array (T, ..., d), such as lambda xs: scan.run(cell, params, xs)[1]. For an nnx "
            "model, use lambda xs: nnx.clone(model)(xs[None])[0], since a model may change "
            f"itself\nIts own error: {error}"
        ) from error
    floating = hasattr(hs, "dtype") and jnp.issubdtype(hs.dtype, jnp.floating)
    if not floating or hs.ndim < 2 or 0 in hs.shape:
        raise ValueError(
            "the network must return its outputs hs (S, ..., n), one floating-point array with "
            f"time first; it returned {expect.told(hs)}. For scan.run, this is its result [1]"
        )
    if not isinstance(t, jax.core.Tracer) and not 0 <= t < hs.shape[0]:
        raise ValueError(f"t must be the number of an output, 0 .. {hs.shape[0] - 1}; got {t}")
    return hs.shape[0], math.prod(hs.shape[1:])
