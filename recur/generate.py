"""Recurrences that read their own output: teacher forcing, free running, and what lies between.

    x_t = true input where the teacher speaks, else feed(h_{t-1})

`feed(key, h) -> x` is the model's own proposal for the next input: readout, sample, embed. The
teacher speaking at every step is `scan.run` over the true inputs; never after the first step is
`free_running`; by chance, `scheduled` sampling. Bengio et al. 2015, arXiv:1506.03099.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from recur import expect
from recur.compose.masks import choose
from recur.core import Body, Tree
from recur.scan import check, describe, length
from recur.scan.sharding import placement

Feed = Callable[[Array, Array], Array]  # (key, h) -> the proposed next input


@expect.arguments(
    key=expect.key,
    body=expect.function,
    feed=expect.function,
    xs=expect.arrays,
    teacher=expect.numeric,
)
def scheduled(
    key: Array, body: Body, feed: Feed, state: Tree, xs: Array, teacher: Array
) -> tuple[Tree, Array, Array]:
    """Run a body whose input is the true one where the teacher speaks, its own proposal elsewhere.

    xs (T, ..., d) are the true inputs; teacher (T,) or (T, ...) booleans, for example
    `jax.random.bernoulli(key, epsilon, (T, *batch))`; the first input is always the true one.
    Returns the final state, hs (T, ..., n) and proposals (T, ..., d), where proposals[t] is for
    xs[t + 1]. Derivatives pass through `feed`; put `lax.stop_gradient` there to stop them. For
    derivatives on Explicit axes of a mesh, JAX asks that the parameters are on it, too. Raises
    ValueError where the body, the teacher or the proposals do not fit xs.
    """
    check(body, state, xs)
    teacher = jnp.asarray(teacher)
    if teacher.dtype != bool or teacher.shape not in (xs.shape[:1], xs.shape[:-1]):
        raise ValueError(
            f"teacher is boolean, of shape (T,) = {xs.shape[:1]} or (T, ...batch) = "
            f"{xs.shape[:-1]}; got {describe(teacher)}"
        )
    _, h = jax.eval_shape(body, state, xs[0])
    proposal = jax.eval_shape(feed, key, h)
    if describe(proposal) != describe(xs[0]):
        raise ValueError(
            f"feed gives {describe(proposal)} from an output {describe(h)}, but the next input is "
            f"{describe(xs[0])}: feed is readout, sample and embedding in one"
        )

    like_xs = placement(xs, state)

    def step(carry: tuple[Tree, Array], now: tuple) -> tuple[tuple[Tree, Array], tuple]:
        state, own = carry
        key, x, truth = now
        state, h = body(state, choose(truth, x, own))
        own = feed(key, h)
        return like_xs((state, own)), (h, own)

    keys = jax.random.split(key, length(xs))
    (state, _), (hs, proposals) = lax.scan(step, like_xs((state, xs[0])), (keys, xs, teacher))
    return state, hs, proposals


@expect.arguments(key=expect.key, x=expect.numbers, steps=expect.integer)
def free_running(
    key: Array, body: Body, feed: Feed, state: Tree, x: Array, steps: int
) -> tuple[Tree, Array, Array]:
    """Run a body on its own proposals from a first input x (..., d), as `scheduled` returns them.

    Go on by feeding back the final state and the last proposal. Raises ValueError for steps < 1.
    """
    if steps < 1:
        raise ValueError(f"steps is a number of outputs, 1 or more; got {steps}")
    xs = jnp.broadcast_to(x, (steps, *x.shape))  # only the first is read
    return scheduled(key, body, feed, state, xs, jnp.zeros(steps, bool))


@expect.arguments(update=expect.real, k=expect.number())
def inverse_sigmoid(update: ArrayLike, k: float) -> Array:
    """epsilon = k / (k + exp(update / k)), the paper's decay of the teacher's share, k >= 1.

    `update` counts steps of training; half of the inputs are true at update = k log k. Linear and
    exponential decays are optax's schedules. Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"the inverse sigmoid decay takes k >= 1, larger is slower; got {k}")
    return jax.nn.sigmoid(jnp.log(k) - jnp.asarray(update, float) / k)
