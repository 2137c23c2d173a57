"""A test of whether gates do what their cell declares, on one unit.

A gate is a block of the bias b. With recurrent weights of zero, its bias is set to plus and minus
30. The gate *keeps* if the state is unchanged at one of these values and changes at the other. It
*writes* if an input enters at one of these values and does not at the other.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from recur.core import Cell, Prior, Tree, Unitwise

OPEN = 30.0  # sigmoid(-30) = 1e-13: practically closed, also in float32


def as_declared(cell: Cell | Unitwise) -> tuple[bool, str]:
    """Whether the declared gates do it, and what was found. Raises where there is no bias b."""
    names, keeps, overwrites, writes = cell.gates
    kept, written = probed(cell)
    if len(kept) != len(names):
        return False, f"{len(names)} gates are declared, and b has {len(kept)} numbers a unit"
    found = []
    for gate, side in ((keeps, 1), (overwrites, 0)):
        if gate is not None:
            left, otherwise = kept[names.index(gate)][[side, 1 - side]]
            how = ("closed", "open")[side]
            found.append(f"{gate} {how} leaves {left:.4g} of the state, else {otherwise:.4g}")
            if abs(left - 1) > 1e-4 or otherwise > 0.9:
                return False, f"{found[-1]}; a gate that keeps leaves all of it, else less"
    if writes is not None:
        shut, opened = written[names.index(writes)]
        found.append(f"{writes} lets {opened:.3g} in, closed {shut:.3g}")
        if not shut < 1e-6 < opened:
            return False, f"{found[-1]}; a gate that writes lets nothing in where it is closed"
    return True, "; ".join(found)


def probed(cell: Cell | Unitwise) -> tuple[np.ndarray, np.ndarray]:
    """How much of the state is kept and how much is written, (gates, 2): closed and open."""
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
