"""The README's example is run as it stands."""

import re
from pathlib import Path

import jax

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_worked_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["hs"].shape == (100, 32)
    assert "nan" not in capsys.readouterr().out
    assert jax.numpy.isfinite(names["hs"]).all()


def test_paths_that_the_readme_names_exist():
    root = Path(__file__).parent.parent
    quoted = re.findall(r"`((?:recur|experiments|tests)/[\w/.]*)`", README)
    linked = re.findall(r"\]\((docs/[\w./]+)\)", README)
    assert quoted
    assert linked
    for path in quoted + linked:
        assert (root / path).exists(), path
