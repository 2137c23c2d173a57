"""The bridge to Flax, both ways."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recur import Prior, analysis, cells, hidden, scan
from recur.compose import learned_start
from recur.flax.cells import LinenCell, NnxCell, from_linen, from_nnx
from recur.flax.models import Classifier

KEY = jax.random.key(3)
XS = np.random.default_rng(3).normal(size=(6, 2, 3)).astype(np.float32)  # (T, batch, d)
N = 5


def filled(make, *arguments):
    """What this makes, with numbers from NumPy in place of its draw, which would be compiled."""
    numbers = np.random.default_rng(0)

    def fill(a):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            return KEY
        return (numbers.normal(size=a.shape) / 2).astype(a.dtype)

    return jax.tree.map(fill, jax.eval_shape(make, *arguments))


def cell_parameters(cell):
    return filled(lambda key: cell.init(key, Prior(), 3, N), KEY)


@pytest.mark.parametrize("make", [nnx.LSTMCell, nnx.GRUCell, nnx.SimpleCell])
def test_an_nnx_cell_is_a_recur_cell(make):
    cell = from_nnx(make)
    assert cell == from_nnx(make)

    @jax.jit
    def everything(module, xs):
        return nnx.RNN(module, time_major=True)(xs), scan.run(cell, module, xs)[1]

    expected, hs = everything(cell_parameters(cell), XS)
    np.testing.assert_allclose(hs, expected, atol=1e-6)


def test_an_nnx_cell_goes_to_an_analysis():
    """Flax's SimpleCell is tanh(V x + W h + b): its first Jacobian, diag(1 - h^2) W', by NumPy."""
    cell = from_nnx(nnx.SimpleCell)
    module = cell_parameters(cell)

    @jax.jit
    def everything(module, xs):
        body, state = scan.tied(cell, module), cell.start(module)
        return analysis.log_singular_values(body, state, xs), body(state, xs[0])[1]

    logs, h = everything(module, XS[:1, 0])
    W = np.asarray(module.dense_h.kernel)
    expected = np.linalg.svd((1 - np.asarray(h) ** 2)[:, None] * W.T, compute_uv=False)
    np.testing.assert_allclose(np.exp(logs), expected, rtol=1e-4)  # float32


def test_from_nnx_takes_what_users_hold_and_says_which_part_it_wants():
    """A class, an instance, an RNN around one; of a model it names the cells in it."""
    cell = from_nnx(nnx.LSTMCell)
    module = filled(lambda: nnx.LSTMCell(3, N, rngs=nnx.Rngs(0)))
    rnn = filled(lambda: nnx.RNN(nnx.LSTMCell(3, N, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0)))
    for given in (module, rnn):
        assert from_nnx(given) == cell
        assert jax.eval_shape(lambda p: scan.run(cell, p, XS)[1], given).shape == (6, 2, N)
    bilstm = filled(
        lambda: nnx.Bidirectional(
            *(nnx.RNN(nnx.LSTMCell(3, N, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0)) for _ in range(2)),
            rngs=nnx.Rngs(0),
        )
    )
    ours = filled(lambda: NnxCell(cells.gru.cell, 3, N, rngs=nnx.Rngs(0)))
    for wrong, message in (
        (bilstm, r"a Bidirectional with cells in it: .* backward_rnn.cell or forward_rnn.cell"),
        (nnx.state(module), r"nnx.merge\(graphdef, state\) gives it; got a State"),
        (filled(lambda: nnx.Linear(2, 2, rngs=nnx.Rngs(0))), "got a Linear with no cell in it"),
        ({"kernel": XS}, "the parameters of an nnx cell must be the module itself; got a dict"),
    ):
        with pytest.raises(TypeError, match=message):
            jax.eval_shape(lambda p: scan.run(cell, p, XS)[1], wrong)
    for wrong, message in (
        (nnx.RNN, r"class of a cell, such as nnx.LSTMCell; got RNN"),
        (nnx.Linear, r"got Linear, which has no initialize_carry"),
        (ours, r"use module.cell, with module.values"),
        (nn.LSTMCell, "use from_linen"),
        (nn.LSTMCell(3), "use from_linen"),
        (None, "make must be a function; got None"),
    ):
        with pytest.raises(TypeError, match=message):
            from_nnx(wrong)


def test_from_linen_takes_what_users_hold_and_says_which_part_it_wants():
    """Variables, parameters, those of an RNN; of a model it names the part that fits."""
    cell = from_linen(nn.GRUCell(N))
    variables = cell_parameters(cell)
    params = variables["params"]
    assert from_linen(nn.RNN(nn.GRUCell(N), reverse=True)) == cell

    def shape(given):
        return jax.eval_shape(lambda p: scan.run(cell, p, XS)[1], given).shape

    around = {"cell": params}
    for given in (variables, params, {"params": around}, around):
        assert shape(given) == (6, 2, N)
    other = cell_parameters(from_linen(nn.SimpleCell(N)))["params"]
    one, two = {"enc": around, "out": other}, {"GRUCell_0": params, "GRUCell_1": params}
    for wrong, message in (
        ({"params": one}, r"GRUCell, hn, hr, .*got enc, out. Pass params\['enc'\]\['cell'\]"),
        (two, r"Pass params\['GRUCell_0'\] or params\['GRUCell_1'\]"),
        (other, r"iz; got h, i\."),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda p: cell.step(p, np.zeros(N, "f"), XS[0, 0]), wrong)
    for wrong, message in (
        (nn.GRUCell, r"module must be an instance of a cell, GRUCell\(features=n\); got the class"),
        (nnx.GRUCell, "use from_nnx"),
        (nn.Dense(3), r"linen cell, such as nn.LSTMCell\(n\), .*got Dense"),
    ):
        with pytest.raises(TypeError, match=message):
            from_linen(wrong)


@pytest.mark.parametrize("make", [nn.LSTMCell, nn.GRUCell])
def test_a_linen_cell_is_a_recur_cell(make):
    cell = from_linen(make(N))

    @jax.jit
    def both(params, xs):
        rnn = nn.RNN(make(N), time_major=True)
        expected = rnn.apply({"params": {"cell": params["params"]}}, xs)
        return scan.run(cell, params, xs)[1], expected

    np.testing.assert_allclose(*both(cell_parameters(cell), XS), atol=1e-6)
    with pytest.raises(ValueError, match=r"must be 5, the number of features .*; got n = 6"):
        cell.init(KEY, Prior(), 3, 6)


@pytest.mark.parametrize("name", ["lstm", "gru", "minimal", "cfn"])
def test_a_recur_cell_is_an_nnx_cell(name):
    cell = cells.named(name)

    @jax.jit
    def everything(module, xs):
        rnn = nnx.RNN(module, time_major=True, return_carry=True)
        ragged, _ = rnn(xs, seq_lengths=np.array([2, 6]))
        return scan.run(cell, module.values, xs), rnn(xs), hidden(ragged)

    module = filled(lambda: NnxCell(cell, 3, N, prior=Prior(1.5), rngs=nnx.Rngs(0)))
    (state, expected), (carry, hs), ragged = jax.tree.map(np.asarray, everything(module, XS))
    np.testing.assert_allclose(hs, expected, atol=1e-6)
    np.testing.assert_allclose(hidden(carry), hidden(state), atol=1e-6)
    np.testing.assert_allclose(ragged[0], expected[1, 0], atol=1e-6)


def test_a_recur_cell_is_a_linen_cell():
    cell = cells.lstm.cell
    rnn = nn.RNN(LinenCell(cell, N), time_major=True)

    @jax.jit
    def both(variables, xs):
        params = variables["params"]["cell"]["cell"]
        return rnn.apply(variables, xs), scan.run(cell, params, xs)[1]

    np.testing.assert_allclose(*both(filled(rnn.init, KEY, XS), XS), atol=1e-6)


def test_the_size_of_an_input_is_its_last_axis():
    """Whatever stands between: MinimalRNN without an embedding has d = n, and refuses others."""
    cell = LinenCell(cells.minimal.bare, 3)
    carry = jax.eval_shape(lambda: cell.initialize_carry(KEY, (2, 7, 3)))
    assert carry.shape == (2, 7, 3)


def test_a_linen_cell_in_both_directions():
    cell = cells.gru.cell
    both = nn.Bidirectional(*(nn.RNN(LinenCell(cell, N)) for _ in range(2)), time_major=True)

    @jax.jit
    def everything(variables, xs):
        f, b = (
            variables["params"][name]["cell"]["cell"] for name in ("forward_rnn", "backward_rnn")
        )
        forward, backward = scan.run(cell, f, xs)[1], scan.run(cell, b, xs, reverse=True)[1]
        return both.apply(variables, xs), jnp.concatenate([forward, backward], -1)

    np.testing.assert_allclose(*everything(filled(both.init, KEY, XS), XS), atol=1e-6)


def test_both_directions_in_nnx_bidirectional():
    cell = cells.gru.cell

    @jax.jit
    def everything(forward, backward, xs):
        both = nnx.Bidirectional(nnx.RNN(forward), nnx.RNN(backward))(xs.swapaxes(0, 1))
        ahead = scan.run(cell, forward.values, xs)[1]
        behind = scan.run(cell, backward.values, xs, reverse=True)[1]
        return both.swapaxes(0, 1), jnp.concatenate([ahead, behind], -1)

    pair = filled(lambda: [NnxCell(cell, 3, N, rngs=nnx.Rngs(seed)) for seed in (0, 1)])
    np.testing.assert_allclose(*everything(*pair, XS), atol=1e-6)


def test_a_classifier_is_a_pytree_that_vmap_and_grad_take_whole():
    def model(key):
        return Classifier(cells.minimal.cell, 3, N, 4, rngs=nnx.Rngs(key))

    @jax.jit
    def everything(models, xs):
        logits = jax.vmap(lambda model: model(xs))(models)
        one = jax.tree.map(lambda leaf: leaf[1], models)
        _, hs = scan.run(one.rnn.cell, one.rnn.values, xs)
        expected = hs[-1] @ one.readout.kernel[...] + one.readout.bias[...]
        gradient = jax.grad(lambda model: model(xs).sum())(one)
        return logits, expected, gradient.readout.bias[...]

    models = jax.jit(lambda key: jax.vmap(model)(jax.random.split(key, 2)))(KEY)
    logits, expected, gradient = map(np.asarray, everything(models, XS))
    assert logits.shape == (2, 2, 4)
    np.testing.assert_allclose(logits[1], expected, atol=1e-6)
    np.testing.assert_allclose(gradient, np.full(4, 2.0))  # one per sequence


def test_a_learned_start_needs_a_place_to_learn():
    cell = learned_start(cells.gru.cell)
    with pytest.raises(ValueError, match="use NnxCell, or pass initial_carry"):
        jax.eval_shape(nn.RNN(LinenCell(cell, N), time_major=True).init, KEY, XS)
