"""Folders of runs: one run in each, of one config and code; killed or damaged, it ends the same."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import folders
import jax
import numpy as np
import pytest

import recur
from experiments import harness, lock, origin

jax.devices()  # the backend starts as in other tests, before the harness can divide the CPU


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing befell."""
    return folders.main(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def once_cut(tmp_path_factory):
    return folders.interrupted(tmp_path_factory.mktemp("cut"))


@pytest.fixture
def cut(once_cut, tmp_path):
    """The folder of a run that was stopped in its last round."""
    return shutil.copytree(once_cut, tmp_path / folders.NAME)


@pytest.fixture
def quick(monkeypatch):
    """Locks whose holders are given up in a moment."""
    for name, value in (("BEAT", 0.01), ("PATIENCE", 0.2), ("LOOK", 0.01)):
        monkeypatch.setattr(lock, name, value)


# --- locks ----------------------------------------------------------------------------------------


def test_two_runs_in_one_folder_are_refused(cut):
    with lock.held(lock.take(cut)):
        who = f"process {os.getpid()} on {socket.gethostname()} is at work in"
        with pytest.raises(SystemExit, match=rf"error: {who} .*Wait .*--results"):
            folders.main(cut.parent, "--resume")
        with pytest.raises(SystemExit, match=who):
            folders.main(cut.parent)  # would delete what the other has
    assert (cut / "checkpoints" / "other").is_dir()
    assert not list(cut.glob(".lock*"))


def test_of_two_that_begin_at_once_one_at_most_holds_the_folder(tmp_path, monkeypatch):
    """One begins just after the other has looked around: it finds the other's lock."""
    look = lock._other
    monkeypatch.setattr(lock, "TRIES", 1)

    def look_then_another_begins(folder, mine):
        found = look(folder, mine)
        monkeypatch.setattr(lock, "_other", look)
        with pytest.raises(SystemExit, match="is at work in"):
            lock.take(folder)
        return found

    monkeypatch.setattr(lock, "_other", look_then_another_begins)
    mine = lock.take(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def test_a_process_is_known_by_its_number_and_its_beginning(tmp_path):
    """A number is given again; a zombie has one, too."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        living = lock._start(process.pid)
        assert living is not None
        stale = folders.stale_lock(tmp_path, pid=process.pid, start=living)
        with pytest.raises(SystemExit, match=f"process {process.pid} on"):
            lock.take(tmp_path)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        assert lock._start(process.pid) is None
    finally:
        process.kill()
        process.communicate()
    mine = lock.take(tmp_path)  # of one that is dead
    assert not stale.exists()
    mine.unlink()
    stale = folders.stale_lock(tmp_path, pid=os.getpid(), start="1")  # as if it had our number
    assert lock.take(tmp_path).exists()
    assert not stale.exists()


@pytest.mark.parametrize("name", [None, ".lock.", ".lock.1.2.3", ".lock.1.x.2.3.host"])
def test_a_holder_elsewhere_is_known_by_its_signs_of_life(tmp_path, quick, name):
    """On another machine, or where the lock does not say who it is."""
    path = folders.stale_lock(tmp_path, place="another machine", host="far.away.org")
    if name is not None:
        path = path.rename(tmp_path / name)
    with lock.held(path):  # beats
        with pytest.raises(SystemExit, match=r"is at work in") as said:
            lock.take(tmp_path)
        assert ("on far.away.org is" in str(said.value)) == (name is None)
    path = folders.stale_lock(tmp_path, place="another machine")
    mine, begin = lock.take(tmp_path), time.monotonic()
    assert not path.exists()
    mine.unlink()
    os.utime(folders.stale_lock(tmp_path, place="another machine"), (1, 1))
    lock.take(tmp_path)  # silent for long: without waiting
    assert time.monotonic() - begin < 10


WAKES = """
import signal, sys, time
from pathlib import Path
from experiments import lock

signal.signal(signal.SIGINT, getattr(signal, sys.argv[2]))
lock.BEAT = 0.01
mine = lock.take(Path(sys.argv[1]))
with lock.held(mine):
    mine.unlink()
    for _ in range(1000):
        time.sleep(0.1)
"""


@pytest.mark.parametrize("on_interrupt", ["default_int_handler", "SIG_IGN"])
def test_a_holder_that_was_given_up_stops_when_it_wakes(tmp_path, on_interrupt):
    """The second way is that of a shell's job in the background."""
    done = subprocess.run(
        [sys.executable, "-c", WAKES, str(tmp_path), on_interrupt],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "error: this run was silent" in done.stderr
    assert "another process took" in done.stderr


# --- what made a run ------------------------------------------------------------------------------


def test_the_version_of_the_code_is_that_of_its_files(tmp_path):
    """Without git: it tells a file's text and name."""
    path = tmp_path / "mine.py"
    path.write_text("x = 1\n")
    before = origin.code_version(path)
    assert before == origin.code_version(path) != origin.code_version()
    assert before.startswith(f"{recur.__version__}+")
    path.write_text("x = 2\n")
    assert origin.code_version(path) != before


def test_all_that_a_run_writes_says_what_made_it(whole):
    about = json.loads((whole / "config.json").read_text())
    made = origin.origin(about["config"], about["code"])
    assert about["runs"] == [origin.fingerprint(made)]
    assert made["rounds"] == "3"
    assert not made.keys() & set(origin.ASIDE)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert {line["run"] for line in lines} == set(about["runs"])
    assert len(lines) == 7
    with np.load(whole / "result.npz") as arrays:
        assert json.loads(str(arrays["origin"])) == made
    with folders.harness.Record(whole, True, origin=made).checkpoints("one") as saved:
        assert saved.restore((np.zeros(3), np.zeros(3)))[0] == 3


def test_other_code_is_not_resumed_unless_that_is_wanted(cut, whole, monkeypatch):
    monkeypatch.setattr(harness, "code_version", lambda *_: "0.1.0+other")
    both = r"code: .*\+\w+ then, 0.1.0\+other now"
    with pytest.raises(SystemExit, match=rf"--other-code(.|\n)*{both}"):
        folders.main(cut.parent, "--resume")
    config = (cut / "config.json").read_bytes()
    (cut / "config.json").unlink()  # the checkpoints know as well
    with pytest.raises(SystemExit, match=rf"{both}\n--other-code"):
        folders.main(cut.parent, "--resume")
    (cut / "config.json").write_bytes(config)
    with pytest.raises(SystemExit, match=r"another configuration(.|\n)*rounds: 3 then, 4 now"):
        folders.main(cut.parent, "--resume", "--other-code", "--rounds", 4)
    folders.main(cut.parent, "--resume", "--other-code")
    result = folders.left(cut)[1]
    assert result["x"] == folders.left(whole)[1]["x"]
    assert "0.1.0+other" in result["origin"]
    earlier, now = json.loads((cut / "config.json").read_text())["runs"]
    runs = [json.loads(line)["run"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert runs == [now, *[earlier] * 5, now]


def test_checkpoints_of_another_config_are_not_taken(cut, tmp_path):
    other = folders.interrupted(tmp_path / "other")
    shutil.rmtree(cut / "checkpoints")
    (other / "checkpoints").rename(cut / "checkpoints")
    (cut / "config.json").unlink()
    with pytest.raises(SystemExit, match=r"another configuration(.|\n)*seed: 0 then, 5 now"):
        folders.main(cut.parent, "--resume", "--seed", 5)


def test_a_new_start_leaves_no_checkpoint_of_the_run_before(cut):
    """A part that it did not reach had those of the other config, and `--resume` took them."""
    folders.interrupted(cut.parent, "one", 1)
    assert [path.name for path in (cut / "checkpoints").iterdir()] == ["one"]
    assert len((cut / "metrics.jsonl").read_text().splitlines()) == 2


def test_lines_of_another_run_are_refused_with_both(cut):
    path = cut / "metrics.jsonl"
    (own,) = json.loads((cut / "config.json").read_text())["runs"]
    path.write_text(path.read_text().replace(own, "0badf00d", 1))
    with pytest.raises(SystemExit, match=rf"lines of run 0badf00d, and this run is {own}\. Move"):
        folders.main(cut.parent, "--resume")


def test_a_result_is_read_with_the_config_that_made_it(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "copy")
    config = folders.Config()
    assert folders.left(whole)[1]["x"] == harness.load(folder, folders.Result, config).x.tolist()
    with pytest.raises(SystemExit, match=r"config.json is from another(.|\n)* 3 then, 4 now"):
        harness.load(folder, folders.Result, folders.Config(rounds=4))
    about = harness.describe(folders.Config(seed=1))
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(SystemExit, match=r"result.npz is from another(.|\n)*seed: 0 then, 1 now"):
        harness.load(folder, folders.Result, folders.Config(seed=1))
    shutil.copy(whole / "config.json", folder)
    path = folder / "result.npz"
    raw = path.read_bytes()
    for harmed in (b"", raw[: len(raw) // 2], raw[:60] + b"\0\0\0\0" + raw[64:], None):
        path.unlink() if harmed is None else path.write_bytes(harmed)
        with pytest.raises(SystemExit, match=r"result.npz is missing or damaged .*--resume makes"):
            harness.load(folder, folders.Result, config)


# --- kills and damage -----------------------------------------------------------------------------


def test_what_a_killed_process_left_is_cleared(cut, whole):
    folders.stale_lock(cut)
    folders.main(cut.parent, "--resume")
    assert folders.left(cut) == folders.left(whole)


@pytest.mark.parametrize("harmed", [b"", b"\xff\xfe", b'{"part": "one"}\n[1]\n', None])
def test_metrics_are_made_again_from_the_checkpoints(cut, whole, harmed):
    path = cut / "metrics.jsonl"
    path.unlink() if harmed is None else path.write_bytes(harmed)
    for _ in range(2):  # what is resumed at its end does not write them twice
        folders.main(cut.parent, "--resume")
        assert folders.left(cut) == folders.left(whole)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "\xff", '{"config": 3}', '{"config": {}'])
def test_a_damaged_config_is_said(cut, whole, text):
    if text is None:  # one digit is another, which is no other configuration
        text = (cut / "config.json").read_text().replace('"rounds": 3', '"rounds": 2')
    (cut / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SystemExit, match=r"config.json is damaged.* Remove it and go on with"):
        folders.main(cut.parent, "--resume")
    if text == "":  # the others are removed alike
        (cut / "config.json").unlink()
        folders.main(cut.parent, "--resume")
        assert folders.left(cut) == folders.left(whole)


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.json", "checkpoints", "engine.log"])
def test_a_file_that_is_a_folder_or_the_other_way_is_said(cut, name):
    path = cut / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.write_text("") if name == "checkpoints" else path.mkdir()
    with pytest.raises(SystemExit, match=rf"error: .*{name}"):
        folders.main(cut.parent, "--resume")


# Orbax opens all arrays at once and forgets those still opening when one fails
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("count", [8, pytest.param(300, marks=pytest.mark.long)])
def test_damage_ends_equal_or_in_a_sentence(count, cut, whole, tmp_path, quick):
    folders.stale_lock(cut)
    folder = tmp_path / "again" / folders.NAME
    said, equal = folders.require_equal_or_said(cut, folders.left(whole), folder, count, count)
    print(f"{count} damages: {equal} ended equal, {len(said)} in a sentence")
    assert equal + len(said) == count
    assert equal > count // 2


@pytest.mark.parametrize(
    "kills", [pytest.param(10, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.long)]
)
def test_kills_end_equal(kills, tmp_path):
    runs = folders.require_equal_after_kills(kills, tmp_path, kills)
    print(f"{kills} kills in {runs} runs, which all ended equal")
