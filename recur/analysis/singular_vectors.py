"""Which inputs matter: singular vectors of long products, and the spectrum of every single step."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from recur import scan
from recur.analysis.numerics import matrix_product as product
from recur.analysis.numerics.flat_state import (
    Step,
    as_inputs,
    finite_or_nan,
    flatten,
    integer,
    known_steps,
    precise,
    present,
    require_inputs,
)
from recur.analysis.numerics.qr import qr, singular_values
from recur.analysis.numerics.rounding import Round, judge, rms, twice
from recur.analysis.numerics.step_jacobian import generic, push_forward
from recur.analysis.singular_values import late, places
from recur.core import Body, Tree
from recur.tables import tabled


@tabled(logs="logs, nats", inputs="unit vectors of the input")
class InputDirections(NamedTuple):
    """Singular values and right singular vectors of dh_T/dx_{T-lag}, k = min(n, m, d)."""

    logs: Array  #: (k,) logs of the singular values, descending; nats
    inputs: Array  #: (k, d) unit vectors, directions in which x_{T-lag} changes


@precise
def input_directions(body: Body, state: Tree, xs: Tree, lag: int) -> InputDirections:
    """Which inputs act most on the last output: dh_T/dx_{T-lag} decomposed.

    The values are those of `input_output`. Here the d directions of one input are pushed forward,
    O(lag m n d). Differentiable in forward mode.

    Args:
        body: One step, (state, x) -> (state, h). With a mask, T and the lag are as in
            `input_output`.
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, d), without batch axes.
        lag: Steps before the last input, within 0 .. T-1.

    Returns:
        The values, and for each the unit vector of the input. A vector is defined up to its sign,
        and only if its value differs from the others. Where a value is lost to rounding, both
        are NaN.

    Raises:
        ValueError: The lag is outside 0 .. T-1, or as in `input_output`.
        TypeError: The lag is not an integer.

    Example:
        >>> def body(h, x):
        ...     h = jnp.array([0.9, 0.5]) * h + x
        ...     return h, h
        >>> measure = jax.jit(analysis.input_directions, static_argnums=(0, 3))
        >>> found = measure(body, jnp.zeros(2), jnp.zeros((10, 2)), 3)
        >>> print(found.logs, abs(found.inputs[0]))
        [-0.316 -2.079] [1. 0.]
    """
    xs = as_inputs(state, xs)
    scan.require_float(xs)
    require_inputs(xs)
    step, start = flatten(body, state, xs)
    T, lag = scan.number_of_steps(xs, "a lag"), integer("lag", lag)
    if not 0 <= lag < T:
        raise ValueError(f"lag must be a number of steps within 0 .. T-1 = {T - 1}; got {lag}")
    where = places([lag], present(body, state, xs))
    entry = where.reach - where.back[0]
    find = partial(_decomposition, step, *late(step, start, xs, where), lag, entry)
    svd = twice(find, start.dtype)
    logs = jnp.where(where.known, judge(svd.log)[0], jnp.nan)
    return InputDirections(logs, jnp.where(jnp.isnan(logs)[:, None], jnp.nan, svd.rows[0]))


def _decomposition(
    step: Step, before: Array, xs: Tree, lag: int, entry: Array, round: Round
) -> product.Graded:
    """Singular values of the last output wrt. the input of step `entry`, and right vectors."""
    s, x = _at(entry, before, xs)
    inputs, structure = jax.tree.flatten(x)
    push = generic(step)

    def enter(x: Array) -> tuple[Array, Array]:
        x = x.reshape(inputs[-1].shape)
        return step(round(s, s), jax.tree.unflatten(structure, [*inputs[:-1], x]))

    after, h = jax.jacfwd(enter)(inputs[-1].ravel())  # (m, d) and (n, d)
    if lag == 0:
        h = h.reshape(-1, h.shape[-1])
        return product.orthogonalised(_tall(round(h, rms(h))))

    def advance(carry: tuple, now: tuple) -> tuple[tuple, None]:
        Q, total = carry
        t, s, x = now
        _, Qt = push(round(s, s), Q.T, x)
        Q, R = qr(round(Qt.T, rms(Qt)))
        new = Q, product.times(R, total)
        return jax.tree.map(lambda new, old: jnp.where(t > entry, new, old), new, carry), None

    Q, R = qr(round(after, rms(after)))
    now = jax.tree.map(lambda leaf: leaf[1:-1], (jnp.arange(len(before)), before, xs))
    (Q, total), _ = lax.scan(advance, (Q, product.graded(R)), now)
    s, x = _at(-1, before, xs)
    _, out = jax.linearize(lambda s: step(s, x)[1].ravel(), round(s, s))
    _, R = qr(jax.vmap(out, in_axes=1, out_axes=1)(Q))
    return product.orthogonalised(product.times(R, total))


def _at(t: Any, *along: Tree) -> Tree:
    """The entries of step t."""
    return jax.tree.map(lambda leaf: leaf[t], along)


@precise
def one_step_spectra(body: Body, state: Tree, xs: Tree) -> Array:
    """The singular values of every single step, d state_t / d state_{t-1}.

    They are of moderate size, so they are not logarithms. O(T m^3).

    Args:
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, m numbers in all.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.

    Returns:
        Singular values (T, m), each row descending; NaN at a step that a mask leaves out.

    Raises:
        ValueError: The body does not fit state and xs.

    Example:
        >>> def body(h, x):  # one step has the slope 1 - tanh(x)^2
        ...     h = jnp.tanh(h + x)
        ...     return h, h
        >>> xs = jnp.array([[0.0, 0.0], [0.0, 1.0]])
        >>> print(analysis.one_step_spectra(body, jnp.zeros(2), xs))
        [[1.   1.  ]
         [1.   0.42]]
    """
    xs = as_inputs(state, xs)
    step, start = flatten(body, state, xs)
    push = push_forward(body, state, step, start.size)

    def advance(s: Array, x: Tree) -> tuple[Array, Array]:
        after, Jt = push(s, jnp.eye(start.size, dtype=start.dtype), x)
        return after, singular_values(finite_or_nan(Jt, s, after, Jt))

    return known_steps(body, state, xs, lax.scan(advance, start, xs)[1])


def _tall(J: Array) -> product.Graded:
    """J (n, d) as at most d scaled rows with the same singular values and right vectors."""
    return product.graded(qr(J)[1])
