"""One call that measures a network on its own data and writes the results as one page."""

import os
import pathlib
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from recur import analysis, cells, expect, scan, theory
from recur.analysis.gradients_by_lag import Losses
from recur.analysis.numerics.flat_state import as_inputs, flatten
from recur.atomic_files import replace
from recur.core import Body, Prior, Recurrence, Tree, gaussian, recurrence
from recur.reporting import figures, measurements, tables
from recur.reporting.measurements import Network, OneStep, Path, Reach, Results
from recur.reporting.omissions import omissions
from recur.reporting.output_folder import open_folder
from recur.reporting.page import page
from recur.reporting.phases import Say, phase
from recur.reporting.sizes import Sizes, plan, time_qr
from recur.reporting.words import Finding, findings
from recur.tables import Table, as_html, as_markdown

PAGE, NUMBERS = "report.html", "report.npz"
COMPILERS = 2  # programs that are compiled at the same time
PACKAGES = ("recur", "jax", "jaxlib", "numpy", "matplotlib")


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


class Question(NamedTuple):
    """A part of the results, and the program that finds it."""

    field: str  # of Results
    label: str
    program: Callable[..., Any]  # (body, *args), pure
    args: tuple
    settle: Callable[[Any], Any] = lambda found: found  # result of the program -> the field


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
    begin = time.perf_counter()
    say = say or (lambda _: None)
    key = jax.random.key(0) if key is None else key
    cell = _cell_of(body, cell, prior)
    xs = as_inputs(state, xs)
    network = _described(body, state, xs)
    x = _held(x, xs)
    _require_gates(body, state, xs, gates)
    place = open_folder(folder)
    call = _call(body, state, xs, folder, seconds=seconds, prior=prior)
    params, rebuild = _opened(body)

    def over() -> bool:
        return time.perf_counter() - begin > seconds

    def program(question: Question) -> jax.stages.Lowered:
        """Its program, with the parameters as an argument: trained ones need no new one."""
        found = jax.jit(lambda params, args: question.program(rebuild(params), *args))
        return found.lower(params, question.args)

    with phase("the network on its data", say):
        first = Question("path", "", measurements.trajectory, (state, xs))
        path, sizes = _followed(network, program(first).compile(), params, state, xs, seconds)
    results, left_out = Results(network, sizes, path), []
    questions = [] if path.overflow else _questions(key, results, state, xs, x, losses, cell, prior)
    with ThreadPoolExecutor(COMPILERS) as pool:
        waiting: list[tuple[Question, Future]] = []
        with phase("tracing the programs", say):
            for question in questions:
                if over():
                    left_out.append(f"{question.label}: the {seconds:g} s were over")
                    continue
                try:
                    waiting.append((question, pool.submit(program(question).compile)))
                except ValueError as error:  # its own sentence says what it cannot do
                    left_out.append(f"{question.label}: {error}")
        for question, compiled in waiting:
            if over() and compiled.cancel():
                left_out.append(f"{question.label}: the {seconds:g} s were over")
                continue
            with phase(question.label, say):
                found = jax.block_until_ready(compiled.result()(params, question.args))
                results = results._replace(**{question.field: question.settle(found)})
    with phase("the page", say):
        results = jax.tree.map(_host, results)
        words = findings(results, gates)
        left_out += omissions(results)
        took = f"{time.perf_counter() - begin:.0f} s of {seconds:g} s"
        text = page(
            title,
            _summary(network),
            words,
            figures.pictures(results, gates),
            tables.tables(results, gates),
            left_out,
            [("call", call), *_versions(), ("measured in", took)],
        )
        save: Any = np.savez_compressed  # its type takes no names
        replace(place / NUMBERS, lambda new: save(new, **arrays(results)))
        replace(place / PAGE, lambda new: new.write_text(text, encoding="utf-8"))
    say(f"{place / PAGE} after {time.perf_counter() - begin:.0f} s")
    return Report(place / PAGE, place / NUMBERS, words, left_out, results)


