"""A body whose state is one vector: the form in which every analysis takes it."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from recur import expect, scan
from recur.analysis.numerics.saturation import accurate
from recur.compose.presence import steps_present
from recur.core import Body, Tree
from recur.scan.input_checks import check_step

# TF32, a GPU's default, would drown small singular values.
precise = jax.default_matmul_precision("highest")

Step = Callable[[Array, Tree], tuple[Array, Array]]


ONE_TRAJECTORY = (
    "An analysis follows one trajectory, with xs (T, d) and a state without batch axes; for many, "
    "use analysis.batched, with states (B, ...) and xs (B, T, d)"
)


@expect.arguments(body=expect.function, state=expect.arrays, xs=expect.arrays)
def flatten(body: Body, state: Tree, xs: Tree) -> tuple[Step, Array]:
    """The step (s, x) -> (s, h) on flat states s (m,), and the flat start.

    Where the state before or after a step is not finite, the new state, the output and their
    derivatives are NaN. Raises ValueError if the body cannot be scanned over xs, or the state
    is neither float32 nor float64.
    """
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(state)}
    if len(dtypes) != 1 or not jnp.issubdtype(min(dtypes, key=str), jnp.floating):
        raise ValueError(
            "an analysis differentiates with respect to the state, so the arrays of the state "
            f"must be floating point and of one dtype; got {scan.describe(state)}"
        )
    if jnp.finfo(min(dtypes, key=str)).bits < 32:
        raise ValueError(
            "an analysis factorises matrices, so the state must be float32 or float64; got "
            f"{scan.describe(state)}: cast state, inputs and parameters"
        )
    check_step(body, state, xs, ONE_TRAJECTORY)
    start, unravel = ravel_pytree(state)

    exact = accurate(body)

    def step(s: Array, x: Tree) -> tuple[Array, Array]:
        after, h = exact(unravel(s), x)
        after = ravel_pytree(after)[0]
        return finite_or_nan(after, s, after), finite_or_nan(h, s, after)

    return step, start


def finite_or_nan(value: Array, *watched: Array) -> Array:
    """The value, or NaN everywhere if any entry of the `watched` arrays is not finite.

    Its derivatives are NaN too. Those of relu, clip and the like are zero at NaN, so without this a
    network that overflows looks perfectly stable.
    """
    finite = jnp.stack([jnp.isfinite(array).all() for array in watched]).all()
    return value * jnp.where(finite, jnp.ones((), value.dtype), jnp.nan)


def integer(name: str, value: Any) -> int:
    """The value as an int; TypeError unless it is an integer of Python, NumPy or JAX."""
    expect.integer(name, value)
    return operator.index(value)


def integers(name: str, values: Any) -> list[int]:
    """The values as ints; TypeError unless they are a sequence of integers."""
    if isinstance(values, str | bytes) or not np.iterable(values):
        raise TypeError(f"{name} must be a list of integers; got {values!r}")
    return [integer(f"each of {name}", value) for value in values]


def pullback(step: Step, s: Array, x: Tree) -> Callable[[Array], Array]:
    """v -> J^T v, for J = d new state / d old state; NaN as in `flatten`."""
    after, pull = jax.vjp(lambda s: step(s, x)[0], s)
    # once more: a derivative that is zero at NaN comes last here
    return lambda v: finite_or_nan(pull(v)[0], s, after)


def parametrised(body: Body, state: Tree, xs: Tree) -> tuple[Callable[[Tree], Body], Tree]:
    """A function from parameters to the body, and the parameters, closed-over arrays too."""
    if isinstance(body, scan.Tied):
        return partial(scan.tied, body.cell), body.params
    x = jax.tree.map(lambda leaf: leaf[0], xs)
    pure, closed_over = jax.closure_convert(body, state, x)
    return lambda closed_over: lambda state, x: pure(state, x, *closed_over), closed_over


def is_count(xs: Any) -> bool:
    """Whether this is a number of steps in place of inputs."""
    return hasattr(xs, "__index__") and np.ndim(xs) == 0 and not isinstance(xs, bool | np.bool_)


def as_inputs(state: Tree, xs: Tree) -> Tree:
    """The inputs xs. If xs is a number of steps T, of a network without inputs, an array (T, 0).

    Raises ValueError for fewer than one step.
    """
    if not is_count(xs):
        return xs
    if operator.index(xs) < 1:
        raise ValueError(
            f"xs must be inputs (T, ..., d), or a number of steps, 1 or more; got {xs}"
        )
    expect.arrays("state", state)
    return np.zeros((operator.index(xs), 0), jnp.result_type(jax.tree.leaves(state)[0]))


def present(body: Body, state: Tree, xs: Tree) -> Array | None:
    """Which steps of one sequence are unmasked, (T,) boolean; None for a body without a mask.

    Raises ValueError if sequences side by side have different masks.
    """
    there = steps_present(body, state, xs)
    if there is not None and there.ndim > 1:
        raise ValueError(
            "unmasked steps are counted, so a mask must belong to one sequence, (T,); got "
            f"{there.shape}. Use analysis.batched, with the sequences on the first axis"
        )
    return there


def known_steps(body: Body, state: Tree, xs: Tree, values: Array) -> Array:
    """The values (T, ...), NaN at steps that a mask leaves out of all sequences."""
    there = steps_present(body, state, xs)
    if there is None:
        return values
    return scan.or_nan(there.reshape(len(there), -1).any(axis=1), values)


def require_inputs(xs: Tree) -> None:
    """Raise ValueError for inputs with d = 0 features: they have no derivatives."""
    x = scan.input_array(xs)
    if x.shape[-1] == 0:
        raise ValueError(
            f"xs must have at least one feature, and {x.shape} has d = 0, so no output has a "
            "derivative with respect to it. For derivatives with respect to the state, use "
            "log_singular_values"
        )


def affordable(dtype: jnp.dtype) -> Array:
    """Nats of dynamic range that a shortcut may lose to rounding: two fifths of the digits."""
    return -0.4 * jnp.log(jnp.finfo(dtype).eps)


def log_norm(v: Array, axis: int | None = None) -> tuple[Array, Array]:
    """log |v| and v / |v|; -inf and zero where v is zero, NaN where an entry is not finite.

    No square overflows or underflows. An exact zero counts as one that stays zero: its derivatives
    are zero.
    """
    largest = lax.stop_gradient(jnp.abs(v).max(axis, keepdims=True))  # it cancels
    zero = largest == 0
    v = jnp.where(zero, 1, v / jnp.where(zero, 1, largest))
    norm = jnp.linalg.norm(v, axis=axis, keepdims=True)
    log = jnp.where(zero, -jnp.inf, jnp.log(largest) + jnp.log(norm))
    return log.squeeze(axis), jnp.where(zero, 0, v / norm)
