"""Weights from Flax and from PyTorch give the numbers they gave there."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx

from recur import Prior, cells, scan, weights
from recur.compose import Bidirectional, Stacked
from recur.flax import weights as flax_weights
from recur.flax.cells import from_linen, from_nnx
from recur.flax.models import Classifier, Embedded, EncoderDecoder, Tagger

KEY = jax.random.key(5)
T, B, D, N = 6, 2, 3, 4
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(T, B, D)).astype(np.float32)

FLAX = {
    "lstm": (
        weights.flax_lstm,
        cells.lstm.cell,
        [nn.LSTMCell, nn.OptimizedLSTMCell],
        [nnx.LSTMCell, nnx.OptimizedLSTMCell],
    ),
    "gru": (weights.flax_gru, cells.gru.cudnn, [nn.GRUCell], [nnx.GRUCell]),
    "simple": (weights.flax_simple, cells.vanilla.cell, [nn.SimpleCell], [nnx.SimpleCell]),
}


def filled(cell):
    """Its weights with numbers from NumPy: Flax's biases start at zero, and a draw is compiled."""

    def fill(a):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            return KEY
        return (RNG.normal(size=a.shape) / 2).astype(a.dtype)

    return jax.tree.map(fill, jax.eval_shape(lambda key: cell.init(key, Prior(), D, N), KEY))


