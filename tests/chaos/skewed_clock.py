"""Runs a command of this environment with a wall clock that is wrong: `python skewed_clock.py FILE driftline serve`.

FILE holds by how many seconds it is ahead; SIGUSR1 reads it again, as somebody who sets a clock would.
"""

from __future__ import annotations

import runpy
import signal
import sys
import time
from pathlib import Path

_SECONDS, _NANOSECONDS = time.time, time.time_ns


def main() -> None:
    """Replaces the clock, then becomes the command."""
    file, command = Path(sys.argv[1]), sys.argv[2:]
    ahead = [float(file.read_text())]

    def set_clock(*_: object) -> None:
        ahead[0] = float(file.read_text())

    signal.signal(signal.SIGUSR1, set_clock)
    time.time = lambda: _SECONDS() + ahead[0]
    time.time_ns = lambda: _NANOSECONDS() + int(ahead[0] * 1e9)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main()
