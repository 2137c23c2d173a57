"""The folder that a report is written into."""

import os
from pathlib import Path


def open_folder(folder: str | os.PathLike) -> Path:
    """The folder, made if it does not exist. Raises OSError, with what to do, if that fails."""
    path = Path(folder)
    probe = path / f".{os.getpid()}.probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise type(error)(
            f"a report needs a folder to write to, and {path} cannot be one "
            f"({error.strerror or error}): name another folder"
        ) from error
    return path
