"""The README's examples are run as they stand; what it names, and what is installed, is there."""

import re
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
import numpy as np
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


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
        with optimised() if "train.advance" in example else nullcontext():
            exec(compile(example, "README.md", "exec"), names)
    return names


def test_the_first_example_has_its_shapes(capsys):
    """It is traced and not compiled, but for the check of the cell, which reads values."""
    example, check = EXAMPLES[0], "print(check_cell(cell))"
    assert check in example
    names = {}
    jax.eval_shape(lambda: names.update(run(example.replace(check, ""))))
    assert names["hs"].shape == (100, 32)
    shapes = re.findall(r"float32\[([\d,]*)\]", capsys.readouterr().out)
    assert shapes == ["32", "4,8", "100", "4"]  # what `measure` returns


@pytest.mark.slow
def test_all_examples_run_and_one_learns(capsys):
    names = run(*EXAMPLES)
    assert len(EXAMPLES) == 3
    assert np.isfinite(names["hs"]).all()
    assert "nan" not in capsys.readouterr().out
    assert names["losses"][-1] < names["task"].baseline.loss / 10  # it has learnt to remember


def test_paths_that_the_readme_names_exist():
    root = Path(__file__).parent.parent
    quoted = re.findall(r"`((?:recur|experiments|tests)/[\w/.]*)`", README)
    linked = re.findall(r"\]\((docs/[\w./]+)\)", README)
    assert quoted
    assert linked
    for path in quoted + linked:
        assert (root / path).exists(), path
