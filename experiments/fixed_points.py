"""How does a network store bits, or a sum? Its fixed points, and how fast it leaves them.

Two tanh networks are trained. One stores the last sign of each of three inputs
(`tasks.flip_flop`), the other the sum of all inputs (`tasks.integrator`). Then both run without
input. For the first, a search for fixed points starts from states between those of its
trajectories. For the second, states run forward until they reach slow points, where the state
hardly changes. There is no search, because Newton's method would move them to the few exact fixed
points on the line of slow points.

Claim: the network of bits has a stable fixed point for each of the 8 memories, and saddles between
them. In the default run there are 12 saddles with one unstable direction, between memories that
differ in one bit, 6 with two, and 1 with three. The integrator has a line of slow points. Each has
one eigenvalue near 1, here from .970 to 1.011, and the next one is at most .521. The sum drifts by
.243 in 50 steps (root mean square), of which .0135 is not predicted.

At a point s, let lambda be the slowest eigenvalue, l and r its left and right eigenvectors, and c
the readout. Then the predicted drift in t steps is

    (c . r) (l . (F(s) - s)) (lambda^t - 1) / (lambda - 1)

Everything but the training is computed in float64. Sussillo and Barak 2013, Neural Computation
25:626.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import harness
from recur import analysis, scan, tasks, train
from recur import plot as picture
from recur.cells import vanilla
from recur.core import Prior


@dataclass(frozen=True)
class Config(harness.Config):
    """Fixed points of a network that stores bits, and slow points of one that stores a sum."""

    n: int = 64
    """Units of each network."""
    sigma_w: float = 0.5
    """sigma_w of the initial weights. At 1, the trained integrator also has an endless rotation."""
    bits: int = 3
    """Number of signs that the first network stores."""
    T: int = 50
    """Steps of each training sequence."""
    updates: int = 2000
    """Updates of each network."""
    every: int = 500
    """Updates between two checkpoints."""
    batch: int = 64
    """Sequences per update."""
    learning_rate: float = 2e-3
    """Adam's initial rate; it falls to zero along a cosine. Gradients are clipped to norm 1."""
    starts: int = 300
    """Number of states from which the search for fixed points starts."""
    forward: int = 50
    """Steps that the integrator runs to reach its slow points."""
    drift: int = 50
    """Steps over which the integrator's drift is measured."""

    def __post_init__(self) -> None:
        """Check the flags before any work is done."""
        self.require_divides("every", "updates")
        self.require_counts("n", "starts", "forward", "drift")
        tasks.flip_flop(self.T, self.bits)


class Result(NamedTuple):
    """K = updates / every; P points of the bits, Q of the sum; B sequences of T steps."""

    losses: np.ndarray  # (2, K) mean squared error since the measurement before: bits, sum
    baselines: np.ndarray  # (2,) losses of the best answer without memory
    points: np.ndarray  # (P, n) distinct fixed points
    distance: np.ndarray  # (P,) length of Newton's next step
    eigenvalues: np.ndarray  # (P, n) slowest first
    right: np.ndarray  # (P, n, n) right eigenvectors
    answers: np.ndarray  # (P, bits) readout at the points
    paths: np.ndarray  # (B, T, n) states along sequences of bits
    search: np.ndarray  # () how the search ended, in words
    slow: np.ndarray  # (Q, n) slow points of the sum
    speed: np.ndarray  # (Q,) |F(s) - s|^2 / 2 there
    spectra: np.ndarray  # (Q, n) eigenvalues there, slowest first
    sums: np.ndarray  # (Q,) readout there
    predicted: np.ndarray  # (Q,) drift of the sum, predicted from the slowest mode
    seen: np.ndarray  # (Q,) drift of the sum, measured by running the network
    drift: np.ndarray  # () number of steps of the drift
    integrals: np.ndarray  # (B, T, n) states along sequences of sums


class Params(NamedTuple):
    """A tanh network and the readout of its state."""

    rnn: vanilla.Params
    R: Array  # (n, k)
    c: Array  # (k,)


def run(config: Config, record: harness.Record) -> Result:
    """Train both networks, then find their points."""
    both = tasks.flip_flop(config.T, config.bits), tasks.integrator(config.T)
    (bits, one), (total, two) = (
        fit(name, task, config, record)
        for name, task in zip(("flip-flop", "integrator"), both, strict=True)
    )
    key = jax.random.key(config.seed + 1)
    with jax.enable_x64(True):
        bits, total = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (bits, total))
        with record.progress("searching for fixed points"):
            found = standing(bits, both[0], key, config)
        with record.progress("following the drift"):
            line = drifting(total, both[1], key, config)
    baselines = np.array([task.baseline.loss for task in both])
    return Result(np.stack([one, two]), baselines, *found, *line)


