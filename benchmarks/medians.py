"""A race as a record, as a table with a row for each contestant, and as a panel of a picture."""

import statistics
from collections.abc import Sequence

import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import harness
from benchmarks.harness import Contestant
from experiments.harness import Table


def record(
    title: str, contestants: dict[str, Contestant], rounds: int, difference: dict[str, Array]
) -> dict:
    """Race, and record times by contestant, with the differences between their results."""
    seconds = harness.race(contestants, rounds)
    return {
        "title": title,
        "seconds": {name: values.tolist() for name, values in seconds.items()},
        "compiling": {name: c.compiling for name, c in contestants.items()},
        "difference": {name: float(value) for name, value in difference.items()},
    }


def table(record: dict, bases: Sequence[str]) -> Table:
    """Times, and the ratio of the median of each base to that of the contestant."""
    unit, scale = unit_of(record)
    median = {name: statistics.median(values) for name, values in record["seconds"].items()}
    rows = []
    for name, values in record["seconds"].items():
        apart = record["difference"].get(name)
        rows.append(
            (
                name,
                spread(values, scale),
                f"{scale * min(values):.3g}",
                *(f"{median[base] / median[name]:.2f}" for base in bases),
                f"{record['compiling'][name]:.2f}",
                "" if apart is None else f"{apart:.1e}",
            )
        )
    heads = ("contestant", f"median, {unit}", f"least, {unit}", *(f"{base} / it" for base in bases))
    return Table((*heads, "s to compile", "difference"), rows)


def unit_of(record: dict) -> tuple[str, float]:
    """Seconds where anyone takes one, or milliseconds; how many are in a second."""
    return ("s", 1.0) if max(map(max, record["seconds"].values())) >= 1 else ("ms", 1e3)


def spread(seconds: Sequence[float], scale: float) -> str:
    """Median and half of the interquartile range."""
    low, middle, high = scale * np.percentile(seconds, (25, 50, 75))
    return f"{middle:.3g} ± {(high - low) / 2:.3g}"


def plot(rows: Sequence[Sequence[dict]]) -> Figure:
    """A panel for each race; the panels of a row have the same contestants."""
    lines, columns = [len(row[0]["seconds"]) for row in rows], max(map(len, rows))
    size = (5 + 3 * columns, sum(1.1 + 0.3 * n for n in lines))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(
        len(lines), columns, squeeze=False, sharey="row", gridspec_kw={"height_ratios": lines}
    )
    for places, row in zip(axes, rows, strict=True):
        for ax, record in zip(places, row, strict=False):
            panel(ax, record)
        for ax in places[len(row) :]:
            ax.set_axis_off()
    return figure


def panel(ax: Axes, record: dict) -> None:
    """Medians from zero on, every round as a dot; floors in grey."""
    unit, scale = unit_of(record)
    for y, (name, seconds) in enumerate(record["seconds"].items()):
        times = scale * np.array(seconds)
        ax.barh(y, np.median(times), 0.6, color="0.6" if name.startswith("floor") else "C0")
        ax.plot(times, [y] * len(times), "o", color="black", markersize=3)
        ax.annotate(
            f"{np.median(times):.3g}",
            (times.max(), y),
            (6, 0),
            textcoords="offset points",
            va="center",
        )
    names = list(record["seconds"])
    ax.set(
        yticks=range(len(names)),
        yticklabels=names,
        ylim=(len(names) - 0.5, -0.5),
        xlabel=unit,
        title=record["title"],
    )
    ax.margins(x=0.25)
    ax.set_xlim(left=0)
