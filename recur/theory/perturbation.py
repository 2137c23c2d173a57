"""How perturbations of a population of infinite width grow in one step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from recur.core import Tree
from recur.theory.ensemble import Ensemble
from recur.theory.mean_field import Squares


class Derivatives(NamedTuple):
    """A step unit by unit, for m state arrays, G products W_k h, k copies, n units."""

    A: Array  # (m, m, k, n), d state'_a / d state_b
    B: Array  # (m, G, k, n), d state'_a / d (W_k h)
    into: Array  # (G, m, k, n), d x_k / d state_b of the x_k that W_k multiplies
    through: Array  # (G, G, k, n), d x_k / d (W_j h)
    scale2: Array  # (G,) sigma_k^2


def differentiate(
    units: Ensemble, state: Tree, unit_by_unit: Callable, products: list[tuple[int, Array]]
) -> Derivatives:
    """All derivatives of the step, from pushing ones through each of its arguments."""
    _, push = jax.linearize(unit_by_unit, state, [y for _, y in products])
    gates = [units.scales[j] for j, _ in products]
    leaves, structure = jax.tree.flatten(state)
    m, G = len(leaves), sum(scale.size for scale in gates)
    ones = jnp.eye(m + G, dtype=units.dtype)[..., None, None]  # (argument, which, k, n)
    ones = jnp.broadcast_to(ones, (m + G, m + G, *leaves[0].shape))
    ds, dys, at = [ones[:, a] for a in range(m)], [], m
    for scale in gates:
        block = ones[:, at : at + scale.size]  # side by side, like the gates
        dys.append(jnp.moveaxis(block, 1, 2).reshape(m + G, block.shape[2], -1))
        at += scale.size
    new, dxs = jax.vmap(push)(jax.tree.unflatten(structure, ds), dys)
    new = jnp.stack(jax.tree.leaves(new))
    dxs = [dx for dx, scale in zip(dxs, gates, strict=True) for _ in range(scale.size)]
    into = jnp.stack(dxs) if dxs else jnp.zeros((0, *new.shape[1:]), units.dtype)
    scale2 = jnp.concatenate([jnp.zeros(0, units.dtype), *gates]) ** 2
    return Derivatives(new[:, :m], new[:, m:], into[:, :m], into[:, m:], scale2)


def propagate(J: Derivatives, P: Array) -> Array:
    """P after one step: A_1 P A_2' + sum_k sigma_k^2 B_1k B_2k' D_k."""
    own = jnp.einsum("acn,cdn,bdn->abn", J.A[:, :, 0], P, J.A[:, :, 1])
    for k, D in enumerate(_spreads(J, P)):
        own += J.scale2[k] * D * J.B[:, None, k, 0] * J.B[None, :, k, 1]
    return own


def _spreads(J: Derivatives, P: Array) -> list[Array]:
    """D_k = E[dx_k dx_k'] for the x_k of each product: P_hh, or that of earlier products."""
    spreads: list[Array] = []
    for k in range(J.scale2.size):
        D = jnp.mean(jnp.einsum("cn,cdn,dn->n", J.into[k, :, 0], P, J.into[k, :, 1]))
        for j, before in enumerate(spreads):
            D += J.scale2[j] * before * jnp.mean(J.through[k, j, 0] * J.through[k, j, 1])
        spreads.append(D)
    return spreads


def averages_of_squares(J: Derivatives) -> Array:
    """Averages that give the mean and the variance of the squared singular values, (6 + G,).

    With S = sum_k sigma_k^2 B_k B_k': E tr AA', E tr AA'AA', E tr AA'S, E tr SS, E (A'A)_hh, tr S
    and sigma_k^2 E|B_k|^2 of each k.
    """
    A, B = J.A[:, :, 0], J.B[:, :, 0]
    AA = jnp.einsum("acn,bcn->abn", A, A)
    S = jnp.einsum("k,akn,bkn->abn", J.scale2, B, B)
    each = J.scale2 * jnp.mean(jnp.sum(B**2, axis=0), axis=-1)
    products = [jnp.einsum("abn,ban->n", *pair) for pair in ((AA, AA), (AA, S), (S, S))]
    values = [jnp.trace(AA), *products, jnp.sum(A[:, 0] ** 2, axis=0), jnp.trace(S)]
    return jnp.concatenate([jnp.stack([v.mean() for v in values]), each])


def squares(averages: Array, m: int) -> Squares:
    """Mean and variance of the squared singular values, from `averages_of_squares`."""
    AA, AAAA, AAS, SS, hh, S = averages[:6]
    mean = (AA + S) / m
    gaussian = (AAAA + 2 * AAS + 2 * S * hh + SS + S**2) / m - mean**2
    return Squares(mean, gaussian, gaussian - jnp.sum(averages[6:] ** 2) / m)
