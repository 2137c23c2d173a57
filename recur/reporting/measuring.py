"""All questions of a report, answered within a budget of seconds."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import scan
from recur.core import Body, Tree
from recur.reporting import measurements
from recur.reporting.arguments import Asked
from recur.reporting.measurements import Network, Path, Results
from recur.reporting.phases import Say, phase
from recur.reporting.questions import Question, questions
from recur.reporting.sizes import Sizes, plan, time_qr

COMPILERS = 2  # programs that are compiled at the same time


class Budget(NamedTuple):
    """So many seconds from `begin` on."""

    begin: float
    seconds: float

    def spent(self) -> float:
        """Seconds until now."""
        return time.perf_counter() - self.begin

    def over(self) -> bool:
        """Whether nothing more may begin."""
        return self.spent() > self.seconds


def measure(network: Network, asked: Asked, budget: Budget, say: Say) -> tuple[Results, list[str]]:
    """The results, and sentences about what was left out and why."""
    params, rebuild = opened(asked.body)

    def program(question: Question) -> jax.stages.Lowered:
        """Its program, with the parameters as an argument: trained ones need no new one."""
        found = jax.jit(lambda params, args: question.program(rebuild(params), *args))
        return found.lower(params, question.args)

    data = asked.state, asked.xs
    with phase("the network on its data", say):
        run = program(Question("path", "", measurements.trajectory, data)).compile()
        path, sizes = followed(network, run, params, *data, budget.seconds)
    results = Results(network, sizes, path)
    left_out: list[str] = []
    with ThreadPoolExecutor(COMPILERS) as pool:
        waiting: list[tuple[Question, Future]] = []
        with phase("tracing the programs", say):
            for question in [] if path.overflow else questions(asked, results):
                if budget.over():
                    left_out.append(f"{question.label}: the {budget.seconds:g} s were over")
                    continue
                try:
                    waiting.append((question, pool.submit(program(question).compile)))
                except ValueError as error:  # its own sentence says what it cannot do
                    left_out.append(f"{question.label}: {error}")
        for question, compiled in waiting:
            if budget.over() and compiled.cancel():
                left_out.append(f"{question.label}: the {budget.seconds:g} s were over")
                continue
            with phase(question.label, say):
                found = jax.block_until_ready(compiled.result()(params, question.args))
                results = results._replace(**{question.field: question.settle(found)})
    return jax.tree.map(host, results), left_out


def opened(body: Body) -> tuple[Tree, Callable[[Tree], Body]]:
    """Parameters, and a function from them to the body. A plain function has no parameters."""
    if isinstance(body, scan.Tied):
        return body.params, partial(scan.tied, body.cell)
    return (), lambda _: body


def followed(
    network: Network, run: Callable, params: Tree, state: Tree, xs: Tree, seconds: float
) -> tuple[Path, Sizes]:
    """The network on its data, and the sizes that its speed allows."""
    states, squares, finite = jax.tree.map(np.asarray, run(params, (state, xs)))
    begin = time.perf_counter()
    jax.block_until_ready(run(params, (state, xs)))
    step, T = (time.perf_counter() - begin) / network.T, network.T
    sizes = plan(T, network.m, network.n, seconds, step, time_qr(network.m))
    S = sizes.steps
    start = state if S == T else jax.tree.map(lambda leaf: leaf[T - S - 1], states)
    overflow = 0 if finite.all() else int(finite.argmin()) + 1
    late = jax.tree.map(lambda leaf: leaf[T - S :], states)
    return Path(start, late, float(squares[T - S :].mean()), overflow), sizes


def host(leaf: Any) -> Any:
    """Arrays as NumPy's."""
    if isinstance(leaf, Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(leaf)
    return leaf
