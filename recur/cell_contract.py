"""A check of the cell contract, which the author of a cell runs once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from recur import expect, scan
from recur.core import Cell, Prior, Recurrence, Tree, Unitwise, gaussian, hidden, require_recurrence
from recur.declared_gates import as_declared
from recur.scan.sums import remaining, summed
from recur.tables import Table, as_html, as_markdown


@dataclass(frozen=True)
class Check:
    """One promise of the contract."""

    name: str
    ok: bool
    found: str  # what was measured, or what is wrong and how to fix it


@dataclass(frozen=True)
class Report:
    """The result of `check_cell`; print it."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every promise is kept."""
        return all(check.ok for check in self.checks)

    def __str__(self) -> str:
        wide = max(len(check.name) for check in self.checks)
        lines = [f"{'ok  ' if c.ok else 'FAIL'}  {c.name:<{wide}}  {c.found}" for c in self.checks]
        kept = sum(check.ok for check in self.checks)
        return "\n".join([*lines, f"{kept} of {len(lines)} promises kept"])

    def _repr_html_(self) -> str:
        return as_html([self._table()])

    def _repr_markdown_(self) -> str:
        return as_markdown([self._table()])

    def _table(self) -> Table:
        rows = [[check.name, "ok" if check.ok else "FAIL", check.found] for check in self.checks]
        return ["promise", "kept", "found"], rows


@expect.arguments(d=expect.count(1), n=expect.count(1), prior=expect.optional(gaussian))
def check_cell(cell: Recurrence, d: int = 3, n: int = 5, prior: Prior | None = None) -> Report:
    """Check your own cell: is it constant, batched, differentiable, and unitwise if it says so?

    Draws small parameters, a state and inputs, and compares in float64 (a cell that insists on
    float32 is compared as well as float32 allows). It never raises an error because of the cell.
    For use outside jit.

    Args:
        cell: A recurrence.
        d: Inputs, 1 or more.
        n: Units, 1 or more.
        prior: The prior of the parameters; if None, one that uses every field.

    Returns:
        A report. `report.ok` is the verdict, and `print(report)` says what is wrong.

    Raises:
        ValueError: The object has no init, start and step, or d or n is out of range.
        TypeError: d or n is not an integer, or the prior is not a Prior.

    Example:
        >>> print(check_cell(cells.vanilla.cell).ok)
        True
    """
    require_recurrence(cell)
    prior = Prior(1.3, 0.9, 0.4, 0.3) if prior is None else prior
    checks = [_judge("constant", lambda: _constant(cell))]
    with jax.enable_x64(True):
        try:
            sample = jax.jit(lambda: _Sample.draw(cell, d, n, prior))()
        except Exception as error:  # say what the cell raised
            found = f"init or start raised {type(error).__name__}: {error}"
            return Report((*checks, Check("init and start", False, found)))
        checks += [_judge(name, check) for name, check in _promises(cell, sample, n)]
    return Report(tuple(checks))


class _Sample(NamedTuple):
    """Parameters, a generic state and inputs, without and with batch axes."""

    params: Tree
    state: Tree
    x: Array
    states: Tree  # (2, 3, ...)
    xs: Array

    @staticmethod
    def draw(cell: Recurrence, d: int, n: int, prior: Prior) -> "_Sample":
        rng = np.random.default_rng(0)  # its numbers need no compilation
        params = cell.init(jax.random.key(0), prior, d, n)
        dtype = jax.tree.leaves(params)[0].dtype if jax.tree.leaves(params) else jnp.float64

        def generic(a: Array) -> Array:
            return a + jnp.asarray(rng.normal(size=a.shape), a.dtype) / 2

        def inputs(*batch: int) -> Array:
            return jnp.asarray(rng.normal(size=(*batch, d)), dtype)

        state, states = (jax.tree.map(generic, cell.start(params, b)) for b in ((), (2, 3)))
        return _Sample(params, state, inputs(), states, inputs(2, 3))


