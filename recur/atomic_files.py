"""Atomic writes: a file is either complete or absent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def replace(path: Path, make: Callable[[Path], Any]) -> None:
    """Call `make` with a path beside `path`, then move that file to `path` in one step."""
    new = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, which savefig reads
    try:
        make(new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
