"""The wave equation cell: its formula, its energy, its speed, its border, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import normal

from recur import cells, scan

KEY = jax.random.key(3)
wave = cells.wave


def advance(medium, params, steps, state=None, xs=None):
    """States of every step, (steps, n) each, with no input unless xs is given."""
    cell = wave.linear(medium)
    dtype = params.rho.dtype
    xs = np.zeros((steps, len(medium.sources)), dtype) if xs is None else xs

    @jax.jit
    def run(params, state, xs):
        state = cell.start(params) if state is None else state
        return jax.lax.scan(lambda s, x: (cell.step(params, s, x)[0],) * 2, state, xs)[1]

    return jax.device_get(run(params, state, xs))


def energy(medium, c, states):
    """The invariant of leapfrog: kinetic and (staggered) potential energy over c^2, (steps,)."""
    ny, nx = medium.shape
    y, before = (np.asarray(a).reshape(-1, ny, nx) for a in (states.h, states.previous))
    kinetic = ((y - before) / medium.dt / c.reshape(ny, nx)) ** 2

    def slopes(a):  # including those to the zeros outside
        return np.diff(np.pad(a, [(0, 0), (1, 1), (1, 1)]), axis=1)[:, :, 1:-1], np.diff(
            np.pad(a, [(0, 0), (1, 1), (1, 1)]), axis=2
        )[:, 1:-1]

    potential = sum((p * q).sum((1, 2)) for p, q in zip(slopes(y), slopes(before), strict=True))
    return (kinetic.sum((1, 2)) + potential / medium.h**2) / 2


@pytest.mark.parametrize("saturates", [False, True])
def test_one_step_against_the_difference_equation(saturates, x64):
    """Written pixel by pixel, with the border and the material at work."""
    medium = wave.Medium(
        (5, 6), ((1, 1), (3, 4)), dt=0.3, h=0.8, c0=1.2, c1=0.7, border=2, sigma=0.9, steepness=4.0
    )
    cell = wave.saturable(medium, 0.6, 0.5) if saturates else wave.linear(medium)
    rho, y, before = np.random.default_rng(3).random((3, 5, 6))
    x = np.array([0.3, -0.8])
    flat = wave.State(y.ravel(), before.ravel())
    (h, previous), _ = jax.device_get(jax.jit(cell.step)(wave.Params(rho.ravel()), flat, x))
    expected = np.empty((5, 6))
    for i in range(5):
        for j in range(6):
            p = (np.tanh(2) + np.tanh(4 * (rho[i, j] - 0.5))) / (2 * np.tanh(2))
            c = 1.2 + (0.7 - 1.2) * p
            depths = [max(0, 2 - min(i, 4 - i)) / 2, max(0, 2 - min(j, 5 - j)) / 2]
            b = 0.9 * 1.2 / 0.8 * np.sqrt(depths[0] ** 8 + depths[1] ** 8)
            b += p * 0.6 / (1 + (y[i, j] / 0.5) ** 2) if saturates else 0
            near = sum(
                y[k, m] if 0 <= k < 5 and 0 <= m < 6 else 0
                for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
            )
            lap = (near - 4 * y[i, j]) / 0.8**2
            right = 2 / 0.3**2 * y[i, j] - (1 / 0.3**2 - b / 0.3) * before[i, j] + c**2 * lap
            expected[i, j] = right / (1 / 0.3**2 + b / 0.3)
    expected[1, 1] += 0.3
    expected[3, 4] -= 0.8
    np.testing.assert_allclose(h.reshape(5, 6), expected, atol=1e-12)  # float64 rounding
    np.testing.assert_array_equal(previous, y.ravel())


def test_energy_is_conserved_without_a_border(x64):
    """In a material of two speeds, for 2,000 steps at 90 % of the stability limit."""
    medium = wave.Medium((20, 24), ((0, 0),), dt=0.63, border=0)
    rng = np.random.default_rng(3)
    rho = np.where(rng.random(medium.n) < 0.5, 0.0, 1.0)
    y, before = rng.normal(size=(2, medium.n))
    states = advance(medium, wave.Params(rho), 2000, wave.State(y, before))
    total = energy(medium, np.where(rho > 0.5, 0.5, 1.0), states)
    np.testing.assert_allclose(total, total[0], rtol=1e-10)  # exact, but for rounding


@pytest.mark.parametrize(("rho", "c"), [(0.0, 1.0), (1.0, 0.5)])
def test_a_plane_pulse_travels_at_c(rho, c, x64):
    """A Gaussian front of width 6 pixels, read where nothing from the sides has arrived."""
    ny, nx, travel = 101, 120, 40
    medium = wave.Medium((ny, nx), ((0, 0),), border=0)

    def front(at):
        profile = np.exp(-((np.arange(nx) - at) ** 2) / (2 * 6**2))
        return np.tile(profile, (ny, 1)).ravel()

    state = wave.State(front(30), front(30 - c * medium.dt))
    steps = round(travel / (c * medium.dt))
    states = advance(medium, wave.Params(np.full(medium.n, rho)), steps, state)
    row = np.asarray(states.h[-1]).reshape(ny, nx)[ny // 2]
    peak = np.argmax(row)
    left, top, right = row[peak - 1 : peak + 2]
    peak = peak + (left - right) / (2 * (left - 2 * top + right))  # of the parabola through three
    speed = (peak - 30) / (steps * medium.dt)
    np.testing.assert_allclose(speed, c, rtol=0.01)
    np.testing.assert_allclose(row.max(), 1, rtol=0.05)  # and keeps its height


def test_the_border_absorbs(x64):
    """A pulse from the middle: its energy once it has met the border and come back."""
    left = {}
    for border in (0, 20):
        medium = wave.Medium((90, 90), ((45, 45),), border=border)
        t = np.arange(60) * medium.dt
        pulse = np.sin(2 * np.pi * t / 10) * np.exp(-((t - 15) ** 2) / (2 * 4**2))
        xs = np.zeros((400, 1))
        xs[:60, 0] = pulse
        states = advance(medium, wave.Params(np.zeros(medium.n)), 400, xs=xs)
        total = energy(medium, np.ones(medium.n), jax.tree.map(lambda a: a[[60, -1]], states))
        left[border] = total[1] / total[0]
    np.testing.assert_allclose(left[0], 1, rtol=1e-10)  # without one nothing is lost
    assert left[20] < 0.01


def test_a_string_is_the_closed_form_at_the_limit_of_stability(x64):
    """`(1, N)` was a row with silence above and below it, -4 y. At c dt = h a step is exact:
    y(x, t) = (f(x - ct) + f(x + ct)) / 2, f odd about both ends, one pixel outside the string."""
    N, steps = 30, 200
    f = np.zeros(2 * (N + 1))  # one period: 0, the string, 0, and the string upside down
    f[1 : N + 1] = np.random.default_rng(3).normal(size=N)
    f[N + 2 :] = -f[N:0:-1]
    expected = [(np.roll(f, t) + np.roll(f, -t))[1 : N + 1] / 2 for t in range(-1, steps + 1)]
    for shape in ((1, N), (N, 1)):
        medium = wave.Medium(shape, ((0, 0),), dt=1.0, border=0)
        at_rest = wave.State(expected[1], expected[0])
        hs = advance(medium, wave.Params(np.zeros(N)), steps, at_rest).h
        np.testing.assert_allclose(hs, expected[2:], atol=1e-12)  # 200 steps of rounding


def test_a_string_disperses_by_the_closed_form(x64):
    """Standing waves sin(k x) cos(w t) have sin(w dt / 2) = (c dt / h) sin(k h / 2)."""
    N, dt, h, c = 40, 0.6, 0.8, 1.2
    medium = wave.Medium((1, N), ((0, 0),), dt=dt, h=h, c0=c, border=0)
    k = np.array([1, 7, 25, 40])[:, None] * np.pi / (N + 1) / h
    w, x = 2 / dt * np.arcsin(c * dt / h * np.sin(k * h / 2)), h * np.arange(1, N + 1)
    tones = wave.State(np.sin(k * x), np.cos(w * dt) * np.sin(k * x))
    found = advance(medium, wave.Params(np.zeros(N)), 300, tones, np.zeros((300, 4, 1))).h
    t = dt * np.arange(1, 301)[:, None, None]
    np.testing.assert_allclose(found, np.cos(w * t) * np.sin(k * x), atol=1e-10)  # rounding


def test_a_string_reflects_where_the_speed_changes_by_the_closed_form(x64):
    """A packet meets pixel m, the first of the slower part: e^{ikx} + R e^{-ikx} on the left and
    (1 + R) e^{iqx} on the right, x from m, both with the frequency w, agree at m and at m - 1, so

        R = (e^{-iq} - e^{-ik}) / (e^{ik} - e^{-iq}),  (c1 - c0) / (c1 + c0) for long waves.
    """
    N, m, steps, dt, h, c0, c1 = 400, 250, 300, 0.6, 0.8, 1.2, 0.7
    medium = wave.Medium((1, N), ((0, 0),), dt=dt, h=h, c0=c0, c1=c1, border=0)
    x = np.arange(N) - m
    packet = np.cos(0.6 * x) * np.exp(-(((x + 130) / 12) ** 2) / 2)  # no long waves, ends at rest
    A = np.fft.rfft(packet)[1:-1] * 2 / N
    k = 2 * np.pi * np.arange(1, N // 2) / N  # per pixel
    A = A * np.exp(1j * k * m)  # of e^{ikx}, x from m
    A, k = A[abs(A) > 1e-12], k[abs(A) > 1e-12]
    w = 2 / dt * np.arcsin(c0 * dt / h * np.sin(k / 2))
    q = 2 * np.arcsin(c0 / c1 * np.sin(k / 2))
    R = (np.exp(-1j * q) - np.exp(-1j * k)) / (np.exp(1j * k) - np.exp(-1j * q))

    def field(amplitude, k, t):
        return (amplitude * np.exp(1j * (np.outer(x, k) - w * t))).real.sum(axis=1)

    moving = wave.State(field(A, k, 0), field(A, k, -dt))
    np.testing.assert_allclose(moving.h, packet, atol=1e-9)
    rho = (x >= 0).astype(float)
    found = advance(medium, wave.Params(rho), steps, moving).h[-1]
    left, right = field(A * R, -k, steps * dt), field(A * (1 + R), q, steps * dt)
    np.testing.assert_allclose(found, np.where(x < 0, left, right), atol=1e-8)
    assert 0.2 < abs(left[x < 0]).max() < 0.4  # a third comes back: a packet is there to compare


def test_a_border_absorbs_on_a_string_and_blur_is_of_three(x64):
    """Of a packet of waves of 10 pixels less than a thousandth of the energy is left."""
    left = {}
    for border in (0, 20):
        medium = wave.Medium((1, 90), ((0, 45),), border=border)
        assert medium.damping().shape == (90,)
        assert not medium.damping()[border : 90 - border].any()
        x = np.arange(90) - 45
        y = np.cos(2 * np.pi * x / 10) * np.exp(-(x**2) / (2 * 6**2))
        states = advance(medium, wave.Params(np.zeros(90)), 400, wave.State(y, y))
        left[border] = np.square(states.h[-1]).sum() / np.square(y).sum()
    assert left[0] > 0.1
    assert left[20] < 1e-3
    blurred = wave.blur(medium, jnp.asarray(np.arange(90) == 7, float))
    np.testing.assert_allclose(blurred[5:10], np.array([0, 1, 1, 1, 0]) / 3)


def test_strong_fields_bleach_the_material():
    """A saturable medium damps a weak field more than a strong one; a linear one damps alike."""
    medium = wave.Medium((6, 6), ((2, 2),), border=0)
    params, xs = wave.Params(np.ones(36, np.float32)), np.zeros((20, 1), np.float32)
    y = np.random.default_rng(3).normal(size=36).astype(np.float32)

    def survives(cell):
        """Of a weak field and of a strong one."""
        run = jax.jit(lambda y: scan.run(cell, params, xs, wave.State(y, y))[1][-1])
        sizes = np.float32([0.01, 100])
        return [np.linalg.norm(run(size * y)) / size for size in sizes]

    weak, strong = survives(wave.saturable(medium, 0.5, 1.0))
    assert weak < 0.1 * strong
    weak, strong = survives(wave.linear(medium))
    np.testing.assert_allclose(weak, strong, rtol=1e-4)


def test_blur_keeps_a_constant_and_spreads_a_pixel():
    medium = wave.Medium((4, 5), (), border=0)
    blur = jax.jit(lambda rho: wave.blur(medium, rho))
    np.testing.assert_allclose(blur(np.full(20, 0.7, np.float32)), 0.7, rtol=1e-6)
    pixel = np.asarray(blur((np.arange(20) == 7).astype(np.float32))).reshape(4, 5)
    cross = [(0, 2), (1, 1), (1, 2), (1, 3), (2, 2)]
    expected = np.zeros((4, 5))
    for where in cross:
        expected[where] = 0.2
    np.testing.assert_allclose(pixel, expected, atol=1e-7)


def test_probes_read_their_share():
    medium = wave.Medium((2, 2), ((0, 0),), ((0, 1), (1, 0)), border=0)
    hs = np.zeros((3, 4), np.float32)
    hs[0, 1], hs[1, 2], hs[2, 2] = 1, 1, -2
    read = jax.jit(lambda hs: wave.intensity(medium, hs))
    np.testing.assert_allclose(read(hs), [1 / 6, 5 / 6], rtol=1e-6)
    with pytest.raises(ValueError, match=r"no probes; give it Medium\(..., probes="):
        wave.intensity(wave.Medium((2, 2), (), border=0), hs)


def test_a_silent_recording_leaves_the_gradient_of_the_others():
    """Equal shares and no slope where nothing is heard; as loud as itself where it is faint."""
    medium = wave.Medium((2, 2), ((0, 0),), ((0, 1), (1, 0)), border=0)
    heard = normal(3, 4)
    hs = np.stack([heard, 0 * heard, 1e-25 * heard, 1e25 * heard], axis=1)

    @jax.jit
    def both(hs):
        def loss(hs):
            shares = wave.intensity(medium, hs)
            return -jnp.log(shares[:, 0]).sum(), shares

        return jax.value_and_grad(loss, has_aux=True)(hs)

    (_, shares), slopes = jax.device_get(both(hs))
    power = (heard[:, 1:3].astype(float) ** 2).sum(axis=0)
    own = power / power.sum()
    np.testing.assert_allclose(shares, [own, [0.5, 0.5], own, own], rtol=1e-6)
    slope = np.zeros((3, 4))
    slope[:, 1:3] = 2 * heard[:, 1:3] * (1 / power.sum() - np.array([1, 0]) / power[0])
    for i, size in ((0, 1), (2, 1e-25), (3, 1e25)):
        np.testing.assert_allclose(slopes[:, i] * size, slope, rtol=1e-5, atol=1e-6)
    assert not slopes[:, 1].any()


def test_equal_media_make_equal_cells():
    def medium(**changes):
        return wave.Medium((40, 50), ((1, 1),), **changes)

    assert wave.linear(medium()) == wave.linear(medium(dt=0.5))
    cells_ = [
        wave.linear(medium()),
        wave.linear(medium(dt=0.4)),
        wave.linear(medium(border=10)),
        wave.saturable(medium(), 0.1, 1.0),
        wave.saturable(medium(), 0.1, 2.0),
    ]
    assert len(set(cells_)) == len(cells_)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: wave.Medium((50, 50), (), dt=0.8),
            r"dt = 0.8 breaks .*CFL.* = 0.7071 for h = 1.0 and c = 1.0: take a smaller dt",
        ),
        (lambda: wave.Medium((50, 50), (), dt=0.5, c1=2.0), r"CFL.* = 0.3536 .* c = 2.0"),
        (lambda: wave.Medium((1, 60), (), dt=1.1, border=0), r"c sqrt 1\) = 1 for h"),
        (lambda: wave.Medium((1, 30), ()), r"border of 20 pixels .* \(1, 30\); with border=0"),
        (lambda: wave.Medium((60,), (), border=0), r"got \(60,\). A string of N pixels is \(1, N"),
        (lambda: wave.Medium((1, 1), (), border=0), r"two pixels or more; got \(1, 1\)"),
        (lambda: wave.Medium((50, 60), ((50, 0),)), r"pixel \(50, 0\) lies outside .*\(50, 60\)"),
        (lambda: wave.Medium((50, 60), (), ((0, -1),)), r"pixel \(0, -1\) lies outside"),
        (
            lambda: wave.Medium((50, 60), ((0.5, 1),)),
            r"a pixel is \(row, column\), two integers; got \(0.5, 1\)",
        ),
        (lambda: wave.Medium((50, 60), (), c1=float("nan")), "c1 must be a finite number; got nan"),
        (lambda: wave.Medium((50, 60), (), c1=-2.0), r"CFL.* c = 2.0"),
        (lambda: wave.Medium((30, 60), ()), r"border of 20 pixels .* \(30, 60\); with border=0"),
        (
            lambda: wave.saturable(wave.Medium((50, 50), ()), 0.1, 0.0),
            r"b0 >= 0 and y0 > 0; got b0=0.1, y0=0.0",
        ),
        (
            lambda: wave.linear(wave.Medium((50, 50), ((1, 1),))).init(KEY, None, 2, 2500),
            r"d = 1 sources and n = 2500 pixels, \(50, 50\); got d=2, n=2500",
        ),
    ],
)
def test_bad_media(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_at_the_limit_it_is_stable_and_beyond_it_would_not_be(x64):
    """The condition is sharp: beyond it the checkerboard, the shortest wave, grows."""
    y = (-1.0) ** np.add.outer(np.arange(20), np.arange(20)).ravel()
    for factor, stable in ((0.999, True), (1.02, False)):
        medium = wave.Medium((20, 20), ((0, 0),), dt=factor / np.sqrt(2) / 1.1, border=0)
        object.__setattr__(medium, "c0", 1.1)  # past the check
        states = advance(medium, wave.Params(np.zeros(400)), 300, wave.State(y, y))
        assert (np.abs(states.h).max() < 100) == stable
