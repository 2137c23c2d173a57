"""Do perturbations neither grow nor fade in networks drawn from a critical prior?

`theory.critical` and `theory.critical_minimal` give priors with chi = 1 for weights that are
redrawn at every step. chi is the factor by which a step multiplies the mean square of a
perturbation. Networks are drawn from these priors, and a perturbation is followed for 500 steps,
with redrawn weights and with tied weights (the same weights at every step). Its growth is compared
with two theories. For redrawn weights they predict log(chi) / 2 nats per step, which is 0. For tied
weights they predict the largest Lyapunov exponent (`theory.tied`).

Claim: with redrawn weights the growth stays within .01 nats per step of 0 (-.005 MinimalRNN, -.003
GRU, -.001 LSTM; the mean of a logarithm is below the logarithm of the mean, by order 1/n). With
tied weights, which real networks have, the same priors are not critical: perturbations grow by
.015, .027 and .091 nats per step. `theory.tied` predicts this within 3 standard errors.
MinimalRNN's prior is that of arXiv:1806.05394, the others and the width are ours.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from experiments import harness
from recur import analysis, cells, scan, theory
from recur.core import Body, Prior, Recurrence, Tree

R = 0.46
untied = jax.jit(theory.untied, static_argnums=0)
KINDS = {"redrawn": "C0", "tied": "C1"}


@dataclass(frozen=True)
class Config(harness.Config):
    """Growth of perturbations in networks drawn from critical priors, redrawn and tied weights."""

    cells: tuple[str, ...] = ("minimal.bare", "gru", "lstm")
    """Names of the cells. For all but minimal.bare, the critical sigma_w is sought in 1 .. 6."""
    T: int = 500
    """Steps."""
    burn: int = 100
    """Steps before the first measured one."""
    n: int = 512
    """Width."""
    d: int = 64
    """Size of the input; minimal.bare has n inputs."""
    networks: int = 8
    """Networks of each kind."""


class Result(NamedTuple):
    """C cells, 2 kinds (redrawn, tied), S networks, T steps; nats."""

    cells: np.ndarray  # (C,) names
    sigma_w: np.ndarray  # (C,) of the critical prior
    gain: np.ndarray  # (C, 2, S, T) log |J_t v|
    theory: np.ndarray  # (C, 2, 2) predicted growth per step and its standard error


def critical(name: str) -> Prior:
    """A prior of the cell with chi = 1: the published one, or one with the right sigma_w."""
    if name == "minimal.bare":
        return theory.critical_minimal(0.0, 16.0, R)
    return theory.critical(cells.named(name), Prior(2.0, 1.0, 0.0, 0.0), R, "sigma_w", 1.0, 6.0)


@partial(jax.jit, static_argnums=(0, 3, 4, 5, 6, 7))
def gains(
    cell: Recurrence, prior: Prior, key: Array, d: int, n: int, tied: bool, burn: int, T: int
) -> Array:
    """log |J_t v|, (T,), of one network, from the state after `burn` steps."""
    draw, noise, redraw, direction = jax.random.split(key, 4)
    params = cell.init(draw, prior, d, n)
    body: Body = scan.tied(cell, params)
    xs: Tree = np.sqrt(R) * jax.random.normal(noise, (burn + T, d))
    if not tied:
        body, xs = scan.untied(cell, prior, d, n), (jax.random.split(redraw, burn + T), xs)
    before, along = (
        jax.tree.map(lambda a, s=s: a[s], xs) for s in (slice(burn), slice(burn, None))
    )
    state, _ = jax.lax.scan(body, cell.start(params), before)
    return analysis.log_gain(direction, body, state, along)


def predicted(cell: Recurrence, prior: Prior, n: int) -> np.ndarray:
    """Predicted growth per step and its standard error, (2, 2), for both kinds of weights."""
    fields = untied(cell, prior, R), theory.tied(cell, prior, R, n=n)
    return np.array([(np.log(f.chi) / 2, f.error.chi / f.chi / 2) for f in fields])


def run(config: Config, record: harness.Record) -> Result:
    """Find the critical prior of every cell, and the growth by both theories and in networks."""
    C, S, n = len(config.cells), config.networks, config.n
    keys = jax.random.split(jax.random.key(config.seed), S)
    sigma_w, theories, gain = np.zeros(C), np.zeros((C, 2, 2)), np.zeros((C, 2, S, config.T))
    with record.progress("networks", 2 * S * C) as bar:
        for c, name in enumerate(config.cells):
            cell, prior = cells.named(name), critical(name)
            sigma_w[c], theories[c] = np.mean(np.asarray(prior.sigma_w)), predicted(cell, prior, n)
            d = n if name == "minimal.bare" else config.d
            for kind, s in np.ndindex(2, S):
                gain[c, kind, s] = gains(
                    cell, prior, keys[s], d, n, bool(kind), config.burn, config.T
                )
                bar(1)
            record.metrics(
                cell=name,
                sigma_w=sigma_w[c],
                theory=theories[c, :, 0].tolist(),
                networks=gain[c, ..., -1].mean(1).tolist(),
            )
    return Result(np.array(config.cells), sigma_w, gain, theories)


def per_step(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Mean log-gain per step over networks, and its standard error, (C, 2) each."""
    rates = result.gain[..., -1] / result.gain.shape[-1]
    return rates.mean(-1), rates.std(-1, ddof=1) / np.sqrt(rates.shape[-1])


