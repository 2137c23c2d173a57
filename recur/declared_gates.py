"""A test, on one unit, of whether gates do what their cell declares.

A gate is a block of the bias b. The recurrent weights are set to zero, and the bias of the gate to
+30 and to -30. The gate keeps the state if the state is unchanged at one of these biases and
changes at the other. It writes if an input enters at one of them and not at the other.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from recur.core import Cell, Prior, Tree, Unitwise

OPEN = 30.0  # sigmoid(-30) = 1e-13: practically closed, also in float32


def as_declared(cell: Cell | Unitwise) -> tuple[bool, str]:
    """Whether the gates of a cell do what it declares.

    Args:
        cell: A cell that declares gates.

    Returns:
        Whether all declarations hold, and in words what was measured.

    Raises:
        AttributeError: The parameters have no bias b.
    """
    names, keeps, overwrites, writes = cell.gates
    kept, written = probed(cell)
    if len(kept) != len(names):
        return False, f"the cell declares {len(names)} gates, but b has {len(kept)} per unit"
    found = []
    for gate, side in ((keeps, 1), (overwrites, 0)):
        if gate is not None:
            left, otherwise = kept[names.index(gate)][[side, 1 - side]]
            how = ("closed", "open")[side]
            found.append(f"{gate} {how} keeps {left:.4g} of the state, else {otherwise:.4g}")
            if abs(left - 1) > 1e-4 or otherwise > 0.9:
                return False, f"{found[-1]}; it should keep all (1) when {how}, and less otherwise"
    if writes is not None:
        shut, opened = written[names.index(writes)]
        found.append(f"{writes} open lets in {opened:.3g}, closed {shut:.3g}")
        if not shut < 1e-6 < opened:
            return False, f"{found[-1]}; it should let in something when open, nothing when closed"
    return True, "; ".join(found)


def probed(cell: Cell | Unitwise) -> tuple[np.ndarray, np.ndarray]:
    """How much of the state each gate keeps, and how much it writes.

    Args:
        cell: A cell with a bias b.

    Returns:
        Kept, the largest |eigenvalue| of d state / d old state, and written, the largest |state|
        after an input of 1. Both (gates, 2): with the gate closed and open.
    """
    params = jax.tree.map(
        np.asarray, jax.jit(lambda: cell.init(jax.random.key(0), Prior(), 1, 1))()
    )
    zeros, ones = (jax.tree.map(like, params) for like in (np.zeros_like, np.ones_like))
    if "W" in params._fields:
        ones = ones._replace(W=zeros.W)
    gates = len(params.b)
    biases = OPEN * np.stack([-np.eye(gates), np.eye(gates)], axis=1)  # (gates, 2, gates)

    def step(params: Tree, s: Array, x: Array) -> Array:
        return ravel_pytree(cell.step(params, unravel(s), x)[0])[0]

    @jax.jit
    def probe(biases: Array) -> tuple[Array, Array]:
        one = jnp.ones(1, params.b.dtype)
        others = (1 - jnp.abs(biases) / OPEN) * ones.b
        J = jax.jacfwd(step, 1)(zeros._replace(b=biases), rest, 0 * one)
        return J, jnp.abs(step(ones._replace(b=others + biases), rest, one)).max()

    rest, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, cell.start(params)))
    J, written = jax.vmap(jax.vmap(probe))(biases.astype(params.b.dtype))
    return np.abs(np.linalg.eigvals(np.asarray(J))).max(axis=-1), np.asarray(written)
