"""Bad calls of every public function: each ends in an error of this package that teaches.

The calls are made, not listed: each argument of a good call (`doors.GOOD`) is replaced by each
value that it cannot be, and each two arguments that stand side by side are swapped. They run
without values, in `jax.eval_shape`, so a call that is let through costs a trace and no program.

No door is what only holds values (NamedTuples, `Cell`, `Unitwise`, `Tied`, `Task`). The functions
that a cell is made of are not exported: `scan.run` and `Prior.draw` check for them.
What draws, `recur.plot`, has bad calls of its own in `test_plot`.
"""

import importlib
import inspect
import itertools
import re
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType

import doors
import jax
import numpy as np
import pytest

import recur
from recur import scan

ROOTS = ("", "train", "checkpoint", "flax.models", "flax.cells", "flax.weights", "weights")
HOLDERS = {"Cell", "Unitwise", "Recurrence", "Tied", "Task", "Loss", "Sample"}
METHODS = {
    "Prior.draw": doors.PRIOR.draw,
    "flax.models.LanguageModel.generate": doors.SPEAKER.generate,
    "scan.require_index": partial(scan.require_index, "labels", size=6, what="classes"),
    "scan.require_lengths": partial(scan.require_lengths, steps=doors.T, batch=(2,)),
}
OURS = str(Path(recur.__file__).parent)


def public():
    """The names of all doors below `recur`: of the roots, and of the modules that they export."""
    yield from ("Prior.draw", "flax.models.LanguageModel.generate")
    names = list(ROOTS)
    for name in names:
        module = importlib.import_module(f"recur.{name}".rstrip("."))
        for member in getattr(module, "__all__", vars(module)):
            value, path = getattr(module, member), f"{name}.{member}".lstrip(".")
            if isinstance(value, ModuleType):
                names += [path] * hasattr(module, "__all__")
            elif _is_door(name, member, value, module):
                yield path


def _is_door(name, member, value, module):
    if member.startswith("_") or member in HOLDERS or not callable(value):
        return False
    if isinstance(value, type) and (issubclass(value, Exception) or hasattr(value, "_fields")):
        return False
    return hasattr(module, "__all__") or getattr(value, "__module__", None) == module.__name__


def test_every_door_has_a_good_call():
    assert sorted(public()) == sorted(doors.GOOD)


# --- calls ----------------------------------------------------------------------------------------


def function(name):
    """What stands behind a door."""
    if name in METHODS:
        return METHODS[name]
    module, _, member = f"recur.{name}".rpartition(".")
    return getattr(importlib.import_module(module), member)


def called(name, arguments):
    """Call it, in the shape of its signature."""
    f, given = function(name), dict(arguments)
    if callable(given.get("rngs")):
        given["rngs"] = given["rngs"]()
    many = given.pop("*layers", ())
    try:
        kinds = inspect.signature(f).parameters.values()
    except ValueError:
        kinds = ()
    first = [given.pop(p.name) for p in kinds if p.kind is p.POSITIONAL_ONLY and p.name in given]
    with jax.numpy_dtype_promotion("standard"):
        f(*first, *many, **given)


def bad_calls():
    """(name, what is wrong, bad values, arguments) of all bad calls, in a fixed order."""
    for name, good in doors.GOOD.items():
        for argument in good:
            for value in doors.WRONG[name].get(argument, doors.BAD.get(argument, [])):
                if not legitimate(name, argument, value):
                    yield name, argument, [value], good | {argument: value}
        for one, two in itertools.pairwise(good):
            if not alike(good[one], good[two]):
                yield name, f"{one}, {two}", [], good | {one: good[two], two: good[one]}


def legitimate(name, argument, value):
    """The rules by which what looks wrong is none."""
    layer, kind = name.partition(".")[0], str(getattr(value, "dtype", ""))
    return (
        any(
            (
                # a body may read symbols, and its state may be of any numbers
                argument == "xs" and kind == "int64" and layer in ("analysis", "compose"),
                (name, argument, kind) == ("scan.check", "xs", "int64"),
                argument == "state" and kind == "complex128" and layer == "scan",
                name == "compose.steps_present" and kind in ("int64", "complex128"),
                # no steps are no error where nothing is run
                name in ("compose.steps_present", "scan.first_nonfinite")
                and getattr(value, "shape", None) == (0, 3),
                # where None is the default
                value is None and argument == "products" and name.endswith("values"),
            )
        )
        and (name, argument, kind) not in MUST
    )


MUST = {
    (f"analysis.{name}", "xs", "int64")
    for name in (
        "input_output",
        "input_directions",
        "network_jacobian",
        "network_input_output",
        "network_gradient_norms",
    )
}


def alike(one, two):
    """Whether two arguments may stand for each other, as two numbers or two arrays of one type."""
    if all(isinstance(a, int | float | np.ndarray) and np.ndim(a) == 0 for a in (one, two)):
        return isinstance(one, bool) == isinstance(two, bool)
    arrays = isinstance(one, np.ndarray) and isinstance(two, np.ndarray)
    return type(one) is type(two) and not (arrays and one.dtype != two.dtype)


# functions that read values
AT_ONCE = {"scan.check_finite", "tasks.padded", "tasks.unrolled", "tasks.permuted"}
AT_ONCE |= {f"theory.{name}" for name in ("critical", "critical_minimal", "slowest")}
# the words by which this package says what came
WORDS = (
    "got",
    "holds",
    "has shape",
    "returned",
    "comes out",
    "outputs ",
    "feed must map",
    "own error",
    "not finite",
    "Stacked takes",
)
MORE = ("takes no state", "T = 0", "reads unit", "missing:", "pixel ", "has no ")
SAYS = re.compile("|".join(WORDS + MORE))


def judge(name, values, arguments):
    """What is wrong with the end of a bad call, or None."""
    try:
        if name in AT_ONCE:
            called(name, arguments)
        else:
            jax.eval_shape(lambda: called(name, arguments) and None)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if last.filename == doors.__file__:  # a function of the caller's raises what it likes
            return None
        ours = last.filename.startswith(OURS) and (last.line or "").startswith("raise")
        if not isinstance(error, ValueError | TypeError) or not ours:
            where = f"{Path(last.filename).name}:{last.lineno}"
            return f"{type(error).__name__} at {where}: {str(error)[:150]}"
        if not all(tells(str(error), value) for value in values):
            return f"does not say what came: {error}"
        return None
    return "was let through"


def tells(text, value):
    """Whether a text of some words says what came, in words of this package or as Python does."""
    about = {repr(value), str(value), type(value).__name__}
    return len(text.split()) > 3 and bool(SAYS.search(text) or any(w in text for w in about if w))


def check(calls):
    """All of them are refused in words; how many there were is printed."""
    faults = {}
    for name, what, values, arguments in calls:
        if fault := judge(name, values, arguments):
            faults[name, what, repr(values)[:80]] = fault
    print(f"{len(calls)} bad calls of {len({name for name, *_ in calls})} functions")
    assert not faults


def test_150_bad_calls_are_refused_in_words():
    calls = list(bad_calls())
    check([calls[i] for i in np.random.default_rng(0).permutation(len(calls))[:150]])


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, good in doors.GOOD.items() if good])
def test_all_bad_calls_of_a_function_are_refused_in_words(name):
    check([call for call in bad_calls() if call[0] == name])


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, good in doors.GOOD.items() if good])
def test_good_calls_pass(name):
    """Or they ask for a value, as what is for use outside jit does."""
    asks = jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError
    with suppress(*asks):
        jax.eval_shape(lambda: called(name, doors.GOOD[name]) and None)
