"""Does a recurrence preserve all perturbations of its state equally, or only on average?

At criticality, chi = 1, the mean squared singular value of dh_T/dh_0 neither grows nor fades. Their
variance still may. The experiment measures the singular values, in float64, against T, for Gaussian
and for orthogonal W (arXiv:1806.05394, figure 4). It compares mean and variance of the squares with
`theory.spectrum`, which assumes weights redrawn at every step. Tied weights (the same W at every
step) are measured too. A network is an isometry if all singular values are 1.

Claim: with redrawn weights, mean and variance follow the theory. The vanilla network's variance is
within 6 % of it at T = 8. Only orthogonal W at criticality brings the vanilla network close to an
isometry: the squares have a variance of .02 per step, against 1.02 for Gaussian W, and .5 and 1.5
off criticality. In a MinimalRNN orthogonal W changes next to nothing, and criticality is not enough
(variance 3.4 per step at mu_b = 0). The bias of its gate brings it closer to an isometry (.38 per
step at mu_b = 5, also at chi = 1).

MinimalRNN's critical prior at mu_b = 0 is the paper's; the other priors and all sizes are ours. The
variance of n values is at most n - 1 squared means, and MinimalRNN's values have a heavy tail. So a
few networks of finite width underestimate the variance: at mu_b = 0 by 20 % at T = 8 and by half at
T = 32. With tied weights the picture is the same, except that at mu_b = 5 the variance after eight
steps is about half as large.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import harness
from recur import analysis, cells, compose, scan, theory
from recur import plot as picture
from recur.core import Body, Prior, Tree, Unitwise

R = 0.46
SETTINGS = {
    "vanilla, critical": ("vanilla", Prior(1.06, 0.025, 0.0, 0.0)),
    "vanilla, off": ("vanilla", Prior(1.5, 0.025, 0.0, 0.0)),
    "minimal, critical": ("minimal.bare", Prior(6.88, 1.39, 0.0, 0.0)),
    # theory.critical_minimal(5, 8, R)
    "minimal, critical, mu_b 5": ("minimal.bare", Prior(5.653, 2.932, 5.0, 0.0)),
    "minimal, off": ("minimal.bare", Prior(3.0, 1.39, 0.0, 0.0)),
}
CELLS = {"vanilla": cells.vanilla.cell, "minimal.bare": cells.minimal.bare}
THEORY = {"vanilla": theory.spectrum.vanilla, "minimal.bare": theory.spectrum.minimal}
INITS = {"Gaussian": picture.COLOURS[0], "orthogonal": picture.COLOURS[1]}  # and their colours
KINDS = ("redrawn", "tied")


@dataclass(frozen=True)
class Config(harness.Config):
    """Singular values of dh_T/dh_0, at criticality and off it, Gaussian and orthogonal W."""

    settings: tuple[str, ...] = tuple(SETTINGS)
    """Names of the settings, each a cell and a prior."""
    T: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Steps from h_0 to h_T."""
    n: int = 128
    """Width."""
    networks: int = 8
    """Networks of each kind."""
    burn: int = 200
    """Steps before h_0."""


class Result(NamedTuple):
    """P settings, 2 inits, 2 kinds (redrawn, tied), S networks, K values of T, n units."""

    settings: np.ndarray  # (P,) names
    T: np.ndarray  # (K,)
    logs: np.ndarray  # (P, 2, 2, S, K, n) log singular values, nats, descending
    mean: np.ndarray  # (P, max T) mean of the squares, theory
    variance: np.ndarray  # (P, 2, max T) variance of the squares / mean^2, theory


@partial(jax.jit, static_argnums=(0, 3, 4, 5, 6))
def spectra(
    cell: Unitwise, prior: Prior, key: Array, n: int, tied: bool, burn: int, Ts: tuple[int, ...]
) -> Array:
    """Log singular values of dh_T/dh_0 for each T, (K, n), of one network after `burn` steps."""
    draw, noise, redraw = jax.random.split(key, 3)
    steps = burn + max(Ts)
    params = cell.init(draw, prior, n, n)
    body: Body = scan.tied(cell, params)
    xs: Tree = np.sqrt(R) * jax.random.normal(noise, (steps, n))
    if not tied:
        body, xs = scan.untied(cell, prior, n, n), (jax.random.split(redraw, steps), xs)
    state, _ = jax.lax.scan(body, cell.start(params), jax.tree.map(lambda a: a[:burn], xs))

    along = jax.tree.map(lambda a: a[burn:], xs)

    def until(T: Array) -> Array:
        def step(state: Tree, now: tuple[Array, Tree]) -> tuple[Tree, Array]:
            t, x = now
            after, h = body(state, x)
            return jnp.where(t < T, after, state), h  # one program for every T

        return analysis.log_singular_values(step, state, (jnp.arange(max(Ts)), along))

    return jax.lax.map(until, jnp.array(Ts))


