"""Tasks whose answers depend on inputs far back: from a key to a batch, on the device.

    task = tasks.copy(T=100)
    xs, targets = task.sample(key, 20)          # (T', 20, d) and the targets of the last K steps
    tasks.loss(outputs[-len(targets):], targets) < task.baseline.loss     # it uses its memory

Each task has the baseline that a network can beat only with memory. Sizes are static, so
`sample` is pure in its key and works under `jit` and `vmap`. Symbols come as one-hot vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import one_hot

from recur import expect, scan
from recur.functions import Constant, Given
from recur.scan.indices import whole
from recur.tables import tabled


@tabled()
class Batch(NamedTuple):
    """Sequences, time first, and the answers wanted at their last K steps, and only there."""

    xs: Array  #: (T, B, d)
    targets: Array  #: (K, B) classes, integers; or (K, B, k) numbers


@tabled()
class Baseline(NamedTuple):
    """The score of the best answer that knows the step and nothing about the inputs."""

    loss: float  #: as in `loss`; nats for classes, mean squared error for numbers
    accuracy: float | None  #: share of right answers; None if the answers are numbers


@dataclass(frozen=True)
class Task:
    """A distribution over sequences with answers.

    Example:
        >>> task = tasks.adding(T=20)
        >>> batch = task.sample(jax.random.key(0), 4)
        >>> print(batch.xs.shape, batch.targets.shape, task.outputs, task.baseline.accuracy)
        (20, 4, 2) (1, 4, 1) 1 None
    """

    sample: Callable[[Array, int], Batch]  #: (key, B) -> Batch
    inputs: int  #: d
    outputs: int  #: k, logits of the classes, or numbers
    baseline: Baseline  #: what to beat


@expect.arguments(outputs=expect.floats, targets=expect.numbers)
def loss(outputs: Array | np.ndarray, targets: Array | np.ndarray) -> Array:
    """The mean loss over the K asked steps and the batch.

    Args:
        outputs: Logits or numbers (K, B, k) of the last K steps: `outputs[-len(targets):]`.
        targets: Classes (K, B), integers, or numbers (K, B, k).

    Returns:
        Cross-entropy in nats for classes, squared error for numbers, (). NaN for traced classes out
        of range.

    Raises:
        ValueError: The shapes differ, or a class that is known is out of range.
        TypeError: The outputs are not an array of floats, or the targets are not an array of
            numbers.

    Example:
        >>> print(f"{tasks.loss(jnp.zeros((3, 2, 4)), jnp.ones((3, 2), int)):.4f}")  # log 4
        1.3863
    """
    if jnp.issubdtype(targets.dtype, jnp.integer):
        valid = _valid(outputs, targets)
        picked = jnp.where(valid, targets, 0)[..., None]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs), picked, axis=-1)[..., 0]
        return -scan.or_nan(valid, chosen).mean()
    _check(outputs, targets.shape[:-1], targets.shape[-1])
    return jnp.mean((outputs - targets) ** 2)


@expect.arguments(outputs=expect.floats, targets=expect.numbers)
def accuracy(outputs: Array | np.ndarray, targets: Array | np.ndarray) -> Array:
    """The share of answers whose largest logit belongs to the right class.

    Args:
        outputs: Logits (K, B, k) of the last K steps.
        targets: Classes (K, B), integers.

    Returns:
        The share, (). NaN where a logit is NaN, and for traced classes out of range.

    Raises:
        ValueError: The targets are numbers, the shapes differ, or a class that is known is out of
            range.
        TypeError: The outputs are not an array of floats, or the targets are not an array of
            numbers.

    Example:
        >>> outputs = jnp.array([[[2.0, 1.0], [0.0, 3.0]]])
        >>> print(tasks.accuracy(outputs, jnp.array([[0, 0]])))
        0.5
    """
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(
            f"accuracy needs targets that are classes; these are {targets.dtype}: use loss"
        )
    valid = _valid(outputs, targets) & ~jnp.isnan(outputs).any(axis=-1)
    right = (outputs.argmax(-1) == targets.astype(int)).astype(outputs.dtype)
    return scan.or_nan(valid, right).mean()


def _valid(outputs: Array | np.ndarray, targets: Array | np.ndarray) -> Array:
    """Which targets are classes of the outputs. Raises ValueError if they do not fit."""
    _check(outputs, targets.shape)
    scan.require_index("targets", targets, outputs.shape[-1], "classes")
    return scan.inside(targets, outputs.shape[-1])


def _check(outputs: Array | np.ndarray, shape: tuple[int, ...], k: int | None = None) -> None:
    if outputs.shape[:-1] != shape or k not in (None, outputs.shape[-1]):
        raise ValueError(
            f"outputs must be {(*shape, k or 'k')} for these targets; got {outputs.shape}: pass "
            "those of the last K steps, outputs[-len(targets):]"
        )


# --- to be given back ----------------------------------------------------------------------------


@expect.arguments(T=whole, symbols=whole, length=whole)
def copy(T: int, symbols: int = 8, length: int = 10) -> Task:
    """`length` symbols, T - 1 blanks, a cue, `length` blanks: repeat the symbols, in order.

    Asked at each of the T + 2 length steps; before the end the answer is blank. Baseline: the
    blanks are known, length ln(symbols) / (T + 2 length). Hochreiter and Schmidhuber 1997, Neural
    Computation 9:1735, in the form of arXiv:1511.06464.

    Args:
        T: Steps from the last symbol to the first answer, 1 or more.
        symbols: How many there are, 2 or more.
        length: How many are said, 1 or more.

    Returns:
        The task, of symbols + 2 inputs and symbols + 1 classes.

    Raises:
        ValueError: A number is out of range or not an integer.

    Example:
        >>> task = tasks.copy(T=3, symbols=2, length=2)
        >>> xs, targets = task.sample(jax.random.key(0), 1)
        >>> print(xs.argmax(-1)[2:, 0], targets[:5, 0])  # 2 is blank, 3 the cue
        [2 2 3 2 2] [2 2 2 2 2]
    """
    return _recall(T, symbols, length, cue=length + T - 1)


@expect.arguments(T=whole, symbols=whole, length=whole)
def memorisation(T: int, symbols: int = 2, length: int = 5) -> Task:
    """Noiseless memorisation: as `copy`, but after T blanks the cue asks for the first symbol.

    The default is known as 5 bits, (symbols, length) = (5, 10) as 20 bits. Martens and Sutskever
    2011, ICML; arXiv:1211.5063.

    Args:
        T: Blanks, 1 or more.
        symbols: How many there are, 2 or more.
        length: How many are said, 1 or more.

    Returns:
        The task, of symbols + 2 inputs and symbols + 1 classes.

    Raises:
        ValueError: A number is out of range or not an integer.

    Example:
        >>> task = tasks.memorisation(T=3, symbols=2, length=2)
        >>> xs, targets = task.sample(jax.random.key(0), 1)
        >>> print(xs.argmax(-1)[2:, 0], targets[:5, 0])  # 2 is blank, 3 the cue
        [2 2 2 3 2] [2 2 2 2 2]
    """
    return _recall(T, symbols, length, cue=length + T)


def _recall(T: int, symbols: int, length: int, cue: int) -> Task:
    scan.require_integers(T=T, symbols=symbols, length=length)
    if min(T, symbols - 1, length) < 1:
        raise ValueError(
            f"T and length must be 1 or more, and symbols 2 or more; got {T}, {length} and "
            f"{symbols}"
        )
    steps, known = T + 2 * length, T + length + length / symbols
    baseline = Baseline(length * log(symbols) / steps, known / steps)
    return Task(Given(_sample_recall, T, symbols, length, cue), symbols + 2, symbols + 1, baseline)


def _sample_recall(T: int, symbols: int, length: int, cue: int, key: Array, batch: int) -> Batch:
    blank = symbols
    said = jax.random.randint(key, (length, batch), 0, symbols)
    silence = jnp.full((length + T, batch), blank)
    xs = jnp.concatenate([said, silence]).at[cue].set(blank + 1)
    return Batch(one_hot(xs, symbols + 2), jnp.concatenate([silence, said]))


@expect.arguments(T=whole, symbols=whole)
def random_permutation(T: int, symbols: int = 100) -> Task:
    """A first symbol, 0 or 1, and T - 1 random others of 2 .. symbols - 1; which was the first?

    Martens and Sutskever 2011, ICML; arXiv:1211.5063.

    Args:
        T: Steps, 2 or more.
        symbols: How many there are, 3 or more.

    Returns:
        The task, of `symbols` inputs and classes.

    Raises:
        ValueError: A number is out of range or not an integer.

    Example:
        >>> task = tasks.random_permutation(T=6, symbols=5)
        >>> xs, targets = task.sample(jax.random.key(0), 3)
        >>> print(xs.shape, (xs.argmax(-1)[0] == targets[0]).all())
        (6, 3, 5) True
    """
    scan.require_integers(T=T, symbols=symbols)
    if T < 2 or symbols < 3:
        raise ValueError(
            f"T must be 2 or more, and symbols 3 or more; got T={T} and symbols={symbols}"
        )
    return Task(Given(_sample_permutation, T, symbols), symbols, symbols, Baseline(log(2), 1 / 2))


def _sample_permutation(T: int, symbols: int, key: Array, batch: int) -> Batch:
    one, two = jax.random.split(key)
    first = jax.random.randint(one, (1, batch), 0, 2)
    others = jax.random.randint(two, (T - 1, batch), 2, symbols)
    return Batch(one_hot(jnp.concatenate([first, others]), symbols), first)


# --- two of many ---------------------------------------------------------------------------------


@expect.arguments(T=whole)
def adding(T: int) -> Task:
    """(number, mark) with numbers uniform on [0, 1], two of them marked: what is their sum?

    The first mark is in the first tenth, the second between there and the middle, so that the
    answer waits for T/2 steps. Baseline: 1/6, the variance of the sum. Hochreiter and Schmidhuber
    1997, with a fixed T.

    Args:
        T: Steps, 10 or more.

    Returns:
        The task, of 2 inputs and 1 number.

    Raises:
        ValueError: T is out of range or not an integer.

    Example:
        >>> xs, targets = tasks.adding(T=10).sample(jax.random.key(0), 2)
        >>> print(jnp.allclose((xs[..., 0] * xs[..., 1]).sum(0), targets[0, :, 0]))
        True
    """
    _require_tenths(T)
    return Task(Given(_sample_adding, T), 2, 1, Baseline(1 / 6, None))


def _sample_adding(T: int, key: Array, batch: int) -> Batch:
    one, two = jax.random.split(key)
    numbers, marks = jax.random.uniform(one, (T, batch)), _marks(two, T, batch)
    return Batch(jnp.stack([numbers, marks], axis=-1), (numbers * marks).sum(0)[None, :, None])


@expect.arguments(T=whole)
def delayed_xor(T: int) -> Task:
    """(bit, mark), two bits marked as in `adding`: do they differ?

    Martens and Sutskever 2011, ICML.

    Args:
        T: Steps, 10 or more.

    Returns:
        The task, of 2 inputs and 2 classes.

    Raises:
        ValueError: T is out of range or not an integer.

    Example:
        >>> xs, targets = tasks.delayed_xor(T=10).sample(jax.random.key(0), 2)
        >>> print(xs[..., 1].sum(0), targets.shape)
        [2. 2.] (1, 2)
    """
    _require_tenths(T)
    return Task(Given(_sample_xor, T), 2, 2, Baseline(log(2), 1 / 2))


def _sample_xor(T: int, key: Array, batch: int) -> Batch:
    one, two = jax.random.split(key)
    bits = jax.random.bernoulli(one, shape=(T, batch)).astype(float)
    marks = _marks(two, T, batch)
    differ = (bits * marks).sum(0)[None] == 1
    return Batch(jnp.stack([bits, marks], axis=-1), differ.astype(int))


def _marks(key: Array, T: int, batch: int) -> Array:
    """1 at two steps of each sequence, (T, B)."""
    first, second = _places(key, batch, ((0, T // 10), (T // 10, T // 2)))
    return one_hot(first, T, axis=0) + one_hot(second, T, axis=0)


@expect.arguments(T=whole)
def temporal_order(T: int) -> Task:
    """Two signals, A or B each, among distractors c, d, e, f: which of AA, AB, BA, BB was it?

    They come in [T/10, 2T/10] and [4T/10, 5T/10], the windows of arXiv:1211.5063.

    Args:
        T: Steps, 10 or more.

    Returns:
        The task, of 6 inputs and 4 classes.

    Raises:
        ValueError: T is out of range or not an integer.

    Example:
        >>> sample = jax.jit(tasks.temporal_order(T=20).sample, static_argnums=1)
        >>> xs, targets = sample(jax.random.key(0), 2)
        >>> print((xs.argmax(-1) < 2).sum(0), targets.shape)
        [2 2] (1, 2)
    """
    return _order(T, ((1, 2), (4, 5)))


@expect.arguments(T=whole)
def three_bit_order(T: int) -> Task:
    """As `temporal_order` with three signals: in [T/10, 2T/10], [3T/10, 4T/10], [6T/10, 7T/10].

    arXiv:1211.5063.

    Args:
        T: Steps, 10 or more.

    Returns:
        The task, of 6 inputs and 8 classes.

    Raises:
        ValueError: T is out of range or not an integer.

    Example:
        >>> sample = jax.jit(tasks.three_bit_order(T=20).sample, static_argnums=1)
        >>> xs, targets = sample(jax.random.key(0), 2)
        >>> print((xs.argmax(-1) < 2).sum(0), targets.shape)
        [3 3] (1, 2)
    """
    return _order(T, ((1, 2), (3, 4), (6, 7)))


def _order(T: int, tenths: tuple[tuple[int, int], ...]) -> Task:
    _require_tenths(T)
    windows = tuple((-(-a * T // 10), b * T // 10 + 1) for a, b in tenths)  # rounded inwards
    classes = 2 ** len(windows)
    return Task(Given(_sample_order, T, windows), 6, classes, Baseline(log(classes), 1 / classes))


Windows = tuple[tuple[int, int], ...]  # (from, to), in steps


def _sample_order(T: int, windows: Windows, key: Array, batch: int) -> Batch:
    one, two, three = jax.random.split(key, 3)
    signals = jax.random.randint(one, (len(windows), batch), 0, 2)  # A is 0, B is 1
    places = _places(two, batch, windows)
    symbols = jax.random.randint(three, (T, batch), 2, 6)
    symbols = symbols.at[places, jnp.arange(batch)].set(signals)
    order = (signals * (2 ** jnp.arange(len(windows))[::-1, None])).sum(0, keepdims=True)
    return Batch(one_hot(symbols, 6), order)


def _places(key: Array, batch: int, windows: Windows) -> Array:
    """A step within each window (from, to), (len(windows), B)."""
    low, high = (jnp.array(ends)[:, None] for ends in zip(*windows, strict=True))
    return jax.random.randint(key, (len(windows), batch), low, high)


def _require_tenths(T: int) -> None:
    scan.require_integers(T=T)
    if T < 10:
        raise ValueError(
            f"this task places its signals by tenths of T, so T must be 10 or more; got T={T}"
        )


# --- to be held ----------------------------------------------------------------------------------


@expect.arguments(T=whole, bits=whole, pulses=expect.number(0, 1))
def flip_flop(T: int, bits: int = 3, pulses: float = 0.2) -> Task:
    """Each of `bits` inputs is 0, or now and then -1 or 1: which was the last that was not 0?

    Asked at each of the T steps, for each bit, as numbers. At the first step no input is 0.
    Baseline: 1, the variance of a sign. Sussillo and Barak 2013, Neural Computation 25:626.

    Args:
        T: Steps, 1 or more.
        bits: Inputs, 1 or more.
        pulses: Probability with which a later input differs from 0, 0 .. 1.

    Returns:
        The task, of `bits` inputs and numbers.

    Raises:
        ValueError: A number is out of range, or T or bits is not an integer.
        TypeError: pulses is not a number.

    Example:
        >>> xs, targets = tasks.flip_flop(T=6, bits=1, pulses=0.5).sample(jax.random.key(1), 1)
        >>> print(xs[:, 0, 0], targets[:, 0, 0], sep=", ")
        [-1.  0. -1.  1.  0.  0.], [-1. -1. -1.  1.  1.  1.]
    """
    scan.require_integers(T=T, bits=bits)
    if min(T, bits) < 1:
        raise ValueError(f"T and bits must be 1 or more; got {T} and {bits}")
    return Task(Given(_sample_flip_flop, T, bits, float(pulses)), bits, bits, Baseline(1.0, None))


def _sample_flip_flop(T: int, bits: int, pulses: float, key: Array, batch: int) -> Batch:
    one, two = jax.random.split(key)
    signs = jax.random.rademacher(one, (T, batch, bits), float)
    pulsed = jax.random.bernoulli(two, pulses, (T, batch, bits)).at[0].set(True)
    last = jax.lax.cummax(jnp.where(pulsed, jnp.arange(T)[:, None, None], 0), axis=0)
    return Batch(jnp.where(pulsed, signs, 0), jnp.take_along_axis(signs, last, axis=0))


@expect.arguments(T=whole)
def integrator(T: int) -> Task:
    """Numbers N(0, 1/T): what is the sum of those so far?

    Asked at each of the T steps, where the answer has variance t / T. Baseline: the mean of these,
    (T + 1) / 2T. A network that solves it has fixed points along a line, one for each sum.

    Args:
        T: Steps, 1 or more.

    Returns:
        The task, of 1 input and 1 number.

    Raises:
        ValueError: T is out of range or not an integer.

    Example:
        >>> xs, targets = tasks.integrator(T=4).sample(jax.random.key(0), 1)
        >>> print(jnp.allclose(jnp.cumsum(xs, axis=0), targets))
        True
    """
    scan.require_integers(T=T)
    if T < 1:
        raise ValueError(f"T must be 1 or more; got T={T}")
    return Task(Given(_sample_integrator, T), 1, 1, Baseline((T + 1) / (2 * T), None))


def _sample_integrator(T: int, key: Array, batch: int) -> Batch:
    xs = jax.random.normal(key, (T, batch, 1)) / jnp.sqrt(float(T))
    return Batch(xs, jnp.cumsum(xs, axis=0))


# --- images --------------------------------------------------------------------------------------


@expect.arguments(images=expect.numbers, labels=expect.real, noise=expect.number(0))
def padded(images: Array, labels: Array, T: int, noise: float, classes: int = 10) -> Task:
    """An image, whole, as the first input, then Gaussian noise up to T: which class?

    arXiv:1806.05394.

    Args:
        images: (N, ...), drawn with replacement.
        labels: (N,) integers, 0 .. classes - 1.
        T: Steps, 1 or more.
        noise: Standard deviation, 0 or more.
        classes: How many there are.

    Returns:
        The task, with as many inputs as an image has pixels.

    Raises:
        ValueError: A number is out of range, the labels do not fit the images, or T is not an
            integer.
        TypeError: images are not an array of numbers.

    Example:
        >>> task = tasks.padded(jnp.ones((2, 3)), np.array([0, 1]), T=4, noise=0.0, classes=2)
        >>> print(abs(task.sample(jax.random.key(0), 1).xs[:, 0]))
        [[1. 1. 1.]
         [0. 0. 0.]
         [0. 0. 0.]
         [0. 0. 0.]]
    """
    return _labelled(images, labels, Given(_pad, T, noise), images[0].size, classes)


@expect.arguments(images=expect.numbers, labels=expect.real)
def unrolled(
    images: Array, labels: Array, pixels: int, classes: int = 10, order: Array | None = None
) -> Task:
    """An image read `pixels` at a step, row by row or in another order: which class?

    Args:
        images: (N, ...), drawn with replacement.
        labels: (N,) integers, 0 .. classes - 1.
        pixels: Pixels of a step, which divides those of an image.
        classes: How many there are.
        order: The P pixels as they are read, 0 .. P - 1; as they stand if None.

    Returns:
        The task, of `pixels` inputs.

    Raises:
        ValueError: A number is out of range, or labels or order do not fit the images.
        TypeError: images are not an array of numbers.

    Example:
        >>> images = jnp.arange(6.0).reshape(1, 2, 3)
        >>> task = tasks.unrolled(images, np.array([0]), pixels=3, classes=1)
        >>> print(task.sample(jax.random.key(0), 1).xs[:, 0])
        [[0. 1. 2.]
         [3. 4. 5.]]
    """
    read = Given(_unroll, pixels, None if order is None else Constant(order))
    return _labelled(images, labels, read, pixels, classes)


@expect.arguments(key=expect.key, images=expect.numbers, labels=expect.real)
def permuted(key: Array, images: Array, labels: Array, pixels: int = 1, classes: int = 10) -> Task:
    """`unrolled` in a random order of all pixels, the same for all images.

    arXiv:1504.00941.

    Args:
        key: Draws the order.
        images: (N, ...), drawn with replacement.
        labels: (N,) integers, 0 .. classes - 1.
        pixels: Pixels of a step, which divides those of an image.
        classes: How many there are.

    Returns:
        The task, of `pixels` inputs.

    Raises:
        ValueError: As in `unrolled`.
        TypeError: The key is not a PRNG key, or images are not an array of numbers.

    Example:
        >>> images, labels = jnp.arange(6.0).reshape(1, 2, 3), np.array([0])
        >>> task = tasks.permuted(jax.random.key(0), images, labels, classes=1)
        >>> print(jnp.sort(task.sample(jax.random.key(0), 1).xs[:, 0, 0]))
        [0. 1. 2. 3. 4. 5.]
    """
    order = jax.random.permutation(key, images[0].size)
    return unrolled(images, labels, pixels, classes, order)


@expect.arguments(key=expect.key, images=expect.numbers, noise=expect.number(0))
def pad(key: Array, images: Array, T: int, noise: float) -> Array:
    """Images as first inputs, and noise after them.

    Args:
        key: Draws the noise.
        images: (B, ...) of P pixels.
        T: Steps, 1 or more.
        noise: Standard deviation, 0 or more.

    Returns:
        (T, B, P).

    Raises:
        ValueError: T or noise is out of range, or T is not an integer.
        TypeError: The key is not a PRNG key, or images are not an array of numbers.

    Example:
        >>> print(abs(tasks.pad(jax.random.key(0), jnp.ones((1, 2)), T=3, noise=0.0)[:, 0]))
        [[1. 1.]
         [0. 0.]
         [0. 0.]]
    """
    scan.require_integers(T=T)
    if T < 1:
        raise ValueError(f"the image itself takes a step, so T must be 1 or more; got T={T}")
    flat = images.reshape(1, len(images), -1)
    return jnp.concatenate(
        [flat, noise * jax.random.normal(key, (T - 1, *flat.shape[1:]), flat.dtype)]
    )


@expect.arguments(images=expect.numbers, order=expect.optional(expect.numbers))
def unroll(images: Array, pixels: int, order: Array | None = None) -> Array:
    """Images, some pixels at a step.

    Args:
        images: (B, ...) of P pixels.
        pixels: Pixels of a step, which divides P.
        order: The pixels as they are read, 0 .. P - 1; as they stand if None.

    Returns:
        (P / pixels, B, pixels); NaN for a traced order out of range.

    Raises:
        ValueError: `pixels` does not divide P, or order does not fit.
        TypeError: images are not an array of numbers.

    Example:
        >>> print(tasks.unroll(jnp.arange(6.0).reshape(1, 2, 3), pixels=2)[:, 0])
        [[0. 1.]
         [2. 3.]
         [4. 5.]]
    """
    scan.require_integers(pixels=pixels)
    flat = images.reshape(len(images), -1)
    if pixels < 1 or flat.shape[1] % pixels:
        raise ValueError(f"pixels must divide the {flat.shape[1]} pixels of an image; got {pixels}")
    if order is not None:
        scan.require_index("order", order, flat.shape[1], "pixels")
        if np.shape(order) != flat.shape[1:]:
            raise ValueError(
                f"order must have one entry per pixel, ({flat.shape[1]},); got "
                f"{scan.describe(order)}"
            )
        valid = scan.inside(order, flat.shape[1])
        flat = scan.or_nan(valid, jnp.asarray(flat).T[jnp.where(valid, order, 0)]).T
    return flat.reshape(len(images), -1, pixels).swapaxes(0, 1)


def _labelled(
    images: Array, labels: Array, read: Callable[[Array, Array], Array], inputs: int, classes: int
) -> Task:
    """Images drawn with replacement; the baseline knows how often each class comes."""
    scan.require_integers(classes=classes)
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"there must be one label per image; got images {images.shape}, labels {labels.shape}"
        )
    scan.require_index("labels", labels, classes, "classes")
    jax.eval_shape(lambda: read(jax.random.key(0), images[:1]))  # its errors
    share = np.bincount(labels) / len(labels)
    known = -sum(p * log(p) for p in share.tolist() if p > 0)
    sample = Given(_sample_labelled, Constant(images), Constant(labels), read)
    return Task(sample, inputs, classes, Baseline(known, float(share.max())))


def _sample_labelled(
    images: Constant, labels: Constant, read: Callable[..., Array], key: Array, batch: int
) -> Batch:
    one, two = jax.random.split(key)
    picked = jax.random.randint(one, (batch,), 0, len(labels.array))
    return Batch(read(two, images.array[picked]), labels.array[None, picked])


def _pad(T: int, noise: float, key: Array, images: Array) -> Array:
    return pad(key, images, T, noise)


def _unroll(pixels: int, order: Constant | None, key: Array, images: Array) -> Array:
    del key
    return unroll(images, pixels, None if order is None else order.array)
