"""The results of a race of layers: tables of times, ratios, memory and compilation, and a picture.

A record is one cell at one shape, as `layers.race` makes it: seconds, memory and compilation by
contestant, and the floor.
"""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import harness, peers
from experiments.harness import Table

ENGINE = ("recur", "recur, all")


def medians(record: dict) -> dict[str, float]:
    """Median seconds of each contestant."""
    return {name: statistics.median(values) for name, values in record["seconds"].items()}


def best_peer(record: dict) -> str:
    """The fastest contestant other than recur, on one device."""
    others = {k: v for k, v in medians(record).items() if k not in ENGINE and "all" not in k}
    return min(others, key=others.__getitem__)


def compared(record: dict) -> dict[str, float]:
    """The ratios to report for a row."""
    time = medians(record)
    ours = time.get("recur, all", time["recur"])
    found = {
        "recur / best peer": ours / time[best_peer(record)],
        "recur on one device / best peer": time["recur"] / time[best_peer(record)],
        "recur on one device / scan": time["recur"] / time["scan"],
        "recur / floor": ours / record["floor"]["seconds"],
    }
    if "scan, all" in time:
        found["recur, all / scan, all"] = time["recur, all"] / time["scan, all"]
    return found


def times(records: list[dict]) -> Table:
    """Median and half of the interquartile range."""
    names = _contestants(records)
    rows = []
    for record in records:
        row = [*_label(record)]
        for name in names:
            values = record["seconds"].get(name)
            if values is None:
                row.append("")
                continue
            low, middle, high = 1e3 * np.percentile(values, (25, 50, 75))
            row.append(f"{middle:.3g} ± {(high - low) / 2:.2g}")
        rows.append(row)
    return Table(("batch,T,n,d", "cell", *names), rows)


def ratios(records: list[dict]) -> Table:
    """The ratios of each row with their floor, and geometric means over groups of cells."""
    names = list(dict.fromkeys(name for record in records for name in compared(record)))
    rows = []
    for record in records:
        ratio, floor = compared(record), record["floor"]
        rows.append(
            (
                *_label(record),
                best_peer(record),
                *(f"{ratio[name]:.2f}" if name in ratio else "" for name in names),
                f"{1e3 * floor['arithmetic']:.3g}",
                f"{1e3 * floor['traffic']:.3g}",
                f"{floor['flops_per_second'] / 1e9:.0f}",
                f"{floor['bytes_per_second'] / 1e9:.1f}",
            )
        )
    for title, chosen in (("with all peers", True), ("scan by hand only", False)):
        group = [compared(r) for r in records if (r["cell"] in peers.TRANSFERRED) == chosen]
        if group:
            values = ([ratio[name] for ratio in group if name in ratio] for name in names)
            means = (f"{harness.geometric_mean(v):.2f}" if v else "" for v in values)
            rows.append(("geometric mean", title, "", *means, "", "", "", ""))
    head = ("batch,T,n,d", "cell", "best peer", *names)
    return Table((*head, "arithmetic, ms", "traffic, ms", "product, GFLOP/s", "copy, GB/s"), rows)


def memory(records: list[dict]) -> Table:
    """Temporaries of each program, over all devices; and what the engine saves.

    Outputs, and their cotangents if there is a derivative, are not counted.
    """
    listed = _listed(records, "memory", lambda value: f"{value / 1e6:.1f}")
    rows = []
    for record, row in zip(records, listed.rows, strict=True):
        batch, T, n, _ = record["shape"]
        both = 2 * 4 * batch * T * n
        ours, plain = (max(0, record["memory"][name] - both) for name in ("recur", "scan"))
        rows.append((*row, f"{both / 2e6:.1f}", f"{ours / plain:.2f}" if plain else ""))
    return Table((*listed.columns, "outputs", "recur / scan, beyond outputs and cotangents"), rows)


def compiling(records: list[dict]) -> Table:
    """From trace to program."""
    return _listed(records, "compiling", lambda value: f"{value:.2f}")


def _listed(records: list[dict], what: str, form: Callable[[Any], str]) -> Table:
    names = [n for n in _contestants(records) if any(r[what].get(n) is not None for r in records)]
    rows = [
        (*_label(r), *("" if r[what].get(n) is None else form(r[what][n]) for n in names))
        for r in records
    ]
    return Table(("batch,T,n,d", "cell", *names), rows)


def _contestants(records: list[dict]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record["seconds"]))


def _label(record: dict) -> tuple[str, str]:
    return ",".join(map(str, record["shape"])), record["cell"]


def plot(records: list[dict]) -> Figure:
    """Time relative to the best peer, a row for each cell and shape."""
    figure = Figure(figsize=(9, 1.5 + 0.32 * len(records)), layout="constrained")
    ax = figure.subplots()
    for i, name in enumerate([*_contestants(records), "floor"]):
        points = []
        for y, record in enumerate(records):
            time = medians(record) | {"floor": record["floor"]["seconds"]}
            if name in time:
                points.append((time[name] / time[best_peer(record)], y))
        style = (
            {"marker": "|", "color": "black"} if name == "floor" else {"marker": "os^v*D"[i % 6]}
        )
        big = {"s": 80, "zorder": 3} if name in ENGINE else {"s": 28}
        ax.scatter(*zip(*points, strict=True), label=name, **style, **big)
    ax.axvline(1, color="0.8", zorder=0)
    ax.set(
        xscale="log",
        xlabel="time / time of the best peer on one device",
        yticks=range(len(records)),
        yticklabels=["  ".join(_label(r)) for r in records],
    )
    ax.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=6)
    return figure
