"""List all experiments: `python -m experiments`."""

import ast
from pathlib import Path

import rich
import rich.box
import rich.table

shown = rich.table.Table("python -m experiments.", "question", box=rich.box.SIMPLE)
for path in sorted(Path(__file__).parent.glob("*.py")):
    text = path.read_text()
    if "harness.main(" in text and path.stem not in ("harness", "__main__"):
        shown.add_row(path.stem, (ast.get_docstring(ast.parse(text)) or "").splitlines()[0])
rich.print(shown)
