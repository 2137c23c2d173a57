"""What a run says while it works: lines in a pipe, bars in a terminal, what time is left."""

import io
import threading

import pytest
import rich
import rich.console

from experiments import progress
from experiments.progress import Progress

pytestmark = pytest.mark.quick


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_in_a_pipe_work_is_announced_counted_and_ended(clock, capsys):
    with Progress().task("training", 4) as advance:
        advance(4)
        clock[0] = 7
    with pytest.raises(KeyboardInterrupt), Progress().task("measuring"):
        raise KeyboardInterrupt
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["training ...", "training: 4 of 4, done in 7 s"]
    assert lines[2:] == ["measuring ...", "measuring: stopped after 0 s"]


def test_in_a_pipe_long_work_says_how_far_it_is(clock, monkeypatch, capsys):
    """Also where nobody advances it, as during a compilation."""
    monkeypatch.setattr(progress, "BEAT", 0.001)
    said, real = threading.Event(), print

    def heard(*text, **how):
        real(*text, **how)
        if "2 of 4, 21 s" in text[0]:
            said.set()

    monkeypatch.setattr(progress, "print", heard, raising=False)
    with Progress().task("training", 4) as advance:
        advance(2)
        clock[0] = 21
        assert said.wait(60)  # the thread that says it has a turn at some time


def test_the_time_left_is_that_of_the_parts_before(clock, capsys):
    shown = Progress()
    for part in shown.parts("cells", ["gru", "lstm", "cfn"]):
        clock[0] += {"gru": 10, "lstm": 20, "cfn": 5}[part]
    assert capsys.readouterr().out.splitlines() == [
        "1 of 3 cells after 10 s, about 20 s left",
        "2 of 3 cells after 30 s, about 15 s left",
    ]


def test_a_terminal_has_bars_one_beside_the_other(monkeypatch):
    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    shown = Progress()
    with shown.task("compiling"), shown.task("training", 5) as advance:
        advance(3)
    assert shown.bars is None  # closed, so that others may draw
    assert "compiling" in screen.getvalue()
    assert "3/5" in screen.getvalue()


def test_other_processes_say_nothing(capsys):
    shown = Progress(quiet=True)
    with shown.task("training", 5) as advance:
        advance(5)
    assert [*shown.parts("cells", "ab")] == ["a", "b"]
    assert not capsys.readouterr().out
