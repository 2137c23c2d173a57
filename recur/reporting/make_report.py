"""One call that measures a network on its own data and writes the results as one page."""

import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from recur import expect
from recur.analysis.gradients_by_lag import Losses
from recur.analysis.numerics.flat_state import as_inputs
from recur.atomic_files import replace
from recur.core import Body, Prior, Recurrence, Tree, gaussian, recurrence
from recur.reporting import figures, provenance, tables
from recur.reporting.arguments import Asked, checked
from recur.reporting.measurements import Results
from recur.reporting.measuring import Budget, measure
from recur.reporting.omissions import omissions
from recur.reporting.output_folder import open_folder
from recur.reporting.page import page
from recur.reporting.phases import Say, phase
from recur.reporting.words import Finding, findings
from recur.tables import Table, as_html, as_markdown

PAGE, NUMBERS = "report.html", "report.npz"


class Report(NamedTuple):
    """What `report` returns."""

    page: pathlib.Path  #: the page, report.html
    numbers: pathlib.Path  #: report.npz, all arrays of `results` by name
    findings: list[Finding]  #: the answers in words
    left_out: list[str]  #: what was not measured, and why
    results: Results  #: all numbers

    def __repr__(self) -> str:
        """The page and the answers."""
        words = "".join(f"\n  {found.question} {found.word}" for found in self.findings)
        return f"Report at {self.page}{words}"

    def _repr_html_(self) -> str:
        return as_html(self._tables())

    def _repr_markdown_(self) -> str:
        return as_markdown(self._tables())

    def _tables(self) -> list[Table]:
        """The answers, and what was not measured, as a notebook shows them."""
        answers = [[found.question, found.word, found.sentence] for found in self.findings]
        shown = [(["question", "answer", "numbers"], answers)]
        if self.left_out:
            shown.append((["not measured"], [[sentence] for sentence in self.left_out]))
        return [*shown, (["the page"], [[str(self.page)]])]


@expect.arguments(
    body=expect.function,
    state=expect.arrays,
    xs=expect.arrays,
    seconds=expect.number(0),
    losses=expect.optional(expect.function),
    x=expect.optional(expect.arrays),
    cell=expect.optional(recurrence),
    prior=expect.optional(gaussian),
    key=expect.optional(expect.key),
)
def report(
    body: Body,
    state: Tree,
    xs: Tree,
    folder: str | os.PathLike,
    *,
    seconds: float = 60.0,
    losses: Losses | None = None,
    x: Tree | None = None,
    gates: Sequence[str] = (),
    cell: Recurrence | None = None,
    prior: Prior | None = None,
    key: Array | None = None,
    title: str = "A recurrent network on its data",
    say: Say | None = print,
) -> Report:
    """Measure a network on one sequence, and write the results as one page.

    The page shows how far back outputs see inputs, how far back gradients reach, the Lyapunov
    spectrum, fixed points, how far the gates are open and what single steps do. It also says in
    words what follows. It is one file that works offline: figures, style and script are inside.
    Files are written atomically, the page last. For use outside jit.

    Compilation takes most of the time of a first call. If `jax_compilation_cache_dir` is set, a
    second call with the same shapes takes a fraction of it.

    Args:
        body: One step, (state, x) -> (state, h).
        state: The state before the first step, floating-point arrays.
        xs: Inputs (T, ..., d) of one sequence, or the number of steps of a network without inputs.
        folder: Where `report.html` and `report.npz` are written. It is made if it does not exist.
        seconds: About how long it may take, 0 or more. This determines how much is measured. A
            part that has not begun by then is left out, and the page says so.
        losses: hs (T, ..., n) -> the loss of each step (T,), as for `analysis.gradient_map`. If
            None, each output counts in one random direction.
        x: The constant input for the search for fixed points. If None, zeros, and true for masks.
        gates: Names for `analysis.openness`, in its order: none, or one for each gate.
        cell: The cell for the theory, if the body is not `scan.tied(cell, params)`.
        prior: The prior from which the initial parameters were drawn. With it, the page compares
            theory with what was measured. None: no theory.
        key: Draws directions and starting points; `jax.random.key(0)` if None.
        title: The title of the page.
        say: Called with lines about the progress; None for silence.

    Returns:
        The files, the answers in words, what was left out, and all numbers.

    Raises:
        ValueError: If the body does not fit state and xs, if these hold numbers that are not
            finite, if there is not one name for each gate, or for a cell or a prior without the
            other.
        TypeError: For arguments of another type.
        OSError: If the folder cannot be written.

    Example:
        >>> def body(h, x):
        ...     h = jnp.array([0.9, 0.4]) * h + x
        ...     return h, h
        >>> xs = np.ones((50, 2), "f")
        >>> found = recur.report(body, np.zeros(2, "f"), xs, "folder")  # doctest: +SKIP
        >>> found.findings[3].sentence  # doctest: +SKIP
        'The largest exponent is -0.1054 +- 0.0000 nats per step: a difference shrinks by ...'
    """
    budget, say = Budget(time.perf_counter(), seconds), say or (lambda _: None)
    key = jax.random.key(0) if key is None else key
    xs = as_inputs(state, xs)
    network, asked = checked(Asked(body, state, xs, losses, x, gates, cell, prior, key))
    place = open_folder(folder)
    results, left_out = measure(network, asked, budget, say)
    with phase("the page", say):
        words = findings(results, gates)
        left_out += omissions(results)
        call = provenance.call(body, state, xs, folder, seconds=seconds, prior=prior)
        took = f"{budget.spent():.0f} s of {seconds:g} s"
        text = page(
            title,
            provenance.summary(network),
            words,
            figures.pictures(results, gates),
            tables.tables(results, gates),
            left_out,
            [("call", call), *provenance.versions(), ("measured in", took)],
        )
        save: Any = np.savez_compressed  # its type takes no names
        replace(place / NUMBERS, lambda new: save(new, **arrays(results)))
        replace(place / PAGE, lambda new: new.write_text(text, encoding="utf-8"))
    say(f"{place / PAGE} after {budget.spent():.0f} s")
    return Report(place / PAGE, place / NUMBERS, words, left_out, results)


def arrays(results: Results) -> dict[str, np.ndarray]:
    """All numbers by name, such as exponents.error."""
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(results)
    }
    keys = (jax.Array,)  # of random numbers, which NumPy cannot save
    return {name: np.asarray(leaf) for name, leaf in named.items() if not isinstance(leaf, keys)}
