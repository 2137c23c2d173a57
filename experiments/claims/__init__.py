"""The numbers that an experiment's words may state, each from the result of its default command.

    python -m experiments.phase_diagram
    python -m experiments.claims phase_diagram results

writes phase_diagram.json here: {what is counted: number}. An experiment takes part by a function
`claims(result)` in its module that gives this dictionary. A test compares every number in the
paragraph of its docstring that begins with "Claim", and in its row of docs/experiments.md, with it.
"""

import json
import re
from importlib import import_module
from math import isfinite
from pathlib import Path

from experiments import harness

FOLDER = Path(__file__).parent
NUMBER = re.compile(r"(?<![\w.:])(?:\d+(?:\.\d+)?|\.\d+)")  # of arXiv:1806.05394 none


def write(name: str, results: Path, folder: Path = FOLDER) -> Path:
    """Write <name>.json from results/<name>, where the experiment's default command left it.

    Numbers that are not finite are left out. Leaves, naming the differences, if the run had other
    flags.
    """
    module = import_module(f"experiments.{name}")
    claims = module.claims(harness.load(results / name, module.Result, module.Config()))
    path = folder / f"{name}.json"
    numbers = {what: float(f"{value:.5g}") for what, value in claims.items() if isfinite(value)}
    path.write_text(json.dumps(numbers, indent=2) + "\n")
    return path


def unsupported(text: str, claims: dict[str, float]) -> list[str]:
    """The numbers in a text that no claim equals to their digits, nor has in its name."""
    named = set(NUMBER.findall(" ".join(claims)))

    def holds(number: str) -> bool:
        digits = len(number.partition(".")[2])
        rounded = (f"{v:.{digits}f}" for v in claims.values())
        return number in named or number.lstrip("0") in {v.lstrip("0") for v in rounded}

    return [number for number in NUMBER.findall(text) if not holds(number)]
