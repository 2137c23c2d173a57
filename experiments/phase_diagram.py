"""Where can a recurrence remember? The timescale over (sigma_w, mu_b).

xi = -1 / log(chi) is the timescale on which two copies of a network, whose inputs have cosine
Sigma, settle, at infinite width and with weights redrawn at every step. For the vanilla and the
minimal network it comes from closed forms, on a fine grid. For gated cells it comes from a
simulated population of units, on a coarse grid. mu_b is the mean bias of the gate that keeps the
state: LSTM's and CFN's forget gate, and GRU's update gate. The vanilla network has only one bias,
and mu_b is its mean.

Claim (arXiv:1806.05394): the vanilla network remembers on a narrow ridge of (sigma_w, mu_b). The
minimal network's timescale grows with mu_b without bound, over a broad region. Here the ridge is
108 steps high at sigma_w = 1.08 and |mu_b| = 0.02. For larger |mu_b| it lies at larger sigma_w and
is lower: at mu_b = 2.00 it is 45 steps high, at sigma_w = 2.52. xi > 20 in 5.2 % of the vanilla
network's grid, and in 29.2 % of the minimal network's. In the latter, xi grows with mu_b at every
sigma_w, and reaches 942 to 957 steps at mu_b = 8.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from experiments import harness
from recur import cells, theory
from recur import plot as picture
from recur.core import Prior
from recur.core import gates as declared

CLOSED = {"vanilla": theory.closed.vanilla, "minimal.bare": theory.closed.minimal}


@dataclass(frozen=True)
class Config(harness.Config):
    """The timescale over (sigma_w, mu_b) for several cells."""

    cells: tuple[str, ...] = ("vanilla", "minimal.bare", "cfn", "gru", "lstm")
    """Names of the cells."""
    fine: int = 100
    """Grid points along each axis, for closed forms."""
    coarse: int = 6
    """Grid points along each axis, for the population."""
    Sigma: float = 0.0
    """Cosine of the inputs of the two copies."""
    R: float = 0.46
    """Mean square of the inputs."""


class Result(NamedTuple):
    """C cells; grids have up to G points along each axis, and NaN beyond a cell's own grid."""

    cells: np.ndarray  # (C,) names
    sigma_w: np.ndarray  # (C, G)
    mu_b: np.ndarray  # (C, G)
    xi: np.ndarray  # (C, G, G) steps, over (mu_b, sigma_w); negative where perturbations grow


def prior(name: str, sigma_w: Array, mu_b: Array) -> Prior:
    """The prior at one point. sigma_v is the published critical one; mu_b is for one gate only."""
    if name == "vanilla":
        return Prior(sigma_w, 0.025, mu_b, 0.0)
    if name == "minimal.bare":
        return Prior(sigma_w, 1.39, mu_b, 0.0)
    gates = declared(cells.named(name))
    if gates.keeps is None:
        raise ValueError(f"{name} declares no gate that keeps its state: {gates}")
    biases = jnp.zeros(len(gates.names)).at[gates.names.index(gates.keeps)].set(mu_b)
    return Prior(sigma_w, 1.0, biases, 0.0)


@partial(jax.jit, static_argnums=0)
def diagram(name: str, sigma_w: Array, mu_b: Array, R: float, Sigma: float) -> Array:
    """xi at the points sigma_w, mu_b, (N,) each."""

    def one(point: tuple[Array, Array]) -> Array:
        ensemble = prior(name, *point)
        if name in CLOSED:
            return CLOSED[name](ensemble, R, Sigma).xi
        return theory.untied(cells.named(name), ensemble, R, Sigma).xi

    return jax.lax.map(one, (sigma_w, mu_b), batch_size=100 if name in CLOSED else None)


