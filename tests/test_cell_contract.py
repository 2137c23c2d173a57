"""`check_cell` passes what keeps the contract and names each way of breaking it."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MADE, few_slow, some_slow

from recur import Cell, Gates, Prior, Unitwise, cell_contract, cells, check_cell, scan
from recur.declared_gates import as_declared

SIMPLE = cells.vanilla.cell
SLOW = some_slow({"mingru", "gru.reset_before"}, "")  # lstm has more promises, and two arrays


@pytest.mark.parametrize("which", [*SLOW, "lstm"])
def test_good_cells_pass(which):
    report = check_cell(cells.named(which))
    assert report.ok, report
    names = [check.name for check in report.checks]
    structured = ["mix is linear", "update is unitwise", "engine", "sums"]
    structured = {"gru.reset_before": [], "mingru": structured[:3]}.get(which, structured)
    assert names == ["constant", "state", "batch axes", "derivative", *structured, "gates"]
    assert f"{len(names)} of {len(names)} promises kept" in str(report)


@pytest.mark.parametrize("name", few_slow([*cells.names(), *MADE]))
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


def test_the_probe_follows_a_steep_function(x64):
    """The medium's projection has a slope of 100; a wrong derivative of such a function is seen."""
    wave, rng = cells.wave, np.random.default_rng(0)
    medium = wave.Medium((1, 5), ((0, 1),), border=0)
    rho, y, before = rng.normal(size=(3, 5)) / 2
    right = wave.Params(rho), wave.State(y, before), rng.normal(size=1)
    assert derivative(wave.linear(medium), *right)[0]

    def steep(phi):
        params = cells.vanilla.Params(*(rng.normal(size=s) / 300 for s in ((5, 5), (3, 5), 5)))
        return derivative(cells.vanilla.elman(phi), params, y, rng.normal(size=3))

    assert steep(lambda a: jnp.tanh(100 * a))[0]
    ok, found = steep(lambda a: wrong_tanh(100 * a))
    assert not ok
    assert "of jvp from finite differences" in found


def derivative(cell, params, state, x):
    """The check of the derivative alone, which compiles one program."""
    return cell_contract._derivative(cell, cell_contract._Sample(params, state, x, None, None))


class Numbers(Prior):
    """A prior that draws by NumPy, which has nothing to compile."""

    def draw(self, key, d, n, gates=1):
        rng = np.random.default_rng(0)
        shapes = (n, gates * n), (d, gates * n), (gates * n,)
        return tuple(jnp.asarray(rng.normal(size=shape) / 2, float) for shape in shapes)


def replaced(cell, **functions):
    return dataclasses.replace(cell, **functions)


def step(change):
    """The step of a simple network with its result changed."""
    return Cell(SIMPLE.init, SIMPLE.start, lambda *a: change(*SIMPLE.step(*a)))


@dataclasses.dataclass
class Unhashable:
    init = staticmethod(SIMPLE.init)
    start = staticmethod(SIMPLE.start)
    step = staticmethod(SIMPLE.step)


def one_axis_is_another(params, x):
    """Right without batch axes and with two, which is how a step is checked."""
    return (1 + (x.ndim == 2)) * SIMPLE.drive(params, x)


THREE_FAULTS = Unitwise(  # each is read by one check, which looks at nothing else
    SIMPLE.init,
    SIMPLE.start,
    SIMPLE.drive,
    lambda p, h: SIMPLE.mix(p, h) + 1,
    lambda p, s, r, z: wrong_tanh(r[..., ::-1] + z),
)


@functools.cache
def report_of_three_faults():
    return check_cell(THREE_FAULTS, prior=Numbers())


BROKEN = {
    "constant": [(Unhashable(), "frozen dataclass")],
    "state": [
        (step(lambda s, h: (s.astype(jnp.float32), h)), r"turns float64\[5\] into float32\[5\]"),
        (step(lambda s, h: (s, h[:2])), r"shape \(2,\), expected \(n,\) = \(5,\)"),
        (step(lambda s, h: (s, 2 * h)), "not the h of the new state"),
        (step(lambda s, h: 1 / 0), "raised ZeroDivisionError"),
        (step(lambda s, h: (s / 0, h / 0)), "makes NaN or infinities"),
        (
            Unitwise(  # a state of h and the h before it
                SIMPLE.init,
                lambda p, batch=(): (SIMPLE.start(p, batch), SIMPLE.start(p, batch)),
                SIMPLE.drive,
                SIMPLE.mix,
                lambda p, s, r, z: (SIMPLE.update(p, s[0], r, z), s[0]),
            ),
            "NamedTuple with h first; in a tuple, h is last",
        ),
    ],
    "batch axes": [
        (step(lambda s, h: (s / jnp.linalg.norm(s), h / jnp.linalg.norm(s))), "from vmap"),
    ],
    "derivative": [(THREE_FAULTS, "of jvp from finite differences")],
    "mix is linear": [(THREE_FAULTS, "from linearity")],
    "update is unitwise": [
        (THREE_FAULTS, "unit 0 reads unit 4: couple units only in mix, or build a Cell"),
    ],
    "engine": [(replaced(SIMPLE, drive=one_axis_is_another), "from a plain scan")],
    "sums": [
        (
            replaced(SIMPLE, update=lambda p, h, r, z: jnp.tanh(r + z) + r),
            "the declared sums",
        ),
    ],
    "init and start": [(replaced(SIMPLE, init=lambda *a: 1 / 0), "raised ZeroDivisionError")],
}


@pytest.mark.parametrize(
    ("promise", "cell", "message"),
    [(promise, *case) for promise, cases in BROKEN.items() for case in cases],
)
def test_each_broken_promise_is_named(promise, cell, message):
    three = cell is THREE_FAULTS
    report = report_of_three_faults() if three else check_cell(cell, prior=Numbers())
    assert not report.ok
    (broken,) = (check for check in report.checks if check.name == promise)
    assert not broken.ok
    assert re.search(message, broken.found), broken.found
    assert f"FAIL  {promise}" in str(report)


def test_gates_that_do_not_do_what_is_declared():
    """Of an LSTM; the gates as they are pass with every cell that has some."""
    for what, found in (
        (
            {"keeps": "input"},
            r"input open keeps 0.5 of the state, else 0.5; it should keep all",
        ),
        ({"overwrites": "forget"}, "forget closed keeps .* of the state, else 1"),
        ({"writes": "forget"}, "forget open lets in .* closed .* nothing when closed"),
    ):
        said = Gates(cells.lstm.GATES, **what)
        ok, told = as_declared(replaced(cells.lstm.cell, gates=said))
        assert not ok
        assert re.search(found, told), told
    ok, told = as_declared(replaced(cells.lstm.cell, gates=Gates(("a", "b"), "a")))
    assert (ok, told) == (False, "the cell declares 2 gates, but b has 4 per unit")


def test_what_is_no_cell_is_refused():
    with pytest.raises(
        ValueError, match=r"functions init, start and step; .* no init, start, step"
    ):
        check_cell(3)

    with pytest.raises(ValueError, match=r"Did you mean recur.cells.lstm.cell\?"):
        scan.run(cells.lstm, (), np.ones((3, 2), np.float32))
