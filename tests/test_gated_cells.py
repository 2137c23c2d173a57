"""Cells made of the equation of their gates, beside those that are written out."""

import copy
import pickle
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import normal
from jax.nn import sigmoid

import recur
from recur import Gates, Prior, Unitwise, cells, check_cell, compose, gated, scan

D, N, T = 3, 4, 6


class Params(recur.GateParams):
    """W (n, 2n), V (d, 2n), b (2n,)."""


class Other(recur.GateParams):
    """Of another cell."""


class Extra(NamedTuple):
    W: jax.Array
    V: jax.Array
    b: jax.Array
    a: jax.Array


def update(h, u, c):
    u, c = sigmoid(u), jnp.tanh(c)
    return u * h + (1 - u) * c


def update_apart(h, u, c):
    u, (mixed, driven) = sigmoid(u), c
    return u * h + (1 - u) * jnp.tanh(u * mixed + driven)


GATES = ("update", "candidate")
cell = gated(Params, update, GATES, keeps="update")
apart = gated(Params, update_apart, GATES, keeps="update", apart=("candidate",))


def test_a_gated_cell_is_its_equation():
    """Both forms against a loop in NumPy, in float32: 20 roundings of numbers of order one."""
    params = Params(normal(N, 2 * N), normal(D, 2 * N), normal(2 * N))
    xs = normal(T, D)
    got = jax.jit(lambda: [scan.run(c, params, xs)[1] for c in (cell, apart)])()
    for hs, resets in zip(got, (False, True), strict=True):
        h = np.zeros(N)
        for x, ours in zip(xs, hs, strict=True):
            r = np.split(h @ params.W, 2)
            z = np.split(x @ params.V + params.b, 2)
            u = 1 / (1 + np.exp(-r[0] - z[0]))
            h = u * h + (1 - u) * np.tanh((u if resets else 1) * r[1] + z[1])
            np.testing.assert_allclose(ours, h, atol=20 * 2.0**-23)


@pytest.mark.slow  # of the cells here, which are made alike, the LSTM is fast
def test_a_gated_cell_keeps_every_promise():
    report = check_cell(cell)
    assert report.ok, report
    assert {check.name for check in report.checks} >= {"gates", "sums", "engine"}


def test_the_forget_bias_of_a_cell_of_ones_own():
    params = jax.eval_shape(lambda: compose.chrono(cell, 50).init(jax.random.key(0), Prior(), D, N))
    assert type(params) is Params
    b = jax.jit(lambda: compose.forget_bias(cell, 2.0).init(jax.random.key(0), Prior(), D, N).b)()
    np.testing.assert_array_equal(b, [2.0] * N + [0.0] * N)


def test_a_gated_cell_is_a_constant():
    assert gated(Params, update, list(GATES), keeps="update") == cell
    assert gated(Other, update, GATES, keeps="update") != cell
    assert gated(Params, update, GATES, overwrites="update") != cell
    for again in (pickle.loads(pickle.dumps(cell)), copy.deepcopy(cell)):
        assert again == cell
        assert hash(again) == hash(cell)


def test_parameters_of_another_gated_cell_are_refused():
    gated(Other, update, GATES)
    params = Other(normal(N, 2 * N), normal(D, 2 * N), normal(2 * N))
    with pytest.raises(ValueError, match=r"are test_gated_cells.Other, which another cell takes"):
        scan.run(cell, params, normal(T, D))


def test_a_cell_is_shown_by_its_name_and_gates():
    assert repr(cell) == "test_gated_cells.cell(update, candidate)"
    assert repr(cells.gru.cell) == "gru.cell(update, reset, candidate)"
    assert repr(cells.gru.reset_before) == "gru.reset_before(update, reset, candidate)"
    assert repr(cells.vanilla.relu) == "vanilla.relu"
    assert repr(cells.irnn.cell) == "irnn.cell"
    assert repr(copy.deepcopy(cells.vanilla.cell)) == "vanilla.cell"
    assert repr(cells.vanilla.elman(jnp.tanh)) == "vanilla.cell"
    assert "gru.cell(update, reset, candidate)" in repr(compose.masked(cells.gru.cell))
    for name in cells.names():
        assert " at 0x" not in repr(compose.masked(cells.named(name)))


def test_every_cell_with_gates_declares_as_many_as_a_prior_has_values():
    for each in map(cells.named, cells.names()):
        if each.gates.names:
            draw = partial(each.init, jax.random.key(0), Prior(), 3, 3)
            assert jax.eval_shape(draw).b.shape == (len(each.gates.names) * 3,), each


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gated(Params, update, ()), "needs at least one gate"),
        (lambda: gated(Params, update, ("a", "a")), "gates has a name twice; got a, a"),
        (lambda: gated(Params, update, GATES, keeps="forget"), "no gate 'forget'; .* update, can"),
        (lambda: gated(Params, update, GATES, apart=("b",)), "but 'b' is not one of"),
        (lambda: gated(Params, update, GATES, keeps="update", overwrites="update"), "but not both"),
        (lambda: gated(Extra, update, GATES), r"are W, V and b, .* got Extra with the fields"),
        (lambda: Unitwise(*[update] * 5, gates=Gates(("a",), writes="b")), "no gate 'b'"),
        (lambda: compose.forget_bias(gated(Params, update, GATES)), "declares no gate that keeps"),
    ],
)
def test_declarations_that_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("bad", ["update", (1, 2)])
def test_names_are_names(bad):
    with pytest.raises(TypeError, match="gates is a sequence of names"):
        gated(Params, update, bad)


def test_an_update_takes_the_state_and_each_gate():
    with pytest.raises(ValueError, match=r"each gate \(u, c\), so 3 arguments; got update\(h, u\)"):
        recur.gated(Params, lambda h, u: h, ("u", "c"))
    recur.gated(Params, lambda h, *gates: h, ("u", "c"))
