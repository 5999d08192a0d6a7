"""Ends worker processes whose starter has died.

A command that is killed by SIGKILL cannot end its workers: they would finish their task and then wait for minutes.
A module with nothing but the standard library, because every worker imports it first.
"""

from __future__ import annotations

import os
import threading
import time

_ASK_EVERY_S = 0.5


def end_with_starter(starter: int) -> None:
    """From now on this process ends soon after its parent, process `starter`, has died."""
    threading.Thread(target=_watch, args=(starter,), name="starter", daemon=True).start()


def _watch(starter: int) -> None:
    while os.getppid() == starter:
        time.sleep(_ASK_EVERY_S)
    os._exit(1)
