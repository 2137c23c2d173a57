"""Do the tests notice when the code is wrong? Small breaks, one at a time, and what turns red.

    python tests/breaks.py --count 40 --seed 0
    python tests/breaks.py --within recur/scan/valid_steps.py --near

A break changes one operator, comparison, number or sign of one module of recur/, or drops a term.
It is made in a copy, where fast tests run up to the first failure: those of the files that are
nearest to the module, then, without `--near`, all others. A break that nothing notices is
printed at the end: the tests lack a claim, or the line does not matter.
"""

import argparse
import ast
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PARTS = (
    *("recur", "tests", "experiments", "benchmarks", "docs", ".ci", "pyproject.toml"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff"),
)
NEAR = 4  # test files that count as those of a module
LIMIT = 1200  # seconds; a break that makes the tests hang is noticed as well

OPERATORS = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
COMPARISONS = {
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
}
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "sin": "cos"}
# what no number depends on: texts of errors, types, names of files, and how fast or in what
# pieces a result is computed, which is chosen in recur/scan/planning.py
LEFT_OUT = (ast.Raise, ast.Assert, ast.JoinedStr, ast.AnnAssign, ast.ImportFrom)
CALLS_LEFT_OUT = {"ValueError", "TypeError", "describe", "checkpoint", "key"}
KEYWORDS_LEFT_OUT = {"strict", "unroll", "prevent_cse", "precision"}
FILES_LEFT_OUT = {"planning.py", "__init__.py"}


class Break(NamedTuple):
    """Text between two positions of a module that becomes another text."""

    path: Path
    start: int
    end: int
    new: str

    def __str__(self) -> str:
        text = (ROOT / self.path).read_text()
        line = text.count("\n", 0, self.start) + 1
        begin = text.rfind("\n", 0, self.start) + 1
        whole = text[begin : self.start] + f"[{text[self.start : self.end]} -> {self.new}]"
        whole += text[self.end :].split("\n", 1)[0]
        return f"{self.path}:{line}: {whole.strip()}"

    def apply(self, root: Path) -> None:
        """Change the module in a copy of the project."""
        text = (ROOT / self.path).read_text()
        (root / self.path).write_text(text[: self.start] + self.new + text[self.end :])


