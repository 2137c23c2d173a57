"""A report from the command line: `python -m recur report TARGET FOLDER`."""

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from recur import expect
from recur.reporting.make_report import report

FUNCTION = "network"  # the function of a target that names none


def main(arguments: Sequence[str]) -> int:
    """Parse, load, measure; returns the exit status."""
    given = parser().parse_args(arguments)
    keep_programs()
    try:
        body, state, xs, more = parts(given.target, load(given.target)())
        options = {"title": Path(given.target).name, "seconds": given.seconds} | more
        report(body, state, xs, given.folder, **options)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command line says."""
    whole = argparse.ArgumentParser(prog="python -m recur")
    jobs = whole.add_subparsers(dest="job", required=True)
    job = jobs.add_parser(
        "report", help="measure a network on its own data, and write a page about it"
    )
    job.add_argument(
        "target",
        help="a function without arguments that returns (body, state, xs), or (body, state, xs, "
        "{...}) with more arguments of recur.report: file.py, file.py:function or module:function; "
        f"without a name the function is `{FUNCTION}`",
    )
    job.add_argument("folder", help="where report.html and report.npz are written")
    job.add_argument("--seconds", type=float, default=60.0, help="about how long it may take (60)")
    return whole


def load(target: str) -> Callable[[], Any]:
    """The function that a target names. Raises ValueError if there is none."""
    place, _, name = target.rpartition(":") if ":" in target else (target, "", FUNCTION)
    here = Path(place).resolve().parent if _is_file(place) else Path.cwd()
    sys.path.insert(0, str(here))
    if _is_file(place):
        if not Path(place).is_file():
            raise ValueError(f"there is no file {place}: check the path")
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            raise ValueError(
                f"{target} must name a file that ends in .py, or a module: {error}"
            ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(
            f"{place} must have a function {name}() that returns (body, state, xs), and has none: "
            f"write it, or name another function as {place}:function"
        )
    return function


def parts(target: str, returned: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Body, state, inputs and more arguments, from what a target returned."""
    if isinstance(returned, tuple) and len(returned) == 3:
        return (*returned, {})
    if isinstance(returned, tuple) and len(returned) == 4 and isinstance(returned[3], dict):
        return returned
    raise ValueError(
        f"{target} must return (body, state, xs), or these and a dict of more arguments of "
        f"recur.report; got {expect.told(returned)}"
    )


def keep_programs() -> None:
    """Keep compiled programs for the next report, unless JAX was told where (or not to)."""
    config: Any = jax.config  # its type knows no options
    if config.jax_compilation_cache_dir is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        config.update("jax_compilation_cache_dir", str(Path(base) / "recur" / "programs"))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _is_file(place: str) -> bool:
    return place.endswith(".py")
