"""Checks of sequences and bodies, with errors that say what was expected."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import expect
from recur.core import Body, Tree
from recur.scan.one_step import Tied


@expect.arguments(xs=expect.arrays)
def input_array(xs: Tree) -> Array:
    """The input itself, where xs may be a tuple (masks, noise, input): its last array.

    Args:
        xs: A pytree of arrays.

    Returns:
        The last array.

    Raises:
        TypeError: xs holds no arrays.

    Example:
        >>> print(scan.input_array((np.ones(3, bool), jnp.zeros((3, 2)))).shape)
        (3, 2)
    """
    return jax.tree.leaves(xs)[-1]


@expect.arguments(xs=expect.arrays)
def length(xs: Tree) -> int:
    """T, the length of the leading axis that all arrays of xs share.

    Args:
        xs: A pytree of arrays (T, ...).

    Returns:
        T; of `jax.export` it may be symbolic.

    Raises:
        ValueError: The first axes differ, or xs holds Python's numbers in place of arrays.
        TypeError: xs holds no arrays.

    Example:
        >>> print(scan.length((np.ones(3, bool), jnp.zeros((3, 2)))))
        3
    """
    require_arrays(xs)
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(xs)]
    leads = {shape[:1] for shape in shapes}
    if len(leads) != 1 or () in leads:
        raise ValueError(
            f"xs needs arrays (T, ...) that share their first axis, time; got shapes {shapes}"
        )
    return shapes[0][0]


def are_numbers(*sizes: Any) -> bool:
    """Whether all sizes are numbers. Those of `jax.export` may be symbolic: known when it runs."""
    return all(isinstance(size, int) for size in sizes)


def require_arrays(xs: Tree) -> None:
    """Raise ValueError for Python's numbers: nested lists are trees of them, and no arrays."""
    leaves = jax.tree.leaves(xs)
    if leaves and all(isinstance(leaf, int | float) for leaf in leaves):
        raise ValueError(
            "xs holds Python numbers, as a list of lists does, and no arrays (T, ..., d): pass "
            "jnp.asarray(xs)"
        )


def number_of_steps(xs: Tree, what: str) -> int:
    """T, where it has to be a number.

    Args:
        xs: A pytree of arrays (T, ...).
        what: What needs the number, for the error.

    Returns:
        T.

    Raises:
        ValueError: T is symbolic, or as in `length`.

    Example:
        >>> print(scan.number_of_steps(jnp.zeros((3, 2)), "a list of lags"))
        3
    """
    T = length(xs)
    if not are_numbers(T):
        raise ValueError(f"{what} needs T as a number; here it is {T}. Export this for a fixed T")
    return T


@expect.arguments(xs=expect.tree)
def require_float(xs: Tree) -> None:
    """Check that inputs are floating point, with time first and features last.

    Args:
        xs: Inputs (T, ..., d), or a tuple whose last array they are.

    Raises:
        ValueError: They are not.
        TypeError: xs holds something other than numbers.

    Example:
        >>> scan.require_float(jnp.zeros(3))
        Traceback (most recent call last):
            ...
        ValueError: xs has shape (3,); inputs are (T, ..., d), time first
    """
    if not jax.tree.leaves(xs):
        raise ValueError("xs holds no array; pass inputs of shape (T, ..., d)")
    require_arrays(xs)
    x = input_array(xs)
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise ValueError(
            f"xs holds {jnp.result_type(x)}, a cell takes floating-point inputs: embed symbols "
            "first (jax.nn.one_hot, nnx.Embed), or cast numbers with .astype(jnp.float32)"
        )
    if np.ndim(x) < 2:
        raise ValueError(f"xs has shape {np.shape(x)}; inputs are (T, ..., d), time first")


def require_batch(xs: Tree) -> None:
    """Raise ValueError unless every array of xs begins with (T, ...batch), those of the input."""
    lead = (length(xs), *np.shape(input_array(xs))[1:-1])
    for a in jax.tree.leaves(xs):
        if np.shape(a)[: len(lead)] != lead:
            raise ValueError(
                f"xs holds an array {describe(a)} beside inputs {describe(input_array(xs))}; each "
                f"begins with time and all batch axes, {lead}: use jnp.broadcast_to where "
                "sequences share one"
            )