@pytest.mark.parametrize("kind", FLAX)
def test_flax_weights_give_equal_outputs(kind):
    convert, cell, linen, modules = FLAX[kind]
    references = [*(from_linen(make(N)) for make in linen), *map(from_nnx, modules)]

    @jax.jit
    def everything(drawn, xs):
        expected, found = [], []
        for reference, given in zip(references, drawn, strict=True):
            hs = scan.run(reference, given, xs)[1]
            for form in [given] if isinstance(given, nnx.Module) else [given, given["params"]]:
                expected.append(hs)
                found.append(scan.run(cell, convert(form), xs)[1])
        return found, expected

    found, expected = everything([filled(reference) for reference in references], XS)
    assert len(found) == 2 * len(linen) + len(modules)
    np.testing.assert_allclose(found, expected, atol=1e-6)  # float32


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def torch_step(kind, w, state, x):
    """The formulas of PyTorch's documentation, one example, (h, c) -> (h, c)."""
    h, c = state
    a = w["weight_ih"] @ x + w.get("bias_ih", 0.0)
    b = w["weight_hh"] @ h + w.get("bias_hh", 0.0)
    if kind == "rnn":
        return np.tanh(a + b), c
    if kind == "lstm":
        i, f, g, o = np.split(a + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (ir, iz, in_), (hr, hz, hn) = np.split(a, 3), np.split(b, 3)
    r, z = sigmoid(ir + hr), sigmoid(iz + hz)
    return (1 - z) * np.tanh(in_ + r * hn) + z * h, c


def torch_pass(kind, w, xs):
    """One direction of one layer over xs (T, B, d)."""
    out = np.zeros((*xs.shape[:2], w["weight_hh"].shape[1]))
    for i in range(xs.shape[1]):
        state = (np.zeros(out.shape[-1]), np.zeros(out.shape[-1]))
        for t in range(len(xs)):
            state = torch_step(kind, w, state, xs[t, i])
            out[t, i] = state[0]
    return out


def torch_state(gates, d, suffix="_l0", bias=True):
    shapes = {"weight_ih": (gates * N, d), "weight_hh": (gates * N, N)}
    shapes |= {"bias_ih": (gates * N,), "bias_hh": (gates * N,)} if bias else {}
    return {
        name + suffix: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
    }


TORCH = {
    "rnn": (weights.torch_rnn, cells.vanilla.cell, 1),
    "lstm": (weights.torch_lstm, cells.lstm.cell, 4),
    "gru": (weights.torch_gru, cells.gru.cudnn, 3),
}


@pytest.mark.parametrize("kind", TORCH)
@pytest.mark.parametrize(("suffix", "bias"), [("_l0", True), ("", False)])
def test_torch_weights_give_equal_outputs(kind, suffix, bias):
    convert, cell, gates = TORCH[kind]
    state = torch_state(gates, D, suffix, bias)
    plain = {name.removesuffix(suffix): a for name, a in state.items()}
    expected = torch_pass(kind, plain, XS)
    hs = jax.jit(lambda xs: scan.run(cell, convert(state), xs)[1])(XS)
    np.testing.assert_allclose(hs, expected, atol=1e-5)


@pytest.mark.parametrize("kind", TORCH)
def test_torch_layers_in_both_directions(kind):
    convert, cell, gates = TORCH[kind]
    state, xs = {}, XS
    for layer, d in enumerate((D, 2 * N)):
        ways = []
        for way, turn in (("", slice(None)), ("_reverse", slice(None, None, -1))):
            part = torch_state(gates, d, "")
            state |= {f"{name}_l{layer}{way}": a for name, a in part.items()}
            ways.append(torch_pass(kind, part, xs[turn])[turn])
        xs = np.concatenate(ways, axis=-1)
    network = Stacked(Bidirectional(cell), Bidirectional(cell))
    hs = jax.jit(lambda xs: scan.run(network, weights.torch_layers(convert, state), xs)[1])(XS)
    np.testing.assert_allclose(hs, xs, atol=1e-5)
    one = jax.eval_shape(lambda: weights.torch_layers(convert, torch_state(gates, D)))
    assert len(one) == 1


def test_torch_weights_go_into_a_model():
    """A Classifier of two layers in both directions, its read-out too; what is given stays."""
    state, xs = {}, XS
    for layer, d in enumerate((D, 2 * N)):
        ways = []
        for way, turn in (("", slice(None)), ("_reverse", slice(None, None, -1))):
            part = torch_state(4, d, "")
            state |= {f"rnn.{name}_l{layer}{way}": a for name, a in part.items()}
            ways.append(torch_pass("lstm", part, xs[turn])[turn])
        xs = np.concatenate(ways, axis=-1)
    state |= {"fc.weight": RNG.normal(size=(2, 2 * N)), "fc.bias": RNG.normal(size=2)}
    both_ways = Bidirectional(cells.lstm.cell)
    network = Stacked(both_ways, both_ways)

    @jax.jit
    def everything(xs):
        drawn = Classifier(network, D, N, 2, rngs=nnx.Rngs(0))
        before = jax.tree.leaves(drawn)
        part = {name.removeprefix("rnn."): a for name, a in state.items() if "rnn." in name}
        model = flax_weights.with_params(drawn, weights.torch_layers(weights.torch_lstm, part))
        model.readout.kernel[...] = state["fc.weight"].T.astype(np.float32)
        model.readout.bias[...] = state["fc.bias"].astype(np.float32)
        assert all(a is b for a, b in zip(before, jax.tree.leaves(drawn), strict=True))
        return model(xs)

    expected = xs[-1] @ state["fc.weight"].T + state["fc.bias"]
    np.testing.assert_allclose(everything(XS), expected, atol=1e-5)


def test_with_params_fills_the_one_recurrence_and_refuses_what_does_not_fit():
    lstm, gru = cells.lstm.cell, cells.gru.cell

    def zeros(make):
        model = jax.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
        return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), model)

    tagger = zeros(lambda rngs: Embedded(Tagger(lstm, D, N, 2, rngs=rngs), 7, D, rngs=rngs))
    params, other = filled(lstm), filled(gru)
    model = flax_weights.with_params(tagger, params)
    assert isinstance(model, Embedded)
    assert isinstance(model.model, Tagger)
    np.testing.assert_array_equal(model.model.rnn.values.W, params.W)
    rnn = flax_weights.with_params(tagger.model.rnn, params)
    np.testing.assert_array_equal(rnn.values.V, params.V)

    def refused(message, model, params):
        with pytest.raises(ValueError, match=message):
            flax_weights.with_params(model, params)

    refused(r"gru.Params, which another cell takes; this one takes lstm.Params", tagger, other)
    refused(r"W=\(4, 16\).* got Params\(W=\(5, 16\)", tagger, params._replace(W=np.ones((5, 16))))
    refused(r"this Linear has 0$", zeros(lambda rngs: nnx.Linear(2, 2, rngs=rngs)), params)
    two = zeros(lambda rngs: EncoderDecoder(lstm, lstm, (3, 3), D, N, rngs=rngs))
    refused(r"has 2 \(decoder.rnn, encoder\): pass one of these", two, params)


