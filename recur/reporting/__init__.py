"""One call that measures a network on its own data and reports the results as a page.

    recur.report(body, state, xs, "folder")

writes `report.html`, one file that loads nothing from the internet, and `report.npz`, its numbers.
The module `measurements` holds the analyses that it calls, and `words` the rules for its answers.
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
