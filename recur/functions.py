"""Functions that can be compared and pickled, so that cells made of them can be as well.

A closure is equal only to itself, and cannot be sent to another process. `Given` is a function with
its first arguments fixed. Two of them are equal if their parts are, and are pickled by their parts.

Jitted functions of a module, such as jnp.tanh, are pickled and copied by name, as Python's own
functions are. JAX would copy jnp.tanh to a different object, and cannot pickle it.
"""

import copyreg
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from inspect import ismethod
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


@dataclass(frozen=True, init=False)
class Given:
    """`Given(f, a, b)(x)` is f(a, b, x). The given arguments must have a hash."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "arguments", arguments)

    def __call__(self, *rest: Any, **options: Any) -> Any:
        """Call the function with all arguments."""
        return self.function(*self.arguments, *rest, **options)

    def __repr__(self) -> str:
        return f"{named(self.function)}({', '.join(map(named, self.arguments))})"


def named(value: Any) -> str:
    """The name of a function, without an address; for other objects, what Python prints."""
    return getattr(value, "__name__", None) or repr(value)


def modules(function: Any) -> Iterator[ModuleType]:
    """The modules of a function and of the functions among its arguments."""
    if isinstance(function, Given):
        for part in (*function.arguments, function.function):
            yield from modules(part)
    elif isinstance(module := getattr(function, "__module__", None), str) and module in sys.modules:
        yield sys.modules[module]


def unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method as `Given`, which equals that of an equal object. Other functions do not change."""
    return Given(function.__func__, function.__self__) if ismethod(function) else function


@dataclass(frozen=True, eq=False)
class Constant:
    """An array that has a hash: it equals one of the same dtype, shape and bits."""

    array: Array

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return NotImplemented
        return self is other or (
            hash(self) == hash(other)
            and np.asarray(self.array).tobytes() == np.asarray(other.array).tobytes()
        )

    def __hash__(self) -> int:
        return hash((self.array.shape, str(self.array.dtype)))


def _by_name(function: Any) -> Any:
    """For `copyreg`: the name of the function in its module, if the module has it."""
    name = function.__qualname__ if hasattr(function, "__qualname__") else function.__name__
    module = sys.modules.get(function.__module__)
    held = reduce(lambda part, name: getattr(part, name, None), name.split("."), module)
    return name if held is function else function.__reduce_ex__(4)


for _kind in (type(jnp.tanh), jax.custom_jvp, jax.custom_vjp, jnp.ufunc):
    copyreg.pickle(_kind, _by_name)
