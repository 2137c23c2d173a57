"""What a run leaves behind as it goes, each piece whole: metrics, checkpoints, progress."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.progress import Advance, Progress
from recur.checkpoint import Checkpoints

Round = Callable[[int, Any, Any], tuple[Any, dict[str, Any]] | None]


class Record:
    """Where a run leaves its traces: metrics as they come, checkpoints, progress.

    Of several processes, the first alone leaves any.
    """

    def __init__(self, folder: Path, resume: bool = False, save_every: float = 0.0, keep: int = 2):
        self.folder, self.resume, self.save_every, self.keep = folder, resume, save_every, keep
        self.shown = Progress(quiet=not first())
        if not resume and first():
            (folder / "metrics.jsonl").unlink(missing_ok=True)

    def metrics(self, **values: Any) -> None:
        """Append one line to metrics.jsonl; arrays become lists."""
        path = self.folder / "metrics.jsonl"
        if first():
            with writing(path), path.open("a") as file:
                file.write(json.dumps(values, default=_plain) + "\n")

    def checkpoints(self, label: str) -> Checkpoints:
        """The checkpoints of one part of the run; emptied first unless the run is resumed."""
        saved = Checkpoints(self.folder / "checkpoints" / label, self.keep, self.save_every)
        if not self.resume:
            saved.clear()
        return saved

    def progress(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Says that this work is under way; yields a function that advances it by some steps."""
        return self.shown.task(label, total)

    def parts(self, label: str, parts: Iterable[Any]) -> Iterator[Any]:
        """The parts of the run, one after the other; says what time is left for the others."""
        return self.shown.parts(label, parts)

    def rounds(
        self, part: str, steps: int, every: int, state: Any, kept: Any, one: Round
    ) -> tuple[Any, Any]:
        """A part of the work, `every` steps at a time: killed and resumed, it ends the same.

        one(k, state, kept) -> (state, said) is round k, from 0. It takes the state, a pytree of
        arrays, `every` steps further, writes what it measures into `kept`, a pytree of NumPy
        arrays, and says what goes into a line of metrics.jsonl beside part and step. Both are
        checkpointed after it. Where nothing is left to do it returns None, which ends the part.
        """
        with self.checkpoints(part) as saved, self.progress(part, steps) as bar:
            done, (state, kept) = saved.restore((state, kept))
            if steps % every or done % every:
                raise ValueError(
                    f"{part}: rounds of {every} steps do not lead from step {done} to {steps}; "
                    "take a divisor of both, or begin anew without --resume"
                )
            if done:
                self.shown.say(f"{part} goes on from step {done} of {steps}")
            kept = jax.tree.map(np.array, kept)
            self._rewind(part, done)
            bar(done)
            while done < steps and (after := one(done // every, state, kept)):
                state, said = after
                done += every
                self.metrics(part=part, step=done, **said)
                saved.save(done, (state, jax.tree.map(np.copy, kept)))
                bar(every)
            bar(steps - done)
        return state, kept

    def _rewind(self, part: str, done: int) -> None:
        """Drop the lines of metrics.jsonl that a resumed part will write again."""
        path = self.folder / "metrics.jsonl"
        if first() and path.exists():
            lines = path.read_text().splitlines()
            write(path, "".join(line + "\n" for line in lines if _stays(line, part, done)))


def first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with writing(path):
        replace(path, lambda new: new.write_text(text))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Leave, saying what to do, if something cannot be written."""
    try:
        yield
    except OSError as error:
        raise SystemExit(
            f"error: cannot write {path} ({error.strerror or error}). What was written before is "
            "whole: make room, and go on with --resume"
        ) from error


def replace(path: Path, make: Callable[[Path], Any]) -> None:
    """Make a file beside its place, then move it there in one step."""
    new = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, which savefig reads
    try:
        make(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _stays(line: str, part: str, done: int) -> bool:
    """Whether a line of metrics.jsonl is whole, and not of this part's steps beyond `done`."""
    try:
        said = json.loads(line)
    except json.JSONDecodeError:  # cut off when the run was killed
        return False
    return said.get("part") != part or said["step"] <= done


def _plain(array: Any) -> Any:
    """An array as json writes it."""
    return np.asarray(array).tolist()
