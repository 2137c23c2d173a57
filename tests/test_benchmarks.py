"""Each benchmark at toy size, and that peers do the same work."""

import json
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import compile as compiling
from benchmarks import (
    flops,
    forward,
    harness,
    jacobian,
    layers,
    lyapunov,
    medians,
    memory,
    peers,
    sweep,
    sweep_members,
    train_step,
)
from recur import Prior, cells, scan

FILES = sorted(Path(harness.__file__).parent.glob("*.py"))
TINY = {"shapes": ((2, 40, 4, 3),), "rounds": 2, "peers": ("linen",)}


def weights(cell, d=3, n=5):
    """Parameters none of which is zero, from NumPy: a draw would be compiled."""
    numbers, init = np.random.default_rng(0), cells.named(cell).init
    shapes = jax.eval_shape(lambda key: init(key, Prior(), d, n), jax.random.key(0))
    return jax.tree.map(lambda a: (numbers.normal(size=a.shape) / 2).astype(a.dtype), shapes)


def sequence(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("cell", peers.STEPS)
def test_peers_that_are_here_give_the_outputs_of_the_cell_they_name(cell):
    flax = {"linen", "nnx"}  # made within the program; other packages may be unable to
    rest = tuple(name for name in layers.Config().peers if name not in flax)
    params = weights(cell)
    others = layers.installed(layers.Config(peers=rest), cell, jax.tree.map(jnp.asarray, params))

    @jax.jit
    def everything(params, xs):
        found = others | layers.installed(layers.Config(peers=tuple(flax)), cell, params)
        outputs = {}
        for name, peer in found.items():
            hs = peer.forward(peer.weights, jnp.swapaxes(xs, 0, 1) if peer.batch_first else xs)
            hs = jnp.swapaxes(hs, 0, 1) if peer.batch_first else hs
            own = peer.equal.takes(*params)  # Haiku's GRU equals another cell
            outputs[name] = hs, scan.run(peer.equal, own, xs)[1]
        return outputs

    found = everything(params, sequence(7, 2, 3))
    assert set(found) >= ({"scan", "linen", "nnx"} if cell in peers.TRANSFERRED else {"scan"})
    for name, (hs, expected) in found.items():
        np.testing.assert_allclose(hs, expected, atol=1e-5, err_msg=name)  # float32


@pytest.mark.parametrize("cell", peers.TRANSFERRED)
def test_torch_gives_the_same_outputs_and_loss(cell):
    pytest.importorskip("torch")
    params, xs = jax.tree.map(jnp.asarray, (weights(cell), sequence(7, 2, 3)))
    layer, hs = peers.Torch(cell, params, xs), scan.run(cells.named(cell), params, xs)[1]
    np.testing.assert_allclose(layer.forward(), hs, atol=1e-5)  # float32
    np.testing.assert_allclose(layer.step(), jnp.mean(hs**2), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", [train_step, forward])
def test_passes_race_and_say_so(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "rates", partial(harness.rates, 64, 1))
    config = layers.Config(**TINY, cells=("gru", "minimal"))
    benchmark.main(config, tmp_path)
    gru, minimal = json.loads((tmp_path / "results.json").read_text())["records"]
    assert set(gru["seconds"]) == {"recur", "scan", "linen"}  # one device in these tests
    assert set(minimal["seconds"]) == {"recur", "scan"}
    assert all(len(values) == 2 for values in gru["seconds"].values())
    assert gru["plan"]["engine"] == "chunked"
    summary = (tmp_path / "summary.md").read_text()
    assert "| 2,40,4,3 | gru |" in summary
    assert "geometric mean | scan by hand only" in summary
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_a_peer_that_does_other_work_is_found_out():
    a = np.arange(1.0, 4.0)
    layers.require_equal("same", a, a * (1 + 1e-6))
    with pytest.raises(ArithmeticError, match=r"other differs from recur by 1\.0e-02"):
        layers.require_equal("other", a, a - np.array([0, 0, 0.03]))
    with pytest.raises(ArithmeticError, match="nan"):
        layers.require_equal("nan", a * np.nan, a)


def test_products_are_counted():
    params, xs = weights("gru", d=3, n=5), sequence(9, 2, 3)
    forward_flops, both = flops.step_flops("gru", params, xs)
    one, inputs = 2 * 2 * 5 * 15, 2 * 2 * 3 * 15  # h @ W and x @ V, two examples
    assert forward_flops == one + inputs
    assert both == 3 * one + 2 * inputs  # state and weights; weights alone


def test_the_floor_is_what_is_slower():
    seconds = {"product": np.array([2.0, 1.0, 3.0]), "copy": np.array([4.0])}
    found = harness.floor(harness.Work(100.0, 30.0), harness.Work(10.0, 20.0), seconds)
    assert (found["arithmetic"], found["traffic"]) == (20.0, 6.0)
    assert found["seconds"] == 20


def test_turns_go_round_and_back():
    log = []
    field = {name: harness.Contestant(lambda name=name: log.append(name)) for name in "ab"}
    seconds = harness.race(field, 3)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    changes = [now for now, before in zip(log, [None, *log], strict=False) if now != before]
    assert "".join(changes) == "ababab"  # warm up; there, back, there: ab ab ba ab


@pytest.mark.long
def test_memory_is_what_run_says_it_keeps(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "LOSSES", {"final state": memory.final})
    config = memory.Config(n=8, batch=2, d=3, lengths=(256,), timed=(40,), rounds=1)
    memory.main(config, tmp_path)
    rows = json.loads((tmp_path / "results.json").read_text())["records"]["memory"]
    kept = {(row["loss"], row["memory"]): row["bytes"] for row in rows}
    assert kept["final state", "sqrt"][0] < 0.5 * kept["final state", "scan"][0]
    assert "T = 256" in (tmp_path / "summary.md").read_text()


def test_losses_by_pieces_are_those_of_the_whole():
    @jax.jit
    def both(params, xs):
        arguments = [(cells.lstm.cell, memory.KEPT[how], params, xs) for how in ("scan", "sqrt")]
        return [[loss(*each) for each in arguments] for loss in (memory.by_pieces, memory.every)]

    np.testing.assert_allclose(*both(weights("lstm"), sequence(60, 2, 3)), 1e-5)


@pytest.mark.slow
def test_compilation_and_imports_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "importing", lambda _: {"jax": [1.0, 3, 2], "recur": [3.0] * 3})
    compiling.main(compiling.Config(cells=("vanilla",), rounds=1), tmp_path)
    summary = (tmp_path / "summary.md").read_text()
    assert "| vanilla |" in summary
    assert "| 2.00 | 3.00 | 1.50 |" in summary


@pytest.mark.slow
def test_flags_reach_a_benchmark_and_devices_share_the_batch(tmp_path):
    flags = "--shapes 2 40 4 3 --cells vanilla --rounds 1 --peers linen --device cpu --results"
    command = [sys.executable, "-m", "benchmarks.train_step", *flags.split(" "), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    record = json.loads((tmp_path / "train_step" / "results.json").read_text())["records"][0]
    assert {"recur, all", "scan, all"} <= set(record["seconds"])


@pytest.mark.parametrize(
    "path", [p for p in FILES if "__main__" in p.read_text()], ids=lambda p: p.stem
)
def test_every_benchmark_shows_its_flags(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(path), run_name="__main__")
    shown = capsys.readouterr().out
    assert f"usage: python -m benchmarks.{path.stem} " in shown
    assert "every contestant" in " ".join(shown.split())


def published(folder):
    """Records and summary of a benchmark, which has drawn its picture."""
    assert (folder / "figure.png").stat().st_size > 10_000
    records = json.loads((folder / "results.json").read_text())["records"]
    return records, (folder / "summary.md").read_text()


def test_medians_say_how_often_a_contestant_fits_into_another():
    record = {
        "title": "a race",
        "seconds": {"a": [0.2, 0.8, 0.4], "b": [0.1, 0.1, 0.3], "floor": [0.05] * 3},
        "compiling": {"a": 1.0, "b": 2.0, "floor": 3.0},
        "difference": {"b": 1e-6},
    }
    shown = medians.table(record, ("a",))
    assert shown.columns[1:4] == ("median, ms", "least, ms", "a / it")
    assert shown.rows[0] == ("a", "400 ± 150", "200", "1.00", "1.00", "")
    assert shown.rows[1] == ("b", "100 ± 50", "100", "4.00", "2.00", "1.0e-06")
    record["seconds"]["a"][1] = 8.0
    assert medians.table(record, ()).rows[0][:3] == ("a", "0.4 ± 1.95", "0.2")


SWEEP = {"members": 3, "steps": 12, "n": 4, "T": 10, "batch": 2}


@pytest.mark.slow
def test_a_sweep_trains_the_same_members_and_is_timed(tmp_path):
    with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers
        sweep.main(sweep_members.Config(**SWEEP, rounds=2), tmp_path)
    record, summary = published(tmp_path)
    assert list(record["seconds"]) == [sweep.LOOP, sweep.ONE]  # one device in these tests
    assert all(len(seconds) == 2 for seconds in record["seconds"].values())
    assert record["difference"][sweep.LOOP] < 1e-5  # float32
    assert all(len(losses) == 3 for losses in record["last losses"].values())
    assert f"| {sweep.ONE} |" in summary


@pytest.mark.slow
def test_a_sweep_of_other_members_is_refused(tmp_path, monkeypatch):
    as_flax = sweep_members.as_flax
    monkeypatch.setattr(
        sweep_members,
        "as_flax",
        lambda rnn, readout: as_flax(rnn._replace(b=rnn.b + 0.01), readout),
    )
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(ArithmeticError, match="in a loop differs from recur"),
    ):
        sweep.main(sweep_members.Config(**SWEEP, rounds=1), tmp_path)


@pytest.mark.long
def test_exponents_race(tmp_path):
    lyapunov.main(lyapunov.Config(n=12, T=40, rounds=1, bits=64), tmp_path)
    (every, eight), summary = published(tmp_path)
    ways = ("default", "every = 1", "every = 2", "every = 5")
    assert list(every["difference"])[1:] == [f"recur, {way}" for way in ways]
    assert max(every["difference"].values()) < 1e-6  # float64: five steps take few of the digits
    assert list(eight["difference"])[:2] == [lyapunov.PLAIN_ALL, lyapunov.PLAIN]
    assert set(eight["seconds"]) - set(eight["difference"]) == {
        "floor: products with Q",
        "floor: factorisations",
    }
    assert 0 < eight["standard error"]["median"] <= eight["standard error"]["largest"]
    assert "gru, 8 of 12 exponents, T = 40, float64" in summary
    assert not jax.config.jax_enable_x64


def test_exponents_of_a_state_of_two_arrays_are_refused(tmp_path):
    with pytest.raises(ValueError, match="lstm is not"):
        lyapunov.main(lyapunov.Config(n=4, T=3, cell="lstm"), tmp_path)


@pytest.mark.long
def test_spectra_and_frames_race(tmp_path):
    jacobian.main(jacobian.Config(n=8, d=3, T=64, rounds=1), tmp_path)
    records, summary = published(tmp_path)
    spectra, frames = records[:2], records[2:]  # the longer sequences are the shorter ones
    assert [r["title"] for r in spectra] == [f"{c}: spectra, T = 64" for c in ("gru", "lstm")]
    assert len(frames) == 3
    for record in spectra:  # nats, of the largest values: float32
        assert max(record["difference"].values()) < 1e-3
    for record in frames:
        assert record["difference"][jacobian.STRUCTURE] < 1e-4  # float32 through 200 steps
    assert "| jacrev, an SVD a lag |" in summary
    assert "| minimal: 8 directions |" in summary
    with pytest.raises(ValueError, match="T must be 64"):
        jacobian.main(jacobian.Config(T=63), tmp_path)
