"""However a demo ends before its stream does, it reports it and leaves no process behind."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from local.broker import LocalBroker
from tests.e2e.running_demo import GONE_S, RunningDemo

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]


def test_a_second_demo_is_refused_and_ctrl_c_ends_all_processes_with_a_message(
    demo: Callable[..., RunningDemo],
) -> None:
    running = demo()
    running.until_log("ingest", "metrics and health")
    second = demo()
    assert second.ended() != 0
    assert "a demo plays in" in second.output
    assert str(running.process.pid) in second.output
    running.until_log("serve", "ready: kernels in use")
    running.process.send_signal(signal.SIGINT)
    assert running.ended(GONE_S) == 128 + signal.SIGINT
    assert not running.left()
    assert "everything that the demo started has ended" in running.output
    assert not (running.folder / "report.json").exists()


def test_killing_the_demo_ends_its_processes(demo: Callable[..., RunningDemo]) -> None:
    running = demo()
    running.until_log("ingest", "metrics and health")
    running.until("the broker", LocalBroker(running.folder / "broker", Path()).running)
    assert len(running.left()) >= 5
    running.process.kill()
    running.until_gone()


def test_a_dead_process_ends_the_demo_with_its_name_and_log(demo: Callable[..., RunningDemo]) -> None:
    running = demo()
    running.until_log("ingest", "metrics and health")
    running.part("ingest").kill()
    assert running.ended(GONE_S * 2) != 0
    assert "`driftline ingest` ended with signal SIGKILL" in running.output
    assert "metrics and health on port" in running.output
    assert not running.left()
