"""Can a small recurrent network forecast sunspots?

The data are the mean number of sunspots of each year, 1700 to 2008. They are forecast one year
ahead, and many years ahead. For many years, networks run freely on their own forecasts from every
year of the test, after they have read all earlier years. The last years are the test set, and the
years before them the validation set. Each network is taken at its best validation error.

Baselines are persistence (next year equals this one), the mean of the known years, and a linear
autoregression. It is fitted by least squares, also to the validation years, and its order minimises
AIC (Akaike's information criterion). Networks and autoregression see the square root of the number,
whose spread does not grow with its level. Errors are root mean squares, in sunspots.

Claim: one year ahead every network beats persistence (20 to 24 against 30), and the autoregression
of order 9 beats every network (15.5). Free-running, the GRU beats the autoregression from one solar
cycle on: 37 +- 2 against 41 at a horizon of 11 years, 40 +- 1 against 51 at 22. At one cycle
persistence (37) is as good as the GRU, and MinimalRNN and CFN (58 and 54) are hardly better than
the mean (59).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import data, harness
from experiments.parts.placing import placed
from experiments.parts.seeds import mean_error
from recur import cells, generate, scan, train
from recur import plot as picture
from recur.flax.models import Tagger

BASELINES = ("persistence", "mean", "autoregression")


@dataclass(frozen=True)
class Config(harness.Sized):
    """Yearly sunspots, one step ahead and free-running."""

    cells: tuple[str, ...] = ("vanilla", "minimal", "cfn", "gru", "lstm")
    """Names of the cells to compare."""
    n: int = 16
    """Units of each network."""
    seeds: int = 10
    """Networks of each cell, with different seeds, trained as one vmapped program."""
    test: int = 88
    """Number of last years for the test."""
    validation: int = 44
    """Number of years before them for validation."""
    ahead: int = 22
    """Years that free runs forecast."""
    orders: int = 30
    """Largest order of the autoregression."""
    updates: int = 1000
    """Updates of each network, each on the whole training series."""
    every: int = 25
    """Updates between two validations; a checkpoint follows each."""
    learning_rate: float = 3e-3
    """Learning rate of AdamW. Gradients are clipped to norm 1."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW."""
    noise: float = 0.2
    """Standard deviation of the noise added to the training inputs, whose own is 1."""
    series: Path | None = None
    """CSV file to read instead of the sunspots: time and value >= 0, below a line of names."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        for name in self.cells:
            cells.named(name)
        self.require_divides("every", "updates")
        if not 0 < self.ahead < self.test:
            raise ValueError(f"ahead ({self.ahead}) must lie between 0 and test ({self.test})")


class Result(NamedTuple):
    """C cells, S seeds, K validations, T years, H years ahead, O = test - H + 1 origins."""

    cells: np.ndarray  # (C,) names
    times: np.ndarray  # (T,)
    values: np.ndarray  # (T,)
    test: np.ndarray  # () number of test years
    order: np.ndarray  # () order of the autoregression
    updates: np.ndarray  # (K,) updates before each validation
    losses: np.ndarray  # (C, S, K) of training: mean square error, standardised roots
    validation: np.ndarray  # (C, S, K) the same error on the validation years, one year ahead
    chosen: np.ndarray  # (C, S) updates at the best validation
    forecasts: np.ndarray  # (C, S, H, O) free-running forecasts; H begins one year ahead
    baselines: np.ndarray  # (3, H, O) of BASELINES
    truth: np.ndarray  # (H, O)
    diverged: np.ndarray  # (C, S) update at which the loss first was not finite, or -1


class Scale(NamedTuple):
    """The scale of the networks: standardised square roots."""

    centre: float
    spread: float

    def inward(self, values: np.ndarray) -> np.ndarray:
        """Convert numbers to the scale of the networks."""
        return ((np.sqrt(values) - self.centre) / self.spread).astype(np.float32)

    def outward(self, xs: np.ndarray) -> np.ndarray:
        """Convert back to numbers; negative roots become 0."""
        return np.maximum(self.centre + self.spread * np.asarray(xs, float), 0) ** 2


def regress(xs: np.ndarray, orders: int) -> np.ndarray:
    """Least-squares coefficients (1 + p,) of x_t = a_0 + a_1 x_{t-1} + ...; p minimises AIC.

    All orders are fitted to the same years, those after the first `orders` years.
    """
    y = xs[orders:]
    past = np.stack([xs[orders - lag : -lag] for lag in range(1, orders + 1)], axis=1)
    found: list[tuple[float, np.ndarray]] = []
    for p in range(1, orders + 1):
        X = np.column_stack([np.ones(len(y)), past[:, :p]])
        a = np.linalg.lstsq(X, y)[0]
        error = np.mean((y - X @ a) ** 2)
        found.append((len(y) * np.log(error) + 2 * (p + 1), a))
    return min(found, key=lambda one: one[0])[1]


def extrapolate(a: np.ndarray, xs: np.ndarray, origins: np.ndarray, ahead: int) -> np.ndarray:
    """Forecasts of the autoregression, run on its own forecasts from each origin, (ahead, O)."""
    p = len(a) - 1
    past = np.stack([xs[origins - lag] for lag in range(p)])  # newest first
    steps = []
    for _ in range(ahead):
        steps.append(a[0] + a[1:] @ past)
        past = np.concatenate([steps[-1][None], past[:-1]])
    return np.stack(steps)


def loss(model: Tagger, batch: tuple[Array, Array]) -> Array:
    """Mean square error one year ahead, without the first year."""
    xs, ys = batch
    return jnp.mean((model(xs)[..., 0] - ys) ** 2)


def free(model: Tagger, xs: Array, origins: np.ndarray, ahead: int) -> Array:
    """Free-running forecasts from each origin, (ahead, O). The last year read is xs[origin]."""
    cell, params = model.rnn.cell, model.rnn.values
    before = scan.states(cell, params, xs)
    state = jax.tree.map(lambda leaf: leaf[origins - 1], before)  # before the origin is read

    def feed(key: Array, h: Array) -> Array:
        del key
        return model.readout(h)

    found = generate.free_running(
        jax.random.key(0), scan.tied(cell, params), feed, state, xs[origins], ahead
    )
    return found[2][..., 0]


class Fitted(NamedTuple):
    """The results of one cell, with fields as in Result, and the chosen networks."""

    losses: np.ndarray
    validation: np.ndarray
    chosen: np.ndarray
    diverged: np.ndarray
    models: Tagger


def fit(name: str, xs: np.ndarray, config: Config, record: harness.Record) -> Fitted:
    """Train all seeds of a cell on xs (T, 1) as one program; checkpoints follow validations."""
    S, K = config.seeds, config.updates // config.every
    known = len(xs) - config.test
    learned = known - config.validation
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(config.learning_rate, weight_decay=config.weight_decay),
    )

    def sample(key: Array) -> tuple[Array, Array]:
        clean = jnp.asarray(xs[:learned])
        noise = config.noise * jax.random.normal(key, clean[:-1].shape, clean.dtype)
        return clean[:-1] + noise, clean[1:, 0]

    def judge(model: Tagger) -> Array:
        forecast = model(jnp.asarray(xs[: known - 1]))[learned - 1 :, 0]
        return jnp.mean((forecast - xs[learned:known, 0]) ** 2)

    def draw(key: Array) -> train.State:
        own, noise = jax.random.split(key)
        model = Tagger(cells.named(name), 1, config.n, 1, rngs=nnx.Rngs(own))
        return train.start(noise, model, optimizer)

    state = placed(jax.vmap(draw)(jax.random.split(jax.random.key(config.seed), S)))
    curves = np.full((2, S, K), np.inf)  # losses and validation
    learn = jax.vmap(
        lambda s: train.advance(loss, optimizer, sample, s, config.every, config.every)
    )
    advance = jax.jit(train.over_devices(learn))
    score = jax.jit(train.over_devices(jax.vmap(judge)))

    def judged(k: int, both: tuple[train.State, Tagger], curves: np.ndarray) -> tuple[tuple, dict]:
        state, best = both
        state, found = advance(state)
        now = np.asarray(score(state.params))
        best = _where(now < curves[1].min(axis=1), state.params, best)
        curves[:, :, k] = found[:, 0], now
        return (state, best), {"loss": curves[0, :, k], "validation": curves[1, :, k]}

    start = (state, state.params)
    (state, models), curves = record.rounds(
        name, config.updates, config.every, start, curves, judged
    )
    chosen = config.every * (1 + curves[1].argmin(axis=1))
    return Fitted(curves[0], curves[1], chosen, np.asarray(state.diverged), models)


def _where(better: np.ndarray, new: Tagger, old: Tagger) -> Tagger:
    """The new network of each seed for which it is better, the old one of the others."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(better.reshape(-1, *(1 for _ in a.shape[1:])), a, b)

    return jax.tree.map(choose, new, old)


