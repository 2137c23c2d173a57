"""Networks that read their own output, against loops and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recur import cells, scan
from recur.generate import free_running, inverse_sigmoid, scheduled

pytestmark = pytest.mark.quick

KEY = jax.random.key(11)
T, D, N, BATCH = 6, 3, 5, 4
GRU = cells.gru.cell
DRAWS = np.random.default_rng(11)


def normal(*shape):
    return DRAWS.normal(size=shape).astype(np.float32)


PARAMS = cells.gru.Params(normal(N, 3 * N), normal(D, 3 * N), normal(3 * N) / 2)
BODY = scan.tied(GRU, PARAMS)
READOUT = normal(N, D)
XS = normal(T, BATCH, D)
START = np.zeros((BATCH, N), np.float32)


def linear(key, h):
    del key
    return h @ READOUT


def sample(key, h):
    return jax.nn.one_hot(jax.random.categorical(key, h @ READOUT), D)


@jax.jit
def taught(teacher):
    """By the linear readout."""
    return scheduled(KEY, BODY, linear, START, XS, teacher)


def test_the_teacher_alone_is_run():
    state, hs, proposals = map(np.asarray, taught(np.ones(T, bool)))
    final, expected = map(np.asarray, jax.jit(lambda xs: scan.run(GRU, PARAMS, xs))(XS))
    np.testing.assert_allclose(hs, expected, atol=1e-6)  # float32
    np.testing.assert_allclose(state, final, atol=1e-6)
    np.testing.assert_allclose(proposals, expected @ READOUT, atol=1e-5)


def test_scheduled_sampling_against_a_loop():
    """Each sequence has its own teacher; what the teacher withholds, even NaN, is never read."""
    teacher = np.random.default_rng(0).random((T, BATCH)) < 0.5
    teacher[0] = True
    xs = np.where(teacher[..., None], XS, np.nan)

    def loss(params):
        _, hs, _ = scheduled(KEY, scan.tied(GRU, params), linear, START, xs, teacher)
        return jnp.sum(hs**2), hs

    def looped(params):
        h, x, hs = START, XS[0], []
        for t in range(T):
            x = jnp.stack([XS[t, i] if teacher[t, i] else x[i] for i in range(BATCH)])
            h, _ = GRU.step(params, h, x)
            x = h @ READOUT
            hs.append(h)
        return jnp.sum(jnp.stack(hs) ** 2), jnp.stack(hs)

    @jax.jit
    def both(params):
        return [jax.grad(each, has_aux=True)(params) for each in (loss, looped)]

    (gradient, hs), (expected, looped_hs) = both(PARAMS)
    np.testing.assert_allclose(hs, looped_hs, atol=1e-6)  # float32
    for a, b in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # float32, sums of 24 terms


def test_free_running_goes_on_from_where_it_stopped():
    """A linear map fed back is its power: h_T = (A R)^T h_0; in two pieces as in one."""
    n = 3
    W, V, R = normal(3, n, n) / 2
    h = normal(n)
    params = cells.vanilla.Params(W, V, np.zeros(n, np.float32))

    @jax.jit
    def everything(params, R, h):
        body = scan.tied(cells.vanilla.linear, params)

        def feed(key, h):
            del key
            return h @ R

        whole = free_running(KEY, body, feed, h, h @ R, 5)
        middle, first, own = free_running(KEY, body, feed, h, h @ R, 2)
        end, second, _ = free_running(KEY, body, feed, middle, own[-1], 3)
        return whole, jnp.concatenate([first, second]), end, feed(None, whole[0])

    (state, hs, proposals), pieces, end, fed = jax.tree.map(np.asarray, everything(params, R, h))
    power = np.linalg.matrix_power(np.asarray(W + R @ V, np.float64), 5)
    np.testing.assert_allclose(hs[-1], h @ power, rtol=1e-4, atol=1e-5)  # float32
    np.testing.assert_allclose(pieces, hs, atol=1e-6)
    np.testing.assert_allclose(end, state, atol=1e-6)
    np.testing.assert_array_equal(proposals[-1], fed)


def test_a_first_input_is_always_the_true_one():
    given = taught(np.zeros(T, bool))
    alone = jax.jit(lambda x: free_running(KEY, BODY, linear, START, x, T))(XS[0])
    jax.tree.map(np.testing.assert_array_equal, given, alone)


def test_samples_follow_the_readout_and_the_key():
    """Frequencies of 4000 first samples within 5 standard errors of the softmax."""
    start = np.zeros((4000, N), np.float32)
    x = np.broadcast_to(XS[0, 0], (4000, D))
    run = jax.jit(lambda key: free_running(key, BODY, sample, start, x, 2)[1:])
    hs, one = map(np.asarray, run(KEY))
    _, again = run(KEY)
    _, other = run(jax.random.key(1))
    np.testing.assert_array_equal(one, again)
    assert (one != np.asarray(other)).any()
    p = np.exp(hs[0, 0] @ READOUT)
    np.testing.assert_allclose(one[0].mean(0), p / p.sum(), atol=5 * 0.5 / np.sqrt(4000))
    # the second draw has a key of its own: alike by chance only, sum p_i q_i < .99
    assert (one[0] == one[1]).all(-1).mean() < 0.99


def test_inverse_sigmoid():
    k = 100.0
    inverse = jax.jit(inverse_sigmoid, static_argnums=1)
    np.testing.assert_allclose(inverse(0, k), k / (k + 1), rtol=1e-5)  # float32
    np.testing.assert_allclose(inverse(k * np.log(k), k), 0.5, rtol=1e-4)
    assert float(inverse(10**6, k)) == 0  # no overflow


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: scheduled(KEY, BODY, linear, START, XS, np.ones(T, np.float32)),
            r"teacher must be boolean, of shape \(T,\) = \(6,\) or .* \(6, 4\); got float32\[6\]",
        ),
        (
            lambda: scheduled(KEY, BODY, linear, START, XS, np.ones((BATCH, T), bool)),
            r"got bool\[4,6\]",
        ),
        (
            lambda: scheduled(KEY, BODY, lambda key, h: h, START, XS, np.ones(T, bool)),
            r"next input float32\[4,3\]; it returned float32\[4,5\]. feed is readout",
        ),
        (
            lambda: free_running(KEY, BODY, linear, START, XS[0, :, :2], T),
            r"inputs with d = 3, got d = 2",
        ),
        (lambda: free_running(KEY, BODY, linear, START, XS[0], 0), r"1 or more; got 0"),
        (lambda: inverse_sigmoid(3, 0.5), r"k >= 1 .*decays more slowly\); got 0.5"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call)
