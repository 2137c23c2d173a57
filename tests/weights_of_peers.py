"""Small networks of other libraries: their weights, inputs and outputs, in double precision.

    python tests/weights_of_peers.py        writes tests/data/weights_of_peers.npz

The file is what the tests read, so they need none of these libraries; where one is installed, a
test makes its networks anew. Each case is (name, weights as that library gives them, xs (T, B, d),
hs (T, B, outputs)).
"""

import os
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "jax")
FILE = Path(__file__).parent / "data" / "weights_of_peers.npz"
T, B, D, N, P = 5, 2, 3, 4, 2


def normal(rng, shape):
    """Numbers of float32 in double precision: half the room in the file."""
    return (rng.normal(size=shape) / 2).astype(np.float32).astype(np.float64)


def keras():
    """All layers, two without bias and one in both directions; Keras computes in float32.

    Keras has the batch first.
    """
    from keras import layers

    rng = np.random.default_rng(1)
    made = {
        "keras_simple": layers.SimpleRNN(N, return_sequences=True),
        "keras_lstm": layers.LSTM(N, return_sequences=True),
        "keras_lstm no_bias": layers.LSTM(N, return_sequences=True, use_bias=False),
        "keras_gru": layers.GRU(N, return_sequences=True),
        "keras_gru no_bias": layers.GRU(N, return_sequences=True, use_bias=False),
        "keras_gru_reset_before": layers.GRU(N, return_sequences=True, reset_after=False),
        "keras_lstm both_ways": layers.Bidirectional(layers.LSTM(N, return_sequences=True)),
    }
    for name, layer in made.items():
        xs = normal(rng, (T, B, D))
        layer.build((B, T, D))
        layer.set_weights([normal(rng, w.shape) for w in layer.get_weights()])
        hs = np.asarray(layer(np.float32(xs.swapaxes(0, 1)))).swapaxes(0, 1)
        yield name, layer.get_weights(), xs, hs


def haiku():
    """VanillaRNN with two biases and with one, LSTM, GRU."""
    import haiku as hk
    import jax

    rng = np.random.default_rng(2)
    made = {
        "haiku_vanilla": lambda: hk.VanillaRNN(N),
        "haiku_vanilla one_bias": lambda: hk.VanillaRNN(N, double_bias=False),
        "haiku_lstm": lambda: hk.LSTM(N),
        "haiku_gru": lambda: hk.GRU(N),
    }
    for name, make in made.items():

        def run(xs, make=make):
            core = make()
            return hk.dynamic_unroll(core, xs, core.initial_state(B))[0]

        network, xs = hk.without_apply_rng(hk.transform(run)), normal(rng, (T, B, D))
        shapes = jax.eval_shape(network.init, jax.random.key(0), xs)
        params = jax.tree.map(lambda a: normal(rng, a.shape), shapes)
        yield name, params, xs, np.asarray(network.apply(params, xs))


def equinox():
    """Both cells, with and without bias."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(3)
    for kind in ("lstm", "gru"):
        for bias in (True, False):
            make = eqx.nn.LSTMCell if kind == "lstm" else eqx.nn.GRUCell
            cell = make(D, N, use_bias=bias, key=jax.random.PRNGKey(0))
            cell = jax.tree.map(lambda a: jnp.asarray(normal(rng, a.shape)), cell)
            xs = normal(rng, (T, B, D))

            def run(xs, cell=cell, kind=kind):
                zeros = jnp.zeros(N)

                def step(state, x):
                    state = cell(x, state)
                    return state, state[0] if kind == "lstm" else state

                return jax.lax.scan(step, (zeros, zeros) if kind == "lstm" else zeros, xs)[1]

            hs = np.asarray(jax.vmap(run, 1, 1)(xs))
            yield f"equinox_{kind}{'' if bias else ' no_bias'}", cell, xs, hs


def torch():
    """One layer each, an LSTM with proj_size, and two layers in both directions."""
    import torch

    rng = np.random.default_rng(4)
    made = {
        "torch_rnn": torch.nn.RNN(D, N),
        "torch_gru": torch.nn.GRU(D, N),
        "torch_projected_lstm": torch.nn.LSTM(D, N, proj_size=P),
        "torch_projected_lstm no_bias": torch.nn.LSTM(D, N, proj_size=P, bias=False),
        "torch_projected_lstm layers": torch.nn.LSTM(D, N, 2, proj_size=P, bidirectional=True),
        "torch_lstm layers": torch.nn.LSTM(D, N, 2, bidirectional=True),
    }
    for name, network in made.items():
        state = {
            name: torch.tensor(normal(rng, a.shape)) for name, a in network.state_dict().items()
        }
        network = network.double()
        network.load_state_dict(state)
        xs = normal(rng, (T, B, D))
        with torch.no_grad():
            hs = network(torch.tensor(xs))[0].numpy()
        yield name, {name: a.numpy() for name, a in state.items()}, xs, hs


def torch_jacobian(state, xs):
    """dh_t/dx_s (T, 2N, T, D) of one sequence xs (T, D), by torch's autograd."""
    import torch

    network = torch.nn.LSTM(D, N, 2, bidirectional=True).double()
    network.load_state_dict({name: torch.tensor(a) for name, a in state.items()})
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x)[0], torch.tensor(xs))
    return jacobian.numpy()


def cases(library):
    """All cases of a library, in double precision but for Keras, which cannot."""
    import jax

    with jax.enable_x64(library is not keras):
        return list(library())


def flat(weights):
    """Arrays by name; of a list by number, of an object by attribute."""
    if isinstance(weights, list):
        return {str(i): a for i, a in enumerate(weights)}
    if not hasattr(weights, "items"):
        names = ("weight_ih", "weight_hh", "bias", "bias_n")
        return {name: a for name in names if (a := getattr(weights, name, None)) is not None}
    out = {}
    for name, part in weights.items():
        nested = (
            {f"{name}/{below}": a for below, a in part.items()} if hasattr(part, "items") else 0
        )
        out |= nested or {name: part}
    return out


def main():
    """Write the file."""
    arrays = {}
    for library in (keras, haiku, equinox, torch):
        for name, weights, xs, hs in cases(library):
            parts = {f"weights/{path}": a for path, a in flat(weights).items()}
            arrays |= {f"{name}:{path}": a for path, a in {**parts, "xs": xs, "hs": hs}.items()}
            if name == "torch_lstm layers":
                arrays[f"{name}:jacobian"] = torch_jacobian(weights, xs[:, 0])
    single = ("weights/", "xs")  # are numbers of float32
    stored = {
        name: np.asarray(a, np.float32 if name.split(":")[1].startswith(single) else np.float64)
        for name, a in arrays.items()
    }
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **stored)
    print(f"{len(stored)} arrays, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
