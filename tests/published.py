"""Published chaotic maps and flows: the formulas of the package `dysts`, where it is installed.

`pip install --no-deps dysts` is enough: its source is read, not imported. Gilpin 2021,
arXiv:2110.05266.
"""

import ast
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np


class System(NamedTuple):
    """A map or a flow, with a state on or near its attractor."""

    name: str
    rhs: Callable  # of a map, state -> state; of a flow, (state, time) -> d state / d time
    start: np.ndarray  # (m,)
    period: float  # of a flow


def maps() -> list[System]:
    """All maps."""
    return _systems("maps.py", "discrete_maps.json", flow=False)


def flows() -> list[System]:
    """All flows without a delay, but for one that branches on its state."""
    found = _systems("flows.py", "chaotic_attractors.json", flow=True)
    return [system for system in found if system.name != "BelousovZhabotinsky"]


def _systems(source: str, data: str, flow: bool) -> list[System]:
    found = importlib.util.find_spec("dysts")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent
    known = json.loads((folder / "data" / data).read_text())
    systems = []
    for node in ast.parse((folder / source).read_text()).body:
        about = known.get(getattr(node, "name", ""))
        if about is None or about.get("delay"):
            continue
        rhs = _formula(node, about["parameters"], flow)
        if rhs is not None:
            start = np.ravel(np.array(about["initial_conditions"], float))
            systems.append(System(node.name, rhs, start, about.get("period") or 1.0))
    return systems


def _formula(node: ast.ClassDef, parameters: dict, flow: bool) -> Callable | None:
    """The method `_rhs` on a vector; None where it needs more than its own text."""
    found = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "_rhs"]
    if not found:
        return None
    (method,) = found
    method.decorator_list = []
    names = [argument.arg for argument in method.args.args]
    if names[0] == "self":
        return None
    scope: dict = {"np": jnp}
    exec(compile(ast.Module([method], []), node.name, "exec"), scope)
    given = {name: np.array(value, float) for name, value in parameters.items() if name in names}

    def rhs(s, t=0.0):
        found = scope["_rhs"](*s, *([t] if flow else []), **given)
        return jnp.stack(found) if isinstance(found, tuple | list) else found.reshape(1)

    return rhs
