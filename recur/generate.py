"""Recurrences that read their own output: teacher forcing, free running and scheduled sampling.

    x_t = true input where the teacher is used, else feed(h_{t-1})

`feed(key, h) -> x` is the model's own proposal for the next input: readout, sample, embed. With the
teacher at every step this is `scan.run` over the true inputs. With the teacher only at the first
step it is `free_running`; with the teacher at random steps, `scheduled` sampling.
Bengio et al. 2015, arXiv:1506.03099.
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
    """Run a body on the true input where `teacher` is True, and on its own proposal elsewhere.

    The first input is always the true one. Derivatives pass through `feed`; use `lax.stop_gradient`
    there to stop them. For derivatives on Explicit axes of a mesh, JAX requires that the parameters
    are on it, too. Bengio et al. 2015, arXiv:1506.03099.

    Args:
        key: Split into one key per step for `feed`.
        body: One step, (state, x) -> (state, h).
        feed: (key, h) -> the next input; readout, sample and embedding in one.
        state: The state before the first step.
        xs: The true inputs (T, ..., d).
        teacher: Booleans (T,) or (T, ...), True where the input is the true one, for example
            `jax.random.bernoulli(key, epsilon, (T, *batch))`.

    Returns:
        The final state, hs (T, ..., n) and proposals (T, ..., d), where proposals[t] is for xs[t +
        1].

    Raises:
        ValueError: The body, the teacher or the proposals do not fit xs.
        TypeError: The key is not a PRNG key, body or feed is not a function, or xs or teacher is
            not an array.

    Example:
        >>> def body(h, x):
        ...     return x, x
        >>> def feed(key, h):
        ...     return h + 1
        >>> xs, teacher = jnp.array([[10.0], [20.0], [30.0]]), jnp.array([True, False, True])
        >>> print(generate.scheduled(jax.random.key(0), body, feed, xs[0], xs, teacher)[1][:, 0])
        [10. 11. 30.]
    """
    check(body, state, xs)
    teacher = jnp.asarray(teacher)
    if teacher.dtype != bool or teacher.shape not in (xs.shape[:1], xs.shape[:-1]):
        raise ValueError(
            f"teacher must be boolean, of shape (T,) = {xs.shape[:1]} or (T, ...batch) = "
            f"{xs.shape[:-1]}; got {describe(teacher)}"
        )
    _, h = jax.eval_shape(body, state, xs[0])
    proposal = jax.eval_shape(feed, key, h)
    if describe(proposal) != describe(xs[0]):
        raise ValueError(
            f"feed must map an output {describe(h)} to the next input {describe(xs[0])}; it "
            f"returned {describe(proposal)}. feed is readout, sampling and embedding in one"
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
    """Run a body on its own proposals from a first input.

    To continue, pass the final state and the last proposal.

    Args:
        key: Split into one key per step for `feed`.
        body: One step, (state, x) -> (state, h).
        feed: (key, h) -> the next input; readout, sample and embedding in one.
        state: The state before the first step.
        x: The first input (..., d).
        steps: T, 1 or more.

    Returns:
        The final state, hs (T, ..., n) and proposals (T, ..., d), as `scheduled` returns them.

    Raises:
        ValueError: steps < 1, or as in `scheduled`.
        TypeError: steps is not an integer, x is not an array, or as in `scheduled`.

    Example:
        >>> def body(h, x):
        ...     return x, x
        >>> def feed(key, h):
        ...     return h + 1
        >>> x = jnp.zeros(1)
        >>> print(generate.free_running(jax.random.key(0), body, feed, x, x, steps=4)[1][:, 0])
        [0. 1. 2. 3.]
    """
    if steps < 1:
        raise ValueError(f"steps must be a number of outputs, 1 or more; got {steps}")
    xs = jnp.broadcast_to(x, (steps, *x.shape))  # only the first entry is read
    return scheduled(key, body, feed, state, xs, jnp.zeros(steps, bool))


@expect.arguments(update=expect.real, k=expect.number())
def inverse_sigmoid(update: ArrayLike, k: float) -> Array:
    """The share of true inputs, k / (k + exp(update / k)), which decays in training.

    Half of the inputs are true at update = k log k. Linear and exponential decays are optax's
    schedules. Bengio et al. 2015, arXiv:1506.03099.

    Args:
        update: Steps of training so far.
        k: How slow the decay is, 1 or more.

    Returns:
        epsilon, shaped like `update`.

    Raises:
        ValueError: k < 1.
        TypeError: They are not numbers.

    Example:
        >>> print(generate.inverse_sigmoid(np.array([0.0, 10 * np.log(10), 100.0]), 10.0))
        [0.909 0.5   0.   ]
    """
    if k < 1:
        raise ValueError(
            f"the inverse sigmoid decay needs k >= 1 (a larger k decays more slowly); got {k}"
        )
    return jax.nn.sigmoid(jnp.log(k) - jnp.asarray(update, float) / k)
