"""Checks of arguments, declared once above a function, with an error for any other value.

    @expect.arguments(key=expect.key, loss=expect.function, steps=expect.count(1))
    def f(key, loss, steps): ...

A check reads types, and values where these are known. It costs nothing in a compiled program.
"""

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Check = Callable[[str, Any], None]  # (name of the argument, value): raises what is wrong with it
OTHERS = tuple("OSUmM")  # kinds of NumPy arrays that do not hold numbers: objects, strings, times
P = ParamSpec("P")
R = TypeVar("R")


def arguments(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that checks the arguments with these names before a function is called."""

    def decorate(f: Callable[P, R]) -> Callable[P, R]:
        code = inspect.unwrap(f).__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

        @wraps(f)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            given = dict(zip(names, args, strict=False)) | kwargs
            for name, check in checks.items():
                if name in given:
                    check(name, given[name])
            return f(*args, **kwargs)

        return checked

    return decorate


def told(value: Any) -> str:
    """A value in a few words: dtypes and shapes of arrays; otherwise what Python prints."""

    def leaf(value: Any) -> str:
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            return f"{value.dtype}[{','.join(map(str, value.shape))}]"
        text = repr(value)
        return text if len(text) < 80 else f"{text[:77]}..."

    leaves = jax.tree.leaves(value, is_leaf=lambda v: v is None)
    if len(leaves) == 1 and leaves[0] is value:
        return f"{leaf(value)} ({type(value).__name__})"
    more = ", ..." if len(leaves) > 4 else ""
    return f"a {type(value).__name__} of {', '.join(map(leaf, leaves[:4])) or 'nothing'}{more}"


def optional(check: Check) -> Check:
    """None, or a value that passes the check."""
    return lambda name, value: None if value is None else check(name, value)


def key(name: str, value: Any) -> None:
    """A PRNG key, of the new kind or the old."""
    dtype, shape = getattr(value, "dtype", None), np.shape(value) if _is_array(value) else None
    new = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not new and not (dtype == np.uint32 and shape is not None and len(shape) == 1):
        raise TypeError(
            f"{name} must be a random key, such as jax.random.key(0); got {told(value)}"
        )


def function(name: str, value: Any) -> None:
    """Anything that can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function; got {told(value)}")


def integer(name: str, value: Any) -> None:
    """An integer of Python, NumPy or JAX."""
    whole = hasattr(value, "__index__") and np.ndim(value) == 0
    if not whole or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer; got {told(value)}")


def count(least: int) -> Check:
    """An integer, `least` or more."""

    def check(name: str, value: Any) -> None:
        integer(name, value)
        if not isinstance(value, jax.core.Tracer) and value < least:
            raise ValueError(f"{name} must be an integer, {least} or more; got {value}")

    return check


def number(low: float = -math.inf, high: float = math.inf, open: bool = False) -> Check:
    """A finite real number within low .. high, without the ends where `open`."""
    less = "<" if open else "<="
    above = f", {low:g} {less} {{0}}" if low > -math.inf else ""
    wanted = above + (f", {{0}} {less} {high:g}" if high < math.inf else "")

    def check(name: str, value: Any) -> None:
        _require_real(name, value)
        if np.shape(value) != ():
            raise TypeError(f"{name} must be one number; got {told(value)}")
        if isinstance(value, jax.core.Tracer):
            return
        x = float(value)
        within = low < x < high if open else low <= x <= high
        if not (within and math.isfinite(x)):
            raise ValueError(f"{name} must be a finite number{wanted.format(name)}; got {value}")

    return check


def real(name: str, value: Any) -> None:
    """Real numbers: one, or an array of them."""
    _require_real(name, value)


def scalar(name: str, value: Any) -> None:
    """One real number, which may be traced, and any number."""
    _require_real(name, value)
    if np.size(value) != 1:
        raise TypeError(f"{name} must be one number; got {told(value)}")


def numeric(name: str, value: Any) -> None:
    """Numbers or booleans: what can be an array."""
    if _dtype(value) is None:
        raise TypeError(f"{name} must be an array of numbers or booleans; got {told(value)}")


def floats(name: str, value: Any) -> None:
    """An array of floating-point numbers with at least one axis and one entry."""
    numbers(name, value)
    if not jnp.issubdtype(_dtype(value), jnp.floating):
        raise TypeError(f"{name} must hold floating-point numbers; got {told(value)}")


def numbers(name: str, value: Any) -> None:
    """An array of real numbers with at least one axis and one entry."""
    _require_real(name, value)
    if not _is_array(value) or value.ndim == 0 or 0 in value.shape:
        raise TypeError(
            f"{name} must be an array with at least one axis and one entry; got {told(value)}"
        )


def booleans(name: str, value: Any) -> None:
    """A boolean, or an array of them."""
    if not jnp.issubdtype(_dtype(value) or float, jnp.bool_):
        raise TypeError(f"{name} must hold booleans; got {told(value)}")


def tree(name: str, value: Any) -> None:
    """A pytree of numbers and arrays, which may be empty."""
    if any(_dtype(leaf) is None for leaf in jax.tree.leaves(value)):
        raise TypeError(f"{name} must be a pytree of arrays; got {told(value)}")


def timed(name: str, value: Any) -> None:
    """Arrays with a first axis, time."""
    arrays(name, value)
    if () in [np.shape(leaf) for leaf in jax.tree.leaves(value)]:
        raise ValueError(f"{name} must hold arrays (T, ...), with time first; got {told(value)}")


def arrays(name: str, value: Any) -> None:
    """A pytree with at least one array; its other leaves are numbers or None."""
    leaves = jax.tree.leaves(value)
    if not leaves or any(_dtype(leaf) is None for leaf in leaves):
        raise TypeError(f"{name} must be an array, or a pytree of arrays; got {told(value)}")


def one_of(*known: Any) -> Check:
    """One of these values."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, type(known[0])) or value not in known:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, known))}; got {told(value)}"
            )

    return check


def instance(*kinds: type) -> Check:
    """An instance of one of these types."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"{name} must be of type {wanted}; got {told(value)}")

    return check


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _dtype(value: Any) -> Any:
    """The dtype of a number, an array or a list of numbers; None for anything else."""
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))
    asarray = jnp.asarray if traced else np.asarray  # of a list with traced numbers in it
    try:
        dtype = value.dtype if _is_array(value) else jnp.result_type(asarray(value))
    except (TypeError, ValueError):
        return None
    return None if getattr(dtype, "kind", "") in OTHERS else dtype


def _require_real(name: str, value: Any) -> None:
    dtype = _dtype(value)
    if dtype is None or not (
        jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    ):
        raise TypeError(f"{name} must hold real numbers; got {told(value)}")