def _promises(
    cell: Recurrence, sample: _Sample, n: int
) -> Iterator[tuple[str, Callable[[], tuple[bool, str]]]]:
    """Each promise by name, with its test."""
    yield "state", lambda: _state(cell, sample, n)
    yield "batch axes", lambda: _batch(cell, sample)
    yield "derivative", lambda: _derivative(cell, sample)
    if isinstance(cell, Unitwise):
        yield "mix is linear", lambda: _linear(cell, sample)
        yield "update is unitwise", lambda: _unitwise(cell, sample, n)
        yield "engine", lambda: _engine(cell, sample)
        if cell.sums:
            yield "sums", lambda: _sums(cell, sample)
    if isinstance(cell, Cell | Unitwise) and any(cell.gates[1:]):
        yield "gates", lambda: as_declared(cell)


def _judge(name: str, check: Callable[[], tuple[bool, str]]) -> Check:
    """The verdict, also if the cell raises an error."""
    try:
        return Check(name, *check())
    except Exception as error:  # the report says what went wrong
        return Check(name, False, f"raised {type(error).__name__}: {error}")


def _constant(cell: Recurrence) -> tuple[bool, str]:
    """It is hashable and equal to itself, as a static argument must be."""
    try:
        hash(cell)
    except TypeError as error:
        return False, f"{error}: jit needs a cell as static argument, so make it a frozen dataclass"
    if cell != cell:
        return False, "is not equal to itself, so jit would compile it again at each call"
    return True, "hashable and equal to itself"


def _state(cell: Recurrence, sample: _Sample, n: int) -> tuple[bool, str]:
    """A step keeps structure, shapes and dtypes, and returns h = hidden(state), (..., n)."""
    before = scan.describe(sample.state)
    after, h = cell.step(sample.params, sample.state, sample.x)
    if scan.describe(after) != before:
        return False, f"a step turns {before} into {scan.describe(after)}; keep shapes and dtypes"
    if h.shape != (n,):
        return False, f"the output h has shape {h.shape}, expected (n,) = ({n},)"
    if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(after)):
        return False, "a step makes NaN or infinities from small numbers"
    if isinstance(cell, Unitwise) and isinstance(after, tuple) and not hasattr(after, "_fields"):
        return (
            False,
            "a state of several arrays must be a NamedTuple with h first; in a tuple, h is last",
        )
    if isinstance(cell, Cell | Unitwise) and not jnp.array_equal(h, hidden(after)):
        return False, "the output is not the h of the new state: return (state, hidden(state))"
    return True, before


def _batch(cell: Recurrence, sample: _Sample) -> tuple[bool, str]:
    """Batch axes (2, 3) give what vmap gives."""

    def step(state: Tree, x: Array) -> tuple[Tree, Array]:
        return cell.step(sample.params, state, x)

    ours, each = jax.jit(lambda *now: (step(*now), jax.vmap(jax.vmap(step))(*now)))(
        sample.states, sample.xs
    )
    return _compare(ours, each, "from vmap", 1)


def _derivative(cell: Recurrence, sample: _Sample) -> tuple[bool, str]:
    """jvp and vjp of a step with respect to all its arguments agree with central differences."""
    point, unravel = ravel_pytree((sample.params, sample.state, sample.x))

    def step(point: Array) -> Array:
        return ravel_pytree(cell.step(*unravel(point))[0])[0]

    sizes = _sizes(point.dtype)

    @jax.jit
    def derivatives(point: Array, v: Array, u: Array) -> tuple[Array, Array, Array, Array]:
        _, forward = jax.jvp(step, (point,), (v,))
        moved = lax.map(lambda size: step(point + size * v), jnp.concatenate([sizes, -sizes]))
        ahead, behind = jnp.split(moved, 2)
        numeric = (ahead - behind) / (2 * sizes[:, None])
        return forward, numeric, u @ forward, jax.vjp(step, point)[1](u)[0] @ v

    rng = np.random.default_rng(1)
    shapes = point.shape, jax.eval_shape(step, point).shape
    v, u = (jnp.asarray(rng.normal(size=shape), point.dtype) for shape in shapes)
    forward, differences, along, back = derivatives(point, v, u)
    numeric, size = _settled(differences, sizes)
    ok, found = _compare(forward, numeric, "of jvp from finite differences", 1 / size)
    return _compare(along, back, "of vjp from jvp", 1) if ok else (ok, found)


