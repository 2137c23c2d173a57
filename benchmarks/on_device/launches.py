"""How many kernels a compiled program launches, counted in its HLO text.

Each instruction of the compiled program that is work for the device counts as one: a fusion, a
custom call (a product of cuBLAS, cuDNN), a copy, a sort. Parameters, constants, tuples and views do
not count. The body of a loop counts as often as XLA says that the loop runs, and its condition does
not count, since the host counts such a loop. In a conditional, the largest branch counts. A library
call may launch several kernels, and a command buffer launches many as one. The text shows neither,
so this is a number of pieces of work, and times per piece must be read that way.
"""

import re

FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "add-dependency",
}
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([a-z][\w\-]*)\(")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def launches(text: str) -> int | None:
    """Pieces of work of the program; None if the count of a loop is not known ahead."""
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name = head[2]
            bodies[name] = []
            entry = name if head[1] else entry
        elif name and _OPERATION.match(line):
            bodies[name].append(line)
    counted: dict[str, int | None] = {}

    def of(name: str) -> int | None:
        if name not in counted:
            parts = [piece(line) for line in bodies.get(name, [])]
            counted[name] = None if None in parts else sum(p for p in parts if p is not None)
        return counted[name]

    def piece(line: str) -> int | None:
        operation = _OPERATION.match(line)[1]  # type: ignore[index]
        if operation == "while":
            trips, inner = _TRIPS.search(line), of(_named("body", line)[0])
            return None if trips is None or inner is None else int(trips[1]) * inner
        if operation == "call":
            return of(_named("to_apply", line)[0])
        if operation == "conditional":
            kinds = ("branch_computations", "true_computation", "false_computation")
            parts = [of(branch) for kind in kinds for branch in _named(kind, line)]
            return None if None in parts else max((p for p in parts if p is not None), default=0)
        return 0 if operation in FREE or operation.endswith("-done") else 1

    return of(entry) if entry else None


def _named(attribute: str, line: str) -> list[str]:
    """The computations that an attribute names: one, or several in braces."""
    found = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)", line)
    return re.findall(r"[\w.\-]+", found[1].replace("%", "")) if found else []
