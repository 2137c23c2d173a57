"""An analysis of many trajectories at once."""

import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from recur import expect
from recur.analysis.numerics.flat_state import is_count

Arguments = ParamSpec("Arguments")
R = TypeVar("R")
ALONG = ("state", "xs")  # arguments that differ between trajectories


@expect.arguments(analysis=expect.function)
def batched(analysis: Callable[Arguments, R]) -> Callable[Arguments, R]:
    """The analysis of B trajectories at once: state, xs and what it returns have a leading axis B.

        batched(lyapunov)(key, body, states, xs, k=4)      states (B, n), xs (B, T, d) -> (B, 4)

    A `key` is split, so that each trajectory has its own directions. If xs is a number of steps, it
    holds for all trajectories. Pad sequences of different lengths, and pass their masks (B, T) with
    them: xs = (mask, xs) for the body `scan.masked(body)`. All other arguments are shared. If
    something else differs, such as targets within a loss, use `jax.vmap`, as this function does.
    One program runs for all trajectories, so compile it once, with `jax.jit` around it. Without
    `every`, Lyapunov exponents have a QR at each step here.

    Args:
        analysis: One of this package, with arguments named state or xs.

    Returns:
        A function of the same arguments. It raises ValueError if the leading axes differ.

    Raises:
        ValueError: The analysis has no argument named state or xs.
        TypeError: It is not a function.

    Example:
        >>> def body(h, x):  # a slope of 1 - tanh(x)^2
        ...     h = jnp.tanh(h + x)
        ...     return h, h
        >>> xs = jnp.array([[[0.0]], [[1.0]]])  # two trajectories of one step
        >>> spectra = analysis.batched(analysis.one_step_spectra)
        >>> print(spectra(body, jnp.zeros((2, 1)), xs)[:, 0, 0])
        [1.   0.42]
    """
    signature = inspect.signature(analysis)
    if not set(ALONG) & set(signature.parameters):
        raise ValueError(
            "batched needs an analysis that follows one trajectory, with arguments named state "
            f"and xs; got a function of ({', '.join(signature.parameters)})"
        )

    def of_all(*args: Arguments.args, **kwargs: Arguments.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        each = {name: given[name] for name in ALONG if name in given and not is_count(given[name])}
        B = _count(each)
        each = jax.tree.map(jnp.asarray, each)  # vmap over NumPy arrays fails in a custom_jvp
        if "key" in given:
            expect.key("key", given["key"])
            each["key"] = jax.random.split(given["key"], B)
        if "every" in signature.parameters and given.get("every") is None:
            given["every"] = 1  # under vmap, `lax.cond` computes both branches

        def one(each: dict) -> R:
            call = inspect.BoundArguments(signature, OrderedDict({**given, **each}))
            return analysis(*call.args, **call.kwargs)

        return jax.vmap(one)(each)

    return of_all


def _count(each: dict) -> int:
    """B, the leading axis that all arrays share."""
    for name, value in each.items():
        expect.arrays(name, value)
    shapes = {name: [np.shape(a) for a in jax.tree.leaves(value)] for name, value in each.items()}
    leads = {shape[:1] for of_one in shapes.values() for shape in of_one}
    if len(leads) != 1 or () in leads:
        raise ValueError(
            "batched follows B trajectories. The leaves of the state must be (B, ...), such as "
            "cell.start(params, (B,)), and those of the inputs (B, T, ..., d), such as "
            f"jnp.moveaxis(xs, 1, 0) for xs (T, B, d); got {shapes}"
        )
    return leads.pop()[0]
