"""One call that measures a network on its own data and says what it found, as a page.

    recur.report(body, state, xs, "folder")

writes `report.html`, one file that needs no network, and `report.npz`, its numbers. Which analyses
it calls, and what its words rest on, is in the modules beside this one: `measurements`, `words`.
From the command line: `python -m recur report file.py folder`. Needs matplotlib:
pip install 'recur-jax[plot]'. For use outside jit.
"""

from recur import plot  # noqa: F401  its error names the extra that brings matplotlib
from recur.reporting.make_report import Report, report
from recur.reporting.measurements import Network, OneStep, Path, Reach, Results, Standstill
from recur.reporting.sizes import Sizes
from recur.reporting.words import Finding, findings

__all__ = [
    "report",
    "Report",
    "Results",
    "Network",
    "Sizes",
    "Path",
    "Reach",
    "Standstill",
    "OneStep",
    "findings",
    "Finding",
]
