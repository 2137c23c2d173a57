"""What is in the axes is what the analysis returned: numbers, limits, labels, gaps and refusals."""

import itertools
import sys

import matplotlib as mpl
import numpy as np
import pytest
from conftest import draw
from matplotlib import colors
from matplotlib.figure import Figure

import recur
from recur import analysis, cells, scan
from recur.plot import style

plot = recur.plot


@pytest.fixture
def ax():
    return Figure().add_subplot()


def notes(ax):
    return [text.get_text() for text in ax.texts if text.get_gid() == style.NOTE]


def lines(ax, label):
    """The data of the lines of this label."""
    return [np.array(line.get_data()) for line in ax.lines if line.get_label() == label]


def limits(ax, which=0):
    """The lower and upper limit of a band at each of its x."""
    (path,) = ax.collections[which].get_paths()
    x, y = path.vertices.T
    at = np.unique(x)
    return at, np.array([(y[x == one].min(), y[x == one].max()) for one in at]).T


# --- bands ----------------------------------------------------------------------------------------


def test_a_band_holds_the_quantiles(ax):
    curves = np.random.default_rng(0).normal(size=(2, 5, 7))
    assert plot.band(np.arange(7), curves, ax, label="ours", ls="--") is ax
    ((x, y),) = lines(ax, "ours")
    low, middle, high = np.quantile(curves.reshape(10, 7), (0.1, 0.5, 0.9), axis=0)
    np.testing.assert_allclose(y, middle)
    at, (bottom, top) = limits(ax)
    np.testing.assert_array_equal(at, x)
    np.testing.assert_allclose([bottom, top], [low, high])
    assert notes(ax) == []


def test_values_against_lag_are_drawn_in_nats(ax):
    """1e-400 and 1e300 squared have no float; their logarithms have."""
    lags = [20, 0, 10]  # in any order
    logs = np.stack([[-900.0, -2000], [800, 1], [1, -1]]) + np.zeros((4, 1, 1))
    logs[3] += 5  # one of four: the nearest order statistic is one of them
    plot.input_output(logs, lags, ax, label="largest")
    ((x, y),) = lines(ax, "largest")
    np.testing.assert_array_equal(x, [0, 10, 20])
    np.testing.assert_array_equal(y, [800, 1, -900])
    _, (low, high) = limits(ax, 1)
    np.testing.assert_array_equal(high - low, [5, 5, 5])
    assert ax.get_xlabel() == "lag (steps)"
    assert "dh_T" in ax.get_ylabel()
    ax.set_ylim(np.log([1e-7, 10]))
    ticks = ax.yaxis.get_major_locator()()
    np.testing.assert_allclose(ticks / np.log(10), np.round(ticks / np.log(10)), atol=1e-12)
    assert style.power(np.log(1e-4)) == "$10^{-4}$"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["all of them", "largest"]


def test_gaps_are_left_out_and_counted(ax):
    logs = np.array([[0, -1, -np.inf, -3, np.nan, -5, np.nan]])
    plot.gradient_norms(logs, ax, label="norm")
    ((t, y),) = lines(ax, "norm")
    np.testing.assert_array_equal(t, np.arange(1, 8))
    np.testing.assert_array_equal(y, [0, -1, np.nan, -3, np.nan, -5, np.nan])
    assert notes(ax) == ["left out of 7 values:\n2 NaN (not known)\n1 -inf (exactly 0)"]
    assert ax.get_xlim()[1] > 7  # the gap at the end, too
    (line,) = ax.lines  # a point between two gaps has a mark, or it would not be seen
    np.testing.assert_array_equal(np.flatnonzero(line.get_markevery()), [3, 5])
    plot.gradient_norms(logs, ax)
    heights = [text.xyann[1] for text in ax.texts]
    assert len(set(heights)) == 2  # one note below the other


def test_a_picture_of_nothing_known_says_so(ax):
    plot.input_output(np.full((3, 2), np.nan), range(3), ax)
    assert notes(ax) == ["left out of 6 values:\n6 NaN (not known)"]
    plot.lyapunov_convergence(spectrum(history=np.full((4, 3), np.nan)), ax)
    assert "3 NaN" in notes(ax)[-1]


