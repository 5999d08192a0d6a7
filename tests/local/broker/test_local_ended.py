"""A broker whose starter does not ask for its end becomes a zombie: that has ended too."""

from __future__ import annotations

import subprocess

import psutil
import pytest

from local.broker import local


@pytest.mark.timeout(15)
def test_a_zombie_has_ended() -> None:
    starter = subprocess.Popen(
        ["sh", "-c", "sleep 0.1 & echo $!; exec sleep 60"], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert starter.stdout is not None
    try:
        assert local._ended(psutil.Process(int(starter.stdout.readline())))
    finally:
        starter.kill()
        starter.communicate()


def test_a_running_process_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "STOP_WAIT_S", 0.1)
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert not local._ended(psutil.Process(process.pid))
    finally:
        process.kill()
        process.wait()
