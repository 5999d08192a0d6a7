"""The demo as a user runs it: real processes, real broker, real data, a shortened stream."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.broker import LocalBroker
from local.probe import scrape
from local.watchdog import Watchdog

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]

MARK = "A_DEMO_UNDER_TEST"
GONE_S = 40.0
SMALL = {"DRIFTLINE_PRETRAIN__EPOCHS": "1"}
"""The shape of the run is tested here, not the quality of the model."""


@dataclass
class RunningDemo:
    """One `driftline demo`; everything it starts inherits a mark, by which it is recognised."""

    folder: Path
    arguments: list[str]
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        command = [str(Path(sys.executable).with_name("driftline")), "--run-dir", str(self.folder), "demo"]
        self.output_file = self.folder.parent / f"output-{self.mark}.txt"
        with self.output_file.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, *self.arguments], stdout=out, stderr=out, env={**os.environ, **SMALL, MARK: self.mark}
            )

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    def left(self) -> list[psutil.Process]:
        """Processes that bear the mark."""
        processes = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    processes.append(process)
            except psutil.Error:
                continue
        return processes

    def part(self, name: str) -> psutil.Process:
        """The process of `driftline NAME`."""
        return next(process for process in self.left() if process.cmdline()[-1:] == [name])

    def until(self, what: str, true: Callable[[], bool], seconds: float = 240.0) -> None:
        """Waits for `true`, or fails with the output of the demo."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"{what} did not come; its output:\n{self.output}"
            time.sleep(0.1)

    def until_log(self, name: str, text: str) -> None:
        """Waits until the log of a process holds `text`."""
        log = self.folder / "logs" / f"{name}.log"
        self.until(f"{text!r} in {log.name}", lambda: log.is_file() and text in log.read_text(errors="replace"))

    def until_gone(self) -> None:
        """Fails if something that the demo started still runs after a while."""
        self.until("the end of all processes", lambda: not self.left(), GONE_S)

    def ended(self, seconds: float = 300.0) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    def report(self) -> dict[str, Any]:
        """What the demo wrote for programs."""
        values: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return values


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


def test_the_demo_learns_a_live_stream_reports_it_and_stays_until_it_is_stopped(
    demo: Callable[..., RunningDemo],
) -> None:
    running = demo("--keep", "--limit", "400")
    assert running.ended() == 0, running.output
    check_report(running)
    try:
        assert {process.cmdline()[-1] for process in running.left()} >= {"ingest", "process", "serve"}
        command = next(line.strip() for line in running.output.splitlines() if line.strip().startswith("curl "))
        answer = json.loads(subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout)
        assert len(answer["scores"]) == 4
        refused = demo()
        assert refused.ended() != 0
        assert "demo --stop" in refused.output
    finally:
        stopping = demo("--stop")
        assert stopping.ended() == 0, stopping.output
    assert not running.left()


SHORT_SCRIPT = """
name: short-shift
requests: 120
pretrain_requests: 200
users: 300
session: 1
events: [{name: young evenings, kind: taste, at: 0.5, shape: gradual, ramp: 0.2, strength: 0.9}]
"""


def test_the_demo_plays_a_script_and_reports_the_drift_that_was_announced(
    demo: Callable[..., RunningDemo], tmp_path: Path
) -> None:
    script = tmp_path / "short.yaml"
    script.write_text(SHORT_SCRIPT)
    running = demo("--script", str(script))
    assert running.ended() == 0, running.output
    report = running.report()
    assert report["backbone_unchanged"] is True
    assert report["requests"] == 120
    assert report["requests_failed"] == report["impressions_missing"] == report["dead_letters"] == 0
    assert report["examples"] == report["items_served"] == 1_200
    (span,) = report["drift_spans"]
    assert (span["name"], span["kind"], span["returns"]) == ("young evenings", "taste", False)
    assert span["begins"] < span["full"] < span["ends"]
    assert 400 < span["items_served"] < 800
    assert span["items_served"] % 10 == 0, "a request lies on both sides of an announcement"
    settings = tomllib.loads((running.folder / "driftline.toml").read_text())
    assert settings["domains"]["region"] == ["north", "south", "east"]
    log = (running.folder / "logs" / "ingest.log").read_text()
    assert [phase for phase in ("begins", "full", "ends") if f"young evenings (taste) {phase}" in log] == [
        "begins", "full", "ends",
    ]  # fmt: skip
    assert (running.folder / "log_loss.png").stat().st_size > 10_000
    assert "young evenings (taste)" in running.output
    assert not running.left()


def check_report(running: RunningDemo) -> None:
    report = running.report()
    assert report["backbone_unchanged"] is True
    assert report["requests"] == 400
    assert report["requests_failed"] == report["impressions_missing"] == report["dead_letters"] == 0
    assert 0 < report["examples"] <= report["items_served"]
    assert report["kernels_published"] > 0
    assert report["kernels_taken"] > 0
    assert 0.5 < report["auc_frozen"] < 1.0
    assert 0.5 < report["auc_live"] < 1.0
    assert report["log_loss_frozen"] != report["log_loss_live"], "no served score came from a kernel that had learned"
    assert (running.folder / "log_loss.png").stat().st_size > 10_000
    for word in ("frozen", "live", "freshness", "report.json", "log_loss.png"):
        assert word in running.output


def test_a_second_demo_is_refused_and_ctrl_c_in_the_middle_ends_everything_and_says_so(
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


def test_a_demo_that_is_killed_takes_its_processes_with_it(demo: Callable[..., RunningDemo]) -> None:
    running = demo()
    running.until_log("ingest", "metrics and health")
    running.until("the broker", LocalBroker(running.folder / "broker", Path()).running)
    assert len(running.left()) >= 5
    running.process.kill()
    running.until_gone()


def test_a_process_that_dies_ends_the_demo_with_its_name_and_log(demo: Callable[..., RunningDemo]) -> None:
    running = demo()
    running.until_log("ingest", "metrics and health")
    running.part("ingest").kill()
    assert running.ended(GONE_S * 2) != 0
    assert "`driftline ingest` ended with signal SIGKILL" in running.output
    assert "metrics and health on port" in running.output
    assert not running.left()


def test_a_broker_that_is_away_for_a_while_loses_no_request(
    demo: Callable[..., RunningDemo], watchdog: Watchdog
) -> None:
    running = demo("--limit", "1000")
    running.until_log("serve", "ready: kernels in use")
    settings = tomllib.loads((running.folder / "driftline.toml").read_text())

    def answered() -> float:
        with contextlib.suppress(OSError):
            return scrape(settings["scorer"]["metrics_port"]).total("driftline_score_requests_total")
        return 0.0

    running.until("the play", lambda: answered() > 40)
    port = int(settings["kafka"]["bootstrap"].rpartition(":")[2])
    broker = LocalBroker(running.folder / "broker", Path(settings["cache_dir"]), port, watchdog=watchdog)
    broker.kill()
    time.sleep(10)
    broker.start()
    assert running.ended() == 0, running.output
    report = running.report()
    assert report["impressions_missing"] == 0
    assert report["requests"] == 1000 - report["requests_failed"]
    assert report["examples"] == report["items_served"]
    assert report["backbone_unchanged"] is True
    assert not running.left()