def run(config: Config, record: harness.Record) -> Result:
    """Train every cell; forecast with cells and baselines from every origin of the test."""
    series = data.sunspots(config.series)
    T, H = len(series.values), config.ahead
    known = T - config.test
    if known - config.validation < 2 * config.orders:
        raise ValueError(
            f"{T} values, {config.test} of them for the test and {config.validation} for "
            f"validation, leave too few for orders up to {config.orders}; reduce these numbers"
        )
    if series.values.min() < 0:
        raise ValueError(
            f"values must be 0 or more, because their root is taken; got {series.values.min()}"
        )
    roots = np.sqrt(series.values[:known])
    scale = Scale(roots.mean(), roots.std())
    xs = scale.inward(series.values)
    origins = np.arange(known - 1, T - H)
    truth = np.stack([series.values[origins + h] for h in range(1, H + 1)])

    a = regress(xs[:known].astype(float), config.orders)
    baselines = np.stack(
        [
            np.broadcast_to(series.values[origins], truth.shape),
            np.full(truth.shape, series.values[:known].mean()),
            scale.outward(extrapolate(a, xs.astype(float), origins, H)),
        ]
    )
    many = jax.vmap(lambda model: free(model, jnp.asarray(xs[:, None]), origins, H))
    run_free = jax.jit(train.over_devices(many))
    fits, forecasts = [], []
    for name in config.cells:
        *kept, models = fit(name, xs[:, None], config, record)
        fits.append(kept)
        forecasts.append(scale.outward(run_free(models)))
    losses, validation, chosen, diverged = map(np.array, zip(*fits, strict=True))
    return Result(
        np.array(config.cells),
        series.times,
        series.values,
        np.array(config.test),
        np.array(len(a) - 1),
        np.arange(config.every, config.updates + 1, config.every),
        losses,
        validation,
        chosen,
        np.array(forecasts),
        baselines,
        truth,
        diverged,
    )


