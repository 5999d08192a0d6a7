"""What a process started ends with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import psutil
import pytest

from local import watchdog_process
from local.watchdog import Watchdog

pytestmark = pytest.mark.slow

DEAF = [sys.executable, "-S", "-c", "import signal, time; signal.signal(15, 1); print(1, flush=True); time.sleep(60)"]


def test_watched_processes_end_when_the_pipe_to_the_watchdog_closes(
    sleeper: Callable[..., subprocess.Popen[bytes]],
) -> None:
    kept, watched, let_go = sleeper(), sleeper(), sleeper()
    watchdog = Watchdog()
    for process in (watched, let_go):
        watchdog.add(process.pid)
    watchdog.remove(let_go.pid)
    threading.Thread(target=watched.wait, daemon=True).start()  # else it stays as a zombie, which still has its number
    watchdog.close()
    assert watched.wait(10) == -signal.SIGTERM
    assert kept.poll() is None
    assert let_go.poll() is None


def test_a_released_process_lives_on(sleeper: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = sleeper()
    watchdog = Watchdog()
    watchdog.add(process.pid)
    watchdog.release()
    assert process.poll() is None


def test_the_watchdog_kills_processes_that_ignore_sigterm(sleeper: Callable[..., subprocess.Popen[bytes]]) -> None:
    deaf = sleeper(DEAF)
    assert deaf.stdout is not None
    deaf.stdout.readline()
    watchdog_process.end([deaf.pid], grace_s=0.3)
    assert deaf.wait(10) == -signal.SIGKILL


def test_releasing_a_process_twice_or_an_unknown_process_is_harmless(
    sleeper: Callable[..., subprocess.Popen[bytes]],
) -> None:
    watched, other = sleeper(), sleeper()
    watchdog = Watchdog()
    watchdog.add(watched.pid)
    watchdog.remove(other.pid)
    watchdog.remove(other.pid)
    threading.Thread(target=watched.wait, daemon=True).start()
    watchdog.close()
    assert watched.wait(10) == -signal.SIGTERM
    assert other.poll() is None


def test_watched_processes_end_when_their_parent_is_killed(sleeper: Callable[..., subprocess.Popen[bytes]]) -> None:
    code = (
        "import subprocess, sys, time; from local.watchdog import Watchdog; watchdog = Watchdog()\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        "watchdog.add(child.pid); print(child.pid, flush=True); time.sleep(60)"
    )
    starter = sleeper([sys.executable, "-c", code])
    assert starter.stdout is not None
    child = psutil.Process(int(starter.stdout.readline()))
    starter.kill()
    gone, _ = psutil.wait_procs([child], timeout=30)
    assert gone == [child]
