"""What made a run, its flags and its code: every file of the run carries it."""

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
    """Flags and code as text; equal for two runs that must end the same."""
    return {name: str(value) for name, value in flags.items() if name not in ASIDE} | {"code": code}


def fingerprint(origin: Mapping[str, str]) -> str:
    """Eight hexadecimal digits that stand for an origin."""
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:8]


def code_version(*more: Path) -> str:
    """The version of recur and a hash of its source files, those of experiments, and `more`."""
    roots = [Path(recur.__file__).parent, Path(__file__).parent]
    files = [(path.relative_to(root.parent), path) for root in roots for path in root.rglob("*.py")]
    files += [(Path(path.name), path) for path in more]
    hash = hashlib.sha256()
    for name, path in sorted(files):
        hash.update(f"{name.as_posix()}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return f"{recur.__version__}+{hash.hexdigest()[:12]}"


def version(package: str) -> str:
    """The version of a package, where it is installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A line for each name whose values differ."""
    return [
        f"  {name}: {then.get(name)} then, {now.get(name)} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]


def read(path: Path) -> tuple[dict[str, str], list[str]]:
    """(origin, fingerprints of all that worked on the run) in a config.json.

    Leaves, saying what to do, where the file is not what was written.
    """
    try:
        said = json.loads(path.read_bytes())
        found = origin(said["config"], said["code"])
        whole = said["runs"][-1] == fingerprint(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        whole = False
    if not whole:
        raise SystemExit(
            f"error: {path} is damaged, or older than this code. Remove it and go on with "
            "--resume: the checkpoints say what made them. Or start anew without --resume"
        )
    return found, [str(run) for run in said["runs"]]


def strangers(path: Path, runs: Iterable[str]) -> set[str]:
    """The fingerprints in the lines of a metrics.jsonl that are none of `runs`."""
    found = set()
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            found.add(json.loads(line)["run"])
        except (ValueError, KeyError, TypeError):  # cut or damaged: it is written again
            continue
    return {str(run) for run in found} - set(runs)
