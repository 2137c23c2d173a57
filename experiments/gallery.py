"""Makes the gallery of the docs, with each experiment's picture, question, claim and table.

    python -m experiments.gallery results

reads the results that default commands have written to that folder. It draws their pictures and
stores them with the tables in docs/gallery, and the numbers of their claims in experiments/claims.
Without a folder it rewrites the pages, and keeps their pictures and tables. A test compares each
page with the docstring of its experiment.
"""

import ast
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from PIL import Image

from experiments import claims, harness
from recur.atomic_files import replace

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "gallery"
WIDTH = 1200  # of a picture, in pixels
TABLE = "\n## Table\n\n"


class Shown(NamedTuple):
    """What the gallery says about an experiment, apart from its picture and table."""

    name: str
    title: str  # the question that its docstring begins with
    text: str  # the rest of the docstring, in Markdown
    minutes: str  # of its default command, from docs/experiments.md

    def page(self, table: str) -> str:
        """The whole page of the experiment."""
        return (
            f"# {self.title}\n\n![{self.name}]({self.name}.webp)\n\n{self.text}\n\n"
            f"```\npython -m experiments.{self.name}\n```\n\n"
            f"About {self.minutes} on two cores, from a clone of the repository; see\n"
            f"[Experiments](../experiments.md).\n{TABLE}{table}"
        )


def every() -> Iterator[Shown]:
    """All experiments, in the order of docs/experiments.md."""
    rows = (ROOT / "docs" / "experiments.md").read_text()
    for name, minutes in re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", rows, re.MULTILINE):
        source = (ROOT / "experiments" / f"{name}.py").read_text()
        title, _, text = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
        yield Shown(name, title, markdown(text.strip()), minutes)


def markdown(text: str) -> str:
    """A docstring in Markdown, with the characters escaped that would make a tag or emphasis."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"<(?=\w)|[*$]", r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts).replace("\nClaim", "\n**Claim**")


def table_of(page: Path) -> str:
    """The table of a page."""
    return page.read_text().partition(TABLE)[2]


def index(shown: list[Shown]) -> str:
    """The page with all pictures."""
    entries = (
        f"[{one.title}]({one.name}.md)\n\n"
        f"[![{one.name}]({one.name}.webp){{width=480px}}]({one.name}.md)\n"
        for one in shown
    )
    names = "\n".join(one.name for one in shown)
    return (
        "# Gallery\n\nEach experiment asks one question. Its page has the picture, what was found, "
        "the\ncommand and the table.\n\n"
        + "\n".join(entries)
        + f"\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    )


def keep_picture(figure: Figure, path: Path) -> None:
    """Store a figure, compressed."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=150)
    with Image.open(drawn) as picture:
        width = min(WIDTH, picture.width)
        small = picture.convert("RGB").resize((width, picture.height * width // picture.width))
    replace(path, lambda new: small.save(new, format="webp", quality=80, method=6))


def main(results: Path | None) -> None:
    """Store the results of the runs, and write the pages of all experiments that have results."""
    kept = []
    for one in every():
        page, run = PAGES / f"{one.name}.md", results and results / one.name
        if run and (run / "result.npz").exists():
            claims.write(one.name, run.parent)
            module = import_module(f"experiments.{one.name}")
            result = harness.load(run, module.Result, module.Config())
            keep_picture(module.plot(result), PAGES / f"{one.name}.webp")
            table = module.table(result).markdown().replace("$", r"\$")  # it is no mathematics
        elif page.exists():
            table = table_of(page)
        else:
            print(f"{one.name}: no result yet")
            continue
        page.write_text(one.page(table))
        kept.append(one)
    (PAGES / "index.md").write_text(index(kept))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        raise SystemExit("usage: python -m experiments.gallery [results folder]")
    main(Path(sys.argv[1]) if len(sys.argv) == 2 else None)
