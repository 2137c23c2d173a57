"""Sweeps over devices and processes; this module is the experiment that they run."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

from experiments import harness
from recur import Prior, analysis, cells, scan, train

ROOT = Path(__file__).parents[2]
CELL = cells.vanilla.cell
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))


@dataclass(frozen=True)
class Config(harness.Config):
    """A sweep of three."""


class Result(NamedTuple):
    losses: np.ndarray  # (members, updates)
    W: np.ndarray  # (members, n, n)


def sample(key):
    return jax.random.normal(key, (6, 4, 2))


def loss(params, xs):
    """Flossing makes for a QR on every device at once."""
    body, state = scan.tied(CELL, params), CELL.start(params)
    floss = analysis.flossing(jax.random.key(1), body, state, xs[:, 0], k=2)
    return jnp.mean((scan.run(CELL, params, xs)[1][-1] - 0.5) ** 2) + floss


def begin(key):
    return train.start(key, CELL.init(key, Prior(), 2, 8), OPTIMIZER)


def run(config, record):
    state = jax.jit(jax.vmap(begin))(jax.random.split(jax.random.key(config.seed), 3))
    member = lambda state: train.advance(loss, OPTIMIZER, sample, state, 10)  # noqa: E731
    advance = jax.jit(train.over_devices(jax.vmap(member)))

    def ten(k, state, losses):
        state, losses[:, 10 * k : 10 * k + 10] = advance(state)
        return state, {"loss": losses[:, 10 * k + 9]}

    state, losses = record.rounds("sweep", 30, 10, state, np.zeros((3, 30)), ten)
    return Result(losses, np.asarray(state.params.W))


def plot(result):
    figure = Figure()
    figure.add_subplot().plot(result.losses.T)
    return figure


def table(result):
    return harness.Table(("last loss",), [(f"{loss:.4f}",) for loss in result.losses[:, -1]])


def start(folder, *flags, **variables):
    """The experiment with flags, as a process; variables of its environment."""
    command = [
        sys.executable,
        "-m",
        "tests.experiments.test_distributed",
        "--results",
        str(folder),
        "--save-every",
        "0",
        *map(str, flags),
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    flags = os.environ.get("XLA_FLAGS", "").split()
    quick = {  # to compile
        "XLA_FLAGS": " ".join(flag for flag in flags if "device_count" not in flag),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "True",
    }
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | quick | variables, **pipes)


def finish(folder, *processes):
    """Output of the first process, and the results."""
    output = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), output
    with np.load(folder / "test_distributed" / "result.npz") as result:
        return output[0], {name: result[name] for name in set(result) - {"origin"}}


def together(folder, *flags):
    """Two processes on the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    group = ("--coordinator", address, "--processes", 2, "--devices", 1, "--process-id")
    return finish(folder, *(start(folder, *flags, *group, i) for i in range(2)))


def under_slurm(folder, *flags):
    """Two processes that are told of each other by the variables that `srun` sets."""
    job = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
    }
    tasks = [{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
    flags = (*flags, "--devices", 1)
    return finish(folder, *(start(folder, *flags, **job, **task) for task in tasks))


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    (tmp_path / "1").mkdir()
    one = run(Config(), harness.Record(tmp_path / "1"))._asdict()
    said, two = finish(tmp_path / "2", start(tmp_path / "2", "--devices", 2))
    assert "2 x cpu in 1 process" in said
    for name in one:  # the same to rounding, grown by 30 updates: programs of 3 members and of 2
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-4)

    folder = tmp_path / "both"
    said, both = together(folder)
    assert "2 x cpu in 2 process" in said
    for name in one:  # bit for bit: the devices run the same programs on the same members
        np.testing.assert_array_equal(both[name], two[name])
    lines = (folder / "test_distributed" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3  # one process writes

    saved = folder / "test_distributed" / "checkpoints" / "sweep"
    assert sorted(path.name for path in saved.iterdir()) == ["20", "30"]
    (saved / "30").rename(tmp_path / "30")  # as if killed before
    said, resumed = under_slurm(folder, "--resume")
    assert "2 x cpu in 2 process" in said
    for name, array in resumed.items():
        np.testing.assert_array_equal(array, two[name])
    assert (saved / "30").exists()


def on_four_devices(*arguments):
    """`python -m tests.meshes`, with four devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    command = [sys.executable, "-m", "tests.meshes", *arguments]
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_batch_shared_on_the_default_mesh():
    """Its axes are Explicit: passes fell over their types, or the state's, in `value_and_grad` too.

    Now they give one device's numbers, and no sequence is gathered.
    """
    on_four_devices("Explicit", "4", "vanilla", "set")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("Explicit", "2,2", "both"), marks=pytest.mark.slow),
        pytest.param(("Manual", "2,2", "vanilla"), marks=pytest.mark.long),
        pytest.param(("Auto", "4", "vanilla"), marks=pytest.mark.long),
    ],
    ids=" ".join,
)
def test_a_batch_shared_on_every_kind_of_mesh(arguments):
    on_four_devices(*arguments)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["Explicit", "Explicit set", "Manual", "Auto", "Auto set"])
@pytest.mark.parametrize("sizes", ["4", "2,2"])
def test_a_batch_shared_by_more_cells(kind, sizes):
    kind, *under = kind.split()
    on_four_devices(kind, sizes, "lstm,gru.reset_before,minimal,stack,both,learned", *under)


PLACED = """
import jax, jax.numpy as jnp
from experiments.parts.placing import placed
from recur import train

def calls(members):
    step = jax.jit(train.over_devices(jax.vmap(lambda a: jnp.tanh(a @ a))))
    for _ in range(3):
        members = step(members)
    return step._cache_size()

for members in (2, 3):
    a = jnp.ones((members, 4, 4))
    print(calls(a), calls(placed(a)), bool((placed(a) == a).all()))
"""


def test_a_sweep_that_takes_its_own_results_is_compiled_once_where_its_members_are_placed():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PLACED]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | flags, cwd=ROOT)
    assert done.stdout.splitlines() == ["2 1 True"] * 2, done.stderr


def test_members_must_agree_in_number(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    monkeypatch.setattr(
        jax, "make_mesh", lambda *_, **__: jax.sharding.AbstractMesh((2,), ("members",))
    )
    over = train.over_devices(lambda x, y: x)
    with pytest.raises(
        ValueError, match=r"share their first axis; got first axes \[\(2,\), \(3,\)\]"
    ):
        over(jnp.ones(2), jnp.ones(3))


if __name__ == "__main__":
    harness.main(Config, run, plot, table)