def rmse(forecasts: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root mean square error over the origins, (..., H)."""
    return np.sqrt(np.mean((forecasts - truth) ** 2, axis=-1))


def claims(result: Result) -> dict[str, float]:
    """RMS errors in sunspots: mean over the seeds and its standard error."""
    of = {"order of the autoregression": float(result.order)}
    for h in (1, 11, 22):
        for name, forecasts in zip(BASELINES, result.baselines, strict=True):
            of[f"{name}: RMS error at horizon {h}"] = rmse(forecasts, result.truth)[h - 1]
        for c, name in enumerate(result.cells):
            errors = rmse(result.forecasts[c], result.truth)[:, h - 1]
            of[f"{name}: RMS error at horizon {h}"] = errors.mean()
            error = errors.std(ddof=1) / np.sqrt(len(errors))
            of[f"{name}: RMS error at horizon {h}, standard error"] = error
    return of


def table(result: Result) -> harness.Table:
    """One row per baseline and cell: mean +- standard error of the seeds; errors of their mean."""
    horizons = [h for h in (1, 2, 5, 11, 22) if h <= len(result.truth)]
    rows = []
    for name, forecasts in zip(BASELINES, result.baselines, strict=True):
        errors = rmse(forecasts, result.truth)
        label = f"{name} of order {result.order}" if name == "autoregression" else name
        rows.append((label, *(f"{errors[h - 1]:.1f}" for h in horizons), "", ""))
    for c, name in enumerate(result.cells):
        errors = rmse(result.forecasts[c], result.truth)  # (S, H)
        together = rmse(result.forecasts[c].mean(axis=0), result.truth)
        rows.append(
            (
                name,
                *(mean_error(errors[:, h - 1]) for h in horizons),
                f"{together[0]:.1f}",
                f"{together[horizons[-1] - 1]:.1f}",
            )
        )
    columns = (
        "RMS error",
        *(f"{h} ahead" for h in horizons),
        "1 ahead, mean of seeds",
        f"{horizons[-1]} ahead, mean of seeds",
    )
    return harness.Table(columns, rows)


def plot(result: Result) -> Figure:
    """Plot forecasts one year ahead, two free runs, the error against the years ahead, training."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    _series(figure.add_subplot(grid[0, :]), result)
    _horizon(figure.add_subplot(grid[1, 0]), result)
    ax = figure.add_subplot(grid[1, 1])
    for c, name in enumerate(result.cells):
        for curve, style in ((result.losses[c], ":"), (result.validation[c], "-")):
            label = name if style == "-" else None
            ax.plot(result.updates, np.median(curve, axis=0), style, color=f"C{c}", label=label)
    ax.set(
        xlabel="updates",
        ylabel="mean square error, standardised roots",
        yscale="log",
        title="Training (dotted, noisy inputs), validation: median of seeds",
    )
    ax.legend(fontsize=8)
    return figure


def _series(ax: Axes, result: Result) -> None:
    """Plot the test years, and the forecasts of the cell with the best validation."""
    best = int(result.validation.min(axis=2).mean(axis=1).argmin())
    H, origins = result.truth.shape
    first = len(result.times) - int(result.test)  # of the test
    shown = slice(first - 30, None)
    ax.plot(result.times[shown], result.values[shown], "k.-", lw=1, ms=4, label="sunspots")
    ax.axvline(result.times[first], color="0.7", lw=1)
    ahead = result.forecasts[best].mean(axis=0)
    ax.plot(
        result.times[first : first + origins],
        ahead[0],
        color=f"C{best}",
        lw=1.2,
        label=f"{result.cells[best]}, one year ahead, mean of seeds",
    )
    for i, o in enumerate(range(0, origins, H)):
        times = result.times[first + o : first + o + H]
        ax.plot(
            times,
            ahead[:, o],
            "--",
            color=f"C{best}",
            lw=1.6,
            label=f"{result.cells[best]}, free-running" if i == 0 else None,
        )
        ax.plot(
            times,
            result.baselines[2, :, o],
            ":",
            color="0.4",
            lw=1.6,
            label="autoregression, free-running" if i == 0 else None,
        )
        ax.plot(times[0] - 1, result.values[first + o - 1], "o", mfc="white", color="k", ms=7)
    ax.set(
        xlabel="year",
        ylabel="sunspots",
        title="The cell with the best validation; free runs begin at the circles",
    )
    ax.legend(fontsize=8, loc="upper left")


def _horizon(ax: Axes, result: Result) -> None:
    x = np.arange(1, len(result.truth) + 1)
    for name, forecasts, style in zip(BASELINES, result.baselines, ("-.", ":", "--"), strict=True):
        ax.plot(x, rmse(forecasts, result.truth), style, color="k", lw=1.3, label=name)
    for c, name in enumerate(result.cells):
        errors = rmse(result.forecasts[c], result.truth)
        picture.band(x, errors, ax, f"C{c}", name)
    ax.set(
        xlabel="years ahead",
        ylabel="root mean square error, sunspots",
        ylim=(0, None),
        title="Free running: median and 10-90 % of seeds",
    )
    ax.legend(fontsize=8, loc="lower right", ncols=2)


PAPER = Config(preset="paper", seeds=30, updates=3000, every=50)

if __name__ == "__main__":
    harness.main(Config, run, plot, table, PAPER)
