"""A check that a nonlinearity is elementwise; otherwise units would interact outside `mix`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

KNOWN = (jnp.tanh, jax.nn.relu)  # those of the cells in this package: importing compiles nothing
PROBE = np.array([-1.2, -0.3, 0.4, 1.1], np.float32)


def require_elementwise(phi: Callable[[Any], Array]) -> None:
    """Raise ValueError for a phi by which a unit reads another, such as a softmax or a norm.

    It is run on four units, of which one moves at a time. One that takes no four units, for it has
    numbers for each of its own, is not checked. Raises TypeError for what is no function.
    """
    if not callable(phi):
        raise TypeError(f"phi is a function of the pre-activation, such as jnp.tanh; got {phi!r}")
    try:
        hash(phi)
    except TypeError:
        raise TypeError(
            f"a cell is a constant, and phi is part of it; {phi!r} has no hash. Pass a function, "
            "or give its class an __eq__ and a __hash__"
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
        raise ValueError(f"phi returns one number per unit; {name} makes {rest.shape} of (4,)")
    # float32, and one program for all
    same = np.isclose(moved, rest, rtol=1e-5, atol=1e-6, equal_nan=True) | np.eye(4, dtype=bool)
    if not same.all():
        i, j = np.argwhere(~same)[0]
        raise ValueError(
            f"phi acts on each unit by itself, but in {name} unit {j} reads unit {i}. Units "
            "interact in W alone: put a softmax into the readout, a norm by compose.layer_normed, "
            "or write a recur.Cell"
        )
