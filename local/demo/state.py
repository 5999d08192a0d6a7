"""State of a demo that is left running: enough to find and end its processes."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from model.whole_files import write_whole

DEFAULT_FOLDER = Path("runs/demo")
STATE_FILE = "state.json"


class DemoRunningError(Exception):
    """Another demo uses the same folder; the message names it and how to end it."""


class RunningProcess(msgspec.Struct, frozen=True):
    """A process that is meant, not whichever has its number by now."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> RunningProcess:
        """The process that has this number now. Raises psutil.NoSuchProcess."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process, or None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            if process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.NoSuchProcess:
            pass
        return None


class DemoState(msgspec.Struct, frozen=True):
    """A demo that was left running."""

    processes: dict[str, RunningProcess]
    """Processes by name, in the order in which they are ended; the broker is last."""
    addresses: dict[str, str]

    def alive(self) -> dict[str, psutil.Process]:
        """The processes that still run."""
        processes = {name: known.process() for name, known in self.processes.items()}
        return {name: process for name, process in processes.items() if process is not None}


def running(processes: Mapping[str, int]) -> dict[str, RunningProcess]:
    """Notes processes by their numbers. Raises psutil.NoSuchProcess."""
    return {name: RunningProcess.of(pid) for name, pid in processes.items()}


def write_state(run_dir: Path, state: DemoState) -> None:
    """Writes the state whole or not at all."""
    write_whole(run_dir / STATE_FILE, msgspec.json.format(msgspec.json.encode(state), indent=2))


def read_state(run_dir: Path) -> DemoState | None:
    """The state of a demo that was left running, or None; a file that cannot be read counts as none."""
    try:
        return msgspec.json.decode((run_dir / STATE_FILE).read_bytes(), type=DemoState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def ending(run_dir: Path) -> str:
    """The commands that end the demo left running in `run_dir`."""
    if run_dir == DEFAULT_FOLDER:
        return "`make stop` or `driftline demo --stop`"
    return f"`driftline --run-dir {shlex.quote(str(run_dir))} demo --stop`"


@contextmanager
def only_demo(run_dir: Path) -> Iterator[None]:
    """Allows one demo at a time on a folder. Raises DemoRunningError if one plays or was left running."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with (run_dir.parent / f".{run_dir.name}.lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DemoRunningError(
                f"a demo plays in {run_dir} already (process {lock.read().strip() or 'unknown'}): let it end, stop it "
                "with Ctrl-C, or choose another folder with --run-dir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        _refuse_left_running(run_dir)
        yield


def _refuse_left_running(run_dir: Path) -> None:
    state = read_state(run_dir)
    alive = state.alive() if state is not None else {}
    if alive:
        raise DemoRunningError(
            f"a demo was left running in {run_dir} ({', '.join(alive)}): end it with {ending(run_dir)}"
        )
