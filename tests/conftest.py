"""Strict dtypes for every test, and the fixture that runs over every cell."""

import jax
import pytest

from recur import Prior, cells

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def x64():
    """Double precision for one test: for finite differences and dense references."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=cells.names())
def name(request):
    """The name of every cell: a new cell is tested by existing."""
    return request.param


@pytest.fixture
def cell(name):
    return cells.named(name)


@pytest.fixture
def sizes(cell):
    """(d, n) that suit the cell."""
    return (5, 5) if cell == cells.minimal.bare else (3, 5)


@pytest.fixture
def params(cell, sizes):
    """A draw with every field of the prior at work."""
    return cell.init(jax.random.key(0), Prior(1.3, 0.9, 0.4, 0.3), *sizes)
