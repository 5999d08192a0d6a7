"""The state file of a started broker, by which another process can find that broker and no other process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from local.broker.errors import BadState
from model.whole_files import write_whole

STATE_FILE = "broker.json"
MAIN_CLASS = "kafka.Kafka"


@dataclass(frozen=True)
class BrokerState:
    """A started broker."""

    pid: int
    created: float
    """When the process began, seconds since the epoch: with the pid it names one process for ever."""
    port: int
    address: str
    log: str
    java: str

    def process(self) -> psutil.Process | None:
        """The broker's process, None if it has ended or its number belongs to another program now."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
            return process if same and MAIN_CLASS in process.cmdline() else None
        except psutil.NoSuchProcess:
            return None


def read_state(data_dir: Path) -> BrokerState | None:
    """The state file of `data_dir`, None if there is none. Raises BadState."""
    path = data_dir / STATE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=BrokerState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise BadState(path, error) from error


def write_state(data_dir: Path, state: BrokerState) -> None:
    """Replaces the state file in one step."""
    write_whole(data_dir / STATE_FILE, msgspec.json.encode(state))


def clear_state(data_dir: Path) -> None:
    """Removes the state file."""
    (data_dir / STATE_FILE).unlink(missing_ok=True)