def _opened(body: Body) -> tuple[Tree, Callable[[Tree], Body]]:
    """Parameters, and a function from them to the body. A plain function has no parameters."""
    if isinstance(body, scan.Tied):
        return body.params, partial(scan.tied, body.cell)
    return (), lambda _: body


def _followed(
    network: Network, run: Callable, params: Tree, state: Tree, xs: Tree, seconds: float
) -> tuple[Path, Sizes]:
    """The network on its data, and the sizes that its speed allows."""
    states, squares, finite = jax.tree.map(np.asarray, run(params, (state, xs)))
    begin = time.perf_counter()
    jax.block_until_ready(run(params, (state, xs)))
    step, T = (time.perf_counter() - begin) / network.T, network.T
    sizes = plan(T, network.m, network.n, seconds, step, time_qr(network.m))
    S = sizes.steps
    start = state if S == T else jax.tree.map(lambda leaf: leaf[T - S - 1], states)
    overflow = 0 if finite.all() else int(finite.argmin()) + 1
    late = jax.tree.map(lambda leaf: leaf[T - S :], states)
    return Path(start, late, float(squares[T - S :].mean()), overflow), sizes


def _questions(
    key: Array,
    results: Results,
    state: Tree,
    xs: Tree,
    x: Tree,
    losses: Losses | None,
    cell: Recurrence | None,
    prior: Prior | None,
) -> list[Question]:
    """All of them, the most important first."""
    network, sizes, path = results.network, results.sizes, results.path
    assert path is not None
    S, lags = sizes.steps, np.array(measurements.input_lags(sizes.reach))
    late = jax.tree.map(lambda leaf: leaf[network.T - S :], xs)
    data = path.start, late
    followed = (state, xs) if losses else data  # losses of the user cover all steps
    chosen = losses or measurements.random_losses(key, network.n, network.dtype)
    at = np.unique(np.linspace(0, S - 1, sizes.spectra).round().astype(int))
    before = jax.tree.map(
        lambda first, rest: np.concatenate([np.asarray(first)[None], rest[:-1]])[at], *path[:2]
    )
    questions = [
        Question(
            "reach",
            "reach of inputs",
            lambda body, state, xs: analysis.input_output(body, state, xs, lags.tolist()),
            data,
            partial(Reach, lags),
        ),
        Question(
            "gradients",
            "gradients",
            lambda body, state, xs: analysis.gradient_map(chosen, body, state, xs, sizes.lags),
            followed,
        ),
        Question(
            "exponents",
            "Lyapunov exponents",
            lambda body, state, xs: analysis.lyapunov_details(
                key, body, state, xs, sizes.exponents, discard=S // 10
            ),
            data,
        ),
        Question(
            "standstill",
            "fixed points",
            partial(measurements.standstill, key, sizes.starts),
            (path.states, x),
            partial(measurements.apart, path, x),
        ),
        Question("gates", "gates", analysis.openness, data),
        Question(
            "one_step",
            "single steps",
            measurements.one_step,
            (before, jax.tree.map(lambda leaf: leaf[at], late)),
            partial(OneStep, at + 1 + network.T - S),
        ),
    ]
    if prior is not None:
        question = Question(
            "theory",
            "theory",
            lambda _, prior, R: theory.untied(cell, prior, R),
            (prior, measurements.mean_square(xs)),
        )
        questions.append(question)
    return questions


def _cell_of(body: Body, cell: Recurrence | None, prior: Prior | None) -> Recurrence | None:
    """The cell for the theory. Raises ValueError for a cell without a prior, or the reverse."""
    if prior is None:
        if cell is not None:
            raise ValueError(
                "cell is only used for theory, which also needs prior, the prior of the initial "
                "parameters; got cell without prior"
            )
        return None
    if cell is None and isinstance(body, scan.Tied):
        return body.cell
    if cell is None:
        raise ValueError(
            "theory needs the cell of this prior, and the body is a plain function: pass cell=..., "
            "or scan.tied(cell, params) as the body"
        )
    return cell