def run(config: Config, record: harness.Record) -> Result:
    """Compute one grid per cell."""
    G, rows = max(config.fine, config.coarse), []
    with record.progress("cells", len(config.cells)) as bar:
        for name in config.cells:
            k = config.fine if name in CLOSED else config.coarse
            top, biases = {"vanilla": (3, (-2, 2)), "minimal.bare": (10, (-4, 8))}.get(
                name, (4, (-2, 6))
            )
            sigma_w, mu_b = np.linspace(top / k, top, k), np.linspace(*biases, k)
            points = (jnp.asarray(a.ravel(), jnp.float32) for a in np.meshgrid(sigma_w, mu_b))
            xi = np.asarray(diagram(name, *points, config.R, config.Sigma)).reshape(k, k)
            rest = (0, G - k)
            rows.append(
                [np.pad(a, [rest] * a.ndim, constant_values=np.nan) for a in (sigma_w, mu_b, xi)]
            )
            record.metrics(cell=name, longest=float(np.nanmax(xi)))
            bar(1)
    return Result(np.array(config.cells), *map(np.stack, zip(*rows, strict=True)))


def table(result: Result) -> harness.Table:
    """One row per cell: the longest timescale, its place, and the width of the trainable region."""
    rows = []
    for c, name in enumerate(result.cells):
        xi = result.xi[c]
        i, j = np.unravel_index(np.nanargmax(xi), xi.shape)
        broad = np.mean(xi[np.isfinite(xi)] > 20)
        rows.append(
            (
                name,
                f"{xi[i, j]:.0f}",
                f"{result.sigma_w[c, j]:.2f}",
                f"{result.mu_b[c, i]:.2f}",
                f"{broad:.1%}",
            )
        )
    return harness.Table(("cell", "longest xi (steps)", "at sigma_w", "at mu_b", "xi > 20"), rows)


def claims(result: Result) -> dict[str, float]:
    """The numbers that the docstring states."""
    of = {}
    for c, name in enumerate(result.cells):
        k = int(np.isfinite(result.sigma_w[c]).sum())
        of[str(name)] = result.sigma_w[c, :k], result.mu_b[c, :k], result.xi[c, :k, :k]
    (sigma_w, mu_b, xi), (_, bias, grown) = of["vanilla"], of["minimal.bare"]
    i, j = np.unravel_index(xi.argmax(), xi.shape)
    return {
        "vanilla: longest xi, steps": xi[i, j],
        "vanilla: sigma_w of the longest xi": sigma_w[j],
        "vanilla: |mu_b| of the longest xi": abs(mu_b[i]),
        "vanilla: greatest mu_b": mu_b[-1],
        "vanilla: longest xi at the greatest mu_b": xi[-1].max(),
        "vanilla: its sigma_w": sigma_w[xi[-1].argmax()],
        "vanilla: % of the grid where xi > 20": 100 * np.mean(xi > 20),
        "minimal.bare: % of the grid where xi > 20": 100 * np.mean(grown > 20),
        "minimal.bare: least growth of xi from one mu_b to the next": np.diff(grown, axis=0).min(),
        "minimal.bare: greatest mu_b": bias[-1],
        "minimal.bare: least xi there": grown[-1].min(),
        "minimal.bare: greatest xi there": grown[-1].max(),
    }


def plot(result: Result) -> Figure:
    """One panel per cell."""
    C = len(result.cells)
    figure = Figure(figsize=(3.1 * C + 0.8, 3.6), layout="constrained")
    axes = figure.subplots(1, C, squeeze=False)[0]
    for c, (name, ax) in enumerate(zip(result.cells, axes, strict=True)):
        k = int(np.isfinite(result.sigma_w[c]).sum())
        grid = result.sigma_w[c, :k], result.mu_b[c, :k]
        picture.phase_diagram(result.xi[c, :k, :k], *grid, ax, bar=c == C - 1)
        ax.set(title=name, xlabel=r"$\sigma_w$")
    axes[0].set_ylabel(r"$\mu_b$ of the gate that keeps")
    figure.suptitle("How long two sequences stay distinguishable, redrawn weights")
    return figure


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
