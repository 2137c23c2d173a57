"""How far the gates of a network are open, read from the program of its step."""

from typing import Any

import jax
from jax import Array, lax

from recur.analysis.numerics.flat_state import as_inputs, flatten, known_steps
from recur.core import Body, Tree
from recur.jaxpr import evaluate


def openness(body: Body, state: Tree, xs: Tree) -> list[Array]:
    """How far the gates are open: every logistic sigmoid of a step, along a trajectory.

    It does not find sigmoids inside a loop within a step, or gates made of another function.

    Args:
        body: One step, (state, x) -> (state, h).
        state: The state before the first step.
        xs: Inputs (T, ..., d); a number of steps T for a network without inputs.

    Returns:
        A list of arrays (T, ...), values in 0 .. 1, in the order in which a step computes them,
        such as forget, input, output for `lstm.cell`, update and reset for a GRU. NaN at a step
        that a mask leaves out.

    Raises:
        ValueError: There is no sigmoid, or the body cannot be scanned over xs.

    Example:
        >>> def body(h, x):
        ...     u = jax.nn.sigmoid(x)
        ...     h = u * h + (1 - u) * jnp.tanh(x)
        ...     return h, h
        >>> [gate] = analysis.openness(body, jnp.zeros(1), jnp.array([[-2.0], [0.0], [2.0]]))
        >>> print(gate[:, 0])
        [0.119 0.5   0.881]
    """
    xs = as_inputs(state, xs)
    flatten(body, state, xs)  # its errors

    def step(state: Tree, x: Tree) -> tuple[Tree, list[Array]]:
        program, shape = jax.make_jaxpr(body, return_shape=True)(state, x)
        seen: list[Array] = []

        def rule(equation: Any, inputs: list) -> list | None:
            if equation.primitive.name != "logistic":
                return None
            seen.append(lax.logistic(inputs[0]))
            return seen[-1:]

        found = evaluate(program.jaxpr, program.consts, jax.tree.leaves((state, x)), rule)
        return jax.tree.unflatten(jax.tree.structure(shape), found)[0], seen

    gates = lax.scan(step, state, xs)[1]
    if not gates:
        raise ValueError(
            "openness reads logistic sigmoids. A step of this network computes none outside "
            "loops, so there is no gate to read"
        )
    return [known_steps(body, state, xs, gate) for gate in gates]
