"""Progress messages of a report: a line when a phase begins and a line when it ends."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]
BEAT = 10.0  # seconds between two lines about the same phase


@contextmanager
def phase(label: str, say: Say) -> Iterator[None]:
    """Say that work begins, every BEAT seconds that it is still running, and how long it took."""
    begin, over = time.perf_counter(), threading.Event()

    def line(word: str = "") -> None:
        say(f"{label}: {word}{time.perf_counter() - begin:.0f} s")

    def beat() -> None:
        while not over.wait(BEAT):
            line()

    say(f"{label} ...")
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    end = "stopped after "
    try:
        yield
        end = "done in "
    finally:
        over.set()
        thread.join()
        line(end)
