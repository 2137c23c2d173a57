"""How much can be measured within a given number of seconds.

Half of the time is for computing, shared among the phases; the other half is for compiling and
drawing. Costs are rough estimates: pushing a direction through a step costs PUSH of a step, and
work that is cubic in the size of the state costs a multiple of one QR factorisation.
"""

import time
from typing import NamedTuple

import numpy as np

PUSH = 0.5  # of the time of a step: many directions share one reading of the weights
NEWTON = 6  # steps of a search, usually
AHEAD = 800  # steps that states run forward, for each start
EIGENVECTORS, SVD = 10, 2  # in QR factorisations of the same matrix
LARGEST = 1024  # the matrix that is timed; larger ones are extrapolated


class Sizes(NamedTuple):
    """What is measured."""

    steps: int  #: the last steps of the data, along which gradients and exponents are followed
    reach: int  #: the furthest lag of an input, steps
    lags: int  #: the furthest lag of a gradient, steps
    exponents: int  #: the largest of them
    starts: int  #: of searches for fixed points
    spectra: int  #: steps whose Jacobian is decomposed


def plan(T: int, m: int, n: int, seconds: float, step: float, qr: float) -> Sizes:
    """The sizes for T steps of a state of m numbers and an output of n.

    `step` and `qr` are the seconds of one step and of one QR factorisation of an (m, m) matrix.
    Every size grows with `seconds`, between a minimum that is measured however little time there
    is and a maximum beyond which more would show nothing new. Sizes in between are powers of two.
    So small differences in speed do not change the sizes, and compiled programs can be used again.
    """
    compute, push = seconds / 2, PUSH * step

    def fit(share: float, unit: float, least: int, most: int) -> int:
        most = max(most, 1)
        value = share * compute / max(unit, 1e-12)
        value = value if value >= most else 2.0 ** np.floor(np.log2(max(value, 1)))
        return int(np.clip(value, min(least, most), most))

    lags = min(100, T - 1)
    exponents = fit(0.2, 50 * 4 * push, 4, min(32, m))
    steps = fit(0.3, push * (lags + 4 * exponents), max(50, 2 * lags), min(T, 2000))
    return Sizes(
        steps=steps,
        reach=fit(0.2, 2 * push * n, 10, min(200, steps - 1)) if steps > 1 else 0,
        lags=min(lags, steps - 1),
        exponents=exponents,
        starts=fit(0.3, NEWTON * (m * push + qr) + EIGENVECTORS * qr + AHEAD * push, 4, 64),
        spectra=fit(0.15, m * push + SVD * qr, 4, min(32, steps)),
    )


def time_qr(m: int) -> float:
    """Seconds of one QR factorisation of an (m, m) matrix in float32."""
    size = min(m, LARGEST)
    matrix = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        np.linalg.qr(matrix)
        times.append(time.perf_counter() - begin)
    return min(times) * (m / size) ** 3
