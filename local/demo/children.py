"""The demo's processes: started together, waited for, watched, and stopped in order."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.probe import get
from local.watchdog import Watchdog

_TAIL_LINES = 25
_ASK_EVERY_S = 0.1
STOP_S = 15.0
"""Seconds that a process may take to stop."""


class ChildDiedError(Exception):
    """A process of the demo ended by itself; the message names it and shows the end of its log."""


class NotReadyError(Exception):
    """A process of the demo did not become ready; the message names it and shows the end of its log."""


@dataclass(frozen=True)
class Part:
    """One process to be started."""

    name: str
    """Its `driftline` command."""
    ready: str
    """URL that answers 200 once it is ready."""


class Child:
    """One running process with a log of its own."""

    def __init__(self, part: Part, log: Path, environment: Mapping[str, str]) -> None:
        self.part = part
        self.log = log
        command = [str(Path(sys.executable).with_name("driftline")), part.name]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, also that of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process; None while it runs."""
        return self._process.poll()

    def ready(self) -> bool:
        """Whether its endpoint reports that it is ready."""
        try:
            get(self.part.ready)
        except OSError:
            return False
        return True

    def tail(self) -> str:
        """The last lines of the process's log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])

    def signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self.exit_code is None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within `timeout_s`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


class Children:
    """All processes of a demo."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._running: dict[str, Child] = {}

    def start(self, parts: Sequence[Part], logs: Path, environment: Mapping[str, str]) -> None:
        """Starts all of `parts` at once."""
        logs.mkdir(parents=True, exist_ok=True)
        for part in parts:
            child = Child(part, logs / f"{part.name}.log", environment)
            self._running[part.name] = child
            self._watchdog.add(child.pid)

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: child.pid for name, child in self._running.items()}

    def check(self) -> None:
        """Raises ChildDiedError if one has ended by itself."""
        for name, child in self._running.items():
            if child.exit_code is not None:
                raise ChildDiedError(
                    f"`driftline {name}` ended with {_how(child.exit_code)}. The end of its log ({child.log}):\n"
                    + child.tail()
                )

    def wait_ready(
        self, names: Collection[str], timeout_s: float, progress: Callable[[list[str]], None] | None = None
    ) -> None:
        """Waits until those of these names are ready; `progress` gets the names still waited for.

        Raises ChildDiedError at once if one ends, NotReadyError when `timeout_s` is over.
        """
        waiting = {name: self._running[name] for name in names}
        until = time.monotonic() + timeout_s
        while waiting:
            self.check()
            waiting = {name: child for name, child in waiting.items() if not child.ready()}
            if progress is not None:
                progress(list(waiting))
            if waiting and time.monotonic() > until:
                name, child = next(iter(waiting.items()))
                raise NotReadyError(
                    f"`driftline {name}` is not ready after {timeout_s:.0f} s. The end of its log ({child.log}):\n"
                    + child.tail()
                )
            if waiting:
                time.sleep(_ASK_EVERY_S)

    def stop(self, timeout_s: float = STOP_S) -> list[str]:
        """Ends all in order; who does not end in time is killed and named in the result."""
        for child in self._running.values():
            child.signal(signal.SIGTERM)
        until = time.monotonic() + timeout_s
        killed = [name for name, child in self._running.items() if not child.wait(max(0.0, until - time.monotonic()))]
        for name in killed:
            self._running[name].signal(signal.SIGKILL)
            self._running[name].wait(STOP_S)
        self._forget()
        return killed

    def kill(self) -> None:
        """Kills all processes at once."""
        for child in self._running.values():
            child.signal(signal.SIGKILL)

    def _forget(self) -> None:
        for child in self._running.values():
            self._watchdog.remove(child.pid)
        self._running.clear()


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"
