"""The origin of a run: its flags and its code. Every file of the run records it."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import recur

ASIDE = (
    "results",
    "resume",
    "save_every",
    "keep",
    "coordinator",
    "process_id",
    "other_code",
)


def origin(flags: Mapping[str, Any], code: str) -> dict[str, str]:
    """Flags and code as text. Two runs of equal origin must give the same result."""
    return {name: str(value) for name, value in flags.items() if name not in ASIDE} | {"code": code}


def fingerprint(origin: Mapping[str, str]) -> str:
    """A hash of an origin, in eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:8]


def code_version(*more: Path) -> str:
    """The version of recur, and a hash of the source files of recur, of experiments and `more`."""
    roots = [Path(recur.__file__).parent, Path(__file__).parent]
    files = [(path.relative_to(root.parent), path) for root in roots for path in root.rglob("*.py")]
    files += [(Path(path.name), path) for path in more]
    hash = hashlib.sha256()
    for name, path in sorted(files):
        hash.update(f"{name.as_posix()}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return f"{recur.__version__}+{hash.hexdigest()[:12]}"


def version(package: str) -> str:
    """The version of a package, or "unknown" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One line per name whose values differ."""
    return [
        f"  {name}: {then.get(name)} then, {now.get(name)} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def read(path: Path) -> tuple[dict[str, str], list[str]]:
    """Read (origin, fingerprints of every process that worked on the run) from a config.json.

    Exits with advice if the file is damaged.
    """
    try:
        said = json.loads(path.read_bytes())
        found = origin(said["config"], said["code"])
        whole = said["runs"][-1] == fingerprint(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        whole = False
    if not whole:
        raise SystemExit(
            f"error: {path} is damaged, or from older code. Remove it and go on with --resume, "
            "since the checkpoints record their origin too, or start over without --resume"
        )
    return found, [str(run) for run in said["runs"]]


def strangers(path: Path, runs: Iterable[str]) -> set[str]:
    """The fingerprints in the lines of a metrics.jsonl that are not among `runs`."""
    found = set()
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            found.add(json.loads(line)["run"])
        except (ValueError, KeyError, TypeError):  # a cut or damaged line will be written again
            continue
    return {str(run) for run in found} - set(runs)
