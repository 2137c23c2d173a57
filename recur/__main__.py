"""`python -m recur report`: a report of a network from the command line."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # see recur/analysis/numerics/qr.py
    from recur.reporting.command_line import main

    sys.exit(main(sys.argv[1:]))
