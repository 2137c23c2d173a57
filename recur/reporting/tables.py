"""The tables of a report: rows of numbers and words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recur import analysis
from recur.reporting.measurements import Results
from recur.reporting.words import gate_name


class Table(NamedTuple):
    """Columns of numbers or words, each under its name."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""


def exponents(results: Results) -> Table | None:
    """Exponents with their errors."""
    found = results.exponents
    if found is None:
        return None
    fields = (np.asarray(f) for f in (found.exponents, found.error, found.rounding))
    rows = [(i + 1, *row) for i, row in enumerate(zip(*fields, strict=True))]
    note = (
        f"Kaplan-Yorke dimension {number(float(found.dimension))}, entropy rate at most "
        f"{number(float(found.entropy))} nats per step."
    )
    columns = ("direction", "nats per step", "standard error", "effect of rounding")
    return Table("Lyapunov exponents", columns, rows, note)


def reach(results: Results) -> Table | None:
    """Singular values against the lag."""
    if results.reach is None:
        return None
    logs = np.asarray(results.reach.logs)
    rows = [
        (int(lag), row[0], row[len(row) // 2], row[-1])
        for lag, row in zip(results.reach.lags, logs, strict=True)
    ]
    columns = ("lag", "log largest", "log median", "log smallest")
    return Table("Singular values of dh_T/dx_{T-lag}, nats", columns, rows)


def points(results: Results) -> Table | None:
    """Fixed and slow points."""
    if results.standstill is None:
        return None
    kept, about = results.standstill.kept, results.standstill.about
    rows: list[tuple[Any, ...]] = []
    for i in range(len(np.asarray(kept.speed))):
        speed = float(np.sqrt(2 * np.asarray(kept.speed)[i]))
        kind = analysis.OUTCOMES[int(np.asarray(kept.outcome)[i])]
        growing = int((np.abs(np.asarray(about.eigenvalues)[i]) > 1).sum())
        stable = "stable" if bool(about.stable[i]) else "unstable"
        longest = float(np.asarray(about.timescales)[i].max())
        rows.append((i + 1, kind, speed, stable, growing, longest))
    columns = ("point", "kind", "|F(s) - s|", "stability", "growing modes", "slowest mode")
    note = "The slowest mode changes by a factor e in this many steps."
    return Table("Fixed and slow points", columns, rows, note)


def gates(results: Results, names: Sequence[str]) -> Table | None:
    """How far each gate is open."""
    if not results.gates:
        return None
    rows = []
    for i, values in enumerate(results.gates):
        low, middle, high = np.nanquantile(np.asarray(values), [0.1, 0.5, 0.9])
        rows.append((gate_name(names, i), low, middle, high))
    return Table("Openness of the gates", ("gate", "10 %", "median", "90 %"), rows)


def theory(results: Results) -> Table | None:
    """What theory predicts, beside what was measured."""
    if results.theory is None:
        return None
    found, error = results.theory, results.theory.error
    rows: list[tuple[Any, ...]] = [
        ("E[h^2]", float(found.Q), float(error.Q), _or_blank(results.path, "square")),
        ("chi", float(found.chi), float(error.chi), ""),
        ("xi (steps)", float(found.xi), float(error.xi), ""),
    ]
    if found.squares is not None:
        measured: Any = ""
        if results.one_step is not None:
            measured = float(np.nanmean(np.square(results.one_step.values)))
        rows.append(("mean squared singular value", float(found.squares.mean), "", measured))
    note = (
        "Theory: weights redrawn at each step, infinite width, Gaussian inputs of the same mean "
        "square. The difference from the measured numbers is mostly what training has changed."
    )
    return Table("Theory", ("number", "theory", "standard error", "measured"), rows, note)


def tables(results: Results, names: Sequence[str] = ()) -> list[Table]:
    """All tables for which there are numbers."""
    each = (
        reach(results),
        exponents(results),
        points(results),
        gates(results, names),
        theory(results),
    )
    return [table for table in each if table is not None]


def number(value: Any) -> str:
    """A number to four digits; words stay as they are."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer):
        return str(value)
    return f"{float(value):.4g}"


def _or_blank(value: Any, field: str) -> Any:
    return "" if value is None else getattr(value, field)
