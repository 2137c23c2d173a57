"""Which recurrences are chaotic when nothing drives them?

The networks have two units, and neither input nor bias. They are a GRU and an LSTM whose published
weights are chaotic, and a CFN and a MinimalRNN with the LSTM's gate weights. The experiment follows
many starts within 1e-7 of one point, then starts on a circle of states. It measures the Lyapunov
exponents (rates at which small perturbations grow) by QR factorisations, and again from neighbours
at a finite distance. Larger networks with random weights, drawn at growing sigma_w, are measured
too. Everything is computed in float64.

Claim (arXiv:1612.06212): the GRU and the LSTM are chaotic, with a largest exponent of .22 nats a
step. Starts within 1e-7 of each other end all over a fractal attractor, of dimension 1.4 in the GRU
and 1.5 in the LSTM. CFN and MinimalRNN decay to zero from every start. At zero the derivative of
every step is a gate at rest, so all exponents tend to log sigmoid(0) = -log 2 = -.693.

The decay can be slow. CFN falls at least as fast as h <- tanh(h) does, within |h| < sqrt(3 / 2t).
In a MinimalRNN with large sigma_w, units hold each other at u = 1 - exp(-|W h|), for a time that
grows exponentially with sigma_w. Meanwhile a perturbation may grow, by a few nats in all, so an
exponent from too short a run can be positive. At sigma_w = 30 a third of the networks have not
decayed after 20,000 steps. Where |W h| > 37, float64 rounds u to 1 (float32 from 17 on), and these
never decay.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from jax import Array, lax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import harness
from recur import analysis, cells, scan
from recur.core import Body, Prior, Recurrence, Tree, hidden

CELLS: dict[str, Recurrence] = {
    "gru": cells.gru.reset_before,
    "lstm": cells.lstm.cell,
    "cfn": cells.cfn.cell,
    "minimal": cells.minimal.cell,
}
CLOUD = 1e-7  # half the width of the box of starts
APART = 1e-10  # between neighbours, at first
REST = -np.log(2)  # log sigmoid(0)

# arXiv:1612.06212; z there is the share of the candidate, our u that of the old state
GRU = {
    "update": -np.array([[0, 1], [1, 1]]),
    "reset": np.array([[0, 1], [1, 0]]),
    "candidate": np.array([[-5, -8], [8, 5]]),
}
LSTM = {
    "input": np.array([[-10, -10], [10, 10]]),
    "forget": np.array([[-10, -10], [10, 10]]),
    "candidate": np.array([[10, -80], [80, -10]]),
    "output": np.array([[10, -10], [10, -10]]),
}


@dataclass(frozen=True)
class Config(harness.Config):
    """Which recurrences are chaotic without input."""

    starts: int = 10_000
    """Number of starts within 1e-7 of one point."""
    steps: int = 20_000
    """Steps from each start, and of each random network."""
    measured: int = 100_000
    """Steps over which the exponents of two units are measured."""
    circle: int = 24
    """Number of starts on a circle of states."""
    sigmas: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    """Values of sigma_w for the random networks."""
    draws: int = 16
    """Random networks at each sigma_w."""
    n: int = 32
    """Units of each random network."""


class Result(NamedTuple):
    """4 recurrences in the order of names; P starts, C starts on a circle, G sigmas, D draws."""

    names: np.ndarray  # (4,)
    ends: np.ndarray  # (2, P, 2) final h of GRU and LSTM
    growth: np.ndarray  # (2, 41) mean log distance of neighbours after 0 .. 40 steps
    circle: np.ndarray  # (4, C, 5001, 2) h over time, from the unit circle
    exponents: np.ndarray  # (4, 4) of two units; NaN beyond the size of the state
    errors: np.ndarray  # (4, 4) standard errors of the exponents
    checks: np.ndarray  # (4,) largest exponent, from finite perturbations
    sigmas: np.ndarray  # (G,)
    times: np.ndarray  # (K,) steps, evenly spaced on a log scale
    drawn: np.ndarray  # (4, G, D, K) largest exponent of each random network, up to each time


def two_units(name: str) -> scan.Tied:
    """The recurrence of this name with the weights above, without bias, in float64."""
    gates = {
        "gru": GRU,
        "lstm": LSTM,
        "cfn": {gate: LSTM[gate] for gate in ("forget", "input")},
        "minimal": {"update": LSTM["input"]},
    }[name]
    cell = CELLS[name]
    like = cell.init(jax.random.key(0), Prior(), 1, 2)
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, float), like)
    return scan.tied(
        cell, params._replace(W=jnp.hstack([jnp.array(A.T, float) for A in gates.values()]))
    )


def states(body: scan.Tied, h: Array) -> Tree:
    """States in which every array equals h (..., 2)."""
    return jax.tree.map(lambda _: h, body.cell.start(body.params, h.shape[:-1]))


def follow(body: Body, state: Tree, steps: int) -> Tree:
    """The state after so many steps without input."""
    silence = jnp.zeros((*hidden(state).shape[:-1], 1))
    return lax.fori_loop(0, steps, lambda _, state: body(state, silence)[0], state)


def path(body: Body, state: Tree, steps: int) -> Array:
    """h after 0 .. steps steps, (steps + 1, ...)."""
    silence = jnp.zeros((steps, *hidden(state).shape[:-1], 1))
    hs = lax.scan(body, state, silence)[1]
    return jnp.concatenate([hidden(state)[None], hs])


@partial(jax.jit, static_argnums=(0, 2))
def cloud(name: str, key: Array, config: Config) -> tuple[Array, Array]:
    """Final h of starts within 1e-7 of one point, (P, 2), and log distance of neighbours, (41,)."""
    body = two_units(name)
    near = CLOUD * jax.random.uniform(key, (config.starts, 2), minval=-1, maxval=1)
    one = follow(body, states(body, jnp.full(2, 0.5)), 1000)  # on the attractor
    state = jax.tree.map(lambda leaf: leaf + near, one)
    ends = follow(body, state, config.steps)
    beside = jax.tree.map(lambda leaf: leaf + APART, ends)
    apart = jnp.linalg.norm(path(body, beside, 40) - path(body, ends, 40), axis=-1)
    return hidden(ends), jnp.log(apart).mean(axis=1)


@partial(jax.jit, static_argnums=(0, 1))
def circle(name: str, points: int) -> Array:
    """Paths of h that start on the unit circle, (points, 5001, 2)."""
    body = two_units(name)
    angle = jnp.linspace(0, 2 * jnp.pi, points, endpoint=False)
    start = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return path(body, states(body, start), 5000).swapaxes(0, 1)


@partial(jax.jit, static_argnums=(0, 2))
def spectrum(name: str, key: Array, steps: int) -> tuple[Array, Array, Array]:
    """Exponents of two units, standard errors, and the largest exponent by finite perturbations."""
    body = two_units(name)
    state = follow(body, states(body, jnp.array([0.3, 0.4])), 1000)
    silence = jnp.zeros((steps, 1))
    found = analysis.lyapunov_details(key, body, state, silence)
    return found.exponents, found.error, analysis.finite_growth(key, body, state, silence)[0]


@partial(jax.jit, static_argnums=(0, 3, 4))
def largest(name: str, keys: Array, sigma: Array, n: int, steps: int) -> Array:
    """The largest exponent of each random network up to every step: (len(keys), steps)."""
    cell = CELLS[name]

    def one(key: Array) -> Array:
        weights, start = jax.random.split(key)
        body = scan.tied(cell, cell.init(weights, Prior(sigma), 1, n))
        state = states(body, jax.random.normal(start, (n,), float))
        found = analysis.lyapunov_details(key, body, state, jnp.zeros((steps, 1)), k=1, every=1)
        return found.history[:, 0]

    return jax.vmap(one)(keys)


def run(config: Config, record: harness.Record) -> Result:
    """Measure the networks of two units, then the random networks."""
    key = jax.random.key(config.seed)
    keys = jax.random.split(key, config.draws)
    times = np.unique(np.geomspace(10, config.steps, 60).astype(int))
    clouds, circles, spectra, drawn = [], [], [], []
    with (
        jax.enable_x64(True),
        record.progress("systems", len(CELLS) * (1 + len(config.sigmas))) as bar,
    ):
        for name in CELLS:
            if name in ("gru", "lstm"):
                clouds.append(cloud(name, key, config))
            circles.append(circle(name, config.circle))
            *both, check = map(np.asarray, spectrum(name, key, config.measured))
            spectra.append(
                (*(np.pad(a, (0, 4 - a.size), constant_values=np.nan) for a in both), check)
            )
            record.metrics(system=name, exponents=both[0].tolist(), check=float(check))
            bar(1)
        for name in CELLS:
            for sigma in config.sigmas:
                history = largest(name, keys, jnp.array(sigma), config.n, config.steps)
                drawn.append(np.asarray(history)[:, times - 1])
                record.metrics(cell=name, sigma_w=sigma, largest=drawn[-1][:, -1].tolist())
                bar(1)
    shape = (len(CELLS), len(config.sigmas), config.draws, len(times))
    ends, growth = map(np.array, zip(*clouds, strict=True))
    exponents, errors, checks = map(np.array, zip(*spectra, strict=True))
    return Result(
        np.array([*CELLS]),
        ends,
        growth,
        np.array(circles),
        exponents,
        errors,
        checks,
        np.array(config.sigmas),
        times,
        np.array(drawn).reshape(shape),
    )


def claims(result: Result) -> dict[str, float]:
    """Exponents of two units and of random networks, in nats per step."""
    of = {"starts within 1e-7, largest exponent -log 2": np.log(2)}
    for i, name in enumerate(result.names):
        of[f"{name}: largest exponent"] = result.exponents[i, 0]
        of[f"{name}: largest exponent, from neighbours"] = result.checks[i]
        found = result.exponents[i][np.isfinite(result.exponents[i])]
        of[f"{name}: dimension"] = float(analysis.kaplan_yorke(jnp.asarray(found)))
        for sigma, exponents in zip(result.sigmas, result.drawn[i, ..., -1], strict=True):
            of[f"{name}: largest exponent drawn at sigma_w {sigma:g}"] = exponents.max()
    return of


def table(result: Result) -> harness.Table:
    """One row per recurrence."""
    rows = []
    for i, name in enumerate(result.names):
        found = result.exponents[i][np.isfinite(result.exponents[i])]
        last = result.drawn[i, ..., -1]
        rows.append(
            (
                name,
                f"{found[0]:.4f} +- {result.errors[i, 0]:.4f}",
                f"{result.checks[i]:.4f}",
                ", ".join(f"{value:.3f}" for value in found[1:]),
                f"{float(analysis.kaplan_yorke(jnp.asarray(found))):.2f}",
                *(f"{exponents.max():.4f}" for exponents in last),
            )
        )
    drawn = [f"random, sigma_w {sigma:g}: largest" for sigma in result.sigmas]
    columns = ("two units", "largest exponent", "by neighbours", "others", "dimension", *drawn)
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot attractors and decays (top), and growth, random networks and slow decays (bottom)."""
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    colours = dict(zip(result.names, mpl.color_sequences["tab10"], strict=False))
    grid = figure.add_gridspec(2, 12)
    axes = [figure.add_subplot(grid[0, 3 * i : 3 * i + 3]) for i in range(4)]
    for ax, name, ends in zip(axes, result.names, result.ends, strict=False):
        ax.plot(*ends.T, ".", ms=0.6, color=colours[name], rasterized=True)
        ax.set_title(f"{name}: final states of {len(ends):,} starts within 1e-7", fontsize=11)
    for ax, name, paths in zip(axes[2:], result.names[2:], result.circle[2:], strict=True):
        for one in paths:
            ax.plot(*one.T, ".-", lw=0.7, ms=2, color=colours[name])
        ax.plot(*paths[:, 0].T, "o", ms=4, mfc="white", color="k", label="starts")
        ax.plot(0, 0, "*", ms=12, color="k", label="where all end")
        ax.set_title(f"{name}: starts on a circle")
        ax.legend(loc="lower right", fontsize=8)
    for ax in axes:
        ax.set(xlabel="$h_1$", ylabel="$h_2$")
    _growth(figure.add_subplot(grid[1, :4]), result, colours)
    _drawn(figure.add_subplot(grid[1, 4:8]), result, colours)
    _patience(figure.add_subplot(grid[1, 8:]), result)
    return figure


