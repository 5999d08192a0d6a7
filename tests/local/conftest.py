"""Processes that the tests of local parts end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str] = SLEEP) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
