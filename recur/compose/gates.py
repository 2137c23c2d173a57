"""Which gate holds a cell's memory, as its author declares it."""

from recur.core import Cell, Unitwise

Gate = tuple[int, int]  # (index, sign): open where sign * b_gate is large


def keeping(cell: Cell | Unitwise) -> Gate:
    """(gate, sign): the state does not change where sign * b_gate is large.

    Raises ValueError where the cell declares no such gate.
    """
    names, keeps, overwrites, _ = cell.gates
    if keeps is not None:
        return names.index(keeps), 1
    if overwrites is not None:
        return names.index(overwrites), -1
    raise ValueError(
        f"{cell} declares no gate that keeps its state. This needs a gated cell such as an LSTM, "
        "GRU or MinimalRNN, before layer norm; one of your own says which gate does it: "
        "recur.gated(..., keeps=name), or gates=recur.Gates(names, keeps=name) of a Cell or "
        "Unitwise. Any bias can be set by Prior(mu_b=one value per gate)"
    )


def writing(cell: Cell | Unitwise) -> Gate | None:
    """(gate, 1) of the gate by which the input enters, where it is not the one that keeps."""
    writes = cell.gates.writes
    return None if writes is None else (cell.gates.names.index(writes), 1)
