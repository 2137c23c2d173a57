"""Where the time of the tests goes: the programs that JAX makes of them, which are most of it.

`--programs 20` names the tests that took most of the processor, by its own clock, which other
processes do not move; children of a test are counted. Beside it the programs that were made, and
the seconds on the wall for tracing them to MLIR ("lowered") and for compiling or loading them.
"""

import os
from collections import Counter, defaultdict

import jax
import pytest

MANY = 500  # JAX takes longer for each program the more it keeps: twice as long after 2,000
LOWERED, COMPILED = "jaxpr_to_mlir_module_duration", "backend_compile_duration"

made = Counter()  # programs made and seconds spent, by one test
kept = Counter()  # programs that JAX keeps


def count(event, seconds, **_):
    name = event.rsplit("/", 1)[-1]
    if name in (LOWERED, COMPILED):
        made[name] += seconds
    if name == COMPILED:
        made["programs"] += 1
        kept["programs"] += 1


jax.monitoring.register_event_duration_secs_listener(count)


def keep(folder):
    """Programs are read from this folder and written to it, by children of the tests, too."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"  # else its path is in each key
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def forget_many():
    """Throw away what JAX keeps once it is much."""
    if kept["programs"] > MANY:
        jax.clear_caches()
        kept.clear()


def processor():
    """Seconds that this process has taken of the processors, with children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    made.clear()
    made["processor"] = -processor()
    result = yield
    forget_many()
    return result


def pytest_runtest_teardown(item):
    made["processor"] += processor()
    item.user_properties.append(("programs", dict(made)))


def pytest_addoption(parser):
    parser.addoption("--programs", type=int, metavar="N", help="name the N dearest tests")


def pytest_terminal_summary(terminalreporter, config):
    if not config.option.programs:
        return
    total, tests = Counter(), defaultdict(Counter)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":
                of = dict(report.user_properties).get("programs", {})
                tests[report.nodeid].update(of)
                total.update(of)
    terminalreporter.section("programs")
    dearest = sorted(tests.items(), key=lambda test: -test[1]["processor"])
    for name, of in [("all", total), *dearest[: config.option.programs]]:
        terminalreporter.line(
            f"{of['processor']:7.1f} s, {of['programs']:5.0f} programs, "
            f"lowered {of[LOWERED]:.1f} s, compiled {of[COMPILED]:.1f} s  {name}"
        )
