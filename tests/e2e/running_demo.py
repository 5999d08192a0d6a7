"""The demo as a user runs it, in real processes that can be recognised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

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
