"""Atomic writes: a file is either complete or absent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def open_folder(folder: str | os.PathLike) -> Path:
    """The folder, made if need be. Raises OSError, with what to do, where that fails."""
    path = Path(folder)
    probe = path / f".{os.getpid()}.probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise type(error)(
            f"a report is written into a folder, and {path} cannot be one "
            f"({error.strerror or error}): name another"
        ) from error
    return path


def replace(path: Path, make: Callable[[Path], Any]) -> None:
    """Make a file beside its place, then move it there in one step."""
    new = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix
    try:
        make(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
