"""Each further cell against its formula in NumPy, a closed form or another library; bad input."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recur import Prior, cells, scan

KEY = jax.random.key(11)
T, D, N = 6, 3, 5


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def draw(cell, d=D, n=N):
    """Parameters in which nothing is zero, and inputs of two sequences, all drawn by NumPy."""
    rng = np.random.default_rng(11)

    def matrix_or_bias(p):
        draw = rng.normal(size=p.shape)
        draw = 1.1 * draw / len(p) ** 0.5 if p.ndim > 1 else 0.4 + 0.3 * draw
        return np.asarray(draw, p.dtype)

    params = jax.eval_shape(lambda: cell.init(KEY, Prior(), d, n))
    xs = rng.normal(size=(T, 2, d)).astype(np.float32)
    return jax.tree.map(matrix_or_bias, params), xs


def agrees(cell, step, memory=False, sizes=(D, N)):
    """hs of the cell equal those of a NumPy step (params, state, x) -> state, in float64.

    With `memory` the state is a pair, h and the second field.
    """
    params, xs = draw(cell, *sizes)
    P = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    zeros = np.zeros((2, sizes[1]))
    state, expected = ((zeros, zeros) if memory else zeros), []
    for x in np.asarray(xs, np.float64):
        state = step(P, state, x)
        expected.append(state[0] if memory else state)
    last, hs = jax.device_get(jax.jit(partial(scan.run, cell))(params, xs))
    np.testing.assert_allclose(hs, expected, atol=2e-6)  # float32
    if memory:
        np.testing.assert_allclose(last[1], state[1], atol=2e-6)


def test_jordan():
    def linear(P, h, x):
        return np.tanh((h @ P.Y) @ P.W + x @ P.V + P.b)

    def squashed(P, h, x):
        return np.tanh(np.tanh(h @ P.Y + P.c) @ P.W + x @ P.V + P.b)

    few = cells.jordan.outputs(cells.jordan.cell, 2)
    assert draw(few)[0].Y.shape == (N, 2)
    for cell in (cells.jordan.cell, few):
        agrees(cell, linear)
    agrees(cells.jordan.squashed, squashed)
    agrees(cells.jordan.outputs(cells.jordan.squashed, 2), squashed)


def softmax(a):
    return np.exp(a) / np.exp(a).sum(axis=-1, keepdims=True)


def test_jordan_feeds_back_probabilities():
    def step(P, h, x):
        return np.tanh(softmax(h @ P.Y + P.c) @ P.W + x @ P.V + P.b)

    agrees(cells.jordan.outputs(cells.jordan.softmax, 2), step)


def test_jordan_reads_its_outputs():
    h = np.random.default_rng(1).normal(size=(4, N)).astype(np.float32)
    for cell, phi in (
        (cells.jordan.cell, lambda a: a),
        (cells.jordan.squashed, np.tanh),
        (cells.jordan.softmax, softmax),
    ):
        params, _ = draw(cells.jordan.outputs(cell, 2))
        logits = h @ params.Y + getattr(params, "c", np.float32(0))
        read = jax.jit(lambda *of: (cells.jordan.logits(*of), cells.jordan.output(*of)))
        for found, expected in zip(read(params, h), (logits, phi(logits)), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_jordan_is_taught_by_the_true_outputs():
    """A step is fed the true output of the one before; where the truth is what the network says
    itself, it runs as if free."""
    params, xs = draw(cells.jordan.outputs(cells.jordan.softmax, 3))
    truth = np.eye(3, dtype=np.float32)[np.random.default_rng(0).integers(3, size=(T, 2))]

    @jax.jit
    def everything(params, xs):
        _, hs = scan.run(cells.jordan.softmax, params, xs)
        own = cells.jordan.output(params, hs)
        return hs, cells.jordan.taught(params, xs, own), cells.jordan.taught(params, xs, truth)

    free, as_free, taught = everything(params, xs)
    np.testing.assert_allclose(as_free, free, atol=2e-6)  # float32
    before = np.concatenate([np.tile(softmax(params.c), (1, 2, 1)), truth[:-1]])
    expected = np.tanh(before @ params.W + xs @ params.V + params.b)
    np.testing.assert_allclose(taught, expected, atol=2e-6)
    with pytest.raises(ValueError, match=r"\(T, ...batch, m\) = \(6, 2, 3\); got \(6, 2\)"):
        cells.jordan.taught(params, xs, truth[..., 0])


def test_lstm_with_peepholes():
    def step(P, state, x):
        h, c = state
        i, f, g, o = np.split(h @ P.W + x @ P.V + P.b, 4, axis=-1)
        p_i, p_f, p_o = np.split(P.P, 3)
        c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
        return sigmoid(o + p_o * c) * np.tanh(c), c

    agrees(cells.lstm.peephole, step, memory=True)


def test_lstm_with_full_peepholes():
    """W [x, h, c] for each of the four, c the old memory."""

    def step(P, state, x):
        h, c = state
        a = np.concatenate([x, h, c], axis=-1) @ np.concatenate([P.V, P.W, P.U]) + P.b
        i, f, g, o = np.split(a, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    agrees(cells.lstm.peephole_full, step, memory=True)


def test_gru_with_another_candidate_and_a_gate_that_writes():
    """h = (1 - i) h + i relu(...), the gate of many texts: ours with the first gate negated."""

    def step(P, h, x):
        W, z = np.split(P.W, 3, axis=1), np.split(x @ P.V + P.b, 3, axis=-1)
        i, r = sigmoid(-(h @ W[0] + z[0])), sigmoid(h @ W[1] + z[1])
        return (1 - i) * h + i * np.maximum(r * (h @ W[2]) + z[2], 0)

    agrees(cells.gru.with_candidate(jax.nn.relu), step)


def test_lstm_with_coupled_gates():
    def step(P, state, x):
        h, c = state
        f, g, o = np.split(h @ P.W + x @ P.V + P.b, 3, axis=-1)
        c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    agrees(cells.lstm.coupled, step, memory=True)


def test_one_lstm_cell_whose_gates_are_set_by_hand():
    """x_2 = 1 writes x_1, x_2 = -1 forgets, x_3 = 1 reads; weights of 100 saturate the gates."""
    #             input     forget      candidate  output
    V = np.float32([[0, 0, 1, 0], [100, 100, 0, 0], [0, 0, 0, 100]])
    b = np.float32([-50, 50, 0, -50])
    params = cells.lstm.Params(np.zeros((1, 4), np.float32), V, b)
    xs = np.float32([(3, 1, 0), (4, 1, 0), (2, 0, 0), (1, 0, 1), (3, -1, 0)])
    cell = cells.lstm.long_short(cells.vanilla.identity)

    def step(state, x):
        state, h = cell.step(params, state, x)
        return state, (h[0], state.c[0])

    outputs, memory = jax.jit(lambda: jax.lax.scan(step, cell.start(params), xs)[1])()
    # gates within sigmoid(-50) = 2e-22 of 0 and 1: float32 rounding alone remains
    np.testing.assert_allclose(outputs, [0, 0, 0, 7, 0], atol=1e-6)
    np.testing.assert_allclose(memory, [3, 7, 7, 7, 0], atol=1e-6)


def test_gru_with_two_biases_equals_flax():
    cell = cells.gru.cudnn
    p, xs = draw(cell)
    W, V, b = (np.split(a, 3, axis=-1) for a in p[:3])
    kernels = {}
    for gate, letter in enumerate("zrn"):  # Flax's z keeps the old state, as our u does
        kernels["i" + letter] = {"kernel": V[gate], "bias": b[gate]}
        kernels["h" + letter] = {"kernel": W[gate]}
    kernels["hn"]["bias"] = p.b_h
    module = nn.GRUCell(N)

    @jax.jit
    def both(params, xs):
        carry, hs = jnp.zeros((2, N)), []
        for x in xs:
            carry, _ = module.apply({"params": kernels}, carry, x)
            hs.append(carry)
        return scan.run(cell, params, xs)[1], jnp.stack(hs)

    ours, expected = both(p, xs)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_mgu():
    def after(P, h, x):
        W, z = np.split(P.W, 2, axis=1), np.split(x @ P.V + P.b, 2, axis=-1)
        f = sigmoid(h @ W[0] + z[0])
        return (1 - f) * h + f * np.tanh(f * (h @ W[1]) + z[1])

    def before(P, h, x):
        W, z = np.split(P.W, 2, axis=1), np.split(x @ P.V + P.b, 2, axis=-1)
        f = sigmoid(h @ W[0] + z[0])
        return (1 - f) * h + f * np.tanh((f * h) @ W[1] + z[1])

    agrees(cells.mgu.cell, after)
    agrees(cells.mgu.reset_before, before)


def test_ugrnn():
    def step(P, h, x):
        u, c = np.split(h @ P.W + x @ P.V + P.b, 2, axis=-1)
        return sigmoid(u) * h + (1 - sigmoid(u)) * np.tanh(c)

    agrees(cells.ugrnn.cell, step)


@pytest.mark.parametrize("L", [1, 3])
def test_recurrent_highway(L):
    def step(P, h, x):
        for layer in range(L):
            columns = slice(2 * N * layer, 2 * N * (layer + 1))
            entering = h @ P.W[:, columns] + P.b[columns] + (x @ P.V if layer == 0 else 0)
            c, t = np.tanh(entering[:, :N]), sigmoid(entering[:, N:])
            h = c * t + h * (1 - t)
        return h

    assert cells.highway.deep(1) is cells.highway.cell
    agrees(cells.highway.deep(L), step)


def test_leaky():
    def own(P, h, x):
        alpha = sigmoid(P.a)
        return (1 - alpha) * h + alpha * np.tanh(h @ P.W + x @ P.V + P.b)

    def shared(P, h, x):
        return 0.8 * h + 0.2 * np.tanh(h @ P.W + x @ P.V + P.b)

    agrees(cells.leaky.cell, own)
    agrees(cells.leaky.fixed(0.2), shared)


def test_antisymmetric():
    def plain(P, h, x):
        M = P.W - P.W.T - 0.2 * np.eye(N)
        return h + 0.3 * np.tanh(h @ M + x @ P.V + P.b)

    def gated(P, h, x):
        M = P.W - P.W.T - 0.2 * np.eye(N)
        a, u = np.split(np.tile(h @ M, 2) + x @ P.V + P.b, 2, axis=-1)
        return h + 0.3 * sigmoid(u) * np.tanh(a)

    agrees(cells.antisymmetric.euler(0.3, 0.2), plain)
    agrees(cells.antisymmetric.euler_gated(0.3, 0.2), gated)


def test_antisymmetric_neither_grows_nor_decays(x64):
    """Without diffusion each eigenvalue of the Jacobian at 0 is 1 + i eps w, w real."""
    cell = cells.antisymmetric.euler(0.01, 0.0)
    zeros = np.zeros(20)

    @jax.jit
    def jacobian():
        params = cell.init(KEY, Prior(), 20, 20)
        return jax.jacfwd(lambda h: cell.step(params, h, zeros)[0])(zeros)

    J = np.asarray(jacobian())
    np.testing.assert_allclose(np.linalg.eigvals(J).real, 1, atol=1e-12)


def test_coupled_oscillators():
    def step(P, state, x):
        y, v = state
        v = v + 0.2 * (np.tanh(y @ P.W + v @ P.U + x @ P.V + P.b) - 1.5 * y - 0.7 * v)
        return y + 0.2 * v, v

    agrees(cells.cornn.oscillators(0.2, 1.5, 0.7), step, memory=True)


def test_one_free_oscillator_is_a_damped_sine(x64):
    """y'' = -gamma y - epsilon y' from y = 1 at rest, in the limit of small steps."""
    dt, gamma, epsilon, steps = 1e-4, 4.0, 0.4, 20_000
    cell = cells.cornn.oscillators(dt, gamma, epsilon)
    params = jax.tree.map(lambda p: np.zeros(p.shape), draw(cell, 1, 1)[0])
    start = cells.cornn.State(np.ones(1), np.zeros(1))
    _, hs = jax.device_get(jax.jit(partial(scan.run, cell))(params, np.zeros((steps, 1)), start))
    t, w = dt * np.arange(1, steps + 1), np.sqrt(gamma - epsilon**2 / 4)
    exact = np.exp(-epsilon * t / 2) * (np.cos(w * t) + epsilon / (2 * w) * np.sin(w * t))
    np.testing.assert_allclose(hs[:, 0], exact, atol=5 * dt)  # an Euler method of first order


