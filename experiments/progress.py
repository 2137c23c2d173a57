"""Progress of a run: bars in a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import rich
import rich.progress
import rich.text

Advance = Callable[[int], None]
BEAT = 10.0  # seconds between two plain lines about the same work


class Rate(rich.progress.ProgressColumn):
    """Steps per second, once known."""

    def render(self, task: rich.progress.Task) -> rich.text.Text:
        """The column's text."""
        return rich.text.Text(f"{task.speed:.3g}/s" if task.speed else "")


class Count(rich.progress.MofNCompleteColumn):
    """Steps done out of the total, for work that is counted in steps."""

    def render(self, task: rich.progress.Task) -> rich.text.Text:
        """The column's text."""
        return super().render(task) if task.total != 1 else rich.text.Text("")


class Progress:
    """Reports which work begins, how far it is and how long it took. Silent if `quiet`."""

    def __init__(self, quiet: bool = False):
        self.quiet, self.terminal = quiet, rich.get_console().is_terminal
        self.bars: rich.progress.Progress | None = None
        self.open = 0

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:
        """Report some work; yields a function that advances it by some of its `total` steps."""
        show = _silence if self.quiet else self._bar if self.terminal else _lines
        with show(label, total) as advance:
            yield advance

    def say(self, text: str) -> None:
        """Print a line that stays on the screen."""
        if not self.quiet:
            rich.print(text) if self.terminal else print(text, flush=True)

    def parts(self, label: str, parts: Iterable[Any]) -> Iterator[Any]:
        """Iterate over the parts of a run, and report the remaining time after each.

        The estimate assumes that all parts take equally long.
        """
        parts, begin = list(parts), time.perf_counter()
        for done, part in enumerate(parts):
            yield part
            spent, left = time.perf_counter() - begin, len(parts) - done - 1
            if left:
                ahead = f"about {spent / (done + 1) * left:.0f} s left"
                self.say(f"{done + 1} of {len(parts)} {label} after {spent:.0f} s, {ahead}")

    @contextmanager
    def _bar(self, label: str, total: int | None) -> Iterator[Advance]:
        if self.bars is None:
            self.bars = rich.progress.Progress(
                rich.progress.TextColumn("{task.description:<40}"),
                rich.progress.BarColumn(),
                Count(),
                Rate(),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TextColumn("left"),
                rich.progress.TimeRemainingColumn(),
                console=rich.get_console(),
                refresh_per_second=2,
            )
            self.bars.start()
        self.open += 1
        bars, task = self.bars, self.bars.add_task(label, total=total)
        try:
            yield lambda steps: bars.advance(task, steps)
            if total is None:
                bars.update(task, total=1, completed=1)
        finally:
            self.open -= 1
            if not self.open:
                bars.stop()
                self.bars = None


@contextmanager
def _lines(label: str, total: int | None) -> Iterator[Advance]:
    begin, done, over = time.perf_counter(), [0], threading.Event()

    def line(word: str = "") -> None:
        steps = "" if total is None else f"{done[0]} of {total}, "
        print(f"{label}: {steps}{word}{time.perf_counter() - begin:.0f} s", flush=True)

    def beat() -> None:
        while not over.wait(BEAT):
            line()

    def advance(steps: int) -> None:
        done[0] += steps

    print(f"{label} ...", flush=True)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    end = "stopped after "
    try:
        yield advance
        end = "done in "
    finally:
        over.set()
        thread.join()
        line(end)


@contextmanager
def _silence(label: str, total: int | None) -> Iterator[Advance]:
    del label, total
    yield lambda _: None
