"""A small experiment, and what may befall its folder: kills at any moment, damage to any file."""

import contextlib
import io
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import harness, lock

NAME = Path(__file__).stem
stop_at = None  # (part, round) at which a run is interrupted


@dataclass(frozen=True)
class Config(harness.Config):
    """Two parts of some rounds each."""

    rounds: int = 3
    """Rounds of a part."""


class Result(NamedTuple):
    x: np.ndarray  # (2, rounds)


def run(config, record):
    """x -> 1.5 x + 1 from 1 in a part and from 2 in the other; each x is kept."""
    record.metrics(parts=2)

    def one(k, state, kept):
        if (part, k) == stop_at:
            raise KeyboardInterrupt
        kept[k] = state[0]
        return 1.5 * state + 1, {"x": float(state[0])}

    rows = []
    for first, part in enumerate(("one", "other"), start=1):
        state, kept = np.full(3, float(first)), np.zeros(config.rounds)
        rows.append(record.rounds(part, config.rounds, 1, state, kept, one)[1])
    return Result(np.stack(rows))


def plot(result):
    return Figure((1, 1))  # nothing in it: drawing takes long


def table(result):
    return harness.Table(("last",), [(f"{x:.3f}",) for x in result.x[:, -1]])


def main(results, *flags):
    """The experiment by its command line, in this process, quietly."""
    arguments = ["small", "--results", str(results), "--save-every", "0", *map(str, flags)]
    with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(io.StringIO()):
        harness.main(Config, run, plot, table)
    return results / NAME


def interrupted(results, part="other", k=2):
    """The folder of a run that was stopped in round k of a part."""
    with (
        mock.patch.object(sys.modules[__name__], "stop_at", (part, k)),
        pytest.raises(SystemExit, match="stopped; --resume continues"),
    ):
        main(results)
    return results / NAME


def left(folder):
    """What a finished run left, but for times: its files, result and metrics."""
    with np.load(folder / "result.npz") as arrays:
        result = {name: array.tolist() for name, array in arrays.items()}
    names = sorted(path.name for path in folder.iterdir())
    return names, result, (folder / "metrics.jsonl").read_text()


# --- kills ----------------------------------------------------------------------------------------


def child(results, flags, moment, seconds, log):
    """A process of its own that kills itself at its moment-th touch of a file, or in some time."""
    touched = [0]

    def watch(event, args):
        if event.startswith(("open", "os.", "shutil.")) and args and str(results) in str(args[0]):
            touched[0] += 1
            if touched[0] == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    if seconds is not None:
        kill = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        kill.daemon = True
        kill.start()
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main(results, *flags)
    print(f"touched {touched[0]}", flush=True)
    os._exit(0)  # no time for tidying up


def launch(results, *flags, moment=0, seconds=None, log):
    """The exit status of a child. It is forked from a process that has imported all it needs."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["experiments.harness", "folders"])
    process = processes.Process(target=child, args=(results, flags, moment, seconds, log))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def require_equal_after_kills(kills, place, seed=0):
    """So many SIGKILLs, over as many runs as they need; what each run leaves in the end is equal.

    Returns how many runs that were.
    """
    rng, log = np.random.default_rng(seed), place / "log"
    assert launch(place / "whole", log=log) == 0, log.read_text()
    touches, whole = int(log.read_text().split()[-1]), left(place / "whole" / NAME)
    done, runs, flags = 0, 0, []
    while done < kills or flags:
        # a third by the clock, the others in the middle of what they do to a file
        when = {"seconds": rng.uniform(0, 3)} if rng.random() < 1 / 3 else {}
        when |= {"moment": int(rng.integers(1, touches))}
        status = launch(place / "cut", *flags, log=log, **when if done < kills else {})
        if status == 0:
            assert left(place / "cut" / NAME) == whole
            shutil.rmtree(place / "cut")
            runs, flags = runs + 1, []
        else:
            assert status == -signal.SIGKILL, log.read_text()
            done += 1
            flags = ["--resume"] if rng.random() < 0.9 else []  # or anew, over what there is
            flags = flags or (["--resume"] if done == kills else [])
    return runs


# --- damage ---------------------------------------------------------------------------------------


def damage(path, rng):
    """Harm a file in one of six ways."""
    raw = bytearray(path.read_bytes())
    at = int(rng.integers(len(raw))) if raw else 0
    ways = [
        lambda: raw[:at],  # cut
        lambda: raw[:at] + bytes([raw[at] ^ 1 << int(rng.integers(8))]) + raw[at + 1 :],
        lambda: raw[:at] + b"\xff" + raw[at + 1 :],  # no UTF-8
        lambda: raw[:at] + bytes(20) + raw[at + 20 :],  # a block that was never written
        lambda: raw[:at] + raw[:20] + raw[at:],  # some of it twice
        lambda: None,  # gone
    ]
    way = int(rng.integers(len(ways))) if raw else 5
    harmed = ways[way]()
    path.unlink() if harmed is None else path.write_bytes(harmed)
    return f"{path.name} in way {way} at {at} of {len(raw)}"


def require_equal_or_said(cut, whole, folder, count, seed=0):
    """Resume copies of a run with one file damaged: what is left is equal, or a sentence is said.

    Returns the sentences, and how many were equal.
    """
    rng, said, equal = np.random.default_rng(seed), [], 0
    files = sorted(path.relative_to(cut) for path in cut.rglob("*") if path.is_file())
    often = [path for path in files if path.suffix in (".json", ".jsonl")]
    for _ in range(count):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(cut, folder)
        pool = often if rng.random() < 0.4 else files
        what = damage(folder / pool[int(rng.integers(len(pool)))], rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # which checkpoint is damaged
                main(folder.parent, "--resume")
        except SystemExit as stop:
            text = str(stop)
            assert text.startswith("error: "), what
            assert any(word in text for word in ("--resume", "anew", "emove")), (what, text)
            said.append(text)
        else:
            assert left(folder) == whole, what
            equal += 1
    return said, equal


def stale_lock(folder, **changes):
    """The lock that a process left which is gone, and a file that it was making."""
    path = lock.this_process()._replace(**{"start": "1"} | changes).lock(folder)
    path.touch()
    (folder / ".1.figure.pdf").write_bytes(b"half a figu")
    return path
