"""The program for accelerators: its frame in fast tests, all of it at toy sizes in slow ones."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

from benchmarks import peers
from benchmarks.on_device import correctness, jobs, launches, record, worker
from benchmarks.on_device.jobs import Job, Program, Skip
from recur import Prior, cells, scan

main = importlib.import_module("benchmarks.on_device.__main__")
ROOT = Path(__file__).parent.parent


# --- how many kernels -----------------------------------------------------------------------------

HLO = """\
HloModule jit_f, is_scheduled=true

%fused (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  ROOT %e = f32[8]{0} exponential(%a)
}

%inner (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s = (s32[], f32[8]{0}) parameter(0)
  %g = f32[8]{0} get-tuple-element(%s), index=1
  %f.1 = f32[8]{0} fusion(%g), kind=kLoop, calls=%fused
  %f.2 = f32[8]{0} fusion(%f.1), kind=kLoop, calls=%fused
  ROOT %t = (s32[], f32[8]{0}) tuple(%s, %f.2)
}

%outer (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s = (s32[], f32[8]{0}) parameter(0)
  %w = (s32[], f32[8]{0}) while(%s), condition=%less, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
  %c = (f32[8]{0}, s8[64]{0}) custom-call(%w), custom_call_target="__cublas$gemm"
  ROOT %t = (s32[], f32[8]{0}) tuple(%c)
}

%less (s: (s32[], f32[8])) -> pred[] {
  ROOT %l = pred[] fusion(%s), kind=kLoop, calls=%fused
}

%called (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %st = ((f32[8]{0}), f32[8]{0}) copy-start(%a)
  ROOT %d = f32[8]{0} copy-done(%st)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %b = f32[2,4]{1,0} bitcast(%x)
  %w = (s32[], /*index=1*/f32[8]{0}) while(%x), condition=%less, body=%outer, backend_config={"known_trip_count":{"n":"7"}}
  %k = f32[8]{0} call(%x), to_apply=%called
  %p = f32[8]{0} conditional(%x, %k, %k), branch_computations={%called, %nothing, %fused2}
  ROOT %r = f32[8]{0} fusion(%p), kind=kInput, calls=%fused
}

%nothing (a: f32[8]) -> f32[8] {
  ROOT %a = f32[8]{0} parameter(0)
}

%fused2 (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %y = f32[8]{0} copy(%a)
  ROOT %z = f32[8]{0} sort(%y)
}
"""  # noqa: E501


def test_launches_are_counted_through_loops_calls_and_branches():
    # 7 times (5 times two fusions, and a product), a call that copies, the larger branch, a fusion
    assert launches.launches(HLO) == 7 * (5 * 2 + 1) + 1 + 2 + 1
    assert launches.launches(HLO.replace('"n":"5"', '"m":"5"')) is None  # ends when it likes
    assert launches.launches("") is None


def test_launches_of_a_program_grow_with_its_loop():
    def count(T):
        loop = jax.jit(lambda s, xs: jax.lax.scan(lambda s, x: (jnp.tanh(s @ s + x), s[0]), s, xs))
        shapes = jnp.ones((3, 3)), jnp.ones((T, 3, 3))
        return launches.launches(loop.lower(*shapes).compile().as_text())

    four, ten = count(4), count(10)
    assert four >= 2 * 4  # a product and a tanh, at least
    assert (ten - four) % 6 == 0
    assert ten > four


# --- the record -----------------------------------------------------------------------------------


def blank(folder):
    made = record.blank(record.PARTS, {"rehearsal": True})
    record.save(folder, made)
    return made


def test_shares_are_those_that_were_asked_for_and_what_is_left_goes_on():
    ends = record.deadlines(record.PARTS, 100.0)
    assert list(ends) == ["correctness", "passes", "loops", "parallel", "analyses"]
    np.testing.assert_allclose(list(ends.values()), [15, 55, 70, 85, 100])
    two = [part for part in record.PARTS if part.name in ("passes", "loops")]
    assert record.deadlines(two, 110.0) == {"passes": pytest.approx(80), "loops": 110}


def test_tables_say_what_rows_say():
    rows = [{"by": "a|b", "ms": 1.23456, "calls": 7}, {"by": "c", "error": "two\nlines"}]
    shown = record.table(rows).splitlines()
    assert shown[0] == "| by | ms | calls | error |"
    assert shown[2:] == ["| a\\|b | 1.23 | 7 |  |", "| c |  |  | two lines |"]


def test_a_record_is_replaced_as_a_whole(tmp_path, monkeypatch):
    """Killed between two bytes, or before the rename, the files are those of before."""
    made = blank(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in (record.JSON, record.MARKDOWN)]

    def killed(path, text):
        path.write_bytes(text.encode()[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        record.save(tmp_path, made | {"ended": "finished"})
    files = [(tmp_path / name).read_bytes() for name in (record.JSON, record.MARKDOWN)]
    assert files == before
    record.sweep_up(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [record.JSON, record.MARKDOWN]


# --- jobs -----------------------------------------------------------------------------------------


def fake(what, run=lambda: 1.0, timed=True, read=lambda _: [{}]):
    return Job({"what": what}, lambda: Program(run, flops=2e9), read, timed)


def failing(error):
    def make():
        raise error

    return make


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of parts whose jobs a test gives it, with a second for each."""

    def take(made, seconds=60.0):
        blank(tmp_path)
        monkeypatch.setattr(correctness, "jobs", lambda toy: made)
        one = worker.Run(tmp_path, {"correctness": time.time() + seconds}, True)
        one.take("correctness", one.prepare("correctness"))
        assert record.read(tmp_path) == one.record  # what is known is on the disk
        return one.record["parts"]["correctness"]

    monkeypatch.setattr(jobs, "SECONDS", 0.0)
    return take


