"""One step of a state and of a frame of directions: the Jacobian applied, or formed and applied."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from recur import scan
from recur.analysis.numerics.flat_state import Step
from recur.analysis.numerics.saturation import accurate
from recur.core import Body, Tree, Unitwise, hidden
from recur.scan.update_derivatives import combine, slopes

Push = Callable[[Array, Array, Tree], tuple[Array, Array]]  # (s, Q (k, m), x) -> (s, Q J^T)

WORTH = 32  # directions above which the sum over the gates is cheaper than one product per gate


def push_forward(body: Body, state: Tree, step: Step, k: int) -> Push:
    """Push k directions, one per row: by the structure of a tied Unitwise cell, or by forward mode.

    The structure needs the state of one sequence, without batch axes. Both give the same numbers.
    """
    single = all(jnp.ndim(leaf) == 1 for leaf in jax.tree.leaves(state))
    if single and isinstance(body, scan.Tied) and isinstance(body.cell, Unitwise):
        return unitwise(body.cell, body.params, state, k)
    return generic(step)


def generic(step: Step) -> Push:
    """By forward mode, for any body."""

    def push(s: Array, Q: Array, x: Tree) -> tuple[Array, Array]:
        s, along = jax.linearize(lambda s: step(s, x)[0], s)
        return s, jax.vmap(along)(Q)

    return push


def unitwise(cell: Unitwise, params: Tree, state: Tree, k: int) -> Push:
    """By the exact Jacobian of a Unitwise cell, from elementwise derivatives.

    With A_ij = d state_i / d state_j and B_ig = d state_i / d r_g, all diagonal, M_g = d r_g / d h,

        d state_i = sum_j A_ij d state_j + (sum_g B_ig M_g) dh

    Many directions cost one n x n product for each array of the state (GRU 1, LSTM 2), not one for
    each gate (3 and 4), once the sum over the gates is formed.
    """
    cell = replace(cell, update=accurate(cell.update))
    _, unravel = ravel_pytree(state)
    fields, n = len(jax.tree.leaves(state)), hidden(state).size
    M = jax.tree.leaves(cell.mix(params, jnp.eye(n, dtype=jnp.result_type(hidden(state)))))
    form = k >= WORTH and fields < len(M)

    def push(s: Array, Q: Array, x: Tree) -> tuple[Array, Array]:
        state, q = unravel(s), jnp.split(Q, fields, axis=1)
        if form:
            r, dr = cell.mix(params, hidden(state)), M
        else:  # one product for the state and its directions
            both = cell.mix(params, jnp.vstack([hidden(state), q[0]]))
            r = jax.tree.map(lambda leaf: leaf[0], both)
            dr = [leaf[1:] for leaf in jax.tree.leaves(both)]
        after, A, B = slopes(cell, params, state, r, cell.drive(params, x))
        mixed = [combine(B, i, dr) for i in range(fields)]
        if form:
            mixed = [q[0] @ block for block in mixed]
        pushed = [mixed[i] + combine(A, i, q) for i in range(fields)]
        return jnp.concatenate(after), jnp.concatenate(pushed, axis=1)

    return push
