"""What a user writes who has types checked: mypy reads this file; no test runs it."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from jax import Array
from jax.nn import sigmoid, tanh
from matplotlib.axes import Axes

import recur
from recur import analysis, compose, plot, scan, tasks, train


class Params(recur.GateParams): ...  # W, V, b


class Model(NamedTuple):
    """A recurrence and a linear readout."""

    rnn: tuple[Params, ...]
    W: Array  # (n, outputs)


def update(h: Array, u: Array, c: Array) -> Array:
    """The equation of the cell, unit by unit."""
    return sigmoid(u) * h + (1 - sigmoid(u)) * tanh(c)


cell = recur.gated(Params, update, ("update", "candidate"), keeps="update")
deep: recur.Recurrence = compose.Stacked(cell, compose.Residual(cell))


def draw(key: Array, d: int, n: int, outputs: int) -> Model:
    """A network of two layers. Fields of the prior may be numbers, arrays, or one for each gate."""
    prior = recur.Prior(sigma_w=np.float32(1.2), sigma_b=jnp.array([0.1, 0.0]), mu_b=(2.0, 0.0))
    return Model(deep.init(key, prior, d, n), jnp.zeros((n, outputs)))


def learn(key: Array, model: Model, task: tasks.Task, steps: int) -> tuple[Model, np.ndarray]:
    """The network after so many updates, and the loss of each."""
    optimizer = optax.adam(1e-3)

    def sample(key: Array) -> tasks.Batch:
        return task.sample(key, 32)

    def loss(model: Model, batch: tasks.Batch) -> Array:
        _, hs = scan.run(deep, model.rnn, batch.xs)
        asked = hs[-len(batch.targets) :]  # the last K steps
        return tasks.loss(asked @ model.W, batch.targets)

    state = train.start(key, model, optimizer)
    state, losses = train.advance(loss, optimizer, sample, state, steps)
    return state.params, np.asarray(losses)


def look(key: Array, params: Params, xs: Array) -> tuple[Axes, float]:
    """How far back it sees, whether it is chaotic, and where it stands still."""
    _, hs = scan.run(cell, params, xs, lengths=np.array(len(xs)), memory="mix")
    body, start = scan.tied(cell, params), cell.start(params)
    lags = (0, 10, 90)
    reach: Array = analysis.input_output(body, start, xs, lags)
    colour = mpl.color_sequences["tab10"][0]  # a triple, not a str
    ax: Axes = plot.input_output(reach, lags, colour=colour)
    found = analysis.lyapunov_details(key, body, start, xs, k=4)
    plot.lyapunov(found, ax, colour=(0.1, 0.2, 0.3), label="trained")
    points = analysis.fixed_points(body, hs, xs[0])
    plot.fixed_points(points, analysis.stability(body, points.states, xs[0]))
    return ax, float(found.exponents.max())


def saved(path: Path) -> tuple[Axes, str, float]:
    """A picture of results that were saved as NumPy arrays, not all of them."""
    with np.load(path) as arrays:
        found = analysis.Lyapunov(arrays["exponents"], np.zeros(4), None, None, None, None)
        values = analysis.SingularValues(arrays["logs"], rounding=arrays["rounding"])
        word = analysis.verdict(arrays["gradients"]).word
    dimension = float(analysis.kaplan_yorke(found.exponents))
    ax = plot.singular_values(values, plot.lyapunov(found))
    return ax, word, dimension
