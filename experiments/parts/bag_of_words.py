"""A baseline that ignores the order of words: a regularised logistic regression.

    log odds = sum of w_k over the different words k of the text / sqrt(their number) + w_0

The ridge, the weight of the penalty on w, is chosen on held-out texts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from experiments.data.reviews import UNKNOWN

RIDGES = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)


class Texts(NamedTuple):
    """Texts of different lengths in one array."""

    words: Array  # (T, N)
    lengths: Array  # (N,)
    labels: Array  # (N,)


def ragged(xs: list[np.ndarray], ys: np.ndarray, longest: int) -> Texts:
    """The last `longest` words of each review, in one array of at most so many steps."""
    xs = [x[-longest:] for x in xs]
    words = np.full((max(map(len, xs)), len(xs)), UNKNOWN, np.int32)
    for i, x in enumerate(xs):
        words[: len(x), i] = x
    lengths = np.array([len(x) for x in xs], np.int32)
    return Texts(jnp.asarray(words), jnp.asarray(lengths), jnp.asarray(ys))


class Bag(NamedTuple):
    """The distinct words of each review, in one array."""

    words: Array  # (U, N), padded with the unknown word
    labels: Array  # (N,)


def bag(part: Texts) -> Bag:
    """The distinct words of each review, without words that training does not know."""
    columns = zip(np.asarray(part.words).T, np.asarray(part.lengths), strict=True)
    sets = [np.setdiff1d(column[:length], [UNKNOWN]) for column, length in columns]
    return Bag(ragged(sets, np.asarray(part.labels), max(map(len, sets))).words, part.labels)


def opinion(weights: Array, bag: Bag) -> Array:
    """Log odds of praise, (N,), from the weights (V,) of the words; a review is a unit vector.

    The weight of the unknown word serves as the intercept.
    """
    known = bag.words != UNKNOWN
    length = jnp.sqrt(jnp.maximum(known.sum(axis=0), 1).astype(weights.dtype))
    return jnp.where(known, weights[bag.words], 0).sum(axis=0) / length + weights[UNKNOWN]


def regress(bag: Bag, vocabulary: int, ridge: Array) -> Array:
    """Weights (V,) that minimise mean logistic loss + ridge / 2 |weights|^2, by L-BFGS."""
    signs = jnp.where(bag.labels > 0, 1.0, -1.0)

    def objective(weights: Array) -> Array:
        penalty = ridge / 2 * jnp.sum(weights.at[UNKNOWN].set(0) ** 2)
        return jax.nn.softplus(-signs * opinion(weights, bag)).mean() + penalty

    solver = optax.lbfgs()

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        weights, state = carry
        value, gradient = optax.value_and_grad_from_state(objective)(weights, state=state)
        change, state = solver.update(
            gradient, state, weights, value=value, grad=gradient, value_fn=objective
        )
        return (optax.apply_updates(weights, change), state), None

    weights = jnp.zeros(vocabulary)
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes integers and floats
        return lax.scan(step, (weights, solver.init(weights)), length=100)[0][0]


def regression(fit: Texts, held: Texts, test: Texts, vocabulary: int) -> tuple[np.ndarray, float]:
    """Which test reviews the regression classifies correctly, (N,), and the ridge it uses."""
    bags = [bag(part) for part in (fit, held, test)]
    one = jax.jit(lambda ridge: regress(bags[0], vocabulary, ridge))
    best, answers, chosen = -1.0, np.zeros(0, bool), RIDGES[0]
    for ridge in RIDGES:
        weights = one(jnp.asarray(ridge, jnp.float32))
        on_held, on_test = (
            np.asarray((opinion(weights, b) > 0) == (b.labels > 0)) for b in bags[1:]
        )
        if on_held.mean() > best:
            best, answers, chosen = on_held.mean(), on_test, ridge
    return answers, chosen