def test_singular_values_show_what_rounding_does_to_each(ax):
    """Bars of one rounding, named where they are long beside the span; gaps for the unknown."""
    logs, rounding = np.array([0.5, -3.0, -9.5, np.nan]), np.array([1e-7, 1e-3, 0.2, 9.0])
    plot.singular_values(analysis.SingularValues(logs, rounding), ax, label="ours", ls="--")
    ((direction, y),) = lines(ax, "ours")
    np.testing.assert_array_equal(direction, [1, 2, 3, 4])
    np.testing.assert_array_equal(y, logs)
    ends = np.array([segment[:, 1] for segment in ax.collections[0].get_segments()[:3]])
    np.testing.assert_allclose(ends.T, [(logs - rounding)[:3], (logs + rounding)[:3]])
    assert ax.get_legend_handles_labels()[1] == ["effect of rounding", "ours"]
    assert notes(ax) == ["left out of 4 values:\n1 NaN (not known)"]
    assert style.power(ax.yaxis.get_major_locator()()[0]).startswith("$10^{-")

    several = Figure().add_subplot()
    batch = analysis.SingularValues(np.stack([logs, logs - 1])[:, :3], np.full((2, 3), 1e-7))
    plot.singular_values(batch, several, label="ours")
    assert len(several.lines) == 3  # two, and that across
    assert several.get_legend_handles_labels()[1] == ["ours"]


def test_spectra_of_single_steps_are_drawn_along_time(ax):
    values = np.random.default_rng(0).uniform(0.5, 2, (3, 6, 4))  # a batch
    values = -np.sort(-values, axis=-1)
    values[1, 2] = np.nan  # left out by a mask
    plot.one_step_spectra(values, ax)
    ((t, y),) = lines(ax, "largest")
    np.testing.assert_array_equal(t, np.arange(1, 7))
    np.testing.assert_allclose(y, np.nanmedian(values[..., 0], axis=0))
    ((_, y),) = lines(ax, "all of them")
    np.testing.assert_allclose(y, np.nanmedian(values.transpose(0, 2, 1).reshape(12, 6), axis=0))
    assert notes(ax) == ["left out of 72 values:\n4 NaN (not known)"]
    assert ax.get_ylim()[0] == 0
    assert [1.0, 1.0] in [list(line.get_ydata()) for line in ax.lines]


def test_steps_are_seconds_where_dt_says_how_many():
    """Every picture with time on an axis; the numbers across are those of steps, times dt."""
    logs = np.where(np.arange(4)[:, None] >= np.arange(3), -1.0 * np.arange(3), np.nan)
    draws = (
        ("lag", lambda ax, **dt: plot.input_output(np.zeros((3, 2)), [0, 5, 9], ax, **dt)),
        ("t", lambda ax, **dt: plot.gradient_norms(np.zeros(7), ax, **dt)),
        ("t", lambda ax, **dt: plot.gates([np.zeros((7, 2))], ["f"], ax, **dt)),
        ("t", lambda ax, **dt: plot.one_step_spectra(np.ones((7, 2)), ax, **dt)),
        ("t", lambda ax, **dt: plot.lyapunov_convergence(spectrum(), ax, **dt)),
        ("t", lambda ax, **dt: plot.gradient_map(logs, ax, **dt)),
    )
    for name, picture in draws:
        steps, seconds = Figure().add_subplot(), Figure().add_subplot()
        picture(steps)
        picture(seconds, dt=0.02)
        assert "steps" in steps.get_xlabel()
        assert seconds.get_xlabel() == f"{name} (s)"
        assert "steps" not in seconds.get_ylabel()
        np.testing.assert_allclose(seconds.dataLim.intervalx, 0.02 * steps.dataLim.intervalx)
        for bad in (0, -1.0, "1", np.inf):
            with pytest.raises(ValueError, match="dt must be the length of a step"):
                picture(seconds, dt=bad)
    ax = Figure().add_subplot()
    assert plot.lyapunov(spectrum(), ax, dt=0.02).get_ylabel() == "exponent (nats per s)"


# --- maps -----------------------------------------------------------------------------------------


