"""Each task solved by hand from its inputs alone, and each baseline reached and not beaten."""

from functools import cache, partial

import jax
import numpy as np
import pytest

from recur import tasks

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).random((40, 4, 6), np.float32)
LABELS = np.arange(40, dtype=np.int32) % 8 % 5  # the classes 0, 1, 2 come twice as often as 3, 4

TASKS = {
    "copy": lambda: tasks.copy(12, symbols=3, length=4),
    "memorisation": lambda: tasks.memorisation(12),
    "random_permutation": lambda: tasks.random_permutation(15, symbols=9),
    "adding": lambda: tasks.adding(25),
    "delayed_xor": lambda: tasks.delayed_xor(25),
    "temporal_order": lambda: tasks.temporal_order(25),
    "three_bit_order": lambda: tasks.three_bit_order(25),
    "flip_flop": lambda: tasks.flip_flop(12, bits=2, pulses=0.3),
    "integrator": lambda: tasks.integrator(12),
    "padded": lambda: tasks.padded(IMAGES, LABELS, 6, 0.5, classes=5),
    "unrolled": lambda: tasks.unrolled(IMAGES, LABELS, 4, classes=5),
    "permuted": lambda: tasks.permuted(KEY, IMAGES, LABELS, 2, classes=5),
}


@pytest.fixture(params=TASKS)
def name(request):
    return request.param


@cache
def made(name):
    return TASKS[name]()


@pytest.fixture
def task(name):
    return made(name)


# --- by hand: one sequence (T, d) -> its answers (K,) or (K, k) -----------------------------------


def recall(xs, symbols, length, cue):
    """What was said before the first blank, said again at the end; the cue is one more symbol."""
    seen = xs.argmax(-1)
    said = seen[:length]
    assert (said < symbols).all()
    others = np.delete(seen[length:], cue - length)
    assert (others == symbols).all()
    assert seen[cue] == symbols + 1
    return [symbols] * (len(seen) - length) + said.tolist()


def permutation(xs):
    first, *others = xs.argmax(-1).tolist()
    assert min(others) >= 2
    return [first]


def marked(xs):
    """The two values whose mark is 1, at the steps where the definition has them."""
    values, marks = xs.T
    places = np.flatnonzero(marks)
    assert sorted(set(marks.tolist())) == [0, 1]
    assert len(places) == 2
    assert 0 <= places[0] < 2 <= places[1] < 12  # of T = 25
    return values[places]


def order(xs, windows):
    """AA.. is 0, and the last signal counts least."""
    seen = xs.argmax(-1)
    places = np.flatnonzero(seen < 2)
    for place, (low, high) in zip(places, windows, strict=True):
        assert low <= place <= high
    return [int("".join(map(str, seen[places])), base=2)]


def last_signs(xs):
    """The last input of each bit that is not 0, at every step."""
    held, answers = xs[0], []
    assert set(np.unique(xs)) == {-1, 0, 1}
    assert (held != 0).all()
    for x in xs:
        held = np.where(x == 0, held, x)
        answers.append(held)
    return answers


def labelled(images):
    """The label of the image that these pixels are."""

    def solve(pixels):
        distance = np.abs(images.reshape(40, -1) - pixels.reshape(-1)).max(axis=1)
        assert distance.min() == 0
        return [LABELS[distance.argmin()]]

    return solve


@cache
def shuffled():
    return IMAGES.reshape(40, 24)[:, np.asarray(jax.random.permutation(KEY, 24))]


SOLVERS = {
    "copy": lambda xs: recall(xs, symbols=3, length=4, cue=15),
    "memorisation": lambda xs: recall(xs, symbols=2, length=5, cue=17),
    "random_permutation": permutation,
    "adding": lambda xs: [[marked(xs).sum()]],
    "delayed_xor": lambda xs: [int(np.logical_xor(*marked(xs)))],
    "temporal_order": lambda xs: order(xs, ((2.5, 5), (10, 12.5))),
    "three_bit_order": lambda xs: order(xs, ((2.5, 5), (7.5, 10), (15, 17.5))),
    "flip_flop": last_signs,
    "integrator": np.cumsum,
    "padded": lambda xs: labelled(IMAGES)(xs[0]),
    "unrolled": labelled(IMAGES),
    "permuted": lambda xs: labelled(shuffled())(xs),
}


N = 4000  # so many that each task is compiled once for all tests


@cache
def draw(task, seed=0):
    sample = jax.jit(task.sample, static_argnums=1)
    return jax.tree.map(np.asarray, sample(jax.random.key(seed), N))


