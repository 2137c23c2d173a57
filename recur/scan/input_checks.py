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
        T, which may be symbolic under `jax.export`.

    Raises:
        ValueError: The first axes differ, or xs holds Python numbers in place of arrays.
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
            f"xs must hold arrays (T, ...) that share their first axis, time; got shapes {shapes}"
        )
    return shapes[0][0]


def are_numbers(*sizes: Any) -> bool:
    """Whether all sizes are numbers. Under `jax.export`, sizes may be symbolic until the run."""
    return all(isinstance(size, int) for size in sizes)


def require_arrays(xs: Tree) -> None:
    """Raise ValueError for Python numbers: nested lists are trees of numbers, not arrays."""
    leaves = jax.tree.leaves(xs)
    if leaves and all(isinstance(leaf, int | float) for leaf in leaves):
        raise ValueError(
            "xs must hold arrays (T, ..., d); it holds Python numbers, as a list of lists does: "
            "pass jnp.asarray(xs)"
        )


def number_of_steps(xs: Tree, what: str) -> int:
    """T, if it is a number and not symbolic.

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
        raise ValueError(f"{what} needs T as a number; here it is {T}. Export it for a fixed T")
    return T


@expect.arguments(xs=expect.tree)
def require_float(xs: Tree) -> None:
    """Check that inputs are floating point, with time first and features last.

    Args:
        xs: Inputs (T, ..., d), or a tuple whose last array is the inputs.

    Raises:
        ValueError: They are not.
        TypeError: xs holds something other than numbers.

    Example:
        >>> scan.require_float(jnp.zeros(3))
        Traceback (most recent call last):
            ...
        ValueError: xs must be inputs (T, ..., d), with time first; got shape (3,)
    """
    if not jax.tree.leaves(xs):
        raise ValueError("xs must hold an array, inputs of shape (T, ..., d); it holds none")
    require_arrays(xs)
    x = input_array(xs)
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise ValueError(
            f"xs must hold floating-point inputs; it holds {jnp.result_type(x)}: embed symbols "
            "first (jax.nn.one_hot, nnx.Embed), or cast numbers with .astype(jnp.float32)"
        )
    if np.ndim(x) < 2:
        raise ValueError(f"xs must be inputs (T, ..., d), with time first; got shape {np.shape(x)}")


def require_batch(xs: Tree) -> None:
    """Raise ValueError unless every array of xs begins with the (T, ...batch) of the input."""
    lead = (length(xs), *np.shape(input_array(xs))[1:-1])
    for a in jax.tree.leaves(xs):
        if np.shape(a)[: len(lead)] != lead:
            raise ValueError(
                f"each array of xs must begin with time and all batch axes, {lead}, as the inputs "
                f"{describe(input_array(xs))} do; got {describe(a)}: use jnp.broadcast_to where "
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
        ValueError: T = 0, the step does not accept its arguments, or a step changes the type of the
            state.
        TypeError: The body is not a function, or state or xs hold something other than arrays.

    Example:
        >>> scan.check(lambda h, x: (h[:2], h), jnp.zeros(3), jnp.zeros((5, 2)))
        Traceback (most recent call last):
            ...
        ValueError: a step must return a state of the same type as it takes: float32[3] goes...
    """
    check_step(
        body, state, xs, "Pass a state with the batch axes of xs, such as cell.start(params, batch)"
    )


def check_step(body: Body, state: Tree, xs: Tree, batches: str) -> None:
    """`check`, with its caller's advice about batch axes."""
    if length(xs) == 0:
        raise ValueError("xs must have at least one step; got T = 0 steps")
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    state = jax.tree.map(jnp.asarray, state)
    try:
        returned = jax.eval_shape(body, state, x)
    except Exception as error:  # report what the step was given, whatever it raised
        advice = _advice(body, state, x)
        if not advice and jnp.ndim(jax.tree.leaves(x)[-1]) > 1:
            advice = f"{batches}. "
        raise ValueError(
            f"the step does not accept a state {describe(state)} and an input {describe(x)}. "
            f"{advice}\nThe step's own error: {error}"
        ) from error
    pair = isinstance(returned, tuple | list) and len(returned) == 2
    if not pair or describe(returned) == describe(state):  # a state of two arrays is a pair too
        raise ValueError(
            f"a step must return (state, h), its new state and its output; it returned "
            f"{describe(returned)}: return h, h if the output is the state itself"
        )
    if describe(returned[0]) != describe(state):
        raise ValueError(
            f"a step must return a state of the same type as it takes: {describe(state)} goes in "
            f"and {describe(returned[0])} comes out. {batches}. Inputs and parameters must be of "
            "one dtype."
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
    """Which input size would fit the parameters, found by trying their sizes."""
    if not isinstance(body, Tied):
        return ""
    leaves, structure = jax.tree.flatten(x)
    if not leaves[-1].shape:
        return "An input is an array (..., d), of d features; this one is a single number. "
    for d in sorted({np.shape(p)[0] for p in jax.tree.leaves(body.params) if np.ndim(p) == 2}):
        fit = jax.ShapeDtypeStruct((*leaves[-1].shape[:-1], d), leaves[-1].dtype)
        try:
            jax.eval_shape(body, state, jax.tree.unflatten(structure, [*leaves[:-1], fit]))
        except Exception:
            continue
        if d != leaves[-1].shape[-1]:
            return f"These parameters take inputs with d = {d}, got d = {leaves[-1].shape[-1]}. "
    start = jax.eval_shape(lambda: body.cell.start(body.params, leaves[-1].shape[:-1]))
    return f"For these inputs cell.start gives a state {describe(start)}. "


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
        ValueError: hs must be finite. At step 1 of 2, entry (0,) is inf (1 such entries)...
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
                f"{name} must be finite. At step {step} of {leaf.shape[0]}, entry {entry} is "
                f"{value} ({len(where)} such entries), the first that is not finite. Correct or "
                "mask it before the run."
            )
