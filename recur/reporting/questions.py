"""The questions of a report, and the program that answers each of them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from recur import analysis, theory
from recur.core import Tree
from recur.reporting import measurements
from recur.reporting.arguments import Asked
from recur.reporting.measurements import OneStep, Reach, Results


class Question(NamedTuple):
    """A part of the results, and the program that finds it."""

    field: str  # of Results
    label: str
    program: Callable[..., Any]  # (body, *args), pure
    args: tuple
    settle: Callable[[Any], Any] = lambda found: found  # result of the program -> the field


def questions(asked: Asked, results: Results) -> list[Question]:
    """All of them, the most important first, about the steps and sizes that `results` names."""
    path, S = results.path, results.sizes.steps
    assert path is not None
    late = jax.tree.map(lambda leaf: leaf[results.network.T - S :], asked.xs)
    data = path.start, late
    found = [
        reach(results, data),
        gradients(asked, results, data),
        exponents(asked, results, data),
        standstill(asked, results),
        Question("gates", "gates", analysis.openness, data),
        single_steps(results, late),
    ]
    return found if asked.prior is None else [*found, predicted(asked)]


def reach(results: Results, data: tuple) -> Question:
    """How far back do outputs see inputs?"""
    lags = np.array(measurements.input_lags(results.sizes.reach))
    return Question(
        "reach",
        "reach of inputs",
        lambda body, state, xs: analysis.input_output(body, state, xs, lags.tolist()),
        data,
        partial(Reach, lags),
    )


def gradients(asked: Asked, results: Results, data: tuple) -> Question:
    """How far back do gradients reach? The user's losses cover all steps of the data."""
    network, lags = results.network, results.sizes.lags
    losses = asked.losses or measurements.random_losses(asked.key, network.n, network.dtype)
    return Question(
        "gradients",
        "gradients",
        lambda body, state, xs: analysis.gradient_map(losses, body, state, xs, lags),
        (asked.state, asked.xs) if asked.losses else data,
    )


def exponents(asked: Asked, results: Results, data: tuple) -> Question:
    """Do nearby states converge or diverge?"""
    sizes = results.sizes

    def program(body: Any, state: Tree, xs: Tree) -> analysis.Lyapunov:
        return analysis.lyapunov_details(
            asked.key, body, state, xs, sizes.exponents, discard=sizes.steps // 10
        )

    return Question("exponents", "Lyapunov exponents", program, data)


def standstill(asked: Asked, results: Results) -> Question:
    """Where does the network stand still?"""
    path = results.path
    assert path is not None
    return Question(
        "standstill",
        "fixed points",
        partial(measurements.standstill, asked.key, results.sizes.starts),
        (path.states, asked.x),
        partial(measurements.apart, path, asked.x),
    )


def single_steps(results: Results, late: Tree) -> Question:
    """What does a single step do, at some steps spread over the data?"""
    network, sizes, path = results.network, results.sizes, results.path
    assert path is not None
    at = np.unique(np.linspace(0, sizes.steps - 1, sizes.spectra).round().astype(int))
    before = jax.tree.map(
        lambda first, rest: np.concatenate([np.asarray(first)[None], rest[:-1]])[at], *path[:2]
    )
    return Question(
        "one_step",
        "single steps",
        measurements.one_step,
        (before, jax.tree.map(lambda leaf: leaf[at], late)),
        partial(OneStep, at + 1 + network.T - sizes.steps),
    )


def predicted(asked: Asked) -> Question:
    """What does theory say of networks that are drawn from the prior?"""
    return Question(
        "theory",
        "theory",
        lambda _, prior, R: theory.untied(asked.cell, prior, R),
        (asked.prior, measurements.mean_square(asked.xs)),
    )
