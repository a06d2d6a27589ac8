"""`python -m worker` with the miniature trainer and a clock that may be wrong:  worker_process.py OFFSET [ARG...]"""

import functools
import sys
import time
from pathlib import Path

OFFSET = float(sys.argv.pop(1))
if OFFSET:
    # Before anything reads it. Leases stand on the monotonic clock and the database's: this must change nothing.
    right = time.time
    time.time = lambda: right() + OFFSET
    time.time_ns = lambda: int(time.time() * 1e9)

from worker import __main__ as program  # noqa: E402
from worker.preparation import Preparation  # noqa: E402

MINIATURE = (sys.executable, "-P", str(Path(__file__).with_name("miniature.py")))

program.Preparation = functools.partial(Preparation, trainer=MINIATURE)
sys.exit(program.main())