def test_a_gradient_map_shows_the_median_at_t_and_lag(ax):
    T, L = 5, 3
    there = np.arange(T)[:, None] >= np.arange(L)
    logs = np.where(there, np.arange(T)[:, None] - 10.0 * np.arange(L), np.nan)
    batch = np.stack([logs - 1, logs, logs + 3])
    batch[:, 4, 2] = -np.inf
    batch[0, 3] = np.nan  # one of three has overflowed there
    plot.gradient_map(batch, ax)
    zeros, unknown, image = ax.collections
    shown = np.ma.filled(image.get_array(), np.nan).reshape(L, T)
    expected = logs.T.copy()
    expected[2, 4] = expected[:, 3] = np.nan
    np.testing.assert_array_equal(shown, expected)
    for mesh, where in ((zeros, [[2, 4]]), (unknown, [[0, 3], [1, 3], [2, 3]])):
        drawn = ~np.ma.getmaskarray(mesh.get_array()).reshape(L, T)
        np.testing.assert_array_equal(np.argwhere(drawn), where)
    assert notes(ax) == ["left out of 12 values:\n3 NaN (not known)\n1 -inf (exactly 0)"]
    np.testing.assert_allclose(ax.get_xlim(), (0.5, T + 0.5))  # t = 1 .. T in the cells' middles
    np.testing.assert_allclose(ax.get_ylim(), (-0.5, L - 0.5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("t (steps)", "lag (steps)")


def test_the_critical_line_is_where_perturbations_neither_grow_nor_fade(ax):
    """chi = x / 1.5 whatever y: xi = -1 / log(chi) leaps from inf to -inf at x = 1.5."""
    x, y = np.linspace(0.55, 2.45, 20), np.array([0.0, 1, 2])
    xi = np.tile(-1 / np.log(x / 1.5), (3, 1))
    xi[0, 0] = np.nan
    plot.phase_diagram(xi, x, y, ax)
    grows, fades, *contours = ax.collections
    shown = np.ma.filled(fades.get_array(), np.nan).reshape(xi.shape)
    np.testing.assert_allclose(shown, np.where(xi > 0, np.log(np.abs(xi)), np.nan))
    grey = np.isfinite(np.ma.filled(grows.get_array(), np.nan)).reshape(xi.shape)
    np.testing.assert_array_equal(grey, xi < 0)
    critical = contours[-1].get_paths()[0].vertices
    np.testing.assert_allclose(critical[:, 0], 1.5, atol=0.01)  # straight between two points
    assert notes(ax) == ["left out: 1 of 60 points NaN (not known)"]


def test_a_phase_without_an_edge_has_no_critical_line(ax):
    xi = np.array([[5.0, 20], [6, 200]])
    plot.phase_diagram(xi, [0, 1], [0, 1], ax, bar=False)
    assert len(ax.collections) == 2  # the map, and lines at 10 and 100 steps as one
    assert len(ax.figure.axes) == 1


def test_trainability_is_in_steps(ax):
    priors, T = np.array([0.5, 1, 2]), np.array([4, 16])
    accuracies = np.array([[0.2, 0.1], [0.9, np.nan], [0.5, 0.4]])
    plot.trainability(accuracies, priors, T, ax, chance=0.1)
    (image,) = ax.collections
    np.testing.assert_array_equal(
        np.ma.filled(image.get_array(), np.nan).reshape(2, 3), accuracies.T
    )
    corners = image.get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], [0.25, 0.75, 1.5, 2.5])
    np.testing.assert_allclose(corners[:, 0, 1], [2, 8, 32])  # equal heights on a log scale
    assert image.get_clim() == (0.1, 1)
    assert ax.get_yscale() == "log"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["4", "16"]
    assert "1 NaN" in notes(ax)[0]


# --- exponents ------------------------------------------------------------------------------------


def spectrum(**fields):
    found = {
        "exponents": np.array([0.1, -0.5, np.nan]),
        "error": np.array([0.02, 0.03, np.nan]),
        "history": np.array([[np.nan] * 3, [-0.4, 0.3, -1], [-0.5, 0.1, np.nan]]),
        "dimension": np.array(1.2),
        "entropy": np.array(0.1),
        "rounding": np.array([1e-6, 0.2, 0.5]),
    }
    return analysis.Lyapunov(**{**found, **fields})


