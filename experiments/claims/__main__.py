"""`python -m experiments.claims <experiment> <results folder>`; see the package's docstring."""

import sys
from pathlib import Path

from experiments.claims import write

if len(sys.argv) != 3:
    raise SystemExit("usage: python -m experiments.claims <experiment> <results folder>")
print(write(sys.argv[1], Path(sys.argv[2])))
