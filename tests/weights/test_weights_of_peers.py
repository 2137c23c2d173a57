"""Weights of Keras, Haiku, Equinox and PyTorch give the numbers that these libraries computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import weights_of_peers as peers

from recur import cells, scan, weights
from recur.compose import Bidirectional, BothWays, Stacked

GRU, LSTM, VANILLA = cells.gru, cells.lstm, cells.vanilla


def keras_both(w):
    return BothWays(weights.keras_lstm(w[:3]), weights.keras_lstm(w[3:]))


def layers(one):
    return lambda state: weights.torch_layers(one, state)


def both_ways(cell):
    return Stacked(Bidirectional(cell), Bidirectional(cell))


READERS = {  # reader, cell
    "keras_simple": (weights.keras_simple, VANILLA.cell),
    "keras_lstm": (weights.keras_lstm, LSTM.cell),
    "keras_gru": (weights.keras_gru, GRU.cudnn),
    "keras_gru_reset_before": (weights.keras_gru_reset_before, GRU.reset_before),
    "keras_lstm both_ways": (keras_both, Bidirectional(LSTM.cell)),
    "haiku_vanilla": (weights.haiku_vanilla, VANILLA.relu),
    "haiku_lstm": (weights.haiku_lstm, LSTM.cell),
    "haiku_gru": (weights.haiku_gru, GRU.reset_before),
    "equinox_lstm": (weights.equinox_lstm, LSTM.cell),
    "equinox_gru": (weights.equinox_gru, GRU.cudnn),
    "torch_rnn": (weights.torch_rnn, VANILLA.cell),
    "torch_gru": (weights.torch_gru, GRU.cudnn),
    "torch_projected_lstm": (weights.torch_projected_lstm, LSTM.projected),
    "torch_projected_lstm layers": (
        layers(weights.torch_projected_lstm),
        both_ways(LSTM.projected),
    ),
    "torch_lstm layers": (layers(weights.torch_lstm), both_ways(LSTM.cell)),
}
VARIANTS = {" no_bias": 5, " one_bias": 1}  # of the readers above, so many


def stored():
    """{case: {path: array}} of the file, in double precision; a list of Keras as a list."""
    cases = {}
    with np.load(peers.FILE) as arrays:
        for key, a in arrays.items():
            name, _, path = key.partition(":")
            cases.setdefault(name, {})[path] = np.asarray(a, np.float64)
    for name, case in cases.items():
        parts = {
            path.removeprefix("weights/"): case.pop(path)
            for path in sorted(case)
            if path.startswith("weights/")
        }
        case["weights"] = list(parts.values()) if name.startswith("keras") else parts
    return cases


def reader(name):
    """The reader and the cell of a case."""
    for variant in VARIANTS:
        name = name.removesuffix(variant)
    return READERS[name]


@jax.jit
def outputs(cases):
    """Of all cases (weights, xs): networks of one cell side by side, in one scan."""
    together, found = {}, {}
    for name, (given, xs) in cases.items():
        convert, cell = reader(name)
        together.setdefault(cell, []).append((name, convert(given), xs))
    for cell, networks in together.items():
        names, *both = zip(*networks, strict=True)
        params, xs = (jax.tree.map(lambda *a: jnp.stack(a), *each) for each in both)
        hs = jax.vmap(lambda params, xs, cell=cell: scan.run(cell, params, xs)[1])(params, xs)
        found |= dict(zip(names, hs, strict=True))
    return found


def tolerance(name):
    """Keras computes in float32, the others in float64; five steps of some ten additions each."""
    return 1e-6 if name.startswith("keras") else 1e-13


def test_weights_of_other_libraries_give_their_outputs(x64):
    cases = stored()
    found = outputs({name: (case["weights"], case["xs"]) for name, case in cases.items()})
    assert len(found) == len(READERS) + sum(VARIANTS.values())
    for name, hs in found.items():
        np.testing.assert_allclose(
            hs, cases[name]["hs"], rtol=0, atol=tolerance(name), err_msg=name
        )


@pytest.mark.slow
def test_the_jacobian_of_a_stack_in_both_directions_is_that_of_autograd_there(x64):
    """dh_t/dx_s of two layers both ways, by PyTorch's autograd: dense in s and in t."""
    case = stored()["torch_lstm layers"]
    convert, network = READERS["torch_lstm layers"]

    @jax.jit
    def jacobian(state, xs):
        return jax.jacrev(lambda xs: scan.run(network, convert(state), xs)[1])(xs)

    found = jacobian(case["weights"], case["xs"][:, 0])
    assert np.abs(found).min(axis=(1, 3)).all()
    np.testing.assert_allclose(found, case["jacobian"], rtol=0, atol=1e-13)  # of order 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries themselves
@pytest.mark.parametrize("library", ["keras", "haiku", "equinox", "torch"])
def test_weights_of_a_library_that_is_installed(library):
    """Its own objects, made anew: what the file has is not what it was told to have."""
    pytest.importorskip(library)
    cases = peers.cases(getattr(peers, library))
    converted = {name: (reader(name), given, xs) for name, given, xs, _ in cases}
    with jax.enable_x64(True):
        found = jax.jit(
            lambda: {
                name: scan.run(cell, convert(given), xs)[1]
                for name, ((convert, cell), given, xs) in converted.items()
            }
        )()
    for name, _, _, hs in cases:
        np.testing.assert_allclose(found[name], hs, rtol=0, atol=tolerance(name), err_msg=name)
