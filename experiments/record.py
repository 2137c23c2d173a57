"""What a run leaves behind as it goes, each piece whole: metrics, checkpoints, progress."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.progress import Advance, Progress
from recur.atomic_files import replace
from recur.checkpoint import Checkpoints

Round = Callable[[int, Any, Any], tuple[Any, dict[str, Any]] | None]


class Record:
    """Where a run leaves its traces: metrics as they come, checkpoints, progress.

    Unless it is resumed, those of an earlier run are deleted. `origin` says what makes it, and
    stands in every checkpoint; `run` stands for that in every line of metrics. Of several
    processes, the first alone leaves any trace.
    """

    def __init__(
        self,
        folder: Path,
        resume: bool = False,
        save_every: float = 0.0,
        keep: int = 2,
        origin: Mapping[str, str] | None = None,
        run: str = "",
    ):
        self.folder, self.resume, self.save_every, self.keep = folder, resume, save_every, keep
        self.origin, self.run = origin, {"run": run} if run else {}
        self.shown = Progress(quiet=not first())
        self.written = False  # a line of metrics, by this process
        if not resume and first():
            forget(folder)

    def metrics(self, **values: Any) -> str:
        """Append one line to metrics.jsonl, and return it; arrays become lists."""
        line = json.dumps(values | self.run, default=_plain) + "\n"
        self._append(line)
        return line

    def _append(self, lines: str) -> None:
        """Lines for metrics.jsonl: the first of a process begin it anew.

        A resumed run writes those again whose steps are not done again: its checkpoints have them.
        """
        path = self.folder / "metrics.jsonl"
        if first() and lines:
            with writing(path), path.open("a" if self.written else "w", encoding="utf-8") as file:
                file.write(lines)
            self.written = True

    def checkpoints(self, label: str) -> Checkpoints:
        """The checkpoints of one part of the run; emptied first unless the run is resumed."""
        folder = self.folder / "checkpoints" / label
        saved = Checkpoints(folder, self.keep, self.save_every, self.origin)
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
        checkpointed after it, with the part's lines so far. Where nothing is left to do it returns
        None, which ends the part.
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
            lines = saved.note
            self._append(lines)
            bar(done)
            while done < steps and (after := one(done // every, state, kept)):
                state, said = after
                done += every
                lines += self.metrics(part=part, step=done, **said)
                saved.save(done, (state, kept), lines)
                bar(every)
            bar(steps - done)
        return state, kept


def first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with writing(path):
        replace(path, lambda new: new.write_text(text, encoding="utf-8"))


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


def forget(folder: Path) -> None:
    """Delete the traces of an earlier run, but for its results."""
    with writing(folder):
        for name in ("metrics.jsonl", "engine.log"):
            (folder / name).unlink(missing_ok=True)
        if (folder / "checkpoints").exists():
            shutil.rmtree(folder / "checkpoints")


def sweep(folder: Path) -> None:
    """Delete the files that killed processes were making; `replace` makes its own ones anew."""
    with writing(folder):
        for path in folder.iterdir():
            made = re.fullmatch(r"\.(\d+)\.[a-z]+\.(json|npz|png|pdf|md)", path.name)
            if made and int(made[1]) != os.getpid():
                path.unlink()


def _plain(array: Any) -> Any:
    """An array as json writes it."""
    return np.asarray(array).tolist()
