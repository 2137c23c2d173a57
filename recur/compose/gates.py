"""Which gates keep and write the state of a cell, as its author declares it."""

from recur.core import Cell, Unitwise

Gate = tuple[int, int]  # (index, sign): open where sign * b_gate is large


def keeping(cell: Cell | Unitwise) -> Gate:
    """The gate that keeps the state.

    Args:
        cell: A cell that declares its gates.

    Returns:
        (index of the gate, sign). The state does not change where sign * b_gate is large.

    Raises:
        ValueError: The cell declares no gate that keeps its state.
    """
    names, keeps, overwrites, _ = cell.gates
    if keeps is not None:
        return names.index(keeps), 1
    if overwrites is not None:
        return names.index(overwrites), -1
    raise ValueError(
        f"{cell} declares no gate that keeps its state. Take a gated cell, such as an LSTM, a GRU "
        "or a MinimalRNN, and apply this before layer norm. A cell of your own declares the gate "
        "by recur.gated(..., keeps=name), or by gates=recur.Gates(names, keeps=name) in a Cell or "
        "Unitwise. Any bias can be set by Prior(mu_b=one value per gate)"
    )


def writing(cell: Cell | Unitwise) -> Gate | None:
    """(index of the gate, 1) for a separate gate that lets the input in; None if there is none."""
    writes = cell.gates.writes
    return None if writes is None else (cell.gates.names.index(writes), 1)