def breaks_of(path: Path) -> list[Break]:
    """Every break of one module, by its syntax tree."""
    text = (ROOT / path).read_text()
    lines = [0]
    for line in text.encode().split(b"\n"):
        lines.append(lines[-1] + len(line) + 1)

    def at(line: int, column: int) -> int:
        return len(text.encode()[: lines[line - 1] + column].decode())

    def span(node: ast.expr) -> tuple[int, int]:
        return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)

    def between(left: ast.expr, right: ast.expr, new: str) -> Iterator[Break]:
        start, end = span(left)[1], span(right)[0]
        old = text[start:end].strip()
        if old and "(" not in old and ")" not in old and "#" not in old:
            yield Break(path, start, end, f" {new} ")

    def visit(node: ast.AST) -> Iterator[Break]:
        if isinstance(node, LEFT_OUT):
            return
        if isinstance(node, ast.Call) and _name(node.func) in CALLS_LEFT_OUT:
            return
        if isinstance(node, ast.keyword | ast.arg) and node.arg in KEYWORDS_LEFT_OUT:
            return
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            yield from between(node.left, node.right, OPERATORS[type(node.op)])
            if isinstance(node.op, ast.Add):
                yield Break(path, span(node.left)[1], span(node.right)[1], "")
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
            yield from between(node.left, node.comparators[0], COMPARISONS[type(node.ops[0])])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
            yield Break(path, span(node)[0], span(node.operand)[0], "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            value = (not node.value) if isinstance(node.value, bool) else node.value + 1
            yield Break(path, *span(node), repr(value))
        elif isinstance(node, ast.Attribute) and node.attr in NAMES:
            end = span(node)[1]
            yield Break(path, end - len(node.attr), end, NAMES[node.attr])
        for name, child in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list"):
                for one in child if isinstance(child, list) else [child]:
                    if isinstance(one, ast.AST):
                        yield from visit(one)

    return list(visit(ast.parse(text)))


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def chosen(count: int, seed: int, within: str) -> list[Break]:
    """Breaks of as many modules: one of each in turn, in an order that the seed decides."""
    draw = random.Random(seed)
    modules = sorted(
        path.relative_to(ROOT)
        for path in (ROOT / "recur").rglob("*.py")
        if path.name not in FILES_LEFT_OUT and within in str(path)
    )
    draw.shuffle(modules)
    found = {path: breaks_of(path) for path in modules}
    picked: list[Break] = []
    while len(picked) < count and any(found.values()):
        for path in modules:
            if found[path] and len(picked) < count:
                picked.append(found[path].pop(draw.randrange(len(found[path]))))
    return picked


def tests_of(path: Path) -> list[str]:
    """The test files of a module: of its name, that call what it defines, and of its folders."""
    defined = [
        node.name
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    layer = path.parts[1].removesuffix(".py")
    call = (
        rf"\b({layer}|recur|{path.parent.name}|{path.stem})(\.| import )({'|'.join(defined)})\b"
        rf"|\b(cells|{path.parent.name})(\.| import ){path.stem}\b"
    )
    files = [file for file in TESTS if file.stem == f"test_{path.stem}"] + that_say(call)
    files += [file for file in TESTS if file.parent.name == layer] + that_say(rf"\b{layer}\.")
    return [str(file.relative_to(ROOT)) for file in dict.fromkeys(files)][:NEAR]


def that_say(pattern: str) -> list[Path]:
    """The test files that say it, the one that says it most first."""
    said = {file: len(re.findall(pattern, file.read_text())) for file in TESTS}
    return sorted(filter(said.get, said), key=lambda file: -said[file])


def noticed(one: Break, near: bool) -> tuple[str, float]:
    """The first test that fails of a broken copy, or nothing; and after how many seconds."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        for part in PARTS:
            source, target = ROOT / part, Path(place) / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, target)
        one.apply(Path(place))
        own = tests_of(one.path)
        others = [str(file.relative_to(ROOT)) for file in TESTS]
        for turn in [own, [file for file in others if file not in own]][: 1 if near else 2]:
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", *turn]
            command += ["-o", f"cache_dir={ROOT / '.pytest_cache'}", "--no-header", "--tb=no"]
            try:
                done = subprocess.run(
                    command, cwd=place, capture_output=True, text=True, timeout=LIMIT
                )
            except subprocess.TimeoutExpired:
                return f"no end after {LIMIT} s", time.perf_counter() - begin
            if done.returncode not in (0, 5):  # 5: none of the tests is fast
                red = [
                    line for line in done.stdout.splitlines() if line.startswith(("FAIL", "ERR"))
                ]
                return (red or [done.stdout[-300:]])[0], time.perf_counter() - begin
    return "", time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=40, help="breaks, one a module in turn")
    parser.add_argument("--seed", type=int, default=0, help="which breaks")
    parser.add_argument("--within", default="", help="break only modules whose path has this text")
    parser.add_argument("--workers", type=int, default=2, help="copies tested at a time")
    parser.add_argument("--near", action="store_true", help="run the tests of the module alone")
    parser.add_argument("--list", action="store_true", help="print the breaks and end")
    flags = parser.parse_args()
    picked = chosen(flags.count, flags.seed, flags.within)
    if flags.list:
        print("\n".join(map(str, picked)))
        return
    survivors = []
    with ThreadPoolExecutor(flags.workers) as pool:
        for one, (red, seconds) in zip(
            picked, pool.map(partial(noticed, near=flags.near), picked), strict=True
        ):
            print(f"{one}\n    {red or 'NOBODY NOTICED'}  ({seconds:.0f} s)", flush=True)
            survivors += [] if red else [one]
    print(f"\n{len(picked) - len(survivors)} of {len(picked)} breaks noticed")
    print("".join(f"  survived: {one}\n" for one in survivors), end="")


if __name__ == "__main__":
    main()