def test_oscillators_that_diverge_are_refused():
    """Those whose free step, a 2 x 2 matrix, has an eigenvalue outside the unit circle, and no
    others."""
    rng = np.random.default_rng(0)
    for dt, gamma, epsilon in 10 ** rng.uniform(-2, 1, (200, 3)):
        kept = 1 - dt * epsilon
        M = np.array([[1 - dt**2 * gamma, dt * kept], [-dt * gamma, kept]])
        if np.abs(np.linalg.eigvals(M)).max() < 1:
            cells.cornn.oscillators(dt, gamma, epsilon)
        else:
            with pytest.raises(ValueError, match=r"diverge .* stable only if dt\^2 gamma"):
                cells.cornn.oscillators(dt, gamma, epsilon)


def test_irnn_copies_its_state():
    W = jax.jit(lambda: cells.irnn.cell.init(KEY, Prior(0.5), D, N).W)()
    np.testing.assert_array_equal(W, 0.5 * np.eye(N))
    agrees(cells.irnn.cell, lambda P, h, x: np.maximum(h @ P.W + x @ P.V + P.b, 0))


def test_minimal_gru_and_lstm():
    def gru(P, h, x):
        z, c = np.split(x @ P.V + P.b, 2, axis=-1)
        return (1 - sigmoid(z)) * h + sigmoid(z) * c

    def lstm(P, h, x):
        f, i, c = np.split(x @ P.V + P.b, 3, axis=-1)
        f, i = sigmoid(f), sigmoid(i)
        return f / (f + i) * h + i / (f + i) * c

    agrees(cells.mingru.cell, gru)
    agrees(cells.minlstm.cell, lstm)


