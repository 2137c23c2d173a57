"""The page: one HTML file with its figures, style and script inside."""

from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from recur.reporting.figures import Picture
from recur.reporting.tables import Table, number
from recur.reporting.words import Finding

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
"""


def page(
    title: str,
    summary: str,
    findings: Sequence[Finding],
    pictures: Sequence[Picture],
    tables: Sequence[Table],
    left_out: Sequence[str],
    origin: Sequence[tuple[str, str]],
) -> str:
    """The whole page as text."""
    parts = [
        HEAD.format(title=escape(title), style=_text("page.css")),
        f'<header><h1>{escape(title)}</h1><p class="soft">{escape(summary)}</p></header>\n<main>\n',
        f"<h2>In words</h2>\n{_grid(_finding, findings)}",
    ]
    if pictures:
        parts.append(f"<h2>Figures</h2>\n{_grid(_figure, pictures)}")
    if tables:
        parts.append(f"<h2>Numbers</h2>\n{_grid(_table, tables, 'tables')}")
    if left_out:
        items = "".join(f"<li>{escape(what)}</li>\n" for what in left_out)
        parts.append(f'<h2>What was left out</h2>\n<ul id="left-out">\n{items}</ul>\n')
    rows = "".join(f"<dt>{escape(a)}</dt><dd><code>{escape(b)}</code></dd>\n" for a, b in origin)
    parts.append(f"<h2>How it was made</h2>\n<dl>\n{rows}</dl>\n</main>\n")
    parts.append(f"<script>\n{_text('page.js')}</script>\n</body>\n</html>\n")
    return "".join(parts)


def _grid(write: Callable[[Any], str], things: Sequence[Any], kind: str = "") -> str:
    return f'<div class="grid {kind}">\n{"".join(map(write, things))}</div>\n'


def _finding(found: Finding) -> str:
    head = f"<h3>{escape(found.question)} <b>{escape(found.word)}</b></h3>"
    return f"<section>\n{head}\n<p>{escape(found.sentence)}</p>\n</section>\n"


def _figure(picture: Picture) -> str:
    drawn = picture.svg.replace(
        "<svg ", f'<svg role="img" aria-label="{escape(picture.caption)}" ', 1
    )
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    return f'<figure id="{picture.name}">\n{drawn}{caption}\n</figure>\n'


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{escape(name)}</button></th>'
        for name in table.columns
    )
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>\n' if table.note else ""
    return (
        f"<details open>\n<summary>{escape(table.title)}</summary>\n"
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table></div>\n{note}</details>\n"
    )


def _cell(value: Any) -> str:
    """A cell, which keeps all digits to be sorted by."""
    if isinstance(value, str):
        return f'<td class="word" data-value="{escape(value)}">{escape(value)}</td>'
    exact = _script(float(value))
    return f'<td data-value="{exact}">{number(value)}</td>'


def _script(value: float) -> str:
    """A number as JavaScript reads it."""
    if np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _text(name: str) -> str:
    """A file that lies beside this one."""
    return (files("recur.reporting") / name).read_text(encoding="utf-8")