def run(config: Config, record: harness.Record) -> Result:
    """Compute the theory and measure the spectra of every setting."""
    rows = []
    with (
        jax.enable_x64(True),
        record.progress("networks", 4 * config.networks * len(config.settings)) as bar,
    ):
        keys = jax.random.split(jax.random.key(config.seed), config.networks)
        for label in config.settings:
            name, prior = SETTINGS[label]
            mean, *variances = THEORY[name](prior, R, max(config.T))
            logs = np.zeros((2, 2, len(keys), len(config.T), config.n))
            for init, kind, s in np.ndindex(logs.shape[:3]):
                cell = CELLS[name]
                cell = compose.orthogonal(cell) if init else cell
                logs[init, kind, s] = spectra(
                    cell, prior, keys[s], config.n, bool(kind), config.burn, config.T
                )
                bar(1)
            rows.append((logs, mean, np.stack(variances) / mean**2))
            record.metrics(setting=label, mean=measured(logs)[0][..., 0].mean(-1).tolist())
    stacked = map(np.stack, zip(*rows, strict=True))
    return Result(np.array(config.settings), np.array(config.T), *stacked)


def measured(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the n squared singular values, and their variance / mean^2."""
    squares = np.exp(2 * logs)
    mean = squares.mean(-1)
    return mean, squares.var(-1) / mean**2


def claims(result: Result) -> dict[str, float]:
    """The numbers that the docstring states: variances in theory, and the networks' deviation."""
    of = {}
    for label, variance in zip(result.settings, result.variance, strict=True):
        for W, of_steps in zip(INITS, variance, strict=True):
            of[f"{label}: variance of one step, {W} W"] = of_steps[0]
    vanilla = np.char.startswith(result.settings.astype(str), "vanilla")
    at = list(result.T).index(8)
    seen = measured(result.logs)[1][vanilla, :, 0, :, at].mean(axis=-1)
    of["vanilla: largest miss of the variance at T = 8, %"] = (
        100 * np.abs(seen / result.variance[vanilla][..., 7] - 1).max()
    )
    return of


def table(result: Result) -> harness.Table:
    """One row per setting and init, at T = 1 and a later T: mean of the networks +- error."""
    mean, variance = measured(result.logs)
    later = int(np.argmin(np.abs(result.T - 8)))

    def seen(values: np.ndarray) -> str:
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        return f"{values.mean():.3g} +- {error:.1g}"

    rows = []
    for p, label in enumerate(result.settings):
        for init, W in enumerate(INITS):
            row = [label, W]
            for k in (0, later):
                at = p, init, result.T[k] - 1
                row += [
                    f"{result.mean[p, at[2]]:.3g} / {seen(mean[p, init, 0, :, k])}",
                    f"{result.variance[at]:.3g} / {seen(variance[p, init, 0, :, k])}",
                    seen(variance[p, init, 1, :, k]),
                ]
            rows.append(row)
    heads = [
        f"{what}, T = {result.T[k]}"
        for k in (0, later)
        for what in ("mean s^2: theory / redrawn", "variance: theory / redrawn", "tied")
    ]
    return harness.Table(("setting", "W", *heads), rows)


def plot(result: Result) -> Figure:
    """One column per setting: singular values of one step; quantiles and variance at all T."""
    P = len(result.settings)
    figure = Figure(figsize=(3.1 * P + 0.5, 9), layout="constrained")
    axes = figure.subplots(3, P, squeeze=False)
    for p, label in enumerate(result.settings):
        for init in range(len(INITS)):
            _one_step(axes[0, p], result, p, init)
            _quantiles(axes[1, p], result, p, init)
            _variances(axes[2, p], result, p, init)
        axes[0, p].set(title=label, xlabel="singular value of one step", yticks=[])
        axes[1, p].plot(
            1 + np.arange(result.T[-1]),
            np.log(result.mean[p]) / 2,
            "k--",
            lw=1,
            label="root mean square, theory",
        )
        axes[1, p].set(xscale="log", ylim=np.log([1e-6, 1e2]))
        axes[2, p].set(xlabel="T (steps)", xscale="log", yscale="log", ylim=(1e-2, 300))
    axes[0, 0].set_ylabel("density")
    axes[1, 0].set_ylabel("singular values of $dh_T/dh_0$")
    axes[2, 0].set_ylabel("variance of their squares / mean$^2$")
    axes[0, 0].legend(fontsize=7)
    axes[1, 0].legend(fontsize=7, loc="lower left")
    axes[2, 0].legend(fontsize=7, title="line: theory", title_fontsize=7)
    figure.suptitle("Criticality fixes the mean of the squared singular values; is it an isometry?")
    return figure


def _one_step(ax: Axes, result: Result, p: int, init: int) -> None:
    W, colour = list(INITS.items())[init]
    values = np.exp(result.logs[p, init, 0, :, 0]).ravel()
    ax.hist(values, list(np.linspace(0, 4, 81)), color=colour, alpha=0.5, label=W, density=True)
    if init == 0:
        ax.axvline(np.sqrt(result.mean[p, 0]), color="k", ls="--", lw=1)


def _quantiles(ax: Axes, result: Result, p: int, init: int) -> None:
    W, colour = list(INITS.items())[init]
    logs = np.moveaxis(result.logs[p, init, 0], 1, 2)  # (S, n, K)
    picture.band(result.T, logs, ax, colour, f"{W}: median, 10-90 %")
    picture.decades(ax.yaxis)


def _variances(ax: Axes, result: Result, p: int, init: int) -> None:
    W, colour = list(INITS.items())[init]
    _, variance = measured(result.logs[p, init])  # (2, S, K)
    ax.plot(1 + np.arange(result.T[-1]), result.variance[p, init], color=colour)
    for kind, face in enumerate((colour, "none")):
        ax.plot(
            result.T,
            variance[kind].mean(0),
            "o",
            ms=5,
            color=colour,
            markerfacecolor=face,
            label=f"{W}, {KINDS[kind]}",
        )


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
