"""A report says what the analyses say, and its words are right where they are and not elsewhere."""

import re
import sys
from html.parser import HTMLParser
from typing import NamedTuple

import browser
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import normal

import recur
from recur import Prior, analysis, cells, scan
from recur.atomic_files import replace
from recur.core import Cell
from recur.reporting import command_line, findings, measurements, measuring, page, tables
from recur.reporting.arguments import Asked, constant_input
from recur.reporting.phases import phase
from recur.reporting.questions import questions
from recur.reporting.sizes import plan
from recur.reporting.words import Finding

N, D, T = 2, 1, 60
KEY = jax.random.key(0)
LONG = 1e4  # seconds: the sizes are the largest, whatever the machine is doing


class Params(NamedTuple):
    """h' = u (W h, or its tanh) + V x,  u = sigmoid(c + x): where linear, all is known."""

    W: np.ndarray
    V: np.ndarray
    linear: np.ndarray  # 1, or 0 for tanh
    c: np.ndarray  # 40: u is 1 in float32


def step(params, h, x):
    u = jax.nn.sigmoid(params.c + x.sum())
    a = params.W @ h
    h = u * (params.linear * a + (1 - params.linear) * jnp.tanh(a)) + params.V @ x
    return h, h


def nothing(params, batch=()):
    return np.zeros((*batch, N), "f")


