"""Strict dtypes for every test, and the fixture that runs over every cell."""

import gc
import importlib.metadata
import os
import random

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see recur/analysis/numerics/qr.py
FASTER = (
    "--xla_cpu_use_fusion_emitters=false",  # halves the time of compiling a small program
    "--xla_cpu_parallel_codegen_split_count=1",  # each core has a worker of its own
)
KNOWN = importlib.metadata.version("jaxlib").startswith("0.10.")  # an unknown flag ends the process
if KNOWN and FASTER[0] not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FASTER])

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
from programs import (  # noqa: F401
    pytest_runtest_protocol,
    pytest_runtest_teardown,
    pytest_terminal_summary,
)

from recur import Prior, cells
from recur.analysis.numerics import matrix_product as product

jax.config.update("jax_numpy_dtype_promotion", "strict")
gc.set_threshold(100_000, 20, 50)  # JAX makes many objects, few of them in cycles
UNROLLED = product.UNROLL


def pytest_addoption(parser):
    programs.pytest_addoption(parser)
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in another order")


@pytest.hookimpl(trylast=True)  # after those that share a fixture are brought together
def pytest_collection_modifyitems(config, items):
    if config.option.shuffle is not None:
        random.Random(config.option.shuffle).shuffle(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Workers take the tests of a file one after the other, so that they share its programs."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


def pytest_configure(config):
    if config.option.markexpr == "quick":  # the files have some tests that are slow
        config.option.markexpr = "quick and not slow and not long"
    if config.pluginmanager.hasplugin("cacheprovider"):
        programs.keep(config.cache.mkdir("programs"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """At the small sizes of most tests, compiling costs more than running."""
    optimise = item.get_closest_marker("optimised") is not None
    jax.config.update("jax_disable_most_optimizations", not optimise)
    product.UNROLL = UNROLLED if optimise else 1


def normal(*shape, seed=0):
    """Standard normal numbers, a NumPy array of JAX's precision: drawn without a program."""
    return np.random.default_rng(seed).normal(size=shape).astype(jnp.result_type(float))


def draw(cell, d, n, prior=None, seed=0):
    """Parameters of a cell with every field of the prior at work, drawn by one program."""
    prior = Prior(1.3, 0.9, 0.4, 0.3) if prior is None else prior
    return jax.jit(cell.init, static_argnums=(2, 3))(jax.random.key(seed), prior, d, n)


def some_slow(slow, long):
    """Parameters of which some are run with the slow tests, and others, in one text, by hand."""
    return [
        *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(slow)),
        *(pytest.param(name, marks=pytest.mark.long) for name in long.split()),
    ]


LONG_RUNS = [  # in steps
    pytest.param(10_000, marks=pytest.mark.slow),
    pytest.param(100_000, marks=pytest.mark.long),
]

FEW = ("cfn", "gru", "lstm.peephole", "minimal", "vanilla")  # gates, two arrays, no gates


def few_fast(names):
    """Names of cells, of which those of FEW run with the fast tests and others with the slow."""
    return [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in names]


def few_slow(names):
    """Names of cells, of which two of FEW run with the slow tests and others by hand."""
    slow = "cfn", "lstm.peephole"
    return [
        pytest.param(n, marks=pytest.mark.slow if n in slow else pytest.mark.long) for n in names
    ]


@pytest.fixture
def x64():
    """Double precision for one test: for finite differences and dense references."""
    with jax.enable_x64(True):
        yield


# cells that functions make where no module has one like them: built anew at each call
MADE = {
    "highway.deep": lambda: cells.highway.deep(3),
    "jordan.outputs": lambda: cells.jordan.outputs(cells.jordan.squashed, 2),
    "leaky.fixed": lambda: cells.leaky.fixed(0.3),
    "wave.saturable": lambda: cells.wave.saturable(small_medium(), 0.5, 0.7),
}


def small_medium():
    """Three sources in 3 x 3 pixels; a gentle projection, so that its slope is of order 1."""
    sources = ((0, 1), (1, 2), (2, 0))
    return cells.wave.Medium((3, 3), sources, border=1, steepness=2.0)


def build(name):
    """The cell of a name: one that a module has, or one that is made."""
    return MADE[name]() if name in MADE else cells.named(name)


@pytest.fixture(params=[*cells.names(), *MADE])
def name(request):
    """The name of every cell: a new cell is tested by existing."""
    return request.param


@pytest.fixture
def cell(name):
    return build(name)


@pytest.fixture
def sizes(name):
    """(d, n) that suit the cell."""
    if name.startswith("wave."):
        return 3, 9
    return (5, 5) if name == "minimal.bare" else (3, 5)


@pytest.fixture
def params(cell, sizes):
    """A draw with every field of the prior at work."""
    return cell.init(jax.random.key(0), Prior(1.3, 0.9, 0.4, 0.3), *sizes)
