"""The pages of docs that teach are run as they stand; their tables say how well they agree."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

DOCS = Path(__file__).parent.parent / "docs"
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
ROW = re.compile(r"^\| (.+) \| .+ \| ([\d.e-]+) \|$", re.MULTILINE)


def sections(page):
    """(heading, text) of each section; what comes before the first has no heading."""
    parts = HEADING.split((DOCS / page).read_text())
    return [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]


def difference(found, by_hand):
    """The largest, relative to the numbers by hand where these are larger than 1."""
    if isinstance(found, tuple | list):
        assert len(found) == len(by_hand)
        return max(map(difference, found, by_hand))
    a, b = np.asarray(found), np.asarray(by_hand, float)
    assert a.shape == b.shape
    return float(np.abs((a - b) / np.maximum(1, np.abs(b))).max())


@pytest.fixture
def own_precision():
    """The pages switch to double precision for themselves alone."""
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("page", ["by_hand.md", "conventions.md"])
def test_every_lesson_agrees_with_its_numbers_by_hand(page, own_precision):
    names, measured, parts = {}, {}, sections(page)
    for heading, text in parts:
        for block in BLOCK.findall(text):
            exec(compile(block, page, "exec"), names)
        if "found" in names:
            measured[heading] = difference(names.pop("found"), names.pop("by_hand"))
    stated = {name: float(number) for name, number in ROW.findall(parts[-1][1])}
    print(measured)
    assert measured.keys() == stated.keys()
    assert len(measured) == {"by_hand.md": 8, "conventions.md": 6}[page]
    for name, number in measured.items():
        assert number <= stated[name], (name, number)
        assert stated[name] <= 1e-12, name  # double precision, sums of some ten numbers


def test_a_wrong_number_by_hand_is_noticed():
    assert difference((np.ones(2), np.zeros(1)), ((1, 1), (0.5,))) == 0.5
    assert difference([[2.0]], [[4.0]]) == 0.5
    with pytest.raises(AssertionError):
        difference(np.ones(2), (1, 1, 1))
