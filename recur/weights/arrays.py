"""Arrays by name, which all readers share: their names are checked first, then their shapes.

V takes the input, W the state. Libraries keep both with the gates side by side, in columns as in
x @ V (d, g n) and h @ W (n, g n), or in rows, V (g n, d) and W (g n, n); g is the number of gates.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import tree_flatten_with_path

from recur import expect

Named = dict[str, Any]  # path -> array
KINDS = {1: "a simple network", 3: "a GRU", 4: "an LSTM"}
COLUMNS = "a column for each unit of each gate, as Keras, Haiku and Flax keep them"
ROWS = "a row for each unit of each gate, as PyTorch and Equinox keep them"
SHOWN = 8  # names in an error


def by_path(weights: Any) -> Named:
    """All arrays by path, as in "encoder/cell/kernel", without the parts that all paths begin with.

    Accepts nested mappings, and any pytree whose parts have names, such as a module.
    """
    flat = dict(_paths(weights))
    while len(flat) > 1 and len({path.partition("/")[0] for path in flat}) == 1:
        flat = {path.partition("/")[2]: a for path, a in flat.items()}
    return flat


def _paths(tree: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for name, part in tree.items():
            for path, a in _paths(part):
                yield f"{name}/{path}".rstrip("/"), a
        return
    for entries, a in tree_flatten_with_path(tree)[0]:
        yield "/".join(_name(entry) for entry in entries), a


def _name(entry: Any) -> str:
    """One entry of a path of JAX."""
    for kind in ("name", "key", "idx"):
        if hasattr(entry, kind):
            return str(getattr(entry, kind))
    return str(entry)


def require_names(
    named: Named, what: str, names: Sequence[str], library: str, advice: str = ""
) -> None:
    """Raise ValueError unless there are arrays of these names and no others.

    The error says in which part of a model such names are, or which other library uses these names.
    """
    missing, unknown = sorted(set(names) - set(named)), sorted(set(named) - set(names))
    if missing or unknown:
        hints = (_places(named, names), _whose(named, library), advice)
        raise ValueError(
            f"{what} must have the weights {', '.join(names)}; missing: {_listed(missing)}; "
            f"unknown: {_listed(unknown)}. {' '.join(filter(None, hints))}".rstrip()
        )


def _listed(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN]) or 'none'}{more}"


def _places(named: Named, names: Sequence[str]) -> str:
    """Where a larger model has arrays with all these names."""
    first = f"/{names[0]}"
    parts = [path.removesuffix(first) for path in named if path.endswith(first)]
    parts = [part for part in parts if all(f"{part}/{name}" in named for name in names)]
    which = "that part" if len(parts) == 1 else "one of these parts"
    return f"Such weights are at {' and '.join(parts)}: pass {which}." if parts else ""


_WHOSE = (  # names at the end of a path that only one library has
    (("weight_ih_l0", "weight_hh_l0", "bias_ih", "bias_hh"), "PyTorch", "torch"),
    (("bias_n",), "Equinox", "equinox"),
    (("weight_ih", "weight_hh"), "PyTorch or Equinox", "torch or equinox"),
    (("recurrent_kernel",), "Keras", "keras"),
    (("w_i", "w_h", "w"), "Haiku", "haiku"),
    (("hi/kernel", "hr/kernel", "h/kernel", "dense_h/kernel"), "Flax", "flax"),
)


def _whose(named: Named, library: str) -> str:
    for names, theirs, prefix in _WHOSE:
        if library not in theirs and any(
            f"/{path}".endswith(f"/{name}") for path in named for name in names
        ):
            readers = " or ".join(f"{part}_..." for part in prefix.split(" or "))
            return f"These are names of {theirs}: see {readers} in recur.weights."
    return ""


def taken(named: Named, names: Iterable[str]) -> list[Array]:
    """The arrays of these names. Raises TypeError if one does not hold numbers."""
    found = []
    for name in names:
        leaves = jax.tree.leaves(named[name])
        value = leaves[0] if len(leaves) == 1 else named[name]  # a variable holds one array
        expect.numeric(name, value)
        found.append(jnp.asarray(value))
    return found


def require_matrices(what: str, gates: int, V: tuple, W: tuple, rows: bool = False) -> int:
    """The number of units n of (name, array) V and W with the gates in columns, or in rows.

    Raises ValueError for other shapes, and says what they look like.
    """
    (V_name, v), (W_name, w) = ((name, a.shape) for name, a in (V, W))
    for name, shape in ((V_name, v), (W_name, w)):
        if len(shape) != 2:
            raise ValueError(f"{name} must be a matrix; got shape {shape}")
    if not _fit(gates, v, w, rows):
        wide = f"{gates}n" if gates > 1 else "n"
        expected = (f"({wide}, d)", f"({wide}, n)") if rows else (f"(d, {wide})", f"(n, {wide})")
        raise ValueError(
            f"{what} must have {V_name} of shape {expected[0]} and {W_name} of shape "
            f"{expected[1]}; got {v} and {w}. {_look(v, w, rows)}".rstrip()
        )
    return w[1] if rows else w[0]


def _fit(gates: int, v: tuple, w: tuple, rows: bool) -> bool:
    if rows:
        v, w = v[::-1], w[::-1]
    n = w[0]
    return w[1] == gates * n and v[1] == gates * n


def _look(v: tuple, w: tuple, rows: bool) -> str:
    """What these shapes are, in this layout or in the other."""
    for turned in (rows, not rows):
        for gates, kind in KINDS.items():
            if _fit(gates, v, w, turned):
                n = w[1] if turned else w[0]
                layout = f" with {ROWS if turned else COLUMNS}" if turned != rows else ""
                todo = ": transpose both" if turned != rows else ""
                return f"These are the shapes of {kind} of {n} units{layout}{todo}."
    return ""


def require_shape(what: str, name: str, a: Array, shape: tuple[int, ...], advice: str = "") -> None:
    """Raise ValueError unless the array has this shape."""
    if a.shape != shape:
        said = f"{what} of this size must have {name} of shape {shape}; got {a.shape}. {advice}"
        raise ValueError(said.rstrip())


def update_first(columns: Array) -> Array:
    """The gates (reset, update, candidate) of a GRU as (update, reset, candidate)."""
    return reordered(columns, (1, 0, 2))


def reordered(columns: Array, order: Sequence[int]) -> Array:
    """The gates, side by side on the last axis, in another order: its i-th is gate order[i]."""
    gates = jnp.split(columns, len(order), axis=-1)
    return jnp.concatenate([gates[i] for i in order], axis=-1)