CELL = Cell(lambda *_: None, nothing, step, takes=Params)
XS = normal(T, D).astype("f")
LATER = np.where(np.arange(T) < T // 2, 0.01, 3)[:, None].astype("f") * XS  # small, then large
START = np.array([1.0, 0.5], "f")


def network(W, V=1.0, linear=1.0, c=40.0, xs=XS):
    W = np.asarray(W, "f")
    W = W if W.ndim == 2 else W * np.eye(N, dtype="f")
    return Params(W, np.full((N, D), V, "f"), np.float32(linear), np.float32(c)), xs


ROTATION = np.array([[0.6, -0.8], [0.8, 0.6]])
NETWORKS = {
    "fading": network([0.5, 0.4]),
    "deaf": network([0.5, 0.4], V=0.0, c=1e3),
    "turning": network(ROTATION),
    "forgetful": network(0.0),
    "growing": network([1.2, 1.1]),
    "overflowing": network(7.0),
    "one slow": network([0.999, 0.1]),
    "four wells": network(2.0, V=0.1, linear=0.0),
    "half open": network([0.5, 0.4], c=0.0),
    "drifting": network([1.5, 1.4], linear=0.0, xs=LATER),
}
PLACES = "What are its fixed points under a constant input?"
EXPECTED = {  # the word for each network: right for some, and another for others
    "Do the numbers stay finite?": {"fading": "finite", "overflowing": "overflow"},
    "How far back does the last output see its inputs?": {
        "fading": "8 steps",  # 1/2 to the 10th is below 1/1000, to the 8th above: lags 8, 10
        "turning": "further",
        "deaf": "not at all",
        "forgetful": "0 steps",
    },
    "What do gradients do on their way back?": {
        "fading": "vanish",
        "turning": "preserve",
        "growing": "explode",
    },
    "Do nearby states converge or diverge?": {
        "fading": "converge",
        "turning": "undecided",
        "growing": "diverge",
        "forgetful": "converge",
    },
    "Was the data long enough for the exponents?": {"half open": "yes", "drifting": "no"},
    PLACES: {
        "fading": "one stable point",
        "growing": "no attractor",
        "one slow": "slow points",
        "four wells": "4 memories",
    },
    "Does a step treat all directions alike?": {
        "turning": "alike",
        "one slow": "not alike",
        "forgetful": "most are lost",
    },
    "Do the gates move?": {"fading": "some are stuck", "half open": "yes"},
}
CASES = [(question, name) for question, words in EXPECTED.items() for name in words]


@pytest.fixture(scope="module")
def measured():
    """A name -> the results of that network, by the programs of a report, compiled once."""
    run, programs, known = as_in_a_report(measurements.trajectory), {}, {}

    def measure(name):
        if name in known:
            return known[name]
        params, xs = NETWORKS[name]
        described = measurements.Network(N, N, D, T, "float32")
        path, _ = measuring.followed(described, run, params, START, xs, LONG)
        sizes = plan(T, N, N, LONG, 1e-5, 1e-5)
        results = measurements.Results(described, sizes, path)
        if not path.overflow:
            asked = Asked(None, START, xs, None, np.zeros(D, "f"), (), None, None, KEY)
            for q in questions(asked, results):
                program = programs.setdefault(q.field, as_in_a_report(q.program))
                found = q.settle(program(params, q.args))
                results = results._replace(**{q.field: found})
        known[name] = jax.tree.map(measuring.host, results)
        return known[name]

    return measure


def as_in_a_report(program):
    """The program of a part of a report: the same text, so that it is compiled once."""
    return jax.jit(lambda params, args: program(scan.tied(CELL, params), *args))


@pytest.mark.slow
@pytest.mark.parametrize(("question", "name"), CASES, ids=[f"{n}: {q}" for q, n in CASES])
def test_a_word_is_right_for_one_network_and_not_for_another(measured, question, name):
    words = {found.question: found.word for found in findings(measured(name))}
    assert words[question] == EXPECTED[question][name]


@pytest.mark.parametrize(
    ("sigma_w", "word"),
    [(0.7, "ordered"), (0.999, "critical"), (1.0, "critical"), (1.1, "chaotic")],
)
def test_theory_is_ordered_critical_or_chaotic_by_its_chi(sigma_w, word):
    """Of a vanilla network about h = 0, where chi = sigma_w^2."""
    described = measurements.Network(N, N, D, T, "float32")
    with np.errstate(divide="ignore"):
        xi = -1 / np.log(np.square(sigma_w))
    field = recur.theory.MeanField(0.0, 0.0, 1.0, 1.0, sigma_w**2, xi)
    field = field._replace(error=field._replace(chi=1e-3))
    results = measurements.Results(described, plan(T, N, N, 1, 1, 1), theory=field)
    (found,) = findings(results)
    assert found.word == word
    assert f"chi = {sigma_w**2:.4g}" in found.sentence
    (table,) = tables.tables(results)
    assert table.rows[1][:3] == ("chi", sigma_w**2, 1e-3)


# --- a whole report -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report of the four wells and what it said meanwhile."""
    params, xs = NETWORKS["four wells"]
    said, folder = [], tmp_path_factory.mktemp("report")
    body = scan.tied(CELL, params)
    report = recur.report(body, START, xs, folder, seconds=LONG, gates=["u"], say=said.append)
    return report, said


def loaded(path):
    with np.load(path) as saved:
        return dict(saved)


@pytest.mark.slow
def test_the_numbers_are_those_of_the_functions_called_one_by_one(made):
    """Bit by bit: the functions are the same programs."""
    saved, (params, xs) = loaded(made[0].numbers), NETWORKS["four wells"]
    x, sizes = np.zeros(D, "f"), made[0].results.sizes
    u = jax.random.normal(KEY, (N,))
    u = u / jnp.linalg.norm(u)
    before = np.concatenate([START[None], saved["path.states"][:-1]])
    at, lags = saved["one_step.at"] - 1, saved["reach.lags"].tolist()

    def call(function, *args):
        return as_in_a_report(function)(params, args)

    def same(name, value):
        np.testing.assert_array_equal(saved[name], np.asarray(value), err_msg=name)

    logs = call(lambda body, s, xs: analysis.input_output(body, s, xs, lags), START, xs)
    same("reach.logs", logs)
    found = call(
        lambda body, s, xs: analysis.gradient_map(lambda hs: hs @ u, body, s, xs, T - 1), START, xs
    )
    same("gradients", found)
    exponents = call(
        lambda body, s, xs: analysis.lyapunov_details(KEY, body, s, xs, N, discard=T // 10),
        START,
        xs,
    )
    for name, value in exponents._asdict().items():
        same(f"exponents.{name}", value)
    same("gates.0", call(analysis.openness, START, xs)[0])
    steps = call(
        lambda body, s, xs: jax.lax.map(
            lambda now: analysis.one_step_spectra(body, now[0], now[1][None])[0], (s, xs)
        ),
        before[at],
        xs[at],
    )
    np.testing.assert_allclose(saved["one_step.values"], steps, rtol=1e-6)  # another program
    starts = saved["standstill.starts"]
    assert len(starts) == sizes.starts == 64
    points = call(lambda body, s, x: analysis.fixed_points(body, s, x), starts, x)
    np.testing.assert_allclose(saved["standstill.found.states"], points.states, atol=1e-6)
    kept = analysis.distinct(analysis.Points(saved["standstill.found.states"], *points[1:]))
    assert len(kept.states) == len(saved["standstill.kept.speed"])
    assert 4 < len(kept.states) <= 9  # four wells and five other points, where a search may not go
    about = call(lambda body, s, x: analysis.stability(body, s, x), kept.states, x)
    assert about.stable.sum() == saved["standstill.about.stable"].sum() == 4
    moduli = np.sort(np.abs(saved["standstill.about.eigenvalues"]))
    np.testing.assert_allclose(moduli, np.sort(np.abs(about.eigenvalues)), atol=1e-5)


@pytest.mark.slow
def test_the_tables_show_the_numbers(made):
    report, _ = made
    text, saved = report.page.read_text(), loaded(report.numbers)
    shown = {round(float(value), 12) for value in re.findall(r'data-value="(-?[\d.e+-]+)"', text)}
    for name in ("exponents.exponents", "exponents.error", "exponents.rounding"):
        assert {round(float(value), 12) for value in saved[name]} <= shown, name
    assert {round(float(value), 12) for value in saved["reach.logs"][:, 0]} <= shown
    assert {round(float(np.median(saved["gates.0"])), 12)} <= shown


@pytest.mark.slow
def test_it_says_what_it_does(made):
    report, said = made
    begun = [line.removesuffix(" ...") for line in said if line.endswith(" ...")]
    assert begun[0] == "the network on its data"
    assert begun[-1] == "the page"
    assert {"reach of inputs", "Lyapunov exponents", "fixed points", "gates"} <= set(begun)
    assert all(any(line.startswith(f"{what}: done in") for line in said) for what in begun)
    assert str(report.page) in said[-1]
    assert "4 memories" in repr(report)


@pytest.mark.slow
@pytest.mark.skipif(browser.DRIVER is None or browser.BROWSER is None, reason=browser.MISSING)
def test_in_a_browser_every_figure_is_seen_and_tables_are_sorted(made, tmp_path):
    with browser.opened(made[0].page) as window:
        for width in (400, 1400):
            window.devtools(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=900,
                deviceScaleFactor=1,
                mobile=width == 400,
            )
            boxes = window.run(
                "return [...document.querySelectorAll('figure svg')].map(svg => "
                "{const b = svg.getBoundingClientRect(); return [b.width, b.height]})"
            )
            assert len(boxes) == 9
            assert all(w > 300 and 150 < h < 700 for w, h in boxes), boxes
            assert window.run("return document.documentElement.scrollWidth") <= width
        column = (
            "return [...document.querySelectorAll('table')[1].tBodies[0].rows]"
            ".map(row => Number(row.cells[1].dataset.value))"
        )
        click = "document.querySelectorAll('table')[1].querySelectorAll('th button')[1].click()"
        seen = []
        for _ in range(2):
            window.run(click)
            seen.append(window.run(column))
        assert seen[0] == sorted(seen[0])
        assert seen[1] == seen[0][::-1]
        assert len(set(seen[0])) == N
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            window.devtools("Emulation.setEmulatedMedia", features=features)
            colours = window.run(
                "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
            )
            text, paper = (np.mean([int(c) for c in re.findall(r"\d+", one)]) for one in colours)
            assert abs(text - paper) > 150
            assert (text < paper) == (scheme == "light")
        assert window.errors() == []


# --- a short one, which every run of the tests makes ----------------------------------------------


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A report for which there is no time, and one of a network that overflows."""
    folder = tmp_path_factory.mktemp("reports")
    found = {}
    for name in ("fading", "overflowing"):
        params, xs = NETWORKS[name]
        body = scan.tied(CELL, params)
        found[name] = recur.report(body, START, xs, folder / name, seconds=0, say=None)
    return found


def test_what_there_was_no_time_for_is_named(short):
    text = short["fading"].page.read_text()
    for part in ("reach of inputs", "gradients", "Lyapunov exponents", "fixed points", "gates"):
        assert f"<li>{part}: the 0 s were over</li>" in text
    assert [found.word for found in short["fading"].findings] == ["finite"]
    assert "jax " in text
    assert "recur.report(scan.tied(" in text
    assert sorted(p.name for p in short["fading"].page.parent.iterdir()) == [
        "report.html",
        "report.npz",
    ]


def test_a_network_without_inputs_takes_a_number_of_steps(tmp_path):
    found = recur.report(lambda h, x: (h / 2, h / 2), START, 9, tmp_path, seconds=0, say=None)
    assert found.results.network[:4] == (N, N, 0, 9)
    np.testing.assert_allclose(found.results.path.states[-1], START / 2**9, rtol=1e-6)
    assert "9 steps of data" in found.page.read_text()


@pytest.mark.parametrize(
    ("largest", "word"),
    [([1, 0.5, 1e-4, np.nan], "3 steps"), ([1, 0.5, np.nan, 1e-4], "further"), (4 * [np.nan], "?")],
)
def test_the_reach_is_told_as_far_as_it_is_known(largest, word):
    described = measurements.Network(N, N, D, T, "float32")
    reach = measurements.Reach(np.array([0, 3, 9, 20]), np.log(largest)[:, None])
    results = measurements.Results(described, plan(T, N, N, 1, 1, 1), reach=reach)
    (found,) = findings(results)
    assert found.word == word.replace("?", "unknown")
    assert word != "further" or "the 3 steps measured" in found.sentence


def test_steps_that_a_mask_leaves_out_are_not_counted():
    described = measurements.Network(N, N, D, T, "float32")
    gate = np.where(np.arange(T) % 2, np.nan, 0.5)[:, None]
    steps = measurements.OneStep(np.array([1, 2]), np.array([[1.0, 0.9], [np.nan, np.nan]]))
    results = measurements.Results(described, plan(T, N, N, 1, 1, 1), gates=[gate], one_step=steps)
    assert [found.word for found in findings(results)] == ["alike", "yes"]
    (table,) = tables.tables(results)
    assert table.rows == [("gate 1", 0.5, 0.5, 0.5)]


def test_a_network_that_overflows_is_told_where(short):
    """7^t > 3e38 at t = 46: the largest of all numbers in float32 is 3.4e38."""
    (found,) = short["overflowing"].findings
    (params, xs), h = NETWORKS["overflowing"], START.astype(float)
    for t in range(T):
        h = params.W @ h + (params.V @ xs[t]).astype(float)
        if np.abs(h).max() > np.finfo("f").max:
            break
    assert found.word == "overflow"
    assert f"step {t + 1} of {T}" in found.sentence
    assert "<svg" not in short["overflowing"].page.read_text()


class Structure(HTMLParser):
    """Tags that are open, ids, and what is asked of other places."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link"):
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag, attrs):
        self.note(attrs)

    def note(self, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nothing_of_the_net():
    finding = findings_of("fading <&>")
    table = tables.Table("t", ("a", "b"), [("x", np.nan), ("y", -np.inf), ("z", 1 / 3)], "note")
    pictures = [figure_of(name) for name in ("one", "two")]
    text = page.page("A < B", "s", [finding], pictures, [table], ["c & d"], [("call", "f('x')")])
    seen = Structure()
    seen.feed(text)
    seen.close()
    assert seen.open == []
    assert len(seen.ids) == len(set(seen.ids)) > 20
    assert all(link.startswith(("#", "data:")) for link in seen.links)
    assert {link for link in seen.links if link[0] == "#"} <= {f"#{i}" for i in seen.ids}
    for literal in ("A &lt; B", "fading &lt;&amp;&gt;", "c &amp; d", 'data-value="-Infinity"'):
        assert literal in text
    assert f'data-value="{1 / 3!r}">0.3333<' in text
    assert "http-equiv" not in text


def findings_of(word):
    return Finding("q?", word, "s")


def figure_of(name):
    from recur.reporting import figures

    drawn = figures.Figure(figsize=figures.SIZE)
    drawn.add_subplot().plot([0, 1], [0, 1], "o-", label="a")
    return figures.Picture(name, "caption", figures.svg(drawn, name))


def test_sizes_grow_with_the_time_there_is():
    """Each of them, from the least to the most; none is beyond what the data has."""
    sizes = [plan(3000, 256, 128, s, 1e-4, 1e-2) for s in (0, 1, 10, 60, 600, 1e6)]
    table = np.array(sizes)
    assert (np.diff(table, axis=0) >= 0).all()
    assert sizes[0] == (200, 10, 100, 4, 4, 4)
    assert sizes[-1] == (2000, 200, 100, 32, 64, 32)
    assert 64 <= sizes[3].reach <= 200
    between = (table != table[0]) & (table != table[-1])
    assert between.sum() > 3
    assert (np.log2(table[between]) % 1 == 0).all()  # few programs for all speeds of a machine
    for T in (1, 2, 3, 40):
        for seconds in (0, 1e6):
            size = plan(T, 2, 3, seconds, 1e-4, 1e-2)
            assert size.steps == T
            assert max(size.reach, size.lags) <= T - 1
            assert size.exponents <= 2


def test_what_is_held_lets_masked_steps_be():
    """A mask that is false would make every state a fixed point."""
    flags, xs = np.zeros(T, bool), (np.ones(T, int), XS)
    held, (whole, x) = constant_input(None, flags), constant_input(None, xs)
    assert held.dtype == bool
    assert held
    assert (whole, *x) == (0, 0.0)
    assert x.dtype == np.float32


def test_starts_are_spread_over_all_attractors():
    """Of 40 states at 4 places, those chosen are one of each; what is not finite is last."""
    places = np.array([[0.0, 0], [0, 1], [5, 0], [5, 1]])
    many = np.repeat(places, [37, 1, 1, 1], axis=0)
    chosen = np.asarray(measurements.spread(jnp.asarray(many), 4))
    assert len(np.unique(many[chosen], axis=0)) == 4
    many[3] = np.nan
    assert 3 not in np.asarray(measurements.spread(jnp.asarray(many), 4))


def test_a_path_of_one_step_tells_points_apart():
    """There is no usual step then; two of three points are the same up to 1e-4."""
    points = analysis.Points(
        np.array([[0.0], [1e-4], [1.0]]), np.zeros(3), np.zeros(3), np.zeros(3, int)
    )
    about = analysis.Stability(np.zeros((3, 1)), np.ones(3, bool), np.zeros((3, 1)))
    path = measurements.Path(np.zeros(1), np.zeros((1, 1)), 0.0, 0)
    found = measurements.apart(path, np.zeros(1), (points.states, points, about))
    np.testing.assert_array_equal(found.kept.states, [[0.0], [1.0]])
    assert found.about.stable.shape == (2,)
    np.testing.assert_array_equal(found.kept.distance, [0, 0])


def test_a_phase_says_how_long_it_has_taken(monkeypatch):
    monkeypatch.setattr(sys.modules["recur.reporting.phases"], "BEAT", 0.01)
    said = []
    with phase("work", said.append):
        while len(said) < 3:
            pass
    assert said[0] == "work ..."
    assert said[1] == said[2] == "work: 0 s"
    assert said[-1] == "work: done in 0 s"

    with pytest.raises(ZeroDivisionError), phase("work", said.append):
        raise ZeroDivisionError
    assert said[-1] == "work: stopped after 0 s"


def test_a_file_is_whole_or_the_old_one(tmp_path):
    place = tmp_path / "page.html"
    replace(place, lambda new: new.write_text("old"))

    def broken(new):
        new.write_text("ne")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        replace(place, broken)
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


# --- bad input ------------------------------------------------------------------------------------

BODY = scan.tied(CELL, NETWORKS["fading"][0])
HOLE = np.where(np.arange(T)[:, None] == 7, np.nan, XS)
GRU = cells.gru.cell
BAD = {
    "a body that returns a state": ({"body": lambda s, x: s}, ValueError, "state"),
    "a body that returns text": ({"body": lambda s, x: (s, "h")}, (ValueError, TypeError), "h"),
    "no body": ({"body": 3}, TypeError, "body must be a function"),
    "a hole in the data": ({"xs": HOLE}, ValueError, r"xs must be finite, but 1 of .* at \(7, 0\)"),
    "a start that is infinite": (
        {"state": np.full(2, np.inf, "f")},
        ValueError,
        r"state .* at \(0,\)",
    ),
    "a state of other shape": ({"state": np.zeros(3, "f")}, ValueError, "state"),
    "a state of integers": ({"state": np.zeros(2, int)}, ValueError, "floating"),
    "no time": ({"xs": np.zeros((0, D), "f")}, ValueError, "step"),
    "an input of other shape": (
        {"x": np.zeros(D + 1, "f")},
        ValueError,
        "x must be the input of one",
    ),
    "data in lists": ({"xs": XS.tolist()}, ValueError, "xs"),
    "no steps": ({"xs": 0}, ValueError, "number of steps, 1 or more"),
    "an input that is NaN": ({"x": np.full(D, np.nan, "f")}, ValueError, "x must be finite"),
    "one name too many": ({"gates": ["a", "b"]}, ValueError, "a step computes 1; got"),
    "a prior of an unknown cell": (
        {"body": lambda s, x: (s, s), "prior": Prior()},
        ValueError,
        "needs the cell",
    ),
    "a cell without a prior": ({"cell": GRU}, ValueError, "needs prior"),
    "a prior that is a number": ({"prior": 1.0}, TypeError, "prior must be of type Prior"),
    "seconds below zero": ({"seconds": -1.0}, ValueError, "seconds"),
    "losses": ({"losses": 3}, TypeError, "losses must be a function"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_any_work(name, tmp_path):
    wrong, kind, sentence = BAD[name]
    good = {"body": BODY, "state": START, "xs": XS, "folder": tmp_path / "new", "say": None}
    with pytest.raises(kind, match=sentence):
        recur.report(**(good | wrong))
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_one_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"a report needs a folder to write to, and .*file"):
            recur.report(BODY, START, XS, place, say=None)
    assert (tmp_path / "file").read_text() == ""


# --- from the command line ------------------------------------------------------------------------

TARGET = """
import numpy as np

def network():
    return (lambda h, x: (h / 2 + x, h / 2 + x)), np.zeros(2, "f"), np.ones((9, 2), "f")

def wrong():
    return 3
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command line in a folder that holds net.py."""
    (tmp_path / "net.py").write_text(TARGET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(command_line, "keep_programs", lambda: None)

    def run(*arguments):
        return command_line.main(["report", *arguments]), capsys.readouterr()

    return run


def test_the_command_line_writes_a_report(command, tmp_path):
    for target in ("net.py", "net.py:network", "net", "net:network"):
        folder = tmp_path / re.sub(r"\W", "_", target)
        status, printed = command(target, str(folder), "--seconds", "0")
        assert status == 0, printed
        assert f"<title>{target}</title>" in (folder / "report.html").read_text()
        assert str(folder / "report.html") in printed.out


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("net.py:nothing", "net.py must have a function nothing()"),
        ("net:wrong", "net:wrong must return (body, state, xs)"),
        ("other.py", "there is no file other.py"),
        ("not_there:f", "must name a file that ends in .py, or a module"),
    ],
)
def test_a_target_that_is_none_is_refused(command, tmp_path, target, sentence):
    status, printed = command(target, str(tmp_path / "out"))
    assert status == 2
    assert f"error: {sentence}" in printed.err or sentence in printed.err
    assert not (tmp_path / "out").exists()


def test_compiled_programs_are_kept_where_jax_was_told_or_in_the_cache(monkeypatch):
    """What is set is read back; nothing is compiled in between."""
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    try:
        for told, kept in (("/mine", "/mine"), (None, "/there/recur/programs")):
            jax.config.update(names[0], told)
            command_line.keep_programs()
            assert jax.config.jax_compilation_cache_dir == kept
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    assert "report" in dir(recur)
    for name in [n for n in sys.modules if n.startswith(("recur.plot", "recur.reporting"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delattr(recur, "plot", raising=False)
    monkeypatch.delattr(recur, "reporting", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'recur-jax\[plot\]'"):
        _ = recur.report
