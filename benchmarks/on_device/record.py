"""The files of a run: results.json and summary.md, each replaced as a whole.

This module imports only the standard library, since the process that watches does not import JAX.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

JSON, MARKDOWN = "results.json", "summary.md"


class Part(NamedTuple):
    """A part of the run, and which share of the minutes it may take."""

    name: str  # the module that lists its jobs
    title: str
    share: float


PARTS = (
    Part("correctness", "How right: against float64 on the device", 0.15),
    Part("passes", "How fast: forward passes and training steps of one layer", 0.40),
    Part("loops", "What the loop costs: unrolling, command buffers, drive ahead", 0.15),
    Part("parallel", "Parallel in time", 0.15),
    Part("analyses", "Analyses, a sweep, and a very long sequence", 0.15),
)

ANCHORS = """\
Published elsewhere, not measured here (H100, LSTM, batch 16, T = 1024, n = 768, bfloat16; forward |
forward and backward): cuDNN 2.0 | 5.2 ms, FlashRNN 4.9 | 13.6 ms (arXiv:2412.07752).
"""


def deadlines(parts: Sequence[Part], seconds: float) -> dict[str, float]:
    """When each part ends at the latest, in seconds from the start.

    Shares add up, so later parts get the time that a part does not use.
    """
    whole = sum(part.share for part in parts)
    ends, so_far = {}, 0.0
    for part in parts:
        so_far += part.share
        ends[part.name] = seconds * so_far / whole
    return ends


def blank(parts: tuple[Part, ...], about: dict[str, Any]) -> dict[str, Any]:
    """The record before the first measurement."""
    return {
        "about": about,
        "ended": None,
        "running": None,
        "parts": {
            part.name: {
                "title": part.title,
                "state": "waiting",
                "seconds": 0.0,
                "done": [],  # jobs that are not to be tried again
                "rows": [],
                "notes": [],
            }
            for part in parts
        },
    }


def read(folder: Path) -> dict[str, Any]:
    """The record as it was last written."""
    return json.loads((folder / JSON).read_text())


def save(folder: Path, record: dict[str, Any]) -> None:
    """Replace both files atomically. The Markdown file has everything that is in the JSON file."""
    _replace(folder / MARKDOWN, markdown(record))
    _replace(folder / JSON, json.dumps(record, indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{os.getpid()}.{path.name}")
    new.write_text(text)
    new.replace(path)


def sweep_up(folder: Path) -> None:
    """Remove files of a process that was killed while it wrote."""
    for name in (JSON, MARKDOWN):
        for left in folder.glob(f".*.{name}"):
            left.unlink()


def markdown(record: dict[str, Any]) -> str:
    """The record for a reader: what ran where, and a table for each part."""
    about = record["about"]
    lines = [f"# On a device: {about.get('device', 'not known yet')}", ""]
    if about["rehearsal"]:
        lines += ["**A rehearsal at toy sizes on a CPU: none of these times says anything.**", ""]
    said = {k: v for k, v in about.items() if k not in ("device", "rehearsal")}
    lines += ["; ".join(f"{k} {v}" for k, v in said.items()), ""]
    lines += [f"Ended: {record['ended'] or 'not yet, or cut off without a word'}.", ""]
    for name, part in record["parts"].items():
        lines += [f"## {part['title']}", "", f"{name}: {part['state']}.", ""]
        if name == "passes":
            lines += [ANCHORS]
        lines += [f"- {note}" for note in part["notes"]] + [""] * bool(part["notes"])
        lines += [table(part["rows"])] if part["rows"] else []
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of any columns, in the order in which columns first appear."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[shown(row.get(column)) for column in columns] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(value: Any) -> str:
    """A number to three digits; text on one line of a table."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