def _described(body: Body, state: Tree, xs: Tree) -> Network:
    """The sizes of the arguments. Raises ValueError if they do not fit."""
    _, start = flatten(body, state, xs)
    first = jax.tree.map(lambda leaf: leaf[0], xs)
    _require_finite("state", state)
    _require_finite("xs", xs)
    h = jax.eval_shape(body, state, first)[1]
    d = scan.input_array(xs)[0].size
    return Network(start.size, h.size, d, scan.length(xs), str(start.dtype))


def _require_finite(name: str, tree: Tree) -> None:
    """Raise ValueError, with its position, for a number that is not finite."""
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            wrong = np.argwhere(~np.isfinite(np.asarray(leaf)))
            if len(wrong):
                raise ValueError(
                    f"{name} must be finite, but {len(wrong)} of the {np.size(leaf)} numbers in "
                    f"{expect.told(leaf)} are not, the first at {tuple(wrong[0].tolist())}: remove "
                    "or replace them"
                )


def _require_gates(body: Body, state: Tree, xs: Tree, names: Sequence[str]) -> None:
    """Raise ValueError unless there is one name for each gate."""
    if names:
        found = jax.eval_shape(partial(analysis.openness, body), state, xs)
        if len(found) != len(names):
            raise ValueError(
                f"gates must hold one name per gate: a step computes {len(found)}; got "
                f"{list(names)}"
            )


def _held(x: Tree, xs: Tree) -> Tree:
    """The constant input. Raises ValueError unless it has the shapes of one step of xs."""
    if x is None:
        return jax.tree.map(_nothing, xs)
    first = jax.tree.map(lambda leaf: leaf[0], xs)
    if jax.tree.map(jnp.shape, x) != jax.tree.map(jnp.shape, first):
        raise ValueError(
            f"x must be the input of one step, such as {expect.told(first)}; got {expect.told(x)}"
        )
    _require_finite("x", x)
    return x


def _nothing(leaf: Any) -> Any:
    """The default constant input for xs (T, ...): zeros, true for a mask, the first random key."""
    if leaf.dtype == bool:
        return np.ones(leaf.shape[1:], bool)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf[0]
    return np.zeros(leaf.shape[1:], leaf.dtype)


def _host(leaf: Any) -> Any:
    """Arrays as NumPy's."""
    if isinstance(leaf, Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(leaf)
    return leaf


def arrays(results: Results) -> dict[str, np.ndarray]:
    """All numbers by name, such as exponents.error."""
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(results)
    }
    keys = (jax.Array,)  # of random numbers, which NumPy cannot save
    return {name: np.asarray(leaf) for name, leaf in named.items() if not isinstance(leaf, keys)}


def _summary(network: Network) -> str:
    """The network in a line."""
    return (
        f"A state of {network.m} numbers, outputs of {network.n}, inputs of {network.d}; "
        f"{network.T} steps of data, in {network.dtype}."
    )


def _call(body: Body, state: Tree, xs: Tree, folder: Any, **others: Any) -> str:
    """The call as code, with shapes in place of arrays."""
    named = getattr(body, "__qualname__", type(body).__name__)
    if isinstance(body, scan.Tied):
        ours = (f"cells.{name}" for name in cells.names() if cells.named(name) == body.cell)
        named = f"scan.tied({next(ours, 'cell')}, params)"
    told = [f"{name}={value}" for name, value in others.items() if value is not None]
    given = [named, f"state={expect.told(state)}", f"xs={expect.told(xs)}", repr(str(folder))]
    return f"recur.report({', '.join([*given, *told])})"


def _versions() -> list[tuple[str, str]]:
    """The versions, the device and the date."""
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # run from a folder, not installed
            continue
    device = jax.devices()[0]
    return [
        ("versions", ", ".join(found)),
        ("device", f"{jax.device_count()} x {device.device_kind} ({device.platform})"),
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]
