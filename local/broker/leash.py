"""Runs a command that ends with the process that started it: `python leash.py PARENT_PID COMMAND...`.

Linux only: the kernel sends SIGTERM to the command when its parent ends, however it ends. A script of its own and
no hook between fork and exec, because such a hook is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties itself to its parent, then becomes the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:  # else it ended before the leash was on
        os.execv(command[0], command)


if __name__ == "__main__":
    main()