def test_the_answers_follow_from_the_inputs(name, task):
    xs, targets = draw(task)
    assert xs.shape[1:] == (N, task.inputs)
    assert xs.dtype == np.float32
    for b in range(60):
        expected = np.reshape(SOLVERS[name](xs[:, b]), targets[:, b].shape)
        # float32 sums numbers in another order, of order 1 each
        np.testing.assert_allclose(targets[:, b], expected, rtol=1e-6, atol=1e-6)


def test_the_baseline_is_reached_knowing_the_step_alone_and_not_beaten(name, task):
    """The best constant of each step, fitted to half of a large sample and judged on the rest."""
    targets = draw(task).targets
    fit, judge = targets[:, : N // 2], targets[:, N // 2 :]
    if task.baseline.accuracy is None:
        outputs = np.broadcast_to(fit.mean(axis=1, keepdims=True), judge.shape)
    else:
        share = (fit[..., None] == np.arange(task.outputs)).mean(axis=1, keepdims=True)
        outputs = np.broadcast_to(np.log(share + 1e-9), (*judge.shape, task.outputs))
        # of 2000 x K answers, whose shares vary by .011 each: 3 to 4 standard errors
        accuracy = jax.jit(tasks.accuracy)(outputs, judge)
        np.testing.assert_allclose(accuracy, task.baseline.accuracy, atol=0.04)
    # the loss of one sequence varies by 1.2 of its mean or less: three standard errors of 2,000
    found = jax.jit(tasks.loss)(outputs, judge)
    np.testing.assert_allclose(found, task.baseline.loss, rtol=0.08)


def test_the_last_input_does_not_tell_the_answer():
    """So a memoryless network knows the step alone, and the baseline is its own."""
    for name in ("random_permutation", "adding", "delayed_xor", "temporal_order", "padded"):
        xs, targets = draw(made(name))
        last = np.column_stack([xs[-1], np.ones(N)])
        wanted = targets[0].reshape(N, -1).astype(float)
        fitted = last[:2000] @ np.linalg.lstsq(last[:2000], wanted[:2000], rcond=None)[0]
        left = np.mean((wanted[:2000] - fitted) ** 2) / wanted[:2000].var()
        # 25 coefficients fitted to 2000 answers by chance explain about 25/2000 of their variance
        assert left > 0.97, name


def test_signals_come_everywhere_in_their_windows():
    signals = draw(made("temporal_order")).xs.argmax(-1) < 2
    assert set(np.flatnonzero(signals.any(axis=1))) == {3, 4, 5, 10, 11, 12}
    marks = draw(made("adding")).xs[..., 1]
    assert set(np.flatnonzero(marks.any(axis=1))) == set(range(12))
    pulses = draw(made("flip_flop")).xs[1:]  # 88,000: their share and mean vary by .0016 and .0018
    np.testing.assert_allclose(np.mean(pulses != 0), 0.3, atol=0.007)
    np.testing.assert_allclose(pulses.mean(), 0, atol=0.008)


def test_every_answer_comes_as_often():
    counts = np.bincount(draw(made("three_bit_order")).targets[0])
    assert len(counts) == 8
    assert counts.min() > 420  # of 500 +- 21


def test_noise_follows_the_image():
    noise = draw(made("padded")).xs[1:]  # 480,000 numbers
    np.testing.assert_allclose(noise.std(), 0.5, rtol=0.01)
    np.testing.assert_allclose(noise.mean(), 0, atol=0.005)


def test_pixels_are_read_in_order():
    xs = tasks.unroll(IMAGES[:3], 6)
    np.testing.assert_array_equal(xs[2, 1], IMAGES[1, 2])  # six pixels are a row


def test_another_key_is_another_batch(task):
    assert (draw(task).xs != draw(task, seed=1).xs).any()


def test_many_batches_as_one():
    task = made("temporal_order")

    @jax.jit
    @jax.vmap
    def sample(seed):
        return task.sample(jax.random.key(seed), N)

    xs, targets = map(np.asarray, sample(np.arange(2)))
    np.testing.assert_array_equal(xs[1], draw(task, seed=1).xs)
    np.testing.assert_array_equal(targets[1], draw(task, seed=1).targets)


def test_a_task_is_a_constant():
    assert tasks.copy(30) == tasks.copy(30)
    assert tasks.copy(30) != tasks.copy(31)


def test_loss_and_accuracy_against_numbers_worked_out():
    logits = np.log(np.array([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]], np.float32))
    targets = np.array([[1, 2]])
    loss = jax.jit(tasks.loss)
    np.testing.assert_allclose(loss(logits, targets), -np.log(0.25 * 0.8) / 2, rtol=1e-6)
    assert float(jax.jit(tasks.accuracy)(logits, targets)) == 0.5
    numbers = np.array([[[1.0], [3.0]], [[2.0], [3.0]]], np.float32)[:, None]
    assert float(loss(*numbers)) == 0.5


