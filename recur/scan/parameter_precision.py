"""Loops over time hold parameters in float32 at least, so that their gradient is accurate.

The gradient of parameters is a sum over all steps. In bfloat16, which has eight bits, such a sum
stops growing after a few hundred terms: each new term is less than half of the last digit. So a
loop holds parameters of fewer bits in float32 and casts them to their own dtype in each step. Both
casts are exact. The transpose of the cast is a sum in float32, rounded once after the last step.
"""

from typing import Any

import jax
import jax.numpy as jnp

from recur.core import Tree


def wide(params: Tree) -> Tree:
    """Parameters, or their tangents, in the dtype in which a loop holds them."""
    return jax.tree.map(lambda a: a.astype(jnp.float32) if _short(a) else a, params)


def as_given(params: Tree, kept: Tree) -> Tree:
    """What a loop holds, cast to the dtypes of these parameters, whose values are not used."""

    def one(p: Any, a: Any) -> Any:
        return a.astype(p.dtype) if a is not None and _short(p) else a

    return jax.tree.map(one, params, kept)


def _short(a: Any) -> bool:
    """Whether these are floats of fewer bits than float32."""
    dtype = getattr(a, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
