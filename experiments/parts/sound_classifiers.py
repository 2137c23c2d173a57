"""Two classifiers of sounds: a wave in a material, and an LSTM. Output power gives the answer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.parts.sizes import count, width
from recur import Prior, scan
from recur.cells import lstm, wave
from recur.core import Tree


class SoundClassifier(NamedTuple):
    """How a classifier is drawn, how its output power is computed, and how it learns."""

    draw: Callable[[Array], Tree]  # key -> params
    power: Callable[[Tree, Array], Array]  # params, xs (T, N, 1) -> (N, Y), sum of squares
    optimizer: optax.GradientTransformation
    parameters: int


def material(at: wave.Medium, rho: Array) -> wave.Params:
    """The material that rho (n,) gives after smoothing, so that no pixel stands alone."""
    return wave.Params(wave.blur(at, rho))


def speeds(at: wave.Medium, rho: Array) -> Array:
    """The speed of sound in each pixel, from rho (n,)."""
    return at.c0 + (at.c1 - at.c0) * wave.project(material(at, rho).rho, at.steepness)


def energy(at: wave.Medium, rho: Array, xs: Array, pixels: Any = slice(None)) -> Array:
    """The squared field, summed over time, at some pixels or all: xs (T, N, 1) -> (N, pixels)."""
    # the plain scan: `mix` is not a matrix product, so a chunked scan would gain nothing
    return scan.total(
        lambda hs, _: jnp.sum(hs[..., pixels] ** 2, axis=0),
        wave.linear(at),
        material(at, rho),
        xs,
        xs,
        engine="scan",
    )[1]


def through_a_material(at: wave.Medium, rate: optax.Schedule) -> SoundClassifier:
    """A wave that is read at its probes. All pixels start halfway between the two speeds."""

    def power(rho: Array, xs: Array) -> Array:
        return energy(at, rho, xs, at.flat(at.probes))

    def draw(key: Array) -> Array:
        del key
        return jnp.full(at.n, 0.5)

    return SoundClassifier(draw, power, optax.adam(rate), at.n)


def through_an_lstm(parameters: int, vowels: int, rate: optax.Schedule) -> SoundClassifier:
    """An LSTM with a linear readout. As for the probes, squared outputs are summed over time."""
    n = width(lstm.cell, 1, parameters)

    def draw(key: Array) -> tuple:
        own, read = jax.random.split(key)
        readout = jax.random.normal(read, (n, vowels)) / n**0.5
        return lstm.cell.init(own, Prior(), 1, n), readout

    def power(params: tuple, xs: Array) -> Array:
        own, readout = params
        return scan.total(
            lambda hs, _: jnp.sum((hs @ readout) ** 2, axis=0), lstm.cell, own, xs, xs
        )[1]

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    return SoundClassifier(draw, power, optimizer, count(lstm.cell, 1, n) + n * vowels)


def loss(listener: SoundClassifier, params: Tree, batch: tuple[Array, Array]) -> Array:
    """Mean -log of the correct output's share of the power, in nats."""
    xs, labels = batch
    logits = jnp.log(listener.power(params, xs) + 1e-12)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