def test_a_count_that_is_no_integer_is_refused():
    """And is not kept: 20.0 == 20, so a task of it would be the task of 20 from then on."""
    for make in (
        tasks.copy,
        tasks.memorisation,
        tasks.random_permutation,
        tasks.adding,
        tasks.delayed_xor,
        tasks.temporal_order,
        tasks.three_bit_order,
        tasks.flip_flop,
        tasks.integrator,
    ):
        for T in (47.0, 47.5):
            with pytest.raises(ValueError, match="T must be a whole number, an int; got"):
                make(T)
        assert jax.eval_shape(partial(make(47).sample, batch=2), KEY).xs.shape[1] == 2
    with pytest.raises(ValueError, match=r"symbols must be a whole number, an int; got 2.5"):
        tasks.copy(5, symbols=2.5)
    with pytest.raises(ValueError, match=r"classes must be a whole number"):
        tasks.unrolled(IMAGES, LABELS, 4, classes=5.0)


def test_an_order_has_pixels_alone():
    """Refused where it is known; NaN where traced, and only there."""
    images, order = np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.array([3, 0, 4, -1])
    for bad in (4, -1):
        with pytest.raises(ValueError, match=rf"order holds {bad} at \(1,\).* 4 pixels"):
            tasks.unroll(images, 2, np.array([0, bad, 1, 2]))
    read = jax.jit(lambda order: tasks.unroll(images, 1, order))(order)[..., 0]
    np.testing.assert_array_equal(read, [[3, 7], [0, 4], [np.nan] * 2, [np.nan] * 2])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"symbols 2 or more; got 5, 10 and 1"):
        tasks.copy(5, symbols=1)
    with pytest.raises(ValueError, match="T must be 10 or more; got T=9"):
        tasks.temporal_order(9)
    with pytest.raises(ValueError, match="T must be 2 or more, and symbols 3 or more; got T=1"):
        tasks.random_permutation(1)
    for numbers in ({"T": 0}, {"T": 3, "bits": 0}, {"T": 3, "pulses": np.nan}):
        with pytest.raises(ValueError, match=r"T and bits must be 1 or more; got|0 <= pulses"):
            tasks.flip_flop(**numbers)
    with pytest.raises(ValueError, match="T must be 1 or more; got T=0"):
        tasks.integrator(0)
    with pytest.raises(ValueError, match="divide the 24 pixels of an image; got 5"):
        jax.eval_shape(partial(tasks.unrolled(IMAGES, LABELS, 5).sample, batch=2), KEY)
    with pytest.raises(ValueError, match=r"T must be 1 or more; got T=0"):
        jax.eval_shape(partial(tasks.padded(IMAGES, LABELS, 0, 1.0).sample, batch=2), KEY)
    with pytest.raises(ValueError, match=r"one label per image; got images \(40, 4, 6\)"):
        tasks.unrolled(IMAGES, LABELS[1:], 4)
    with pytest.raises(
        ValueError,
        match=r"labels holds 4 at .* 4 classes are numbered 0 .. 3: count from 0",
    ):
        tasks.unrolled(IMAGES, LABELS, 4, classes=4)
    with pytest.raises(ValueError, match=r"labels holds -1 at"):
        tasks.unrolled(IMAGES, LABELS - 1, 4)
    targets = draw(made("temporal_order")).targets[:, :3]
    with pytest.raises(
        ValueError,
        match=r"must be \(1, 3, 'k'\) for these targets; got .*: pass those of the last K steps",
    ):
        tasks.loss(np.zeros((25, 3, 4), np.float32), targets)
    numbers = draw(made("adding")).targets[:, :3]
    with pytest.raises(ValueError, match="use loss"):
        tasks.accuracy(np.zeros((1, 3, 1), np.float32), numbers)
    with pytest.raises(
        ValueError, match=r"must be \(1, 3, 1\) for these targets"
    ):  # or (1, 3, 3) would broadcast
        tasks.loss(np.zeros((1, 3, 3), np.float32), numbers)
