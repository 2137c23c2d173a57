"""`check_cell` passes what keeps the contract and names each way of breaking it."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from recur import Unitwise, cells, check_cell, scan

GRU = cells.gru.cell
LSTM = cells.lstm.cell


@pytest.mark.parametrize("which", ["gru", "lstm", "gru.reset_before", "mingru"])
def test_good_cells_pass(which):
    report = check_cell(cells.named(which))
    assert report.ok, report
    names = [check.name for check in report.checks]
    structured = ["mix is linear", "update is unitwise", "engine"] * (which != "gru.reset_before")
    assert names == ["constant", "state", "batch axes", "derivative", *structured]
    assert f"{len(names)} of {len(names)} promises kept" in str(report)


@pytest.mark.slow
def test_every_cell_passes(cell, sizes):
    report = check_cell(cell, *sizes)
    assert report.ok, report


@jax.custom_jvp
def wrong_tanh(a):
    return jnp.tanh(a)


@wrong_tanh.defjvp
def _(primals, tangents):
    (a,), (da,) = primals, tangents
    return jnp.tanh(a), (1 - jnp.tanh(a)) * da  # the square is missing


def replaced(cell, **functions):
    return dataclasses.replace(cell, **functions)


def step(change):
    """GRU's reset-before step with its result changed."""
    cell = cells.gru.reset_before
    return replaced(cell, step=lambda *a: change(*cell.step(*a)))


@dataclasses.dataclass
class Unhashable:
    init = staticmethod(GRU.init)
    start = staticmethod(GRU.start)
    step = staticmethod(GRU.step)


def one_axis_is_another(params, x):
    """Right without batch axes and with two, which is how a step is checked."""
    return [(1 + (x.ndim == 2)) * z for z in GRU.drive(params, x)]


BROKEN = {
    "constant": [(Unhashable(), "frozen dataclass")],
    "state": [
        (step(lambda s, h: (s.astype(jnp.float32), h)), r"turns float64\[5\] into float32\[5\]"),
        (step(lambda s, h: (s, h[:2])), r"shape \(2,\), expected \(n,\) = \(5,\)"),
        (step(lambda s, h: (s, 2 * h)), "not the h of the new state"),
        (step(lambda s, h: 1 / 0), "raised ZeroDivisionError"),
        (step(lambda s, h: (s / 0, h / 0)), "makes NaN or infinities"),
        (
            Unitwise(
                LSTM.init,
                lambda p, batch=(): tuple(LSTM.start(p, batch)),
                LSTM.drive,
                LSTM.mix,
                lambda p, s, r, z: tuple(LSTM.update(p, cells.lstm.State(*s), r, z)),
            ),
            "NamedTuple, h first: of a tuple, h is the last",
        ),
    ],
    "batch axes": [
        (step(lambda s, h: (s / jnp.linalg.norm(s), h / jnp.linalg.norm(s))), "from vmap"),
    ],
    "derivative": [(cells.vanilla.elman(wrong_tanh), "of jvp from finite differences")],
    "mix is linear": [
        (replaced(GRU, mix=lambda p, h: [r + 1 for r in GRU.mix(p, h)]), "from linearity"),
    ],
    "update is unitwise": [
        (
            replaced(LSTM, update=lambda p, s, r, z: LSTM.update(p, s, [*r[:3], r[3][::-1]], z)),
            "unit 0 reads unit 4: couple units in mix alone, or build a Cell",
        ),
    ],
    "engine": [(replaced(GRU, drive=one_axis_is_another), "from a plain scan")],
    "init and start": [(replaced(GRU, init=lambda *a: 1 / 0), "raised ZeroDivisionError")],
}


@pytest.mark.parametrize(
    ("promise", "cell", "message"),
    [(promise, *case) for promise, cases in BROKEN.items() for case in cases],
)
def test_each_broken_promise_is_named(promise, cell, message):
    report = check_cell(cell)
    assert not report.ok
    (broken,) = (check for check in report.checks if check.name == promise)
    assert not broken.ok
    assert re.search(message, broken.found), broken.found
    assert f"FAIL  {promise}" in str(report)


def test_what_is_no_cell_is_refused():
    with pytest.raises(
        ValueError, match=r"functions init, start and step; .* no init, start, step"
    ):
        check_cell(3)

    with pytest.raises(ValueError, match=r"Did you mean recur.cells.lstm.cell\?"):
        scan.run(cells.lstm, (), jnp.ones((3, 2)))
