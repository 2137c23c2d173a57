"""What arguments must be: each check takes what it names, and says what came in place of it."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recur import Prior, analysis, cells, expect, tasks

A = np.ones((2, 3), "f")
CASES = {  # a check: what it takes, what it refuses
    "key": (expect.key, [np.zeros(2, np.uint32)], [None, 7, 0.5, "seed", A]),
    "function": (expect.function, [len, jnp.tanh], [None, 3, "len"]),
    "integer": (expect.integer, [3, -1, np.int8(2)], [True, 1.5, "3", None, np.ones(2)]),
    "count": (expect.count(1), [1, np.int32(4)], [0, -1, 1.5, np.nan, None]),
    "number": (expect.number(0, 1), [0, 0.5, np.float32(1)], [-0.1, np.nan, "1", None, 1j, A]),
    "open": (expect.number(0, open=True), [1e-9], [0, -1, np.inf]),
    "scalar": (expect.scalar, [0.5, np.ones(1), np.nan], [A, None, "1"]),
    "real": (expect.real, [0.5, A, (0.1, 0.2)], [None, "a", 1j]),
    "floats": (expect.floats, [A], [A.astype(int), A[:0], np.float32(1), None, [1.0]]),
    "numbers": (expect.numbers, [A, A.astype(int)], [A[:0], 3, "x", A > 0]),
    "booleans": (expect.booleans, [True, A > 0], [1, A, None, "yes"]),
    "tree": (expect.tree, [(), None, {"a": A}, (A, 3.0)], ["h", {"a": "x"}, np.array("x")]),
    "arrays": (expect.arrays, [{"a": A, "b": None}], [(), None, "h"]),
    "timed": (expect.timed, [A, (A, A[:, 0])], [3.0, (A, np.float32(1)), None]),
    "one of": (expect.one_of("a", "b"), ["a"], ["c", None, 3]),
    "instance": (expect.instance(str, dict), ["a", {}], [None, 3]),
    "optional": (expect.optional(expect.function), [None, len], [3]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_taken_and_what_is_refused(name):
    check, good, bad = CASES[name]
    for value in good:
        check("it", value)
    for value in bad:
        with pytest.raises((TypeError, ValueError), match=r"^it must (be|hold) .*got"):
            check("it", value)


def test_checks_look_at_arguments_however_they_are_passed():
    @expect.arguments(n=expect.count(1), f=expect.function)
    @cache
    def power(f, n=2, *, more=0):
        return f(n) + more

    assert power(abs) == 2
    assert power(abs, n=3, more=1) == 4
    for wrong in (lambda: power(abs, [1]), lambda: power(abs, n=0), lambda: power(f=3)):
        with pytest.raises((TypeError, ValueError), match="got"):
            wrong()


def test_numbers_under_a_trace_are_let_pass():
    @jax.jit
    def half(x):
        expect.number(0, 1)("x", x)
        expect.count(1)("n", x.astype(int))
        return x / 2

    assert half(np.float32(3)) == 1.5


def test_exponents_of_numpy_under_jit():
    """They were indexed by a traced integer, which NumPy cannot."""
    exponents = np.array([0.5, -0.2, -1.0], "f")
    found = jax.jit(lambda: (analysis.kaplan_yorke(exponents), analysis.entropy_rate(exponents)))()
    np.testing.assert_allclose(found, (2.3, 0.5), rtol=1e-6)  # float32; 2 + (.5 - .2) / 1


def test_a_task_of_images_is_refused_when_it_is_made():
    """It used to fail at its first sample."""
    images, labels = np.zeros((2, 2, 2), "f"), np.array([0, 1])
    for make in (
        lambda: tasks.padded(images, labels, T=0, noise=0.1),
        lambda: tasks.padded(images, labels, T=3, noise=np.nan),
        lambda: tasks.unrolled(images, labels, pixels=3),
        lambda: tasks.unrolled(images, labels, pixels=2, order=np.arange(3)),
    ):
        with pytest.raises(ValueError, match="got"):
            make()


def test_one_value_a_gate_may_be_traced():
    """A prior is a pytree, so that under jit a tuple of numbers is one of traced numbers."""
    prior = Prior(mu_b=(2.0, 0.0, 1.0))

    @jax.jit
    def biases(prior):
        return cells.gru.cell.init(jax.random.key(0), prior, 2, 1).b

    np.testing.assert_array_equal(biases(prior), prior.mu_b)
    ragged = Prior(mu_b=(2.0, jnp.zeros(2)))
    with pytest.raises(TypeError, match="mu_b must hold real numbers"):
        jax.eval_shape(biases, ragged)
