"""What a report is asked about, checked before any work."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import analysis, expect, scan
from recur.analysis.gradients_by_lag import Losses
from recur.analysis.numerics.flat_state import flatten
from recur.core import Body, Prior, Recurrence, Tree
from recur.reporting.measurements import Network


class Asked(NamedTuple):
    """The arguments of `report` that say what to measure."""

    body: Body
    state: Tree
    xs: Tree  # of an autonomous network, arrays without features
    losses: Losses | None
    x: Tree | None  # the constant input
    gates: Sequence[str]
    cell: Recurrence | None
    prior: Prior | None
    key: Array


def checked(asked: Asked) -> tuple[Network, Asked]:
    """The sizes of the network, and the arguments with the constant input and the cell filled in.

    Raises ValueError if they do not fit each other, or hold numbers that are not finite.
    """
    body, state, xs = asked[:3]
    cell = cell_of(body, asked.cell, asked.prior)
    network = described(body, state, xs)
    x = constant_input(asked.x, xs)
    require_gates(body, state, xs, asked.gates)
    return network, asked._replace(x=x, cell=cell)


def cell_of(body: Body, cell: Recurrence | None, prior: Prior | None) -> Recurrence | None:
    """The cell for the theory. Raises ValueError for a cell without a prior, or the reverse."""
    if prior is None:
        if cell is not None:
            raise ValueError(
                "cell is only used for theory, which also needs prior, the prior of the initial "
                "parameters; got cell without prior"
            )
        return None
    if cell is None and isinstance(body, scan.Tied):
        return body.cell
    if cell is None:
        raise ValueError(
            "theory needs the cell of this prior, and the body is a plain function: pass cell=..., "
            "or scan.tied(cell, params) as the body"
        )
    return cell


def described(body: Body, state: Tree, xs: Tree) -> Network:
    """The sizes of the arguments. Raises ValueError if they do not fit."""
    _, start = flatten(body, state, xs)
    first = jax.tree.map(lambda leaf: leaf[0], xs)
    _require_finite("state", state)
    _require_finite("xs", xs)
    h = jax.eval_shape(body, state, first)[1]
    d = scan.input_array(xs)[0].size
    return Network(start.size, h.size, d, scan.length(xs), str(start.dtype))


def _require_finite(name: str, tree: Tree) -> None:
    """Raise ValueError, with its position, for a number that is not finite."""
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            wrong = np.argwhere(~np.isfinite(np.asarray(leaf)))
            if len(wrong):
                raise ValueError(
                    f"{name} must be finite, but {len(wrong)} of the {np.size(leaf)} numbers in "
                    f"{expect.told(leaf)} are not, the first at {tuple(wrong[0].tolist())}: remove "
                    "or replace them"
                )


def require_gates(body: Body, state: Tree, xs: Tree, names: Sequence[str]) -> None:
    """Raise ValueError unless there is one name for each gate."""
    if names:
        found = jax.eval_shape(partial(analysis.openness, body), state, xs)
        if len(found) != len(names):
            raise ValueError(
                f"gates must hold one name per gate: a step computes {len(found)}; got "
                f"{list(names)}"
            )


def constant_input(x: Tree, xs: Tree) -> Tree:
    """The constant input. Raises ValueError unless it has the shapes of one step of xs."""
    if x is None:
        return jax.tree.map(_nothing, xs)
    first = jax.tree.map(lambda leaf: leaf[0], xs)
    if jax.tree.map(jnp.shape, x) != jax.tree.map(jnp.shape, first):
        raise ValueError(
            f"x must be the input of one step, such as {expect.told(first)}; got {expect.told(x)}"
        )
    _require_finite("x", x)
    return x


def _nothing(leaf: Any) -> Any:
    """The default constant input for xs (T, ...): zeros, true for a mask, the first random key."""
    if leaf.dtype == bool:
        return np.ones(leaf.shape[1:], bool)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf[0]
    return np.zeros(leaf.shape[1:], leaf.dtype)
