"""Trains the networks of these pages, each in its own library, and keeps their weights.

    python docs/stories/networks.py [equinox keras haiku torch voices]

writes NAME.npz beside this file: weights as the library names them, inputs xs (T, ..., d) and what
it computed of them, hs. Needs that library; the pages and their tests do not.
"""

import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "jax")
HERE = Path(__file__).parent


def memory_bits(rng, T, B, bits=2):
    """Rare pulses +-1 (T, B, bits), and the sign of the last pulse of each bit."""
    xs = rng.choice([-1.0, 0, 1], p=[0.05, 0.9, 0.05], size=(T, B, bits)).astype("f")
    xs[0] = rng.choice([-1.0, 1], size=(B, bits))
    last = np.maximum.accumulate(np.where(xs != 0, np.arange(T)[:, None, None], 0), axis=0)
    return xs, np.take_along_axis(xs, last, axis=0)


def equinox():
    """Two bits of memory in a GRUCell of 16 units."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    rng = np.random.default_rng(0)
    cell = eqx.nn.GRUCell(2, 16, key=jax.random.PRNGKey(0))
    readout = eqx.nn.Linear(16, 2, key=jax.random.PRNGKey(1))

    def run(cell, xs):
        def step(h, x):
            h = cell(x, h)
            return h, h

        return jax.lax.scan(step, jnp.zeros(16), xs)[1]

    def loss(model, xs, ys):
        cell, readout = model
        hs = jax.vmap(lambda xs: run(cell, xs), 1, 1)(xs)
        return jnp.mean((jax.vmap(jax.vmap(readout))(hs) - ys) ** 2)

    optimizer = optax.adam(3e-3)
    model = (cell, readout)
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def update(model, state, xs, ys):
        value, gradient = eqx.filter_value_and_grad(loss)(model, xs, ys)
        step, state = optimizer.update(gradient, state)
        return eqx.apply_updates(model, step), state, value

    for i in range(2000):
        model, state, value = update(model, state, *memory_bits(rng, 50, 64))
        if i % 500 == 499:
            print("equinox", i + 1, float(value))
    cell, readout = model
    xs, _ = memory_bits(rng, 100, 4)
    hs = jax.vmap(lambda xs: run(cell, xs), 1, 1)(xs)
    fields = ("weight_ih", "weight_hh", "bias", "bias_n")
    return {
        **{name: getattr(cell, name) for name in fields},
        "readout.weight": readout.weight,
        "readout.bias": readout.bias,
        "xs": xs,
        "hs": hs,
    }


def cued(rng, T, B):
    """(number, cue) (B, T, 2): a random walk through -1 .. 1, and the number where the cue was."""
    xs = rng.uniform(-1, 1, size=(B, T, 2)).astype("f")
    when = rng.integers(0, T // 2, size=B)
    xs[..., 1] = np.arange(T) == when[:, None]
    return xs, xs[np.arange(B), when, 0]


def keras():
    """A GRU of 16 units that keeps the number it saw beside a cue, 20 to 40 steps ago."""
    import keras

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(1)
    layer = keras.layers.GRU(16, return_sequences=True, name="gru")
    network = keras.Sequential([keras.Input((None, 2)), layer, keras.layers.Dense(1)])
    network.compile(keras.optimizers.Adam(5e-3), "mse")
    for i in range(10):
        xs, ys = cued(rng, 40, 8192)
        wanted = np.repeat(ys[:, None, None], 40, axis=1)
        weight = np.broadcast_to(np.arange(40) >= 20, (8192, 40)).astype("f")
        got = network.fit(xs, wanted, sample_weight=weight, batch_size=64, verbose=0)
        print("keras", i, got.history["loss"])
    xs, _ = cued(rng, 40, 8)
    kernel, recurrent, bias = layer.get_weights()
    return {
        "kernel": kernel,
        "recurrent_kernel": recurrent,
        "bias": bias,
        "xs": xs.swapaxes(0, 1),
        "hs": np.asarray(layer(xs)).swapaxes(0, 1),
    }


def waves(rng, T, B):
    """Two sines of random frequency and phase, (T, B, 1)."""
    period, phase = rng.uniform(5, 30, size=(2, B)), rng.uniform(0, 2 * np.pi, size=(2, B))
    t = np.arange(T)[:, None, None]
    return np.sin(2 * np.pi * t / period + phase).mean(axis=1)[..., None].astype("f")


def haiku():
    """An LSTM of 16 units that says the next value of a sum of two sines."""
    import haiku as hk
    import jax
    import jax.numpy as jnp
    import optax

    rng = np.random.default_rng(2)

    def forward(xs):
        core = hk.LSTM(16)
        hs, _ = hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))
        return hs, hk.BatchApply(hk.Linear(1))(hs)

    network = hk.without_apply_rng(hk.transform(forward))
    params = network.init(jax.random.PRNGKey(0), waves(rng, 2, 1))
    optimizer = optax.adam(3e-3)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, xs):
        def loss(params):
            return jnp.mean((network.apply(params, xs[:-1])[1] - xs[1:])[20:] ** 2)

        value, gradient = jax.value_and_grad(loss)(params)
        step, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, step), state, value

    for i in range(2000):
        params, state, value = update(params, state, waves(rng, 80, 32))
        if i % 500 == 499:
            print("haiku", i + 1, float(value))
    xs = waves(rng, 1000, 1)
    flat = {f"{part}/{name}": a for part, own in params.items() for name, a in own.items()}
    return {**flat, "xs": xs[:, 0], "hs": network.apply(params, xs)[0][:100, 0]}


def brackets(rng, T, B):
    """(noise, mark) (T, B, 2) with two marks each, and whether a step is between them."""
    xs = rng.normal(size=(T, B, 2)).astype("f") / 2
    ends = np.sort(np.stack([rng.permutation(T)[:2] for _ in range(B)]), axis=1)
    t = np.arange(T)[:, None]
    xs[..., 1] = (t == ends[:, 0]) | (t == ends[:, 1])
    return xs, ((t >= ends[:, 0]) & (t <= ends[:, 1])).astype("f")


def torch():
    """Two layers of an LSTM in both directions, 6 units each: is a step between the two marks?"""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(3)
    rnn = torch.nn.LSTM(2, 6, num_layers=2, bidirectional=True)
    fc = torch.nn.Linear(12, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *fc.parameters()], 1e-2)
    loss = torch.nn.BCEWithLogitsLoss()
    for i in range(300):
        xs, ys = map(torch.tensor, brackets(rng, 24, 64))
        optimizer.zero_grad()
        value = loss(fc(rnn(xs)[0])[..., 0], ys)
        value.backward()
        optimizer.step()
        if i % 100 == 99:
            print("torch", i + 1, float(value))
    xs, ys = brackets(rng, 24, 1)

    def logits(xs):
        return fc(rnn(xs[:, None])[0])[:, 0, 0]

    one = torch.tensor(xs[:, 0])
    state = {f"rnn.{name}": a.detach() for name, a in rnn.named_parameters()}
    return {
        **state,
        "fc.weight": fc.weight.detach(),
        "fc.bias": fc.bias.detach(),
        "xs": one,
        "between": ys[:, 0],
        "logits": logits(one).detach(),
        "jacobian": torch.autograd.functional.jacobian(logits, one),
    }


def voices():
    """What torch says of each 32 ms of the sound of the page, by the steps of Silero's own program.

    Those of silero_vad/tinygrad_model.py, which the weights in safetensors belong to; the .jit and
    .onnx files beside it are of another training.
    """
    import re

    import torch

    from experiments import data

    page = re.findall(r"```python\n(.*?)```", (HERE / "voices.md").read_text(), re.DOTALL)
    names = {"np": np, "data": data}
    block = next(block for block in page if "def sound" in block)
    exec(block[block.index("RATE =") :], names)
    state = {name: torch.tensor(a) for name, a in data.voice_network().items()}
    lstm = torch.nn.LSTMCell(128, 128)
    lstm.load_state_dict(
        {name.split(".")[1]: a for name, a in state.items() if name.startswith("lstm")}
    )
    convolve, pad = torch.nn.functional.conv1d, torch.nn.functional.pad
    context, memory, said = torch.zeros(1, 64), None, []
    with torch.no_grad():
        for piece in torch.tensor(names["wave"]).reshape(-1, 1, 512):
            x = torch.cat([context, piece], 1)
            context = x[:, -64:]
            x = convolve(pad(x, (0, 64), "reflect")[:, None], state["stft_conv.weight"], stride=128)
            x = torch.sqrt(x[:, :129] ** 2 + x[:, 129:] ** 2)
            for i, stride in ((1, 1), (2, 2), (3, 2), (4, 1)):
                W, b = state[f"conv{i}.weight"], state[f"conv{i}.bias"]
                x = torch.relu(convolve(x, W, b, stride, padding=1))
            memory = lstm(x[..., 0], memory)
            h = torch.relu(memory[0])[..., None]
            y = convolve(h, state["final_conv.weight"], state["final_conv.bias"])
            said.append(float(torch.sigmoid(y)))
    return {"voice": np.array(said)}


NETWORKS = {"equinox": equinox, "keras": keras, "haiku": haiku, "torch": torch, "voices": voices}


def main(names):
    """Write the files of these names."""
    for name in names or NETWORKS:
        arrays = {key: np.asarray(a, np.float32) for key, a in NETWORKS[name]().items()}
        path = HERE / f"{name}.npz"
        np.savez_compressed(path, **arrays)
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
