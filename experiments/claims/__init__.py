"""The numbers that an experiment's docstring may state, from the result of its default command.

    python -m experiments.phase_diagram
    python -m experiments.claims phase_diagram results

writes phase_diagram.json here, a dictionary {quantity: number}. The function `claims(result)` of
the experiment's module returns this dictionary. A test compares it with every number in the
docstring's paragraph that begins with "Claim", and in the experiment's row of docs/experiments.md.
"""

import json
import re
from importlib import import_module
from math import isfinite
from pathlib import Path

from experiments import harness

FOLDER = Path(__file__).parent
NUMBER = re.compile(r"(?<![\w.:])(?:\d+(?:\.\d+)?|\.\d+)")  # but not those of arXiv:1806.05394


def write(name: str, results: Path, folder: Path = FOLDER) -> Path:
    """Write <name>.json from results/<name>, which the experiment's default command has written.

    Omits numbers that are not finite. Exits and lists the differences if the run had other flags.
    """
    module = import_module(f"experiments.{name}")
    claims = module.claims(harness.load(results / name, module.Result, module.Config()))
    path = folder / f"{name}.json"
    numbers = {what: float(f"{value:.5g}") for what, value in claims.items() if isfinite(value)}
    path.write_text(json.dumps(numbers, indent=2) + "\n")
    return path


def unsupported(text: str, claims: dict[str, float]) -> list[str]:
    """The numbers in a text that neither equal a rounded claim nor occur in a claim's name."""
    named = set(NUMBER.findall(" ".join(claims)))

    def holds(number: str) -> bool:
        digits = len(number.partition(".")[2])
        rounded = (f"{v:.{digits}f}" for v in claims.values())
        return number in named or number.lstrip("0") in {v.lstrip("0") for v in rounded}

    return [number for number in NUMBER.findall(text) if not holds(number)]
