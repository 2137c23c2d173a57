"""What a run writes as it goes: metrics, checkpoints and progress."""

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
    """The metrics, checkpoints and progress of a run.

    Files of an earlier run are deleted, unless that run is resumed. Every checkpoint stores
    `origin`, the flags and the code of the run. Every line of metrics stores `run`, their
    fingerprint. If there are several processes, only the first one writes.
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
        self.written = False  # whether this process has written a line of metrics
        if not resume and first():
            forget(folder)

    def metrics(self, **values: Any) -> str:
        """Append one line to metrics.jsonl, and return it; arrays become lists."""
        line = json.dumps(values | self.run, default=_plain) + "\n"
        self._append(line)
        return line

    def _append(self, lines: str) -> None:
        """Append lines to metrics.jsonl. The first lines of a process replace the file.

        A resumed run does not repeat the steps before its checkpoint, so it writes their lines
        again from the checkpoint.
        """
        path = self.folder / "metrics.jsonl"
        if first() and lines:
            with writing(path), path.open("a" if self.written else "w", encoding="utf-8") as file:
                file.write(lines)
            self.written = True

    def checkpoints(self, label: str) -> Checkpoints:
        """The checkpoints of one part of the run. They are deleted first unless it is resumed."""
        folder = self.folder / "checkpoints" / label
        saved = Checkpoints(folder, self.keep, self.save_every, self.origin)
        if not self.resume:
            saved.clear()
        return saved

    def progress(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show the progress of some work; yields a function that advances it by some steps."""
        return self.shown.task(label, total)

    def parts(self, label: str, parts: Iterable[Any]) -> Iterator[Any]:
        """Iterate over the parts of a run, and report the time that is left after each."""
        return self.shown.parts(label, parts)

    def rounds(
        self, part: str, steps: int, every: int, state: Any, kept: Any, one: Round
    ) -> tuple[Any, Any]:
        """Run a part of the work, `every` steps at a time. If killed and resumed, it ends the same.

        one(k, state, kept) -> (state, said) is round k, from 0. It advances the state, a pytree of
        arrays, by `every` steps, writes its measurements into `kept`, a pytree of NumPy arrays, and
        returns the values for a line of metrics.jsonl, beside part and step. After each round, the
        state, `kept` and the lines so far are checkpointed. A round that returns None ends the
        part early.
        """
        with self.checkpoints(part) as saved, self.progress(part, steps) as bar:
            done, (state, kept) = saved.restore((state, kept))
            if steps % every or done % every:
                raise ValueError(
                    f"{part}: rounds of {every} steps do not lead from step {done} to {steps}; "
                    "use a number that divides both, or start over without --resume"
                )
            if done:
                self.shown.say(f"{part} continues from step {done} of {steps}")
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
    """Whether this is the first process, the only one that writes files."""
    return jax.process_index() == 0


def write(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with writing(path):
        replace(path, lambda new: new.write_text(text, encoding="utf-8"))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Exit with advice if a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise SystemExit(
            f"error: cannot write {path} ({error.strerror or error}). Everything written before is "
            "whole. Free some space, and continue with --resume"
        ) from error


def forget(folder: Path) -> None:
    """Delete the metrics and checkpoints of an earlier run, but not its results."""
    with writing(folder):
        for name in ("metrics.jsonl", "engine.log"):
            (folder / name).unlink(missing_ok=True)
        if (folder / "checkpoints").exists():
            shutil.rmtree(folder / "checkpoints")


def sweep(folder: Path) -> None:
    """Delete the unfinished files of killed processes."""
    with writing(folder):
        for path in folder.iterdir():
            made = re.fullmatch(r"\.(\d+)\.[a-z]+\.(json|npz|png|pdf|md)", path.name)
            if made and int(made[1]) != os.getpid():
                path.unlink()


def _plain(array: Any) -> Any:
    """An array in a form that json can write."""
    return np.asarray(array).tolist()
