"""The figures of a report, as SVG embedded in the page."""

import io
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recur import plot
from recur.reporting.measurements import Results
from recur.reporting.words import gate_name

SIZE = (4.8, 3.4)  # inches: legible at the width of a phone


class Picture(NamedTuple):
    """A figure with its caption."""

    name: str
    caption: str
    svg: str


def reach(results: Results, ax: Axes) -> str | None:
    """How far back the last output sees."""
    if results.reach is None:
        return None
    plot.input_output(results.reach.logs, results.reach.lags, ax)
    return "How far back the last output sees: singular values of its derivative wrt. each input."


def gradient_map(results: Results, ax: Axes) -> str | None:
    """Gradients over time and lag."""
    if results.gradients is None or results.gradients.shape[-1] < 2:
        return None
    plot.gradient_map(results.gradients, ax)
    return "How much of the gradient of each output is left, against the number of steps back."


def gradient_by_lag(results: Results, ax: Axes) -> str | None:
    """The same against the lag only."""
    if results.gradients is None or results.gradients.shape[-1] < 2:
        return None
    lags = np.arange(results.gradients.shape[-1])
    there = results.gradients[lags[-1] :]  # where every lag exists
    plot.input_output(there[..., None], lags, ax, label=None)
    ax.set(ylabel=r"gradient $|d\,\mathrm{loss}_t/dh_{t-\mathrm{lag}}|$")
    return "The same against the lag: the median over steps, and 10-90 % of them."


def exponents(results: Results, ax: Axes) -> str | None:
    """The Lyapunov spectrum."""
    if results.exponents is None:
        return None
    plot.lyapunov(results.exponents, ax, label="exponents")
    return "Lyapunov exponents: how fast differences grow (above 0) or fade along the data."


def convergence(results: Results, ax: Axes) -> str | None:
    """Whether it has settled."""
    if results.exponents is None:
        return None
    discard = results.sizes.steps - len(results.exponents.history)
    plot.lyapunov_convergence(results.exponents, ax, discard=discard)
    return "Estimates of the exponents over time. The band is two standard errors."


def points(results: Results, ax: Axes) -> str | None:
    """Fixed and slow points."""
    if results.standstill is None or results.path is None:
        return None
    kept, about = results.standstill.kept, results.standstill.about
    if not len(about.stable):
        return None
    plot.fixed_points(kept, about, results.path.states, ax)
    return (
        "States along the data (grey), and fixed and slow points under a constant input, in the "
        "principal components of the data."
    )


def eigenvalues(results: Results, ax: Axes) -> str | None:
    """The eigenvalues at these points."""
    if results.standstill is None or not len(results.standstill.about.stable):
        return None
    plot.eigenvalues(results.standstill.about, ax)
    return "Eigenvalues of the Jacobian at these points. Those outside the unit circle grow."


def one_step(results: Results, ax: Axes) -> str | None:
    """The Jacobian of single steps over time."""
    if results.one_step is None:
        return None
    values = np.asarray(results.one_step.values)
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    plot.input_output(logs, results.one_step.at, ax)
    ax.axhline(0, color="k", lw=0.7)
    ax.set(xlabel="t (steps)", ylabel=r"singular values of $ds_t/ds_{t-1}$")
    return "What single steps do to differences of the state: singular values of their Jacobians."


def gates(names: Sequence[str]) -> Callable[[Results, Axes], str | None]:
    """How far each gate is open, over time."""

    def draw(results: Results, ax: Axes) -> str | None:
        if not results.gates:
            return None
        called = [gate_name(names, i) for i in range(len(results.gates))]
        plot.gates(results.gates, called, ax)
        return "How far the gates are open: the median over units, and 10-90 % of them."

    return draw


def pictures(results: Results, names: Sequence[str] = ()) -> list[Picture]:
    """All pictures for which there are numbers."""
    draws = {
        "reach": reach,
        "gradient-map": gradient_map,
        "gradient-by-lag": gradient_by_lag,
        "exponents": exponents,
        "convergence": convergence,
        "points": points,
        "eigenvalues": eigenvalues,
        "one-step": one_step,
        "gates": gates(names),
    }
    made = []
    for name, draw in draws.items():
        figure = Figure(figsize=SIZE, layout="constrained")
        caption = draw(results, figure.add_subplot())
        if caption is not None:
            made.append(Picture(name, caption, svg(figure, name)))
    return made


def svg(figure: Figure, name: str) -> str:
    """A figure as an element of a page: it scales, and its ids are its own."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, dpi=150)
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r'<svg ([^>]*?)width="[^"]*" ?', r"<svg \1", drawn, count=1)
    drawn = re.sub(r'<svg ([^>]*?)height="[^"]*" ?', r"<svg \1", drawn, count=1)
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    for mark in (' id="', "url(#", 'href="#'):
        drawn = drawn.replace(mark, f"{mark}{name}-")
    return drawn
