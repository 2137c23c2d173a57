"""What results print, and the tables that notebooks show of them."""

import importlib
import inspect
import pkgutil
import re
from html.parser import HTMLParser
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import normal

from recur import GateParams, Prior, analysis, cell_contract, cells, compose, theory
from recur.reporting.make_report import Report
from recur.reporting.measurements import Results
from recur.reporting.words import Finding
from recur.tables import as_html, as_markdown, short, told

POINTS = analysis.Points(
    (normal(40, 3), normal(40, 256)), np.full(40, 1e-9), np.full(40, 2e-4), np.arange(40) % 4
)
K = np.array([0.12345678, -0.2, -np.inf, np.nan])
LYAPUNOV = analysis.Lyapunov(K, K, normal(500, 4), np.float32(2.5), np.float32(0.125), K)


class Cells(HTMLParser):
    """The texts of all cells of all rows of all tables of a page."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.open = [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        {"table": self.tables.append, "tr": lambda row: self.tables[-1].append(row)}.get(
            tag, lambda _: None
        )([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.tables[-1][-1][-1] += data


def of_markdown(page):
    """The same of a page of Markdown."""
    tables = []
    for table in page.split("\n\n"):
        rows = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in table.split("\n")]
        assert rows.pop(1) == ["---"] * len(rows[0])
        tables.append(rows)
    return tables


def test_a_result_prints_in_a_line():
    """Of 40 points with 256 units each, all numbers were printed: 10,000."""
    assert repr(POINTS) == (
        "Points(states=tuple of float32[40,3], float32[40,256], "
        "speed=[1e-09, 1e-09, 1e-09, 1e-09, ... (40)], "
        "distance=[0.0002, 0.0002, 0.0002, 0.0002, ... (40)], "
        "outcome=[0, 1, 2, 3, ... (40)])"
    )
    assert "exponents=[0.1235, -0.2, -inf, nan], error" in repr(LYAPUNOV)
    assert repr(Prior(mu_b=(2.0, 0.0))) == "Prior(sigma_w=1, sigma_v=1, mu_b=(2.0, 0.0), sigma_b=0)"
    assert repr(analysis.Verdict("vanish", -0.25)) == "Verdict(word='vanish', rate=-0.25)"
    assert str(analysis.Verdict("vanish", -0.25)) == "gradients vanish: -0.2500 nats per step back"
    assert (
        repr(analysis.Points(K, K, None))
        == repr(analysis.Points(K, K))
        == ("Points(states=[0.1235, -0.2, -inf, nan], speed=[0.1235, -0.2, -inf, nan])")
    )
    field = theory.MeanField(*np.ones(6), error=theory.MeanField(*np.ones(6)))
    assert "error=MeanField(Q=1," in repr(field)


class Own(GateParams):
    """Parameters of a user's own cell."""


def test_parameters_and_states_print_in_a_line():
    """Those of an LSTM of 15 units took 358 lines."""
    for package in (cells, compose):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, kind in inspect.getmembers(importlib.import_module(found.name)):
                if hasattr(kind, "_fields") and kind.__module__ == found.name:
                    assert kind.__repr__ is short, f"{found.name}.{name}"
    b = np.zeros(256, np.float32)
    params = Own(np.eye(64, 256, dtype=np.float32), np.ones((10, 256), np.float32), b)
    line = (
        "Own(W=float32[64,256] within 0 .. 1, V=float32[10,256] within 1 .. 1, "
        "b=[0, 0, 0, 0, ... (256)])"
    )
    assert repr(params) == line
    assert repr(compose.Highway(params, b, b[:2])).startswith(f"Highway(cell={line}, V=[0, ")
    assert Cells(params._repr_html_()).tables[0][1] == ["W", "float32[64,256] within 0 .. 1"]


