"""The pre-activations W h + V x + b of a cell, found from how `update` uses them.

Names play no role. A *part* of r = mix(h) or of z = drive(x) is one number per unit, such as one
gate of W h. The programs of one unit are followed through sums: additions, and operations that only
move numbers. A part of r and the parts of z that `update` adds to it form one pre-activation; a
factor in between, such as the reset of a GRU, is ignored. If there is no r, each part of z that a
product reaches is a pre-activation. A product counts if its result reaches such a part only through
sums: the embedding of `minimal.cell` and the readout of `jordan.cell` do not. The bias is the value
of the parts when the products that count are zero.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from recur.core import Tree

SUMS = {"add": (1, 1), "add_any": (1, 1), "sub": (1, -1), "neg": (-1,)}  # with their signs
FACTORS = {"mul", "div"}
CALLS = {"closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit", "remat2"}
# operations that move or add numbers and are not followed
LOST = {"cond", "dot_general", "dynamic_slice", "gather", "pad", "rev", "scan", "sort", "while"}
LOST |= {"cumsum", "dynamic_update_slice", "scatter", "scatter-add", "scatter_add"}


Rows = np.ndarray | None  # coefficients of an array, (labels, *shape), or None


class Roles(NamedTuple):
    """G pre-activations as sums over products (of drive, then of mix) and over the rest."""

    powers: tuple[np.ndarray, ...]  # of each product: squared coefficients, (G, its gates)
    counted: tuple[np.ndarray, ...]  # of each product: whether its gates are in them, (its gates,)
    parts: tuple[np.ndarray, ...]  # of each leaf of (r, z): coefficients, (G, its parts)


def roles(
    parts: Callable[[Callable], tuple[Tree, Tree]],
    update: Callable[[Tree, Tree], Tree],
    gates: Sequence[int],
    dtype: Any,
) -> Roles:
    """The roles of all products in the step of one unit, those of drive before those of mix.

    `parts` makes r and z of a function (j, x) -> x @ W_j, of `gates[j]` numbers, and `update` makes
    the state of r and z.
    """
    sizes: list[int] = []

    def zeros(j: int, x: Array) -> Array:
        sizes.append(gates[j])
        return jnp.zeros((*x.shape[:-1], gates[j]), x.dtype)

    made = jax.eval_shape(lambda: parts(zeros))
    R, Z = (sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in made)
    at = np.cumsum(sizes)[:-1]

    def given(y: Array) -> tuple[Tree, Tree]:
        left = iter(jnp.split(y, at))
        return parts(lambda *_: next(left))

    def incomplete(rows: np.ndarray) -> np.ndarray:
        """Where r, or z, is still to be added."""
        has_r, has_z = np.any(rows[:R] != 0, axis=0), np.any(rows[R:] != 0, axis=0)
        return (has_r ^ has_z) & (R > 0) & (Z > 0)

    try:
        reach, elsewhere = follow(
            given, sum(sizes), dtype, lambda rows: np.zeros_like(rows[0], bool)
        )
        out, read = follow(lambda v: update(*_unravel(v, made)), R + Z, dtype, incomplete)
    except Lost:  # one unknown pre-activation
        return Roles(
            tuple(np.full((1, size), np.nan) for size in sizes),
            tuple(np.zeros(size, bool) for size in sizes),
            tuple(np.zeros((1, leaf.size)) for leaf in jax.tree.leaves(made)),
        )
    alone = ~np.any([np.zeros(sum(sizes)), *elsewhere], axis=0)
    reach = np.where(alone[:, None], reach, 0)  # (products' gates, parts)
    rows = [row for row in _maximal([*read, *out.T]) if _is_preactivation(row, R, reach)]
    sums = np.array(rows).reshape(len(rows), R + Z)
    coefficients = sums @ reach.T  # (G, products' gates)
    leaves = np.cumsum([leaf.size for leaf in jax.tree.leaves(made)])[:-1]
    return Roles(
        tuple(np.split(coefficients**2, at, axis=1)),
        tuple(np.split(np.any(coefficients != 0, axis=0), at)),
        tuple(np.split(sums, leaves, axis=1)),
    )


def _is_preactivation(row: np.ndarray, r: int, reach: np.ndarray) -> bool:
    """Whether a sum has a part of r; if there is no r, a part that a product reaches."""
    return bool(np.any(row[:r])) if r else bool(np.any(reach[:, row != 0]))


def _maximal(rows: list[np.ndarray]) -> list[np.ndarray]:
    """The sums that are not part of another, each once, in the order of their first parts."""
    by_support = {tuple(np.flatnonzero(row)): row for row in reversed(rows) if np.any(row)}
    largest = [s for s in by_support if not any(set(s) < set(other) for other in by_support)]
    return [by_support[support] for support in sorted(largest)]


def _unravel(v: Array, shapes: Tree) -> Tree:
    leaves, structure = jax.tree.flatten(shapes)
    pieces = jnp.split(v, np.cumsum([leaf.size for leaf in leaves])[:-1])
    shaped = [a.reshape(s.shape).astype(s.dtype) for a, s in zip(pieces, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)


# --- along a program ------------------------------------------------------------------------------


def follow(
    f: Callable[[Array], Tree], labels: int, dtype: Any, passes: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """How the result of f is a sum of entries of v (labels,), and each sum that f uses otherwise.

    The first is (labels, numbers returned), coefficients; the others are (labels,) each. A product
    is followed as a sum, without its factor, where `passes` (labels, *shape) -> (*shape) says so.
    """
    from jax.extend.core import (
        Literal,
    )  # imported here, as it would be a sixth of what importing recur adds

    used: list[np.ndarray] = []

    def use(rows: np.ndarray) -> None:
        used.extend(rows.reshape(labels, -1).T)

    def run(jaxpr: Any, arguments: Sequence[Rows]) -> list[Rows]:
        known: dict[Any, Rows] = dict.fromkeys(jaxpr.constvars)
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def look(v: Any) -> Rows:
            return None if isinstance(v, Literal) else known[v]

        for eqn in jaxpr.eqns:
            known.update(zip(eqn.outvars, one(eqn, [look(v) for v in eqn.invars]), strict=True))
        return [look(v) for v in jaxpr.outvars]

    def one(eqn: Any, rows: list[Rows]) -> Sequence[Rows]:
        name, shape = eqn.primitive.name, eqn.outvars[0].aval.shape if eqn.outvars else ()
        there = [row for row in rows if row is not None]
        if name in CALLS:
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            return run(getattr(inner, "jaxpr", inner), rows)
        if there and name in LOST:
            raise Lost(name)
        if there and name in SUMS:
            terms = [s * row for s, row in zip(SUMS[name], rows, strict=True) if row is not None]
            return [np.sum([_spread(term, shape) for term in terms], axis=0)]
        if there:
            full = [
                np.zeros((labels, *v.aval.shape)) if row is None else row
                for v, row in zip(eqn.invars, rows, strict=True)
            ]
            if (moved := _moved(name, full, shape, eqn.params)) is not None:
                return moved
        if name in FACTORS and len(there) == 1 and (name == "mul" or rows[0] is not None):
            row = _spread(there[0], shape)
            on = passes(row)
            use(np.where(on, 0, row))
            return [np.where(on, row, 0)]
        for row in there:
            use(row)
        return [None] * len(eqn.outvars)

    program = jax.make_jaxpr(lambda v: ravel_pytree(f(v))[0])(
        jax.ShapeDtypeStruct((labels,), dtype)
    )
    (out,) = run(program.jaxpr, [np.eye(labels)])
    return np.zeros((labels, *program.out_avals[0].shape)) if out is None else out, used


class Lost(Exception):
    """A program does something with labelled numbers that cannot be followed."""


def _spread(
    row: np.ndarray, shape: tuple[int, ...], axes: Sequence[int] | None = None
) -> np.ndarray:
    """Coefficients (labels, ...) broadcast to an array of that shape, with theirs at `axes`."""
    axes = range(len(shape) + 1 - row.ndim, len(shape)) if axes is None else axes
    sizes = [1] * len(shape)
    for axis, size in zip(axes, row.shape[1:], strict=True):
        sizes[axis] = size
    return np.broadcast_to(row.reshape(len(row), *sizes), (len(row), *shape))


def _moved(
    name: str, rows: list[np.ndarray], shape: tuple[int, ...], how: dict[str, Any]
) -> list[np.ndarray] | None:
    """Coefficients at the new places of their numbers; None if the numbers are not only moved."""
    a = rows[0]
    match name:
        case "copy" | "convert_element_type":
            return [a]
        case "reshape" | "squeeze":
            return [a.reshape(len(a), *shape)]
        case "broadcast_in_dim":
            return [_spread(a, shape, how["broadcast_dimensions"])]
        case "concatenate":
            return [np.concatenate(rows, how["dimension"] + 1)]
        case "split":
            return np.split(a, np.cumsum(how["sizes"])[:-1], how["axis"] + 1)
        case "slice":
            starts, ends = how["start_indices"], how["limit_indices"]
            steps = how["strides"] or (1,) * len(starts)
            return [a[:, *map(slice, starts, ends, steps)]]
        case "transpose":
            return [a.transpose(0, *(i + 1 for i in how["permutation"]))]
        case "reduce_sum":
            return [a.sum(tuple(axis + 1 for axis in how["axes"]))]
    return None
