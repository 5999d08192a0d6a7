"""Demos that end with the test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.running_demo import RunningDemo


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., RunningDemo]]:
    """Starts demos on one folder and ends whatever of them is left."""
    started: list[RunningDemo] = []

    def start(*arguments: str) -> RunningDemo:
        started.append(RunningDemo(tmp_path / "run", list(arguments)))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait(30)
        for process in one.left():
            with contextlib.suppress(psutil.Error):
                process.kill()