def test_a_table_has_a_row_an_entry_and_words_for_numbers():
    first, second = Cells(POINTS._repr_html_()).tables
    assert first[0] == ["", "speed q", "distance to a fixed point", "outcome"]
    assert first[2] == ["1", "1e-09", "0.0002", "slow"]
    assert len(first) == 12  # a header, ten points and how many there are
    assert first[-1] == ["...", "40 rows", "", ""]
    assert second == [["Points", ""], ["states", "tuple of float32[40,3], float32[40,256]"]]
    without, _ = Cells(POINTS._replace(distance=None)._repr_html_()).tables
    assert without[0] == ["", "speed q", "outcome"]
    spectrum, rest = Cells(LYAPUNOV._repr_html_()).tables
    assert [row[1] for row in spectrum] == [
        "exponents, nats per step or s",
        "0.1235",
        "-0.2",
        "-inf",
        "nan",
    ]
    assert [row[0] for row in rest] == ["Lyapunov", "history", "dimension", "entropy"]
    batch = analysis.SingularValues(normal(3, 50), normal(3, 50))
    ((_, one, *_),) = Cells(batch._repr_html_()).tables
    assert one[1].endswith(", ... (50)]")
    assert len(Cells(Prior()._repr_html_()).tables[0]) == 5


def test_html_and_markdown_show_the_same_and_escape_what_they_must():
    table = ["a|b", "<c>"], [["|x|", "1 < 2 & 3"], ["", "*"]]
    assert Cells(as_html([table])).tables == [[table[0], *table[1]]]
    assert as_markdown([table]).split("\n")[2] == "| \\|x\\| | 1 < 2 & 3 |"
    for value in (POINTS, LYAPUNOV, Prior()):
        assert of_markdown(value._repr_markdown_()) == Cells(value._repr_html_()).tables
    checks = [("linear", True, "1e-8"), ("unit by unit", False, "h | x")]
    report = cell_contract.Report(tuple(cell_contract.Check(*check) for check in checks))
    ((_, _, last),) = Cells(report._repr_html_()).tables
    assert last == ["unit by unit", "FAIL", "h | x"]
    assert "h \\| x" in report._repr_markdown_()


def test_a_report_on_a_network_shows_its_answers():
    results = Results(network=None, sizes=None, exponents=LYAPUNOV)
    finding = Finding("Is it stable?", "stable", "-0.2 < 0")
    report = Report(Path("a/report.html"), Path("a/report.npz"), [finding], ["No gates."], results)
    answers, left_out, page = Cells(report._repr_html_()).tables
    assert answers[1] == ["Is it stable?", "stable", "-0.2 < 0"]
    assert left_out == [["not measured"], ["No gates."]]
    assert page[1] == ["a/report.html"]
    assert len(of_markdown(report._replace(left_out=[])._repr_markdown_())) == 2
    assert "exponents=Lyapunov(exponents=[0.1235" in repr(results)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([[1.0, np.nan], [-2, 3]]), "float64[2,2] within -2 .. 3, 1 not finite"),
        (np.full((2, 2), np.nan), "float64[2,2]"),
        (np.array([[1j, -2.0]]), "complex128[1,2] modulus within 1 .. 2"),
        (np.array([0.5 + 0.25j, 1]), "[0.5+0.25j, 1]"),
        (np.array([[True, False]]), "bool[1,2], 1 true"),
        (np.zeros((0, 3)), "float64[0,3]"),
        (np.zeros(0), "float64[0]"),
        (jnp.bfloat16(1.5), "1.5"),
        (np.int8(-3), "-3"),
        (1e-12, "1e-12"),
        (None, "None"),
        ("it's", '"it\'s"'),
        ({"a": None}, "{'a': None}"),
    ],
)
def test_values_in_a_few_words(value, text):
    assert told(value) == text


def test_what_has_no_numbers_to_be_had_is_told_by_its_shape():
    """Traced, deleted, abstract, a key."""
    texts = []
    jax.eval_shape(lambda v: texts.append(repr(v)), analysis.SingularValues(K, K))
    assert texts == ["SingularValues(logs=float64[4], rounding=float64[4])".replace("64", "32")]
    gone = jnp.zeros(3)
    gone.delete()
    assert told(gone) == "float32[3]"
    assert told(jax.ShapeDtypeStruct((2,), jnp.int32)) == "int32[2]"
    assert told(jax.random.key(0)) == "key<fry>[]"
