"""What a page says about how it was made: the call, the network in a line, versions and date."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

from recur import cells, expect, scan
from recur.core import Body, Tree
from recur.reporting.measurements import Network

PACKAGES = ("recur", "jax", "jaxlib", "numpy", "matplotlib")


def summary(network: Network) -> str:
    """The network in a line."""
    return (
        f"A state of {network.m} numbers, outputs of {network.n}, inputs of {network.d}; "
        f"{network.T} steps of data, in {network.dtype}."
    )


def call(body: Body, state: Tree, xs: Tree, folder: Any, **others: Any) -> str:
    """The call as code, with shapes in place of arrays."""
    named = getattr(body, "__qualname__", type(body).__name__)
    if isinstance(body, scan.Tied):
        ours = (f"cells.{name}" for name in cells.names() if cells.named(name) == body.cell)
        named = f"scan.tied({next(ours, 'cell')}, params)"
    told = [f"{name}={value}" for name, value in others.items() if value is not None]
    given = [named, f"state={expect.told(state)}", f"xs={expect.told(xs)}", repr(str(folder))]
    return f"recur.report({', '.join([*given, *told])})"


def versions() -> list[tuple[str, str]]:
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