def test_a_spectrum_with_its_errors_and_its_rounding(ax):
    plot.lyapunov(spectrum(), ax, label="ours")
    ((x, y),) = lines(ax, "ours")
    np.testing.assert_array_equal(x, [1, 2, 3])
    np.testing.assert_array_equal(y, [0.1, -0.5, np.nan])
    rounding, error = (bars.get_segments() for bars in ax.collections)
    np.testing.assert_allclose(rounding[1][:, 1], [-0.7, -0.3])
    np.testing.assert_allclose(error[0][:, 1], [0.06, 0.14])  # two standard errors
    assert "1 NaN" in notes(ax)[1]
    assert notes(ax)[0] == "Kaplan-Yorke dimension 1.20"
    assert ax.get_ylabel() == "exponent (nats per step)"
    assert {"effect of rounding", "2 standard errors"} <= {line.get_label() for line in ax.lines}
    seeds = spectrum(exponents=np.zeros((4, 3)), error=None, rounding=None)
    ax.clear()
    plot.lyapunov(seeds, ax, label="seeds")
    assert len(lines(ax, "seeds")) == 1  # one label for
    assert len(ax.lines) == 5  # four lines, and zero


def test_convergence_follows_the_largest(ax):
    plot.lyapunov_convergence(spectrum(), ax, discard=10)
    ((x, y),) = lines(ax, "largest: 0.1000 +- 0.0200")
    np.testing.assert_array_equal(x, [11, 12, 13])
    np.testing.assert_array_equal(y, [np.nan, 0.3, 0.1])
    (band,) = ax.patches
    np.testing.assert_allclose((band.get_y(), band.get_height()), (0.06, 0.08))
    assert notes(ax) == ["left out of 6 values:\n1 NaN (not known)"]  # not those before a QR


# --- where the network stands still ---------------------------------------------------------------


def test_eigenvalues_lie_where_they_are(ax):
    values = np.array([[0.5 + 0.5j, 0.5 - 0.5j, 0.0], [1.25, 0.9, np.nan]])
    with np.errstate(divide="ignore"):
        times = 0.02 / np.abs(np.log(np.abs(values)))
    about = analysis.Stability(values, np.array([True, False]), times)
    plot.eigenvalues(about, ax, dt=0.02)
    ((x, y),) = lines(ax, "fades (4)")
    np.testing.assert_array_equal(x + 1j * y, [0.5 + 0.5j, 0.5 - 0.5j, 0, 0.9])
    ((x, y),) = lines(ax, "grows (1)")
    np.testing.assert_array_equal(x + 1j * y, [1.25])
    np.testing.assert_allclose(np.hypot(*ax.lines[0].get_data()), 1)
    np.testing.assert_allclose(np.hypot(*ax.lines[1].get_data()), np.exp(-1))
    assert ax.texts[0].get_text() == "0.02"  # on the circle of one step
    assert notes(ax)[0] == f"slowest: {0.02 / -np.log(0.9):.3g} s"
    assert "1 NaN" in notes(ax)[1]
    with pytest.raises(ValueError, match=r"dt = 0\.02, and this plot has dt = None: give both"):
        plot.eigenvalues(about, ax)


def standing(n=4):
    """Four points in a plane of n dimensions: stable, unstable, slow, and one that is lost."""
    s = np.zeros((4, n))
    s[:, 0], s[:, 1] = [-2, 0, 2, np.nan], [1, -2, 1, 0]
    distance = np.array([0, 1e-9, 7, np.nan])
    return analysis.Points({"h": s}, np.zeros(4), distance, np.array([0, 0, 1, 3]))


def modes(n=4):
    values = np.full((4, n), 0.5 + 0j)
    values[1, 2] = 1.5
    right = np.tile(np.eye(n, dtype=complex), (4, 1, 1))
    right[1, 2] = np.eye(n)[1]
    return analysis.Stability(
        values, np.array([True, False, True, True]), np.ones((4, n)), right, right
    )


def test_points_in_their_principal_components(ax):
    plot.fixed_points(standing(), modes(), ax=ax)
    marks = {line.get_label(): np.array(line.get_data())[:, 0] for line in ax.lines}
    np.testing.assert_allclose(marks["stable (1)"], [-2, 1], atol=1e-12)
    np.testing.assert_allclose(marks["unstable (1)"], [0, -2], atol=1e-12)
    np.testing.assert_allclose(marks["slow (1)"], [2, 1], atol=1e-12)
    (line,) = lines(ax, "it leaves along")  # the second axis; 0.12 of a picture 4 wide, both ways
    np.testing.assert_allclose(line, [[0, 0], [-2.48, -1.52]], atol=1e-12)
    assert notes(ax) == ["left out: 1 of 4 points, not finite"]
    assert ax.get_xlabel() == "PC 1 (57%)"  # 8 of 8 + 6


