"""A check that a nonlinearity is elementwise: units may interact only in `mix`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

KNOWN = (jnp.tanh, jax.nn.relu)  # used by the cells here, so that importing compiles nothing
PROBE = np.array([-1.2, -0.3, 0.4, 1.1], np.float32)


def require_elementwise(phi: Callable[[Any], Array]) -> None:
    """Raise an error unless phi acts on each unit separately.

    phi is called on four units, and one of them changes at a time. A phi that does not accept four
    units, because it holds a number for each of its own units, is not checked.

    Args:
        phi: The nonlinearity of a cell, (..., n) -> (..., n).

    Raises:
        ValueError: A unit reads another one, as in a softmax or a norm.
        TypeError: phi is not a function, or has no hash.
    """
    if not callable(phi):
        raise TypeError(f"phi is a function of the pre-activation, such as jnp.tanh; got {phi!r}")
    try:
        hash(phi)
    except TypeError:
        raise TypeError(
            f"a cell is a constant and phi is a part of it, so phi needs a hash; {phi!r} has none. "
            "Pass a function, or give its class __eq__ and __hash__"
        ) from None
    if phi in KNOWN:
        return
    with jax.ensure_compile_time_eval():
        try:
            rest = np.asarray(phi(PROBE))
            moved = [np.asarray(phi(np.where(unit, PROBE + 3, PROBE))) for unit in np.eye(4) > 0]
        except Exception:  # different numbers for each unit
            return
    name = getattr(phi, "__name__", repr(phi))
    if rest.shape != PROBE.shape:
        raise ValueError(f"phi returns one number per unit; {name} turns (4,) into {rest.shape}")
    # float32, and one program for all
    same = np.isclose(moved, rest, rtol=1e-5, atol=1e-6, equal_nan=True) | np.eye(4, dtype=bool)
    if not same.all():
        i, j = np.argwhere(~same)[0]
        raise ValueError(
            f"phi acts on each unit separately, but in {name} unit {j} reads unit {i}. Units "
            "interact only through W: put a softmax into the readout, use compose.layer_normed for "
            "a norm, or write a recur.Cell"
        )