def claims(result: Result) -> dict[str, float]:
    """The numbers that the docstring states."""
    mean, error = per_step(result)
    apart = np.abs(mean - result.theory[..., 0]) / np.hypot(error, result.theory[..., 1])
    found = {
        f"{kind}: |growth| of {name}, nats a step": abs(mean[c, k])
        for c, name in enumerate(result.cells)
        for k, kind in enumerate(KINDS)
    }
    return found | {
        "redrawn: greatest |growth|, within .01": np.abs(mean[:, 0]).max(),
        "tied: standard errors between theory and networks, within 3": apart[:, 1].max(),
    }


def table(result: Result) -> harness.Table:
    """One row per cell: growth per step in theory and in networks."""
    mean, error = per_step(result)
    rows = []
    for c, name in enumerate(result.cells):
        row = [name, f"{result.sigma_w[c]:.3f}"]
        for kind in (0, 1):
            row += [
                "{:+.4f} +- {:.4f}".format(*result.theory[c, kind]),
                f"{mean[c, kind]:+.4f} +- {error[c, kind]:.4f}",
            ]
        rows.append(row)
    heads = [f"{kind}: {what}" for kind in KINDS for what in ("theory", "networks")]
    return harness.Table(("cell", "sigma_w", *heads), rows)


def plot(result: Result) -> Figure:
    """One panel per cell: log-gain of each network, and both theories as dashed lines."""
    C, T = len(result.cells), result.gain.shape[-1]
    figure = Figure(figsize=(4 * C, 3.8), layout="constrained")
    axes = figure.subplots(1, C, squeeze=False)[0]
    t = np.arange(1, T + 1)
    for c, (name, ax) in enumerate(zip(result.cells, axes, strict=True)):
        for kind, (label, colour) in enumerate(KINDS.items()):
            ax.plot(t, result.gain[c, kind].T, color=colour, lw=0.7, alpha=0.6)
            ax.plot(
                t, result.theory[c, kind, 0] * t, "--", color=colour, lw=2, label=f"{label} weights"
            )
        ax.set(title=rf"{name}, $\sigma_w$ = {result.sigma_w[c]:.2f}", xlabel="step")
    axes[0].set_ylabel("log-gain (nats)")
    axes[0].legend(title="dashed: theory", fontsize=8)
    figure.suptitle("Perturbations in networks drawn from priors with chi = 1 for redrawn weights")
    return figure


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