def test_an_error_is_a_row_and_the_next_job_is_done(run):
    def broken():
        raise MemoryError("out of memory")

    part = run(
        [
            Job({"what": "a"}, failing(NotImplementedError("no such kernel"))),
            fake("b", run=broken),
            fake("c", read=lambda _: {}["unknown"]),
            Job({"what": "d"}, failing(Skip("cudnn has no gru"))),
            Job({"what": "e"}, failing(ModuleNotFoundError("No module named 'torch'"))),
            Job({"what": "f"}, failing(ModuleNotFoundError("No module named 'torch'"))),
            fake("g"),
        ]
    )
    rows = {row["what"]: row for row in part["rows"]}
    assert rows["a"]["error"] == "NotImplementedError: no such kernel"
    assert rows["b"]["error"] == "MemoryError: out of memory"
    assert rows["c"]["error"] == "KeyError: 'unknown'"
    assert rows["g"]["calls"] == jobs.CALLS
    assert set(rows) == set("abcg")
    assert part["notes"] == ["skipped: cudnn has no gru", "skipped: No module named 'torch'"]
    assert part["state"] == "done"


def test_a_part_stops_at_its_share(run):
    part = run([fake("a", lambda: time.sleep(0.3)), fake("b")], seconds=0.2)
    assert [row["what"] for row in part["rows"]] == ["a"]
    assert part["rows"][0]["calls"] == 0  # no time for a second one: the first call counts
    assert part["rows"][0]["ms"] >= 300
    assert part["state"] == "stopped at its share with 1 jobs to do"


def test_a_row_has_the_median_of_single_calls(monkeypatch):
    clock = [0.0]
    lengths = iter([9.0, 0.01, 0.03, 0.02, 0.01, 0.3])  # the first warms up

    def call():
        clock[0] += next(lengths)

    now = SimpleNamespace(perf_counter=lambda: clock[0], time=time.time)
    monkeypatch.setattr(jobs, "time", now)
    made = Program(call, traced=1.0, compiled=2.0, memory=3_000_000, launches=9, flops=1e9)
    (row,) = jobs.measured(fake("a"), made, time.time() + 600, lambda: 4)
    expected = {
        "calls": 5,
        "ms": 20.0,
        "least ms": 10.0,
        "first call, ms": 9000.0,
        "launches": 9,
        "TFLOP/s": 0.05,
        "temporaries, MB": 3.0,
        "compiling beside": 4,
        "traced, s": 1.0,
        "compiled, s": 2.0,
        "what": "a",
    }
    assert row == pytest.approx(expected)


def test_what_was_measured_beside_compilers_is_measured_again_in_the_quiet(tmp_path):
    blank(tmp_path)
    one = worker.Run(tmp_path, {"correctness": time.time() + 60}, True)
    busy = iter([1, 1, 0, 0, 0])  # before and after the first, then none
    one.compiling = lambda: next(busy)
    entries = [worker.Entry(fake("a"), one.pool.submit(lambda: Program(lambda: None)))]
    one.take("correctness", entries)
    (row,) = one.record["parts"]["correctness"]["rows"]
    assert row["compiling beside"] == 0


def test_no_accelerator_is_said_and_nothing_measured(tmp_path, monkeypatch):
    blank(tmp_path)
    monkeypatch.setattr(worker, "watch_parent", lambda _: None)
    arguments = {"folder": str(tmp_path), "toy": False, "ends": {}}
    assert worker.main({**arguments, "parts": ["correctness"]}) == worker.NO_DEVICE
    assert worker.NO_DEVICE == main.NO_DEVICE
    found = record.read(tmp_path)
    assert found["about"]["platform"] == "cpu"
    assert found["parts"]["correctness"]["state"] == "waiting"


# --- the watch ------------------------------------------------------------------------------------