def test_points_among_trajectories(ax):
    """The components are those of the paths, (B, T, ...), of the same structure as the states."""
    rng = np.random.default_rng(0)
    paths = rng.normal(size=(3, 50, 4)) * [5, 0.1, 2, 0.1]
    plot.fixed_points(standing(), None, {"h": paths}, ax)
    cloud = paths.reshape(-1, 4)
    top = np.linalg.eigh(np.cov(cloud.T))[1][:, -1]
    expected = (paths[0] - cloud.mean(axis=0)) @ (top * np.sign(top.sum()))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), expected, rtol=1e-7)
    assert len(ax.lines) == 3 + 2  # slow, and fixed: whether stable is not known
    assert lines(ax, "fixed (2)")
    assert not lines(ax, "it leaves along")
    solid = Figure().add_subplot(projection="3d")
    plot.fixed_points(standing(), modes(), {"h": paths}, solid)
    assert solid.get_zlabel().startswith("PC 3")


def test_a_pair_that_grows_spans_two_directions(ax):
    about = modes()
    about.eigenvalues[1, :2] = 1 + 1j, 1 - 1j
    about.right[1, 0] = np.array([1, 1j, 0, 0]) / np.sqrt(2)
    about.right[1, 1] = about.right[1, 0].conj()
    plot.fixed_points(standing(), about, ax=ax)
    segments = [line for line in ax.lines if line.get_color() == style.COLOURS[4]]
    assert len(segments) == 3  # two of the pair, one of the real mode


def test_one_unit_has_a_picture_too(ax):
    points = analysis.Points(np.array([[0.0], [1.0]]), np.zeros(2), np.zeros(2), np.zeros(2, int))
    plot.fixed_points(points, ax=ax)
    ((x, y),) = lines(ax, "fixed (2)")
    np.testing.assert_allclose(np.abs(np.diff(x)), 1)
    np.testing.assert_array_equal(y, 0)


def test_trajectories_without_a_point(ax):
    """What `distinct` leaves where it finds none: (0, n)."""
    none = analysis.Points(np.zeros((0, 3)), np.zeros(0), np.zeros(0), np.zeros(0, int))
    plot.fixed_points(none, None, np.random.default_rng(0).normal(size=(5, 3)), ax)
    assert len(ax.lines) == 1
    with pytest.raises(ValueError, match="no point and no path is finite"):
        plot.fixed_points(none)


# --- gates ----------------------------------------------------------------------------------------


def test_gates_along_time_are_those_of_the_network(ax):
    """forget, input and output of an LSTM, by NumPy."""
    cell, T, n = cells.lstm.cell, 6, 3
    params = draw(cell, 2, n)
    xs = np.random.default_rng(0).normal(size=(T, 2)).astype("f")
    found = analysis.openness(scan.tied(cell, params), cell.start(params), xs)
    W, V, b = (np.asarray(p, float) for p in params)
    h, c, expected = np.zeros(n), np.zeros(n), []
    for x in xs:
        i, f, g, o = np.split(h @ W + x @ V + b, 4)
        i, f, o = (1 / (1 + np.exp(-a)) for a in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        expected.append((f, i, o))
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, 0), atol=1e-6)  # float32
    plot.gates(found, ("forget", "input", "output"), ax)
    ((t, y),) = lines(ax, "input")
    np.testing.assert_array_equal(t, np.arange(1, T + 1))
    np.testing.assert_allclose(y, np.median(np.asarray(found[1], float), axis=1))
    assert {line.get_linestyle() for line in ax.lines} == {"-", "--", "-."}  # told apart in grey
    with pytest.raises(ValueError, match="openness reads logistic sigmoids"):
        analysis.openness(lambda h, x: (h + x, h), np.zeros(2, "f"), xs)


# --- what all share -------------------------------------------------------------------------------