def fit(
    name: str, task: tasks.Task, config: Config, record: harness.Record
) -> tuple[Params, np.ndarray]:
    """Train a network; returns it and its losses (K,)."""
    rate = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def loss(params: Params, batch: tasks.Batch) -> Array:
        _, hs = scan.run(vanilla.cell, params.rnn, batch.xs)
        return tasks.loss(hs @ params.R + params.c, batch.targets)

    def learn(state: train.State) -> tuple[train.State, Array]:
        def sample(key: Array) -> tasks.Batch:
            return task.sample(key, config.batch)

        return train.advance(loss, optimizer, sample, state, config.every, config.every)

    weights, batches = jax.random.split(jax.random.key(config.seed))
    k = task.outputs
    rnn = vanilla.init(weights, Prior(config.sigma_w), task.inputs, config.n)
    params = Params(rnn, jnp.zeros((config.n, k)), jnp.zeros(k))
    state, learn = train.start(batches, params, optimizer), jax.jit(learn)
    losses = np.zeros(config.updates // config.every)

    def measured(k: int, state: train.State, losses: np.ndarray) -> tuple[train.State, dict]:
        state, found = learn(state)
        losses[k] = found[0]
        return state, {"loss": losses[k], "diverged": state.diverged}

    state, losses = record.rounds(name, config.updates, config.every, state, losses, measured)
    return state.params, losses


def along(params: Params, task: tasks.Task, key: Array, B: int) -> Array:
    """States along B sequences, (B, T, n)."""
    xs = task.sample(key, B).xs.astype(params.R.dtype)
    return scan.run(vanilla.cell, params.rnn, xs)[1].swapaxes(0, 1)


def between(key: Array, paths: Array, starts: int) -> Array:
    """Random states between two states of the paths, (starts, n)."""
    pick, share = jax.random.split(key)
    flat = paths.reshape(-1, paths.shape[-1])
    one, two = flat[jax.random.randint(pick, (2, starts), 0, len(flat))]
    u = jax.random.uniform(share, (starts, 1), flat.dtype)
    return u * one + (1 - u) * two


def standing(params: Params, task: tasks.Task, key: Array, config: Config) -> tuple:
    """The fields of Result from points to search."""
    body, x = scan.tied(vanilla.cell, params.rnn), jnp.zeros(task.inputs)
    draws, picks = jax.random.split(key)

    @jax.jit
    def search(key: Array) -> tuple[Array, analysis.Points]:
        paths = along(params, task, draws, 10)
        starts = between(key, paths, config.starts)
        return paths, analysis.fixed_points(body, starts, x, newton=40)

    paths, points = jax.device_get(search(picks))
    kept = analysis.distinct(points)
    kept = jax.tree.map(lambda leaf: leaf[np.asarray(kept.fixed)], kept)
    about = jax.device_get(jax.jit(lambda s: analysis.modes(body, s, x))(kept.states))
    answers = kept.states @ np.asarray(params.R) + np.asarray(params.c)
    return (
        kept.states,
        kept.distance,
        about.eigenvalues,
        about.right,
        answers,
        paths,
        np.array(analysis.describe_points(points)),
    )


def drifting(params: Params, task: tasks.Task, key: Array, config: Config) -> tuple:
    """The fields of Result from slow to integrals."""
    body, x = scan.tied(vanilla.cell, params.rnn), jnp.zeros(task.inputs)
    t = config.drift

    @jax.jit
    def follow(key: Array) -> tuple:
        paths = along(params, task, key, 80)
        ends = paths[:, -1]
        found = analysis.fixed_points(body, ends, x, descent=0, newton=0, forward=config.forward)
        s, about = found.states, analysis.modes(body, found.states, x)
        velocity = (jax.vmap(lambda s: body(s, x)[0])(s) - s).astype(complex)
        value, right, left = about.eigenvalues[:, 0], about.right[:, 0], about.left[:, 0]
        pushed = jnp.sum(left * velocity, axis=1) * (right @ params.R[:, 0].astype(complex))
        predicted = pushed * (value**t - 1) / (value - 1)
        later = jax.lax.fori_loop(0, t, lambda _, s: jax.vmap(lambda s: body(s, x)[0])(s), s)
        sums = s @ params.R[:, 0] + params.c[0]
        seen = (later - s) @ params.R[:, 0]
        return s, found.speed, about.eigenvalues, sums, predicted.real, seen, jnp.array(t), paths

    return jax.device_get(follow(key))


def memories(result: Result) -> np.ndarray:
    """Whether each point is stable, (P,)."""
    return (np.abs(result.eigenvalues) < 1).all(axis=1)


def unstable(result: Result) -> np.ndarray:
    """The number of growing modes at each point, (P,)."""
    return (np.abs(result.eigenvalues) > 1).sum(axis=1)


def table(result: Result) -> harness.Table:
    """The findings for both networks."""
    growing, stable = unstable(result), memories(result)
    signs = {tuple(row) for row in np.sign(result.answers[stable]).astype(int)}
    slow = np.abs(result.spectra[:, :2])
    error = np.abs(result.predicted - result.seen)
    rows = [
        ("bits: error / baseline", f"{result.losses[0, -1] / result.baselines[0]:.4f}"),
        ("search", str(result.search)),
        ("stable fixed points, and memories among them", f"{stable.sum()}, {len(signs)}"),
        *(
            (f"saddles with {k} unstable directions", str((growing == k).sum()))
            for k in range(1, growing.max(initial=0) + 1)
        ),
        ("sum: error / baseline", f"{result.losses[1, -1] / result.baselines[1]:.4f}"),
        ("slowest eigenvalue along the line", f"{slow[:, 0].min():.4f} to {slow[:, 0].max():.4f}"),
        ("the next one, at most", f"{slow[:, 1].max():.3f}"),
        (
            f"drift in {result.drift} steps, root mean square",
            f"{np.sqrt(np.mean(result.seen**2)):.4f}",
        ),
        ("of it not predicted", f"{np.sqrt(np.mean(error**2)):.4f}"),
    ]
    return harness.Table(("quantity", "found"), rows)


def claims(result: Result) -> dict[str, float]:
    """The numbers that the docstring states."""
    growing, slow = unstable(result), np.abs(result.spectra)
    return {
        "memories": memories(result).sum(),
        "saddles with one unstable direction": (growing == 1).sum(),
        "saddles with two": (growing == 2).sum(),
        "saddles with three": (growing == 3).sum(),
        "slowest eigenvalue, least": slow[:, 0].min(),
        "slowest eigenvalue, greatest": slow[:, 0].max(),
        "the next one, greatest": slow[:, 1].max(),
        f"drift in {result.drift} steps, root mean square": np.sqrt(np.mean(result.seen**2)),
        "of it not predicted": np.sqrt(np.mean((result.predicted - result.seen) ** 2)),
    }


def plot(result: Result) -> Figure:
    """Plot points, eigenvalues and drift: the bits in the top row, the sum in the bottom row."""
    figure = Figure(figsize=(13.5, 9), layout="constrained")
    grid = figure.add_gridspec(2, 3)
    points = analysis.Points(result.points, 0 * result.distance, result.distance)
    stability = analysis.Stability(
        result.eigenvalues, memories(result), timescales(result.eigenvalues), result.right
    )
    solid = figure.add_subplot(grid[0, 0], projection="3d")
    picture.fixed_points(points, stability, result.paths, solid)
    solid.set_box_aspect(None, zoom=0.85)  # so that its labels are not cut off
    solid.set_title("Three bits: fixed points and trajectories")
    flat = figure.add_subplot(grid[0, 1])
    picture.fixed_points(points, stability, result.paths, flat)
    flat.set_title("The same in two components")
    ax = figure.add_subplot(grid[0, 2])
    picture.eigenvalues(stability, ax)
    ax.set_title("Eigenvalues at all points")

    ax = figure.add_subplot(grid[1, 0])
    slow = analysis.Points(result.slow, result.speed, np.full(len(result.slow), np.inf))
    picture.fixed_points(slow, None, result.integrals[:8], ax)
    ax.set_title("A sum: slow points and trajectories")
    _line(figure.add_subplot(grid[1, 1]), result)
    _drift(figure.add_subplot(grid[1, 2]), result)
    figure.suptitle("Networks without input: bits are fixed points, a sum is a line of slow points")
    return figure


def timescales(eigenvalues: np.ndarray) -> np.ndarray:
    """Steps in which a mode changes by a factor e."""
    return 1 / np.abs(np.log(np.abs(eigenvalues)))


def _line(ax: Axes, result: Result) -> None:
    moduli = np.abs(result.spectra)
    for i, label in enumerate(("slowest mode", "the next one")):
        marker = "oD"[i]
        ax.plot(result.sums, moduli[:, i], marker, ms=4, color=picture.COLOURS[i], label=label)
    ax.axhline(1, color="k", lw=0.7)
    ax.set(
        xlabel="sum stored at the point",
        ylabel="modulus of the eigenvalue",
        title="One eigenvalue is near 1 along the line",
    )
    ax.legend(fontsize=8)


def _drift(ax: Axes, result: Result) -> None:
    ends = np.array([result.seen.min(), result.seen.max()])
    ax.plot(ends, ends, "k-", lw=0.7, label="equal")
    ax.plot(result.predicted, result.seen, "o", ms=4, color=picture.COLOURS[0], label="points")
    ax.set(
        xlabel="predicted by the slowest mode",
        ylabel="seen",
        title=f"Drift of the sum in {result.drift} steps",
    )
    ax.legend(fontsize=8)


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
