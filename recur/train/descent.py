"""Gradient descent as one scan, pure in its state, so `vmap` trains many networks at once."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from recur import expect, scan
from recur.core import Tree
from recur.tables import tabled

Loss = Callable[[Tree, Tree], Array]  # (params, batch) -> a number
Sample = Callable[[Array], Tree]  # key -> batch


_optimizer = expect.instance(optax.GradientTransformation)


@tabled()
class State(NamedTuple):
    """One network in training: everything that its training depends on.

    After the step at which it diverges or finishes, it keeps the parameters from before that step.
    """

    params: Tree  #: a pytree of arrays
    opt: Tree  #: the state of the optimizer
    key: Array  #: the key of the batches; step t draws from fold_in(key, t)
    step: Array  #: updates of the sweep so far, int32
    diverged: Array  #: int32, the first step whose loss, gradient or update was not finite, or -1
    value: Array  #: the loss of that step; 0 before, as jax.debug_nans stops at NaN
    finished: Array  #: int32, the step at which `finish` was called, or -1


@expect.arguments(key=expect.key, params=expect.arrays, optimizer=_optimizer)
def start(key: Array, params: Tree, optimizer: optax.GradientTransformation) -> State:
    """The state of a training before its first step.

    Args:
        key: Draws all batches.
        params: A pytree of arrays.
        optimizer: A gradient transformation of Optax.

    Returns:
        The state.

    Raises:
        TypeError: The key is not a PRNG key, params hold no arrays, or the optimizer is not one of
            Optax.

    Example:
        >>> state = train.start(jax.random.key(0), {"w": jnp.zeros(2)}, optax.sgd(0.1))
        >>> print(state.step, state.params)
        0 {'w': Array([0., 0.], dtype=float32)}
    """
    step = jnp.zeros((), jnp.int32)
    never = step - 1
    value = jnp.zeros((), float)  # not weak: `advance` would be compiled again for its result
    return State(params, optimizer.init(params), key, step, never, value, never)


@expect.arguments(state=expect.instance(State))
def training(state: State) -> Array:
    """Whether a network still learns: it has neither diverged nor finished.

    Args:
        state: The state of one network, or a stack of states.

    Returns:
        A boolean, one for each network.

    Raises:
        TypeError: The state is not a State.

    Example:
        >>> state = train.start(jax.random.key(0), jnp.zeros(2), optax.sgd(0.1))
        >>> print(train.training(state), train.training(train.finish(state, True)))
        True False
    """
    return (state.diverged < 0) & (state.finished < 0)


@expect.arguments(state=expect.instance(State), reached=expect.booleans)
def finish(state: State, reached: ArrayLike) -> State:
    """The state, which keeps its parameters from here on where `reached` is true.

    Elementwise, so it takes one network or a stack of them. The others of a sweep continue.

    Args:
        state: The state of one network, or a stack of states.
        reached: Booleans, one for each network.

    Returns:
        The state, with `finished` at the present step.

    Raises:
        TypeError: The state is not a State, or reached holds no booleans.

    Example:
        >>> state = train.start(jax.random.key(0), jnp.zeros(2), optax.sgd(0.1))
        >>> print(state.finished, train.finish(state, True).finished)
        -1 0
    """
    now = jnp.where(training(state) & reached, state.step, state.finished)
    return state._replace(finished=now)


@expect.arguments(
    loss=expect.function,
    optimizer=_optimizer,
    sample=expect.function,
    state=expect.instance(State),
)
def advance(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    sample: Sample,
    state: State,
    steps: int,
    every: int = 1,
) -> tuple[State, Array]:
    """`steps` updates of gradient descent.

    Args:
        loss: (params, batch) -> a number.
        optimizer: A gradient transformation of Optax.
        sample: key -> a batch, drawn on the device.
        state: Where the training is.
        steps: Updates, 1 or more.
        every: Updates whose losses become one, their mean; it divides `steps`.

    Returns:
        The state afterwards, and losses (steps / every,), each taken before its update. They are
        NaN after a divergence. After `finish` they are losses of the parameters that are kept.

    Raises:
        ValueError: steps or every is out of range or not an integer, or the loss is not one number.
        TypeError: The loss or sample is not a function, the optimizer is not one of Optax, or the
            state is not a State.

    Example:
        >>> optimizer = optax.sgd(0.25)
        >>> def loss(w, x):
        ...     return jnp.mean((w - x) ** 2)
        >>> def learn(state):
        ...     return train.advance(loss, optimizer, lambda key: jnp.ones(8), state, steps=4)
        >>> state, losses = jax.jit(learn)(train.start(jax.random.key(0), jnp.zeros(()), optimizer))
        >>> print(state.params, losses)  # each update halves the distance to 1
        0.9375 [1.    0.25  0.062 0.016]
    """
    _require_counts(steps, every)

    def measure(state: State, carried: tuple) -> tuple[Array, Tree, tuple]:
        batch = sample(jax.random.fold_in(state.key, state.step))
        made = jax.eval_shape(loss, state.params, batch)
        _require_number("(params, batch) to one number, ()", made)
        return *jax.value_and_grad(loss)(state.params, batch), carried

    (state, _), losses = _updates(measure, optimizer, (state, ()), steps, every)
    return state, losses


@expect.arguments(
    loss=expect.function,
    optimizer=_optimizer,
    piece=expect.function,
    state=expect.instance(State),
)
def advance_stateful(
    loss: Callable[[Tree, Tree, Tree], tuple[Array, Tree]],
    optimizer: optax.GradientTransformation,
    piece: Callable[[Array, Array], Tree],
    state: State,
    carried: Tree,
    steps: int,
    every: int = 1,
) -> tuple[State, Tree, Array]:
    """`advance` along one long sequence, piece by piece: truncated backpropagation over a corpus.

    The state of the recurrence goes from one piece to the next, and no gradient passes between
    pieces. At the end of the corpus, `loss` resets the state where the batch says so.

    Args:
        loss: (params, carried, batch) -> (a number, carried), the second for the next piece.
        optimizer: A gradient transformation of Optax.
        piece: (key, step) -> the batch of that update, such as a slice of a text from
            `lax.dynamic_slice_in_dim`.
        state: Where the training is.
        carried: The state of the recurrence before the first piece, arrays.
        steps: Updates, 1 or more.
        every: Updates whose losses become one, their mean; it divides `steps`.

    Returns:
        The state and `carried` afterwards, and losses (steps / every,), as in `advance`. After a
        divergence, `carried` stays as it was before.

    Raises:
        ValueError: steps or every is out of range or not an integer, the loss is not one number, or
            what it carries changes its structure or shapes.
        TypeError: The loss or piece is not a function, the optimizer is not one of Optax, or the
            state is not a State.

    Example:
        >>> text, optimizer = jnp.arange(12.0).reshape(6, 2), optax.sgd(0.0)
        >>> def loss(w, total, xs):
        ...     total = total + xs.sum()
        ...     return (total - w) ** 2, total
        >>> def piece(key, step):
        ...     return jax.lax.dynamic_slice_in_dim(text, 2 * step, 2)
        >>> state = train.start(jax.random.key(0), jnp.zeros(()), optimizer)
        >>> state, total, losses = train.advance_stateful(
        ...     loss, optimizer, piece, state, jnp.zeros(()), steps=3
        ... )
        >>> print(total, losses)
        66.0 [  36.  784. 4356.]
    """
    _require_counts(steps, every)

    def measure(state: State, carried: Tree) -> tuple[Array, Tree, Tree]:
        batch = piece(jax.random.fold_in(state.key, state.step), state.step)
        before = lax.stop_gradient(carried)
        wanted = "(params, carried, batch) to (one number, ()) and what is carried"
        made = jax.eval_shape(loss, state.params, before, batch)
        number, after = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        _require_number(wanted, number)
        if scan.describe(after) != scan.describe(before):
            raise ValueError(
                "loss must return what it carries in the form in which it takes it, "
                f"{scan.describe(before)}; it returned {scan.describe(after)}"
            )
        (value, after), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.params, before, batch
        )
        return value, gradient, after

    carried = jax.tree.map(jnp.asarray, carried)
    (state, carried), losses = _updates(measure, optimizer, (state, carried), steps, every)
    return state, carried, losses


def _require_counts(steps: int, every: int) -> None:
    scan.require_integers(steps=steps, every=every)
    if steps < 1:
        raise ValueError(f"steps must be 1 or more; got steps={steps}")
    if every < 1 or steps % every:
        raise ValueError(
            f"every={every} must divide steps={steps}, since this many losses become one mean"
        )


def _require_number(wanted: str, made: Tree) -> None:
    """Raise ValueError unless the result of a loss is one number."""
    shape = getattr(made, "shape", None)
    if shape != ():
        raise ValueError(
            f"loss must map {wanted}; it returned {scan.describe(made) if shape is None else shape}"
        )


def _updates(
    measure: Callable[[State, Tree], tuple[Array, Tree, Tree]],
    optimizer: optax.GradientTransformation,
    begun: tuple[State, Tree],
    steps: int,
    every: int,
) -> tuple[tuple[State, Tree], Array]:
    """Updates with the value and gradient from `measure`, which also carries its own state."""

    def update(now: tuple[State, Tree], _: None) -> tuple[tuple[State, Tree], Array]:
        state, carried = now
        value, gradient, carries = measure(state, carried)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers
            change, opt = optimizer.update(gradient, state.opt, state.params)
        finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
        for leaf in jax.tree.leaves(change):  # parameters that are NaN can have a finite loss: relu
            finite &= jnp.isfinite(leaf).all()
        moves, breaks = training(state) & finite, training(state) & ~finite
        params, opt, carried = jax.tree.map(
            lambda new, old: jnp.where(moves, new, old),
            (optax.apply_updates(state.params, change), opt, carries),
            (state.params, state.opt, carried),
        )
        after = State(
            params,
            opt,
            state.key,
            state.step + 1,
            jnp.where(breaks, state.step, state.diverged),
            jnp.where(breaks, value.astype(state.value.dtype), state.value),
            state.finished,
        )
        return (after, carried), jnp.where(after.diverged < 0, value, jnp.nan)

    def thinned(now: tuple[State, Tree], _: None) -> tuple[tuple[State, Tree], Array]:
        now, losses = lax.scan(update, now, length=every)
        return now, losses.mean()

    return lax.scan(thinned, begun, length=steps // every)