def test_colours_differ_for_the_colour_blind_and_in_grey():
    """Lab distances of all pairs, as seen by eyes without one kind of cone (Machado et al. 2009,
    IEEE Trans. Vis. Comput. Graph. 15:1291, severity 1), and lightness alone."""
    seen = {
        "normal": np.eye(3),
        "protan": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deutan": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "tritan": [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    }
    rgb = np.array([colors.to_rgb(colour) for colour in plot.COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip

    def lab(linear):
        x, y, z = np.cbrt(np.clip(linear, 1e-3, 1) @ to_xyz.T / [0.95047, 1, 1.08883]).T
        return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)

    for name, matrix in seen.items():
        pairs = itertools.combinations(lab(linear @ np.transpose(matrix)), 2)
        assert min(np.linalg.norm(a - b) for a, b in pairs) > 20, name
    assert np.diff(np.sort(lab(linear)[:, 0])).min() > 10


def test_without_axes_a_figure_is_made():
    with mpl.rc_context({"backend": "agg"}):
        from matplotlib import pyplot

        made = plot.gradient_norms(np.zeros(3))
        assert made.figure.number in pyplot.get_fignums()
        pyplot.close(made.figure)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    assert "plot" in dir(recur)
    for name in [name for name in sys.modules if name.startswith("recur.plot")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delattr(recur, "plot")
    with pytest.raises(ImportError, match=r"pip install 'recur-jax\[plot\]'"):
        _ = recur.plot


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'recur' has no attribute 'plots'"):
        _ = recur.plots


BAD = {
    "lags": (lambda: plot.input_output(np.zeros((3, 2)), range(4)), r"\(\.\.\., 4, k\)"),
    "no values": (lambda: plot.input_output(np.zeros((0, 2)), []), "without empty axes"),
    "a number": (lambda: plot.gradient_norms(1.0), r"must have the shape \(\.\.\., T\)"),
    "words": (lambda: plot.gradient_norms(["a"]), "must hold real numbers"),
    "a vector as a map": (lambda: plot.gradient_map(np.zeros(3)), r"\.\.\., T, lags \+ 1"),
    "logs alone": (lambda: plot.singular_values(np.zeros(3)), "details; got ndarray"),
    "rounding": (
        lambda: plot.singular_values(analysis.SingularValues(np.zeros(3), np.zeros(2))),
        r"got \(3,\) and \(2,\)",
    ),
    "logs of steps": (lambda: plot.one_step_spectra(-np.ones((2, 3))), "the least is -1"),
    "a step": (lambda: plot.one_step_spectra(np.ones(3)), r"\.\.\., T, m"),
    "exponents alone": (lambda: plot.lyapunov(np.zeros(3)), "lyapunov_details; got nd"),
    "eigenvalues alone": (lambda: plot.eigenvalues(np.zeros(3)), "result of analysis.stability"),
    "x of a band": (lambda: plot.band(range(3), np.zeros((2, 4))), "and 3 points"),
    "q of a band": (lambda: plot.band(range(4), np.zeros(4), q=(0.9, 0.5, 0.1)), "that increase"),
    "names of gates": (lambda: plot.gates([np.zeros((3, 2))], ["a", "b"]), "one name per gate"),
    "an open gate": (lambda: plot.gates([np.full((3, 2), 2.0)], ["f"]), "f goes from 0 to 2"),
    "xi": (lambda: plot.phase_diagram(np.ones((2, 3)), range(2), range(3)), r"\(3, 2\); got"),
    "a row of xi": (lambda: plot.phase_diagram(np.ones((1, 3)), range(3), [0]), "two points"),
    "T that fall": (lambda: plot.trainability(np.ones((2, 2)), [0, 1], [4, 2]), "T must increase"),
    "accuracies": (lambda: plot.trainability(np.ones((2, 3)), [0, 1], [1, 2]), r"\(2, 2\); got"),
    "modes of others": (
        lambda: plot.fixed_points(standing(), analysis.Stability(*np.zeros((3, 2, 4)))),
        "it describes 2, and there are 4",
    ),
    "other paths": (lambda: plot.fixed_points(standing(), None, np.zeros((9, 5))), "got 5 and 4"),
    "paths without time": (lambda: plot.fixed_points(standing(), None, np.zeros(4)), "along time"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_a_sentence(name):
    make, sentence = BAD[name]
    with pytest.raises(ValueError, match=sentence):
        make()
    if "matplotlib.pyplot" in sys.modules:  # and no empty figure is left behind
        assert not sys.modules["matplotlib.pyplot"].get_fignums()