def test_weights_of_a_cell_with_another_activation():
    """Refused by the cell that has another one, and right for the one that has theirs."""

    def module(make, **functions):
        return filled(from_nnx(lambda d, n, rngs: make(d, n, rngs=rngs, **functions)))

    def refused(convert, make, message, **functions):
        with pytest.raises(ValueError, match=message):
            convert(module(make, **functions))

    relu = {"activation_fn": nnx.relu}
    refused(weights.flax_simple, nnx.SimpleCell, "SimpleCell has .*relu.* vanilla.elman", **relu)
    refused(weights.flax_lstm, nnx.LSTMCell, "activation_fn = relu.* lstm.long_short", **relu)
    refused(weights.flax_lstm, nnx.OptimizedLSTMCell, "gate_fn = relu", gate_fn=nnx.relu)
    refused(weights.flax_gru, nnx.GRUCell, "GRUCell has activation_fn = relu.* tanh$", **relu)
    weights.flax_gru(module(nnx.GRUCell, activation_fn=lambda a: jax.numpy.tanh(a)))

    simple, lstm = module(nnx.SimpleCell, **relu), module(nnx.LSTMCell, **relu)
    phi = nnx.relu

    pairs = (
        (simple, weights.flax_simple(simple, phi), cells.vanilla.elman(phi)),
        (lstm, weights.flax_lstm(lstm, phi), cells.lstm.long_short(phi)),
    )

    @jax.jit
    def both(xs):
        return [
            (scan.run(cell, params, xs)[1], scan.run(from_nnx(type(given)), given, xs)[1])
            for given, params, cell in pairs
        ]

    for ours, expected in both(XS):
        np.testing.assert_allclose(ours, expected, atol=1e-6)  # float32


def test_weights_that_do_not_fit_say_so():
    good = torch_state(4, D)
    with pytest.raises(ValueError, match=r"missing: bias_hh; unknown: none\. For a larger model"):
        weights.torch_lstm({name: a for name, a in good.items() if name != "bias_hh_l0"})
    with pytest.raises(ValueError, match=r"weight_hr, a projection .*torch_projected_lstm"):
        weights.torch_lstm(good | {"weight_hr_l0": np.zeros((2, N))})
    with pytest.raises(ValueError, match=r"this function reads one layer; got \['_l0', '_l1'\]"):
        weights.torch_lstm(good | torch_state(4, N, "_l1"))
    with pytest.raises(
        ValueError, match=r"must have weight_ih of shape \(3n, d\).* an LSTM of 4 units"
    ):
        weights.torch_gru(good)
    with pytest.raises(ValueError, match=r"weight_hh must be a matrix; got shape \(4,\)"):
        weights.torch_lstm(good | {"weight_hh_l0": np.zeros(4)})
    with pytest.raises(ValueError, match=r"end in _l0, _l1.*got .*'fc\.weight'"):
        weights.torch_layers(weights.torch_lstm, {"fc.weight": np.zeros(3), **good})
    with pytest.raises(ValueError, match=r"end in _l0, _l1"):
        weights.torch_layers(weights.torch_lstm, torch_state(4, D, "_l1"))

    gru = filled(from_linen(nn.GRUCell(N)))["params"]
    with pytest.raises(ValueError, match=r"an LSTM must have the weights .*unknown: .*hr/kernel"):
        weights.flax_lstm(gru)
    with pytest.raises(ValueError, match=r"missing: hn/bias; unknown: none"):
        weights.flax_gru(gru | {"hn": {"kernel": gru["hn"]["kernel"]}})
    with pytest.raises(ValueError, match=r"must have ir/bias of shape \(4,\).* got \(5,\)"):
        weights.flax_gru(gru | {"ir": gru["ir"] | {"bias": np.zeros(5)}})
    with pytest.raises(ValueError, match=r"adds its old state"):
        jax.eval_shape(
            lambda: weights.flax_simple(nnx.SimpleCell(D, N, residual=True, rngs=nnx.Rngs(0)))
        )


def columns(gates, *bias):
    """V, W and b, the gates in columns."""
    return [np.zeros((D, gates * N)), np.zeros((N, gates * N)), np.zeros((*bias, gates * N))]


def rows(gates, suffix=""):
    """V and W of PyTorch and Equinox, the gates in rows."""
    V, W, _ = columns(gates)
    return {f"weight_ih{suffix}": V.T, f"weight_hh{suffix}": W.T}


