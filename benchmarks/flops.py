"""Floating-point operations of matrix products, counted in traced programs."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Jaxpr

from recur import cells


def product_flops(function: Callable, *args: Any) -> float:
    """Additions and multiplications in the matrix products of function(*args); no loop inside."""

    def count(jaxpr: Jaxpr) -> float:
        total = 0.0
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                lengths = [equation.invars[0].aval.shape[axis] for axis in contracted]
                total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(lengths)
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
                if _is_jaxpr(inner):
                    total += count(getattr(inner, "jaxpr", inner))
        return total

    return count(jax.make_jaxpr(function)(*args).jaxpr)


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns")


def step_flops(cell: str, params: Any, xs: Array) -> tuple[float, float]:
    """Operations of the products of one step: forward, and with the gradient."""
    made = cells.named(cell)
    state = made.start(params, xs.shape[1:-1])

    def loss(params: Any, state: Any, x: Array) -> Array:
        return jnp.sum(sum(jax.tree.leaves(made.step(params, state, x)[0])))

    forward = product_flops(made.step, params, state, xs[0])
    return forward, product_flops(jax.grad(loss, (0, 1)), params, state, xs[0])
