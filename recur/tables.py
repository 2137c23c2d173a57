"""Results that print briefly, and are displayed as tables in notebooks.

    @tabled(exponents="exponents, nats per step", error="error")
    class Lyapunov(NamedTuple): ...

A NamedTuple of arrays prints all its numbers. With this decorator it prints some numbers of each
field, or its shape. In a notebook the fields named in the decorator are columns of a table, and the
others follow.
"""

import html
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")
Column = str | tuple[str, tuple[str, ...]]  # a header; words, if the entries are indices into them
ROWS = 10  # of a table
FEW = 4  # numbers in a text


def tabled(**columns: Column) -> Callable[[type[T]], type[T]]:
    """The NamedTuple with a short repr, `_repr_html_` and `_repr_markdown_`.

    `columns` maps fields with one entry per row on their first axis to the headers of their
    columns.
    """

    def decorate(kind: type[T]) -> type[T]:
        shown = {
            "__repr__": short,
            "_repr_html_": lambda value: as_html(tables(value, columns)),
            "_repr_markdown_": lambda value: as_markdown(tables(value, columns)),
        }
        for name, method in shown.items():
            setattr(kind, name, method)
        return kind

    return decorate


Table = tuple[list[str], list[list[str]]]  # headers, rows of cells


def short(value: Any) -> str:
    """The fields of a NamedTuple in a few words each, except those that are None by default."""
    left_out = [name for name, usual in value._field_defaults.items() if usual is None]
    parts = [
        f"{name}={told(part)}"
        for name, part in value._asdict().items()
        if part is not None or name not in left_out
    ]
    return f"{type(value).__name__}({', '.join(parts)})"


def tables(value: Any, columns: dict[str, Column]) -> list[Table]:
    """The tables of a NamedTuple: the columns, then the other fields."""
    fields = {name: part for name, part in value._asdict().items() if part is not None}
    inside = {name: a for name in columns if (a := _numbers(fields.get(name))) is not None}
    inside = {name: a for name, a in inside.items() if a.ndim > 0}
    found = []
    if inside:
        length = max(len(a) for a in inside.values())
        headers, cells = [""], [[str(i)] for i in range(min(length, ROWS))]
        for name, a in inside.items():
            column = columns[name]
            header, words = (column, None) if isinstance(column, str) else column
            headers.append(header)
            for i, row in enumerate(cells):
                row.append(_entry(a, i, words))
        if length > ROWS:
            cells.append(["...", f"{length} rows", *[""] * (len(inside) - 1)])
        found.append((headers, cells))
    rest = [[name, told(part)] for name, part in fields.items() if name not in inside]
    if rest:
        found.append(([type(value).__name__, ""], rest))
    return found


def _entry(a: np.ndarray, i: int, words: tuple[str, ...] | None) -> str:
    if i >= len(a):
        return ""
    return words[int(a[i])] if words and a.ndim == 1 else told(a[i])


def as_html(found: Iterable[Table]) -> str:
    """Tables one below the other."""
    parts = []
    for headers, rows in found:
        head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "".join(parts)


def as_markdown(found: Iterable[Table]) -> str:
    """Tables one below the other."""
    parts = []
    for headers, rows in found:
        lines = [headers, ["---"] * len(headers), *rows]
        parts.append("\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def told(value: Any) -> str:
    """A value in a few words: some of its numbers, or their range, and its shape."""
    array = _numbers(value)
    if array is not None:
        return _array(array)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _shape(value)  # traced, deleted or elsewhere
    if type(value).__repr__ is short:
        return short(value)
    leaves = jax.tree.leaves(value)
    if any(hasattr(a, "shape") for a in leaves):
        arrays = ", ".join(_shape(a) if hasattr(a, "shape") else repr(a) for a in leaves[:FEW])
        return f"{type(value).__name__} of {arrays}{', ...' if len(leaves) > FEW else ''}"
    return repr(value)


def _numbers(value: Any) -> np.ndarray | None:
    """The value as a NumPy array; None if it is not an array, or not available."""
    if isinstance(value, float | np.ndarray | np.generic):
        array = np.asarray(value)
    elif isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        keys = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
        if keys or value.is_deleted() or not value.is_fully_addressable:
            return None
        array = np.asarray(value)
    else:
        return None
    return None if array.dtype.kind in "OSUmM" else array


def _shape(a: Any) -> str:
    return f"{a.dtype}[{','.join(map(str, a.shape))}]"


def _array(a: np.ndarray) -> str:
    if a.ndim == 0:
        return _number(a[()])
    if a.ndim == 1 and a.size:
        more = f", ... ({a.size})" if a.size > FEW else ""
        return f"[{', '.join(map(_number, a[:FEW]))}{more}]"
    if a.dtype == bool:
        return f"{_shape(a)}, {int(a.sum())} true"
    size = np.abs(a) if np.iscomplexobj(a) else a.astype(float)
    known = size[np.isfinite(size)]
    if not known.size:
        return _shape(a)
    what = "modulus within" if np.iscomplexobj(a) else "within"
    gaps = f", {size.size - known.size} not finite" if known.size < size.size else ""
    return f"{_shape(a)} {what} {_number(known.min())} .. {_number(known.max())}{gaps}"


def _number(x: Any) -> str:
    if np.iscomplexobj(x):
        return f"{_number(x.real)}{float(x.imag):+.3g}j" if x.imag else _number(x.real)
    return str(x) if isinstance(x, bool | np.bool_ | np.integer) else f"{float(x):.4g}"