HAIKU_LSTM = {"w": np.zeros((D + N, 4 * N)), "b": np.zeros(4 * N)}
DENSE = dict(zip(("dense_i/kernel", "dense_h/kernel", "dense_i/bias"), columns(3), strict=True))
WRONG = {  # what the error says of weights that another reader takes
    "transposed": (
        weights.keras_lstm,
        list(rows(4).values()),
        "LSTM of 4 units with a row .* as Py",
    ),
    "turned": (
        weights.torch_gru,
        dict(zip(rows(3), columns(3), strict=False)),
        "a column .* Keras",
    ),
    "another kind": (weights.equinox_lstm, rows(3), r"\(4n, d\).* shapes of a GRU of 4 units"),
    "neither": (
        weights.keras_gru,
        [np.zeros((2, 9)), np.zeros((4, 8))],
        r"got \(2, 9\) and \(4, 8\)",
    ),
    "one bias": (weights.keras_gru, columns(3), r"\(2, 12\); got \(12,\).*keras_gru_reset_before"),
    "two biases": (
        weights.keras_gru_reset_before,
        columns(3, 2),
        r"got \(2, 12\).*use keras_gru\.",
    ),
    "both ways": (weights.keras_lstm, columns(4) * 2, r"weights\[:3\] and weights\[3:\]"),
    "an h5 file": (weights.keras_lstm, {"0": 1.0, "3": 2.0}, "unknown: 0, 3"),
    "a part": (
        weights.keras_simple,
        {
            "rnn": dict(zip(("kernel", "recurrent_kernel"), columns(1), strict=False)),
            "out": {"kernel": 0.0},
        },
        "at rnn: pass that part",
    ),
    "two parts": (weights.flax_gru, {"a": DENSE, "b": DENSE, "c": 0.0}, "at a and b: .* one of"),
    "Flax to Haiku": (weights.haiku_gru, DENSE, "names of Flax: see flax_"),
    "Haiku to Flax": (weights.flax_gru, {"w_i": 0.0, "w_h": 0.0, "b": 0.0}, "names of Haiku"),
    "Keras to PyTorch": (weights.torch_lstm, {"recurrent_kernel": 0.0, "kernel": 0.0}, "of Keras"),
    "PyTorch to Equinox": (weights.equinox_gru, rows(3) | {"bias_hh": 0.0}, "names of PyTorch:"),
    "Equinox to PyTorch": (weights.torch_gru, rows(3) | {"bias_n": 0.0}, "names of Equinox"),
    "turned w": (
        weights.haiku_lstm,
        HAIKU_LSTM | {"w": HAIKU_LSTM["w"].T},
        r"\(d \+ n, 4n\).*: transpose",
    ),
    "a projection": (weights.torch_projected_lstm, rows(4), "missing: weight_hr"),
    "its size": (
        weights.torch_projected_lstm,
        rows(4) | {"weight_hr": np.zeros((2, N))},
        r"weight_hh of shape \(16, 2\); got \(16, 4\)",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_layout_is_found_by_its_shapes_and_named(fault):
    read, given, message = WRONG[fault]
    with pytest.raises(ValueError, match=message):
        read(given)


def test_what_stands_around_the_arrays_of_one_cell_may_come_with_them():
    """An RNN around a cell, its state, a nested dict, the names of Keras and those of its files."""
    arrays = {
        "gru_cell": dict(zip(("kernel", "recurrent_kernel", "bias"), columns(3, 2), strict=True))
    }
    V, W, b = columns(3, 2)

    @jax.jit
    def everything():
        module = nnx.GRUCell(D, N, rngs=nnx.Rngs(0))
        simple = nnx.RNN(nnx.SimpleCell(D, N, activation_fn=nnx.relu, rngs=nnx.Rngs(0)))
        with pytest.raises(ValueError, match="this SimpleCell has activation_fn"):
            weights.flax_simple(simple)
        state = nnx.state(module, nnx.Param)
        return (
            [weights.flax_gru(form) for form in (module, nnx.RNN(module), state, {"cell": state})],
            [weights.keras_gru(form) for form in ([V, W, b], arrays, {"0": V, "1": W, "2": b})],
        )

    for forms in everything():
        for form in forms[1:]:
            jax.tree.map(np.testing.assert_array_equal, form, forms[0])
