"""For commands under faketime: libfaketime 0.9.10 hands clock_nanosleep(2), by which Python sleeps, a wrong time.

Python imports this at its start when PYTHONPATH names the folder.
"""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex) -> None:
    select.select((), (), (), float(seconds))


time.sleep = _sleep