WORKS = """
import json, os, signal, sys, time
path, name, then = sys.argv[1] + "/results.json", sys.argv[2], sys.argv[3]
found = json.load(open(path))
part = found["parts"][name]
if len(part["done"]) < 2:
    part["state"] = "running"
    found["running"] = {"part": name, "job": {"what": f"job {len(part['done'])}"}}
    json.dump(found, open(path + "~", "w"))
    os.replace(path + "~", path)
    os.kill(os.getpid(), signal.SIGSEGV) if then == "die" else time.sleep(600)
"""


def watched(folder, monkeypatch, then, *given):
    """The exit status and the record of a run whose worker begins its first part, then does this.

    After two jobs of a part it does no more.
    """

    def start(arguments, toy):
        asked.append(arguments["parts"])
        first = [arguments["folder"], arguments["parts"][0], then]
        return subprocess.Popen([sys.executable, "-S", "-c", WORKS, *first])

    asked = []
    monkeypatch.setattr(main, "start", start)
    monkeypatch.setattr(sys, "argv", ["on_device", "--rehearse", "--results", str(folder), *given])
    status = main.main(main.flags())
    return status, record.read(folder / "on_device"), asked


def test_a_worker_that_dies_is_followed_by_one_that_leaves_out_the_job(tmp_path, monkeypatch):
    given = "--parts", "passes", "loops"
    status, found, asked = watched(tmp_path, monkeypatch, "die", *given)
    assert (status, found["ended"]) == (0, "finished")
    rows = found["parts"]["passes"]["rows"]
    assert [row["what"] for row in rows] == ["job 0", "job 1"]
    assert all("died with exit status -11" in row["error"] for row in rows)
    assert asked == [["passes", "loops"]] * 3


def test_a_part_that_hangs_is_ended_and_the_next_one_begins(tmp_path, monkeypatch):
    hung = lambda folder, *_: record.read(folder)["running"] is not None  # noqa: E731
    monkeypatch.setattr(main, "late", hung)
    given = "--parts", "passes", "analyses"
    status, found, asked = watched(tmp_path, monkeypatch, "hang", *given)
    assert status == 1
    assert found["ended"] == "finished, with a part that was ended"
    assert asked == [["passes", "analyses"], ["analyses"]]
    for name in asked[0]:
        (row,) = found["parts"][name]["rows"]
        assert row["error"].startswith("the process was ended: it did not return")


def test_late_is_after_a_share_and_grace(tmp_path):
    made = blank(tmp_path)
    names = [part.name for part in record.PARTS]
    made["parts"]["correctness"]["state"] = "done"
    record.save(tmp_path, made)  # the next one is passes, which end at 55
    for seconds, late in ((54 + main.GRACE, False), (56 + main.GRACE, True)):
        shares = record.deadlines(record.PARTS, 100.0).items()
        ends = {name: time.time() - seconds + end for name, end in shares}
        assert main.late(tmp_path, names, ends) == late
    made["running"] = {"part": "loops", "job": {}}
    record.save(tmp_path, made)
    assert not main.late(tmp_path, names, ends)


def test_sigterm_ends_the_run_with_a_word(tmp_path, monkeypatch):
    folder = tmp_path / "on_device"

    def stop():
        while not (folder / record.JSON).exists() or record.read(folder)["running"] is None:
            time.sleep(0.05)
        (folder / f".1.{record.JSON}").write_text("half of a rec")  # of a worker that was killed
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop, daemon=True).start()
    status, found, _ = watched(tmp_path, monkeypatch, "hang")
    assert (status, found["ended"]) == (1, "cut off by SIGTERM")
    assert "Ended: cut off by SIGTERM." in (folder / record.MARKDOWN).read_text()
    assert sorted(p.name for p in folder.iterdir()) == [record.JSON, record.MARKDOWN]
    assert signal.getsignal(signal.SIGTERM) == before