@pytest.mark.parametrize("name", ["mingru", "minlstm"])
def test_parallel_equals_sequential(name):
    """At T = 10,000, from rest and from a state; gates biased to remember for about 100 steps."""
    module, steps = getattr(cells, name), 10_000
    keep = {"mingru": (-4.6, 0.0), "minlstm": (4.6, -4.6, 0.0)}[name]
    rng = np.random.default_rng(2)
    V = rng.normal(size=(D, len(keep) * N)) / np.sqrt(D)
    params = module.Params(np.float32(V), np.repeat(np.float32(keep), N))
    xs = rng.normal(size=(steps, 2, D)).astype(np.float32)
    start = np.full((2, N), 3.0, np.float32)

    @jax.jit
    def both_ways(state):
        return scan.run(module.cell, params, xs, state), module.parallel(params, xs, state)

    for state in (None, start):
        (last, hs), (last_parallel, parallel) = both_ways(state)
        # float32 errors of about 1e-7 a step, remembered for 100: sqrt(100) of them at random
        np.testing.assert_allclose(parallel, hs, atol=1e-5)
        np.testing.assert_allclose(last_parallel, last, atol=1e-5)


def test_minimal_lstm_with_both_gates_closed_is_finite():
    zeros = np.zeros((1, 3), np.float32)
    params = cells.minlstm.Params(zeros, np.float32([-200, -200, 1]))
    h, _ = jax.jit(cells.minlstm.cell.step)(params, zeros[0, :1], zeros[0, :1])
    np.testing.assert_allclose(h, 0.5, atol=1e-6)  # equal gates share


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cells.highway.deep(0), r"L >= 1 layers; got L=0"),
        (lambda: cells.leaky.fixed(1.5), r"0 < alpha <= 1 .*got 1.5"),
        (lambda: cells.antisymmetric.euler(-1.0, 0.0), r"eps > 0 .*eps=-1.0, gamma=0.0"),
        (lambda: cells.antisymmetric.euler_gated(0.1, -1.0), r"gamma >= 0; got eps=0.1, gamma=-1"),
        (lambda: cells.cornn.oscillators(0.1, 0.0, 1.0), r"gamma > 0 .*got dt=0.1, gamma=0.0"),
        (lambda: cells.cornn.oscillators(0.1, np.nan, 1.0), r"gamma > 0 .*gamma=nan"),
        (lambda: cells.cornn.oscillators(0.1, 1.0, np.inf), r"epsilon=inf: .* sum is inf"),
        (lambda: cells.jordan.outputs(cells.gru.cell, 2), r"a cell of cells.jordan; .* is not one"),
        (lambda: cells.jordan.outputs(cells.jordan.cell, 0), r"m >= 1 outputs; got m=0"),
    ],
)
def test_bad_constants(call, message):
    with pytest.raises(ValueError, match=message):
        call()