@expect.arguments(body=expect.function, state=expect.tree, xs=expect.arrays)
def check(body: Body, state: Tree, xs: Tree) -> None:
    """Check that a body can be scanned over inputs from a state. Costs one trace.

    Args:
        body: One step, (state, x) -> (state, h).
        state: The state before the first step.
        xs: Inputs (T, ..., d).

    Raises:
        ValueError: T = 0, the step does not take them, or the state changes its type in a step.
        TypeError: The body is not a function, or state or xs hold something other than arrays.

    Example:
        >>> scan.check(lambda h, x: (h[:2], h), jnp.zeros(3), jnp.zeros((5, 2)))
        Traceback (most recent call last):
            ...
        ValueError: the state changes its type in a step: float32[3] goes in and...
    """
    if length(xs) == 0:
        raise ValueError("xs has T = 0 steps; there is nothing to run")
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    state = jax.tree.map(jnp.asarray, state)
    try:
        after, _ = jax.eval_shape(body, state, x)
    except Exception as error:  # report what the step was given, whatever it raised
        raise ValueError(
            f"the step does not take a state {describe(state)} and an input {describe(x)}. "
            f"{_advice(body, state, x)}\nThe step's own error: {error}"
        ) from error
    if describe(after) != describe(state):
        raise ValueError(
            f"the state changes its type in a step: {describe(state)} goes in and "
            f"{describe(after)} comes out. Pass a state with the batch axes of xs, such as "
            "cell.start(params, batch), and inputs and parameters of one dtype."
        )


def describe(tree: Tree) -> str:
    """Structure, shapes and dtypes of a pytree, in one line.

    Args:
        tree: A pytree of arrays or numbers.

    Returns:
        The line.

    Example:
        >>> print(scan.describe({"W": jnp.zeros((3, 8)), "b": 1.0}))
        {'W': float32[3,8], 'b': float32[]}
    """

    def leaf(value: Any) -> str:
        dtype = jnp.result_type(value) if not hasattr(value, "dtype") else value.dtype
        return f"{dtype}[{','.join(map(str, np.shape(value)))}]"

    class Word(str):
        __slots__ = ()
        __repr__ = str.__str__

    return str(jax.tree.map(lambda value: Word(leaf(value)), tree))


def _advice(body: Body, state: Tree, x: Tree) -> str:
    """Which input size the parameters would take, found by trying theirs."""
    if not isinstance(body, Tied):
        return ""
    leaves, structure = jax.tree.flatten(x)
    if not leaves[-1].shape:
        return "An input is an array (..., d), of d features; this one is a single number."
    for d in sorted({np.shape(p)[0] for p in jax.tree.leaves(body.params) if np.ndim(p) == 2}):
        fit = jax.ShapeDtypeStruct((*leaves[-1].shape[:-1], d), leaves[-1].dtype)
        try:
            jax.eval_shape(body, state, jax.tree.unflatten(structure, [*leaves[:-1], fit]))
        except Exception:
            continue
        return f"These parameters take inputs with d = {d}, got d = {leaves[-1].shape[-1]}."
    start = jax.eval_shape(lambda: body.cell.start(body.params, leaves[-1].shape[:-1]))
    return f"For these inputs cell.start gives a state {describe(start)}."


@expect.arguments(xs=expect.arrays)
def first_nonfinite(xs: Tree) -> Array:
    """The first step at which an array of xs is NaN or infinite. May be traced.

    Args:
        xs: A pytree of arrays (T, ...).

    Returns:
        The step, an integer (); -1 where all is finite.

    Raises:
        TypeError: xs holds no arrays.

    Example:
        >>> print(scan.first_nonfinite(jnp.array([[1.0], [jnp.nan], [2.0]])))
        1
    """
    bad = jnp.zeros(length(xs), bool)
    for leaf in jax.tree.leaves(xs):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            bad |= ~jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)))
    return jnp.where(bad.any(), jnp.argmax(bad), -1) if length(xs) != 0 else jnp.array(-1)


@expect.arguments(xs=expect.arrays)
def check_finite(xs: Tree, name: str = "xs") -> None:
    """Check that inputs, or results, are finite. For use outside jit: it reads the values.

    Args:
        xs: A pytree of arrays (T, ...).
        name: What the error calls it.

    Raises:
        ValueError: An entry is not finite; it names the first step and entry.
        TypeError: xs holds no arrays.

    Example:
        >>> scan.check_finite(jnp.array([[1.0], [jnp.inf]]), "hs")
        Traceback (most recent call last):
            ...
        ValueError: hs is first not finite at step 1 of 2: entry (0,) of that step is inf...
    """
    step = int(first_nonfinite(xs))
    if step < 0:
        return
    for leaf in jax.tree.leaves(xs):
        where = np.argwhere(~np.isfinite(np.asarray(leaf[step])))
        if len(where):
            entry = tuple(int(i) for i in where[0])
            value = float(leaf[(step, *entry)])
            raise ValueError(
                f"{name} is first not finite at step {step} of {leaf.shape[0]}: entry {entry} of "
                f"that step is {value} ({len(where)} such entries). Correct or mask it before "
                "the run."
            )
