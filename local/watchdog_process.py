"""Ends processes whose starter has died: `python watchdog_process.py`, told by its standard input whom to watch.

A line `+PID` adds a process, `-PID` leaves it out, `release` ends the watch. The end of the input without it
means that the starter is gone, even by SIGKILL: what is still watched gets SIGTERM, and SIGKILL if that is not enough.
A script of its own with nothing but the standard library: it waits for the whole run and must cost nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

GRACE_S = 10.0


def alive(pid: int) -> bool:
    """Whether a process has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end(pids: Iterable[int], grace_s: float = GRACE_S) -> None:
    """Ends the processes and the groups they lead."""
    left = [pid for pid in pids if alive(pid)]
    for pid in left:
        _signal(pid, signal.SIGTERM)
    until = time.monotonic() + grace_s
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left = [pid for pid in left if alive(pid)]
    for pid in left:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        pass


def main() -> None:
    """Watches until it is released or its input ends."""
    pids: set[int] = set()
    for line in sys.stdin:
        order = line.strip()
        if order == "release":
            return
        if order.startswith("+"):
            pids.add(int(order[1:]))
        elif order.startswith("-"):
            pids.discard(int(order[1:]))
    end(pids)


if __name__ == "__main__":
    main()