def _growth(ax: Axes, result: Result, colours: dict) -> None:
    t = np.arange(result.growth.shape[1])
    for name, growth, found in zip(result.names, result.growth, result.exponents, strict=False):
        ax.semilogy(t, np.exp(growth), color=colours[name], label=name)
        line = np.exp(growth[-1] + found[0] * (t - t[-1]))
        ax.semilogy(t, line, "--", color="k", lw=1, label=f"exponent {found[0]:.3f}")
    ax.set(
        xlabel="steps",
        ylabel="geometric mean of the distance",
        title="Neighbours separate at the rate of the exponent",
    )
    ax.legend(fontsize=8)


def _drawn(ax: Axes, result: Result, colours: dict) -> None:
    for i, name in enumerate(result.names):
        last = result.drawn[i, ..., -1]
        place = np.broadcast_to(np.arange(len(last))[:, None] + 0.18 * (i - 1.5), last.shape)
        ax.plot(place.ravel(), last.ravel(), ".", color=colours[name], label=name)
    ax.axhline(0, color="k", lw=0.7)
    ax.axhline(REST, color="k", lw=0.7, ls="--", label="-log 2")
    ax.set_xticks(range(len(result.sigmas)), [f"{sigma:g}" for sigma in result.sigmas])
    ax.set(
        xlabel=r"$\sigma_w$",
        ylabel="largest exponent (nats per step)",
        title=f"Random networks, {result.times[-1]:,} steps",
    )
    ax.legend(fontsize=8, ncols=2)


def _patience(ax: Axes, result: Result) -> None:
    for i, name, style in ((3, "minimal", "-"), (2, "cfn", ":")):
        for sigma, runs in list(zip(result.sigmas, result.drawn[i], strict=True))[-2:]:
            colour = "C1" if sigma == result.sigmas[-1] else "C0"
            for j, one in enumerate(runs):
                label = rf"{name}, $\sigma_w$ = {sigma:g}" if j == 0 else None
                ax.semilogx(result.times, one, style, lw=0.8, color=colour, label=label)
    ax.axhline(0, color="k", lw=0.7)
    ax.axhline(REST, color="k", lw=0.7, ls="--")
    ax.set(
        xlabel="steps measured",
        ylabel="largest exponent so far",
        title=r"MinimalRNN decays slowly at large $\sigma_w$",
    )
    ax.legend(fontsize=8, loc="upper right")


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
