"""Gradient descent as one scan, pure in its state, so `vmap` trains many networks at once.

    state = train.start(key, params, optimizer)
    state, losses = jax.jit(lambda s: train.advance(loss, optimizer, sample, s, steps=100))(state)

The state holds all that training is: advancing twice by 50 steps equals once by 100, and a state
that was saved and restored goes on to the same end.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from recur.core import Tree

Loss = Callable[[Tree, Tree], Array]  # (params, batch) -> a number
Sample = Callable[[Array], Tree]  # key -> batch


class State(NamedTuple):
    """One network in training.

    `diverged` is the step whose loss or gradient was first not finite, or -1. From there on the
    parameters stay as they were before that step.
    """

    params: Tree
    opt: Tree
    key: Array  # of the batches: step t draws from fold_in(key, t)
    step: Array  # updates made, int32
    diverged: Array  # int32


def start(key: Array, params: Tree, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step."""
    step = jnp.zeros((), jnp.int32)
    return State(params, optimizer.init(params), key, step, step - 1)


def advance(
    loss: Loss, optimizer: optax.GradientTransformation, sample: Sample, state: State, steps: int
) -> tuple[State, Array]:
    """`steps` updates: -> (state, losses (steps,)), each loss taken before its update.

    `sample` draws a batch on the device from a key; `loss` maps parameters and a batch to a number.
    After a divergence the losses are NaN. Raises ValueError for steps < 1.
    """
    if steps < 1:
        raise ValueError(f"advance makes at least one step, got steps={steps}")

    def update(state: State, _: None) -> tuple[State, Array]:
        batch = sample(jax.random.fold_in(state.key, state.step))
        value, gradient = jax.value_and_grad(loss)(state.params, batch)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers
            change, opt = optimizer.update(gradient, state.opt, state.params)
        finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
        alive = finite & (state.diverged < 0)
        params, opt = jax.tree.map(
            lambda new, old: jnp.where(alive, new, old),
            (optax.apply_updates(state.params, change), opt),
            (state.params, state.opt),
        )
        first = jnp.where(finite | (state.diverged >= 0), state.diverged, state.step)
        after = State(params, opt, state.key, state.step + 1, first)
        return after, jnp.where(alive, value, jnp.nan)

    return lax.scan(update, state, length=steps)
