"""Running a traced program equation by equation, to read or replace some of its equations."""

from collections.abc import Callable
from typing import Any

# JAX's names of a program within a program that runs once
CALLS = ("jit", "pjit", "closed_call", "remat2")

Rule = Callable[[Any, list], list | None]  # (equation, its inputs) -> its outputs


def inner(equation: Any) -> tuple[Any, list]:
    """The program that an equation of CALLS runs, and its constants."""
    called = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return (called.jaxpr, called.consts) if hasattr(called, "consts") else (called, [])


def evaluate(program: Any, consts: list, arguments: list, rule: Rule) -> list:
    """The results of a jaxpr. If the rule returns None, an equation runs unchanged.

    The rule also sees the equations of inner programs, except those of loops and conditionals.
    """
    from jax.extend.core import Literal  # here, as it would be a sixth of what importing recur adds

    values = dict(zip([*program.constvars, *program.invars], [*consts, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in program.eqns:
        inputs = [read(atom) for atom in equation.invars]
        outputs = rule(equation, inputs)
        if outputs is None and equation.primitive.name in CALLS:
            outputs = evaluate(*inner(equation), inputs, rule)
        elif outputs is None:
            params = equation.primitive.get_bind_params(equation.params)
            outputs = equation.primitive.bind(*inputs, **params)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in program.outvars]