def test_flags_are_shown(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["on_device", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main.flags()
    shown = capsys.readouterr().out
    assert "usage: python -m benchmarks.on_device" in shown
    assert "--rehearse" in shown


def test_it_needs_no_package_beyond_those_of_recur():
    """Everything but the jobs' peers imports without Tyro, Rich, Matplotlib and PyTorch."""
    absent = "{'tyro', 'rich', 'matplotlib', 'torch', 'experiments'}"
    names = ", ".join(f"benchmarks.on_device.{part.name}" for part in record.PARTS)
    watch = "import sys, importlib; importlib.import_module('benchmarks.on_device.__main__')"
    code = f"{watch}; assert 'jax' not in sys.modules; import benchmarks.on_device.worker, {names}"
    code += f"; assert not {absent} & set(sys.modules), {absent} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- peers ----------------------------------------------------------------------------------------


def weights(cell, d, n, dtype=np.float32):
    made, source = cells.named(cell), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: made.init(key, Prior(), d, n), jax.random.key(0))
    return jax.tree.map(lambda a: jnp.asarray(source.normal(size=a.shape) / 2, dtype), shapes)


def test_cudnn_gets_its_weights_in_its_order():
    d, n, T, batch = 3, 5, 7, 2
    params, xs = weights("lstm", d, n), np.random.default_rng(1).normal(size=(batch, T, d))
    xs, zeros = xs.astype(np.float32), jnp.zeros((1, batch, n))

    @jax.jit
    def both(params, xs):
        packed = rnn.unpack_lstm_weights(peers.cudnn_weights(params), d, n, 1, False)
        full = jnp.full(batch, T, jnp.int32)
        theirs = rnn.lstm_ref(xs, zeros, zeros, *packed, full, d, n, 1, 0.0, False)[0]
        return theirs, scan.run(cells.lstm.cell, params, jnp.swapaxes(xs, 0, 1))[1]

    theirs, ours = both(params, xs)
    np.testing.assert_allclose(jnp.swapaxes(theirs, 0, 1), ours, atol=1e-6)  # float32
    assert peers.cudnn("lstm", params) is None  # no GPU
    assert rnn.get_num_params_in_lstm(d, n, 1, False) == peers.cudnn_weights(params).size


@pytest.mark.parametrize("peer", ["scan", "linen", "nnx"])
def test_peers_take_the_dtype_of_the_weights(peer):
    """In bfloat16 nothing of theirs is float32, or they would be timed at other work."""
    make = peers.by_hand if peer == "scan" else peers.PEERS[peer]
    xs = jax.ShapeDtypeStruct((4, 2, 3), jnp.bfloat16)
    for cell in ("gru", "lstm"):

        def forward(params, xs, cell=cell):
            made = make(cell, params)  # traced: a draw of its own is not compiled
            return made.forward(made.weights, xs)

        with jax.numpy_dtype_promotion("standard"):
            program = jax.make_jaxpr(forward)(weights(cell, 3, 5, jnp.bfloat16), xs)
        assert program.out_avals[0].dtype == jnp.bfloat16
        loop = next(e for e in program.eqns if e.primitive.name == "scan").params["jaxpr"]
        assert "f32[2," not in str(loop), cell  # no state and no gate of float32


# --- the whole ------------------------------------------------------------------------------------


def measuring(folder):
    """Whether a process is there that measures into this folder."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # one that has just ended
            words = path.read_bytes().decode().split("\0")
            if "benchmarks.on_device.worker" in words and str(folder) in words[-2]:
                return True
    return False


def begun(folder, *flags):
    command = [
        sys.executable,
        "-m",
        "benchmarks.on_device",
        "--rehearse",
        "--minutes",
        "60",
        *flags,
    ]
    return subprocess.Popen([*command, "--results", str(folder)], cwd=ROOT)


@pytest.mark.slow
def test_the_rehearsal_takes_every_part(tmp_path):
    assert begun(tmp_path).wait() == 0
    found = record.read(tmp_path / "on_device")
    assert (found["ended"], found["running"]) == ("finished", None)
    parts = found["parts"]
    assert parts["parallel"]["state"].startswith("skipped: recur has no pass")
    for name in ("correctness", "passes", "loops", "analyses"):
        assert parts[name]["state"] == "done", name
        assert not [row for row in parts[name]["rows"] if "error" in row], name
    assert {row["right"] for row in parts["correctness"]["rows"]} == {"yes"}
    passes = {(row["pass"], row["by"]): row for row in parts["passes"]["rows"]}
    assert len(passes) >= 6
    for row in passes.values():
        assert row["ms"] > 0
        assert row["difference"] < 1e-5  # float32
        assert row["launches"] > 40 if row["by"] != "torch" else True  # a step each, at least
    summary = (tmp_path / "on_device" / record.MARKDOWN).read_text()
    assert "A rehearsal at toy sizes on a CPU" in summary
    assert "Published elsewhere, not measured here" in summary


@pytest.mark.long
def test_a_killed_run_leaves_what_it_measured(tmp_path):
    running, folder = begun(tmp_path, "--parts", "passes"), tmp_path / "on_device"
    while running.poll() is None:
        time.sleep(0.02)
        if (folder / record.JSON).exists() and record.read(folder)["parts"]["passes"]["rows"]:
            break
    running.send_signal(signal.SIGKILL)
    running.wait()
    found = record.read(folder)
    assert found["parts"]["passes"]["rows"][0]["ms"] > 0
    assert found["ended"] is None
    assert "recur, plain scan" in (folder / record.MARKDOWN).read_text()
    while measuring(folder):  # ends by itself, or this does not
        time.sleep(0.1)
