"""One layer over a sequence as users of each package run it, with the weights of recur.

The scan by hand is what one would write in plain JAX: inputs are multiplied within the step, and
the derivative is autodiff. Flax, Haiku, Equinox and Keras run in their best one-layer form (if
there are two LSTMs, the one whose gates are one product). The outputs of every peer equal those of
a cell of recur. This is the cell of the benchmark, except in Haiku: its VanillaRNN is a ReLU
network, and its GRU resets before its product, which is the same amount of work with other numbers.
On a GPU, Keras, PyTorch and "cudnn", which is `jax.experimental.rnn`, call cuDNN. The scan by hand,
Flax and PyTorch use the dtype of the weights, and the others only float32.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.nn import sigmoid

from recur import Recurrence, cells
from recur.core import Tree


class Peer(NamedTuple):
    """A layer in JAX."""

    weights: Tree
    forward: Callable[[Tree, Array], Array]  # (weights, xs (T, B, d)) -> hs (T, B, n)
    equal: Recurrence  # the cell whose outputs it gives, from the same parameters
    batch_first: bool = False  # xs and hs are (B, T, ...)


# --- by hand --------------------------------------------------------------------------------------


def _vanilla(p: Any, h: Array, x: Array) -> Array:
    return jnp.tanh(h @ p.W + x @ p.V + p.b)


def _gru(p: Any, h: Array, x: Array) -> Array:
    wu, wr, wc = jnp.split(h @ p.W, 3, axis=-1)
    vu, vr, vc = jnp.split(x @ p.V + p.b, 3, axis=-1)
    u = sigmoid(wu + vu)
    return u * h + (1 - u) * jnp.tanh(sigmoid(wr + vr) * wc + vc)


def _lstm(p: Any, state: tuple, x: Array) -> tuple:
    h, c = state
    i, f, g, o = jnp.split(h @ p.W + x @ p.V + p.b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    return sigmoid(o) * jnp.tanh(c), c


def _minimal(p: Any, h: Array, x: Array) -> Array:
    z = jnp.tanh(x @ p.E + p.a)
    u = sigmoid(h @ p.W + z @ p.V + p.b)
    return u * h + (1 - u) * z


def _cfn(p: Any, h: Array, x: Array) -> Array:
    f, i = jnp.split(sigmoid(h @ p.W + x @ p.V + p.b), 2, axis=-1)
    return f * jnp.tanh(h) + i * jnp.tanh(x @ p.E)


STEPS = {"vanilla": _vanilla, "gru": _gru, "lstm": _lstm, "minimal": _minimal, "cfn": _cfn}


def by_hand(cell: str, params: Any) -> Peer:
    """`lax.scan` of the equations above; for other cells, of the step of the cell."""
    made = cells.named(cell)

    def forward(params: Any, xs: Array) -> Array:
        def advance(state: Tree, x: Array) -> tuple[Tree, Array]:
            if cell not in STEPS:
                return made.step(params, state, x)
            state = STEPS[cell](params, state, x)
            return state, state[0] if cell == "lstm" else state

        zeros = made.start(params, xs.shape[1:-1])
        return lax.scan(advance, tuple(zeros) if cell == "lstm" else zeros, xs)[1]

    return Peer(params, forward, made)


# --- packages on JAX ------------------------------------------------------------------------------


def linen(cell: str, params: Any) -> Peer | None:
    """flax.linen's nn.RNN, time first."""
    import flax.linen as nn

    n, dtype = params.W.shape[0], params.W.dtype
    W, V, b = (jnp.split(a, a.shape[-1] // n, axis=-1) for a in params[:3])
    if cell == "vanilla":
        layer = nn.SimpleCell(n, dtype=dtype, param_dtype=dtype)
        weights = {"i": {"kernel": V[0], "bias": b[0]}, "h": {"kernel": W[0]}}
    elif cell == "gru":
        layer, weights = nn.GRUCell(n, dtype=dtype, param_dtype=dtype), {}
        for i, gate in enumerate("zrn"):  # theirs has a bias within the reset, here zero
            weights["i" + gate] = {"kernel": V[i], "bias": b[i]}
            weights["h" + gate] = {"kernel": W[i]}
        weights["hn"]["bias"] = jnp.zeros_like(b[0])
    else:
        layer, weights = nn.OptimizedLSTMCell(n, dtype=dtype, param_dtype=dtype), {}
        for i, gate in enumerate("ifgo"):
            weights["i" + gate] = {"kernel": V[i]}
            weights["h" + gate] = {"kernel": W[i], "bias": b[i]}
    rnn = nn.RNN(layer, time_major=True)
    return Peer({"params": {"cell": weights}}, rnn.apply, cells.named(cell))


def nnx(cell: str, params: Any) -> Peer | None:
    """flax.nnx's nnx.RNN, time first."""
    from flax import nnx

    d, n = params.V.shape[0], params.W.shape[0]
    kind = {"vanilla": nnx.SimpleCell, "gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[cell]
    dtype = params.W.dtype
    layer = kind(d, n, dtype=dtype, rngs=nnx.Rngs(0))
    layer.param_dtype = dtype  # that of its states; its own draw has no bfloat16
    W, V, b = (_reset_first(a) if cell == "gru" else a for a in params[:3])
    layer.dense_h.kernel.set_value(W)
    layer.dense_i.kernel.set_value(V)
    (layer.dense_h if cell == "lstm" else layer.dense_i).bias.set_value(b)
    graph, weights, rest = nnx.split(nnx.RNN(layer, time_major=True), nnx.Param, ...)

    def forward(weights: Tree, xs: Array) -> Array:
        return nnx.merge(graph, weights, jax.tree.map(jnp.asarray, rest))(xs)

    return Peer(weights, forward, cells.named(cell))


def haiku(cell: str, params: Any) -> Peer | None:
    """hk.dynamic_unroll; its GRU and its ReLU network are other cells of recur."""
    import haiku as hk

    n = params.W.shape[0]
    kind = {"vanilla": hk.VanillaRNN, "gru": hk.GRU, "lstm": hk.LSTM}[cell]

    def unrolled(xs: Array) -> Array:
        core = kind(n, double_bias=False) if cell == "vanilla" else kind(n)
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    W, V, b = params[:3]
    if cell == "vanilla":
        weights = {"vanilla_rnn/linear": {"w": V, "b": b}, "vanilla_rnn/linear_1": {"w": W}}
    elif cell == "gru":  # its z is 1 - u
        W, V, b = (a.at[..., :n].multiply(-1) for a in (W, V, b))
        weights = {"gru": {"w_i": V, "w_h": W, "b": b}}
    else:  # input, candidate, forget, output; it adds 1 to the forget gate
        i, f, g, o = jnp.split(jnp.concatenate([V, W, b[None]]), 4, axis=-1)
        w = jnp.concatenate([i, g, f.at[-1].add(-1), o], axis=-1)
        weights = {"lstm/linear": {"w": w[:-1], "b": w[-1]}}
    forward = hk.without_apply_rng(hk.transform(unrolled)).apply
    equal = {"vanilla": "vanilla.relu", "gru": "gru.reset_before", "lstm": "lstm"}[cell]
    return Peer(weights, forward, cells.named(equal))


def equinox(cell: str, params: Any) -> Peer | None:
    """A scan over the cell of eqx.nn under vmap, as documented; it has no vanilla cell."""
    import equinox as eqx

    if cell == "vanilla":
        return None
    d, n = params.V.shape[0], params.W.shape[0]
    layer = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}[cell](d, n, key=jax.random.key(0))
    W, V, b = (_reset_first(a) if cell == "gru" else a for a in params[:3])
    layer = eqx.tree_at(lambda c: (c.weight_hh, c.weight_ih, c.bias), layer, (W.T, V.T, b))
    if cell == "gru":
        layer = eqx.tree_at(lambda c: c.bias_n, layer, jnp.zeros(n))

    def one(layer: Any, xs: Array) -> Array:
        def advance(state: Tree, x: Array) -> tuple[Tree, Array]:
            state = layer(x, state)
            return state, state[0] if cell == "lstm" else state

        zeros = jnp.zeros(n)
        return lax.scan(advance, (zeros, zeros) if cell == "lstm" else zeros, xs)[1]

    forward = jax.vmap(one, in_axes=(None, 1), out_axes=1)
    return Peer(layer, forward, cells.named(cell))


def keras(cell: str, params: Any) -> Peer | None:
    """Keras on JAX, stateless; its sequences are batch first."""
    import keras

    d, n = params.V.shape[0], params.W.shape[0]
    kind = {"vanilla": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}[cell]
    layer = getattr(keras.layers, kind)(n, return_sequences=True)
    layer.build((None, None, d))
    W, V, b = params[:3]
    weights = [V, W, jnp.stack([b, jnp.zeros_like(b)]) if cell == "gru" else b]
    rest = [variable.value for variable in layer.non_trainable_variables]

    def forward(weights: Tree, xs: Array) -> Array:
        return layer.stateless_call(weights, rest, xs)[0]

    return Peer(weights, forward, cells.named(cell), batch_first=True)


def cudnn(cell: str, params: Any) -> Peer | None:
    """`jax.experimental.rnn`: the LSTM of cuDNN in float32, on an NVIDIA GPU."""
    known = cell == "lstm" and params.W.dtype == jnp.float32
    if not known or jax.default_backend() != "gpu":
        return None
    from jax.experimental import rnn

    d, n = params.V.shape[0], params.W.shape[0]

    def forward(weights: Array, xs: Array) -> Array:
        batch, T, _ = xs.shape
        zeros, lengths = jnp.zeros((1, batch, n)), jnp.full(batch, T, jnp.int32)
        return rnn.lstm(xs, zeros, zeros, weights, lengths, d, n, 1, 0.0, False)[0]

    return Peer(cudnn_weights(params), forward, cells.named(cell), batch_first=True)


def cudnn_weights(params: Any) -> Array:
    """V, W and b of an LSTM in the order of cuDNN, with a second bias of zero."""
    W, V, b = params[:3]
    return jnp.concatenate([V.T.ravel(), W.T.ravel(), b, jnp.zeros_like(b)])


def _reset_first(gates: Array) -> Array:
    """(update, reset, candidate) -> (reset, update, candidate)."""
    u, r, c = jnp.split(gates, 3, axis=-1)
    return jnp.concatenate([r, u, c], axis=-1)


PEERS = {
    "linen": linen,
    "nnx": nnx,
    "haiku": haiku,
    "equinox": equinox,
    "keras": keras,
    "cudnn": cudnn,
}
TRANSFERRED = ("vanilla", "gru", "lstm")  # the cells that the packages have


# --- PyTorch --------------------------------------------------------------------------------------


class Torch:
    """The layer of torch.nn on all cores, or on the GPU if JAX computes on one."""

    def __init__(self, cell: str, params: Any, xs: Array):
        import torch

        d, n = params.V.shape[0], params.W.shape[0]
        torch.set_num_threads(os.cpu_count() or 1)
        device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        kind = {"vanilla": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
        self.layer = kind(d, n)
        dtype = getattr(torch, xs.dtype.name)
        wide = (jnp.asarray(a, jnp.float32) for a in params[:3])  # torch cannot read JAX's bfloat16
        W, V, b = (np.array(_reset_first(a) if cell == "gru" else a) for a in wide)
        arrays = (V.T, W.T, b, np.zeros_like(b))  # in the order of its parameters
        with torch.no_grad():
            for parameter, array in zip(self.layer.parameters(), arrays, strict=True):
                parameter.copy_(torch.tensor(array))
        self.layer.to(device, dtype)
        self.xs = torch.tensor(np.array(xs, np.float32), device=device, dtype=dtype)
        self.ready = torch.cuda.synchronize if device == "cuda" else lambda: None
        self.no_grad = torch.no_grad

    def forward(self) -> Any:
        """hs (T, B, n), where it was computed."""
        with self.no_grad():
            hs = self.layer(self.xs)[0]
        self.ready()
        return hs

    def step(self) -> float:
        """The loss, with the gradients of all weights left in the layer."""
        self.layer.zero_grad(set_to_none=True)
        loss = (self.layer(self.xs)[0] ** 2).mean()
        loss.backward()
        self.ready()
        return float(loss.detach())
