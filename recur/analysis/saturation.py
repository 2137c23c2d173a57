"""Derivatives of tanh and of the logistic sigmoid that stay accurate where these saturate.

JAX takes 1 - tanh^2, which is 0 in float32 from |x| = 9 on, where sech^2 is 6e-8; and s (1 - s) for
the sigmoid s, which is 0 from x = 17 on. A state that saturates would then seem to forget exactly.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Jaxpr, Literal

CALLS = ("jit", "pjit", "closed_call")  # JAX's names of a function within a function


@jax.custom_jvp
def tanh(x: Array) -> Array:
    """tanh with the derivative sech^2."""
    return lax.tanh(x)


@tanh.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    e = jnp.exp(-2 * jnp.abs(x))
    return tanh(x), 4 * e / (1 + e) ** 2 * dx


@jax.custom_jvp
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) with a derivative that is even in x."""
    return lax.logistic(x)


@sigmoid.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    e = jnp.exp(-jnp.abs(x))
    return sigmoid(x), e / (1 + e) ** 2 * dx


def accurate(function: Callable) -> Callable:
    """The function of pytrees of arrays with these derivatives, but for those inside its loops."""

    def replaced(*args: Any) -> Any:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        found = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return replaced


def _evaluate(jaxpr: Jaxpr, consts: list, args: list) -> list:
    """The values that a jaxpr returns, equation by equation."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            inner = params.get("jaxpr") or params["call_jaxpr"]
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs)
        elif name in ("tanh", "logistic") and params.get("accuracy") is None:
            outputs = [(tanh if name == "tanh" else sigmoid)(*inputs)]
        else:
            rest = equation.primitive.get_bind_params(params)
            outputs = equation.primitive.bind(*inputs, **rest)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        values |= zip(equation.outvars, outputs, strict=True)
    return [read(atom) for atom in jaxpr.outvars]
