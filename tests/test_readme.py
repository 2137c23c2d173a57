"""README's example and commands are run as they stand; what it names and counts is there."""

import importlib.util
import re
import tomllib
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import claims, gradient_reach

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECIPES = {"recur/cells/janet.py", "recur/analysis/step_sizes.py", "experiments/leaks.py"}  # yours
COMMAND = re.compile(r"```bash\n(.*?)```", re.DOTALL)
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
CELL = re.compile(r"```\{code-cell\} python\n(.*?)```", re.DOTALL)  # of a page of the site


@contextmanager
def optimised():
    """As for users: programs that take longer to make, and a quarter of the time to run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def run(*examples):
    """What these examples, one after the other, leave behind."""
    names = {}
    for example in examples:
        exec(compile(example, "README.md", "exec"), names)
    return names


def test_the_example_has_its_shapes_and_is_short(capsys):
    """It is traced and not compiled."""
    (example,), names = EXAMPLE.findall(README), {}
    jax.eval_shape(lambda: names.update(run(example)))
    assert names["hs"].shape == (100, 32)
    assert re.findall(r"float32\[([\d,]*)\]", capsys.readouterr().out) == ["3", "4"]
    assert len([line for line in example.splitlines() if line]) <= 16


@pytest.mark.slow
def test_the_example_prints_what_the_text_below_it_says(capsys):
    (example,) = EXAMPLE.findall(README)
    run(example)
    lines = capsys.readouterr().out.splitlines()
    reach, exponents = (np.fromstring(line.strip("[]"), sep=" ") for line in lines)
    assert reach.size == 3
    assert (np.diff(reach) < 0).all()
    assert exponents.size == 4
    assert (exponents < 0).all()


@pytest.mark.slow
def test_the_page_on_training_learns():
    """Its first network remembers two numbers; the sweep below it is the same four times."""
    page = (ROOT / "docs" / "tutorials" / "train.md").read_text().partition("## A sweep")[0]
    with optimised():
        names = run(*CELL.findall(page))
    assert names["losses"][-1] < names["task"].baseline.loss / 10
    assert names["state"].diverged == -1


def test_paths_that_the_pages_name_exist():
    for page in ("README.md", "docs/development.md", "docs/experiments.md", "CONTRIBUTING.md"):
        text, folder = (ROOT / page).read_text(), (ROOT / page).parent
        quoted = re.findall(r"`((?:recur|experiments|tests|docs|benchmarks|\.ci)/[\w/.]*)`", text)
        quoted = set(quoted) - RECIPES
        linked = re.findall(r"\]\(([\w./]+)\)", text)
        assert quoted or linked, page
        for path in [ROOT / path for path in quoted] + [folder / path for path in linked]:
            assert path.exists(), f"{page}: {path}"


def test_every_experiment_has_its_row():
    """In docs/experiments.md, which claims are compared with, too."""
    files = (ROOT / "experiments").glob("*.py")
    names = {p.stem for p in files if "\n    harness.main(" in p.read_text()}
    page = (ROOT / "docs" / "experiments.md").read_text()
    assert len(names) > 20
    assert names == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def test_the_two_commands_install_and_run_what_is_there():
    commands = COMMAND.findall(README)
    assert len(commands) == 2
    for command in commands:
        (extra,) = re.findall(r"pip install -e '\.\[(\w+)\]'", command)
        assert extra in PROJECT["optional-dependencies"]
        assert command.startswith("python3 -m venv .venv && . .venv/bin/activate && pip install")
    (job,) = re.findall(r"python -m (experiments\.\w+)$", commands[0], re.MULTILINE)
    assert importlib.util.find_spec(job) is not None
    assert commands[1].endswith("python -m pytest -n auto\n")


def test_the_numbers_of_the_readme_have_a_source():
    """Outside of code, links and tables, each is a default of the main job or the project's."""
    main = gradient_reach.Config()
    known = {
        "parameters of each recurrence": main.parameters,
        "seeds": main.seeds,
        "recurrences": len(main.cells),
        "exponents of the example": 4,  # the test of the example counts them, and all are below 0
        "a singular value is forgotten below 1 over": np.exp(-gradient_reach.FORGOTTEN),
        f"Python {PROJECT['requires-python'].removeprefix('>=')}": 0,
        f"licence {PROJECT['license']}": 0,
    }
    words = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|^\|.*$", " ", README, flags=re.S | re.M)
    words = (
        words.replace("20,000", "20000")
        .replace("five", "5")
        .replace("three", "3")
        .replace("four", "4")
    )
    assert claims.unsupported(words, known) == []
    assert claims.unsupported(words + " in 2 minutes", known) == ["2"]
