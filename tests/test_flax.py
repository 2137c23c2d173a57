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
XS = jax.random.normal(KEY, (6, 2, 3))  # (T, batch, d)
N = 5


@pytest.mark.parametrize("make", [nnx.LSTMCell, nnx.GRUCell, nnx.SimpleCell])
def test_an_nnx_cell_is_a_recur_cell(make):
    cell = from_nnx(make)
    assert cell == from_nnx(make)
    module = cell.init(KEY, Prior(), 3, N)
    expected = nnx.RNN(module, time_major=True)(XS)
    np.testing.assert_allclose(scan.run(cell, module, XS)[1], expected, atol=1e-6)
    body, state = scan.tied(cell, module), cell.start(module)
    assert np.isfinite(analysis.log_singular_values(body, state, XS[:, 0])).all()


@pytest.mark.parametrize("make", [nn.LSTMCell, nn.GRUCell])
def test_a_linen_cell_is_a_recur_cell(make):
    cell = from_linen(make(N))
    params = cell.init(KEY, Prior(), 3, N)
    rnn = nn.RNN(make(N), time_major=True)
    expected = rnn.apply({"params": {"cell": params["params"]}}, XS)
    np.testing.assert_allclose(scan.run(cell, params, XS)[1], expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"has 5 features, got n = 6"):
        cell.init(KEY, Prior(), 3, 6)


@pytest.mark.parametrize("name", ["lstm", "gru", "minimal", "cfn"])
def test_a_recur_cell_is_an_nnx_cell(name):
    cell = cells.named(name)
    module = NnxCell(cell, 3, N, prior=Prior(1.5), rngs=nnx.Rngs(0))
    state, expected = scan.run(cell, module.values, XS)
    rnn = nnx.RNN(module, time_major=True, return_carry=True)
    carry, hs = rnn(XS)
    np.testing.assert_allclose(hs, expected, atol=1e-6)
    np.testing.assert_allclose(hidden(carry), hidden(state), atol=1e-6)
    lengths = jnp.array([2, 6])
    ragged, _ = nnx.RNN(module, time_major=True, return_carry=True)(XS, seq_lengths=lengths)
    np.testing.assert_allclose(hidden(ragged)[0], expected[1, 0], atol=1e-6)


def test_a_recur_cell_is_a_linen_cell():
    cell = cells.lstm.cell
    rnn = nn.RNN(LinenCell(cell, N), time_major=True)
    variables = rnn.init(KEY, XS)
    params = variables["params"]["cell"]["cell"]
    _, expected = scan.run(cell, params, XS)
    np.testing.assert_allclose(rnn.apply(variables, XS), expected, atol=1e-6)


def test_a_linen_cell_in_both_directions():
    ahead, behind = (nn.RNN(LinenCell(cells.gru.cell, N)) for _ in range(2))
    both = nn.Bidirectional(ahead, behind, time_major=True)
    outputs, variables = both.init_with_output(KEY, XS)
    f, b = (variables["params"][name]["cell"]["cell"] for name in ("forward_rnn", "backward_rnn"))
    _, forward = scan.run(cells.gru.cell, f, XS)
    _, backward = scan.run(cells.gru.cell, b, XS, reverse=True)
    np.testing.assert_allclose(outputs, jnp.concatenate([forward, backward], -1), atol=1e-6)


def test_both_directions_in_nnx_bidirectional():
    forward, backward = (NnxCell(cells.gru.cell, 3, N, rngs=nnx.Rngs(seed)) for seed in (0, 1))
    both = nnx.Bidirectional(nnx.RNN(forward), nnx.RNN(backward))(XS.swapaxes(0, 1))
    _, ahead = scan.run(cells.gru.cell, forward.values, XS)
    _, behind = scan.run(cells.gru.cell, backward.values, XS, reverse=True)
    np.testing.assert_allclose(both.swapaxes(0, 1), jnp.concatenate([ahead, behind], -1), atol=1e-6)


def test_a_classifier_is_a_pytree_that_vmap_and_grad_take_whole():
    def model(key):
        return Classifier(cells.minimal.cell, 3, N, 4, rngs=nnx.Rngs(key))

    models = jax.vmap(model)(jax.random.split(KEY, 2))
    logits = jax.vmap(lambda model: model(XS))(models)
    assert logits.shape == (2, 2, 4)
    one = jax.tree.map(lambda leaf: leaf[1], models)
    _, hs = scan.run(one.rnn.cell, one.rnn.values, XS)
    expected = hs[-1] @ one.readout.kernel[...] + one.readout.bias[...]
    np.testing.assert_allclose(logits[1], expected, atol=1e-6)
    gradient = jax.grad(lambda model: model(XS).sum())(one)
    np.testing.assert_allclose(gradient.readout.bias[...], jnp.full(4, 2.0))  # one per sequence


def test_a_learned_start_needs_a_place_to_learn():
    cell = learned_start(cells.gru.cell)
    with pytest.raises(ValueError, match="take NnxCell, or pass initial_carry"):
        nn.RNN(LinenCell(cell, N), time_major=True).init(jax.random.key(0), XS)