def _sizes(dtype: Any) -> Array:
    """Step sizes for finite differences, each a quarter of the one before it.

    At the second, rounding and a curvature of order 1 err equally. More follow as long as rounding
    may hide no more than 5 %.
    """
    eps = float(jnp.finfo(dtype).eps)
    sizes = 4 * eps ** (1 / 3) / 4.0 ** np.arange(9)
    return jnp.asarray(sizes[: max(2, np.sum(1e3 * eps / sizes < 0.05))], dtype)


def _settled(differences: Array, sizes: Array) -> tuple[Array, float]:
    """The first difference quotient of (K, m) that agrees with the one of a four times larger step.

    They agree if they differ by no more than rounding at the smaller step; a steep function needs a
    small step. If none agree, the last quotient and its size.
    """
    for before, after, size in zip(differences, differences[1:], sizes[1:], strict=True):
        if _compare(before, after, "", 1 / float(size))[0]:
            break
    return after, float(size)


def _linear(cell: Unitwise, sample: _Sample) -> tuple[bool, str]:
    """mix(2 a - 3 b) = 2 mix(a) - 3 mix(b)."""
    a, b = hidden(sample.states)[0, :2]
    mixed = (cell.mix(sample.params, h) for h in (a, b))
    apart = jax.tree.map(lambda a, b: 2 * a - 3 * b, *mixed)
    return _compare(cell.mix(sample.params, 2 * a - 3 * b), apart, "from linearity", 1)


def _unitwise(cell: Unitwise, sample: _Sample, n: int) -> tuple[bool, str]:
    """Each unit of the new state reads only its own unit of the state, of r and of z."""
    r = cell.mix(sample.params, hidden(sample.state))
    z = cell.drive(sample.params, sample.x)
    jacobians = jax.jit(jax.jacfwd(cell.update, (1, 2, 3)))(sample.params, sample.state, r, z)
    for J in jax.tree.leaves(jacobians):
        if J.shape != (n, n):
            return False, f"state, r and z must have features (..., n) last; a block is {J.shape}"
        across = np.argwhere(np.asarray(J) * (1 - np.eye(n)) != 0)
        if len(across):
            i, j = across[0]
            return False, f"unit {i} reads unit {j}: couple units only in mix, or build a Cell"
    return True, "no unit reads another's state, r or z"


def _sums(cell: Unitwise, sample: _Sample) -> tuple[bool, str]:
    """update(r, z) = update(r + z, 0) at the leaves of r and z that are declared."""
    params, state = sample.params, sample.state
    r, z = cell.mix(params, hidden(state)), cell.drive(params, sample.x)
    moved = summed(cell.sums, r, z), remaining(cell.sums, z)
    ours, other = (cell.update(params, state, *parts) for parts in ((r, z), moved))
    return _compare(ours, other, "if r is replaced by the declared sums, and z by 0", 1)


def _engine(cell: Unitwise, sample: _Sample) -> tuple[bool, str]:
    """Three steps by the engine, and their gradients, are those of a plain scan."""
    point = sample.params, sample.states, jnp.stack([sample.xs, -sample.xs, sample.xs / 2])

    def both(params: Tree, state: Tree, xs: Array) -> list[tuple[Array, Tree]]:
        def total(engine: Any, *point: Tree) -> Array:
            params, state, xs = point
            return jnp.sum(jnp.sin(scan.run(cell, params, xs, state, engine=engine)[1]))

        return [
            jax.value_and_grad(partial(total, engine), (0, 1, 2))(params, state, xs)
            for engine in ("chunked", "scan")
        ]

    ours, plain = jax.jit(both)(*point)
    return _compare(ours, plain, "from a plain scan", 1)


def _compare(ours: Tree, expected: Tree, what: str, slack: float) -> tuple[bool, str]:
    """Whether two trees agree up to rounding, 1e3 eps times slack, relative to their size."""
    a, b = (np.asarray(ravel_pytree(tree)[0]) for tree in (ours, expected))
    if a.shape != b.shape:
        return False, f"shapes differ {what}: {scan.describe(ours)}, {scan.describe(expected)}"
    if a.size == 0:
        return True, "nothing to compare: empty"
    error = float(np.abs(a - b).max() / max(1.0, float(np.abs(b).max())))
    ok = error <= 1e3 * np.finfo(a.dtype).eps * slack
    return ok, f"differs by {error:.0e} {what}"
