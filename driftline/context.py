"""Common parts of all commands: the configuration, the output of errors and logs, the choice of the stream."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.logging import RichHandler

from streaming.config import Config
from streaming.config.environment import foreign_names

if TYPE_CHECKING:
    from lab.streams.choice import StreamChoice

errors = Console(stderr=True)

_SILENT = {"KafkaConnectionError", "KafkaTimeoutError", "NodeNotReadyError"}
_CLIENTS = {"kafka", "aiokafka"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSALS = _FULL | {
    errno.EACCES, errno.EEXIST, errno.EIO, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip
_PLACE = "name a place that can be read and written (--run-dir, --out, DRIFTLINE_CACHE_DIR)"
_ROOM = "free some space there, or name another place (--run-dir, --out, DRIFTLINE_CACHE_DIR)"


class BrokerSilent(Exception):
    """A command failed because no Kafka answered; the message names the address and the cure."""


def silent_broker(load: Callable[[], Config], error: BaseException) -> BrokerSilent | None:
    """The error to show if an unreachable Kafka is the cause, at any depth, of `error`; None for any other cause.

    Causes are recognised by class name, so that a command without a Kafka client need not import one.
    """
    cause: BaseException | None = error
    while cause is not None and type(cause).__name__ not in _SILENT:
        if type(cause).__name__ == "BrokerUnreachable":
            return None  # its own message already says so
        cause = cause.__cause__
    if cause is None or type(cause).__module__.split(".")[0] not in _CLIENTS:
        return None
    return BrokerSilent(
        f"{repr(error) if cause is error else error}. Does a Kafka answer on {load().kafka.bootstrap}? Start one with"
        " `driftline broker start`, or name yours with `driftline --bootstrap HOST:PORT` or the key kafka.bootstrap"
    )


def file_problem(error: Exception) -> str | None:
    """What to show if the operating system has refused a file, which no change of the program cures; None else."""
    if isinstance(error, shutil.Error):  # of a copied folder: one entry for each file
        _, place, reason = error.args[0][0]
        return f"{place}: {reason.split(': ')[0]}; {_ROOM}"
    if not isinstance(error, OSError) or error.errno not in _REFUSALS:
        return None
    place = error.filename if error.filename is not None else "the output"
    return f"{place}: {os.strerror(error.errno)}; {_ROOM if error.errno in _FULL else _PLACE}"


def settings(context: typer.Context) -> Config:
    """The configuration, read now. Raises ConfigError."""
    config = context.obj()
    assert isinstance(config, Config)
    return config


def log_to_stderr(config: Config) -> None:
    """Plain lines for services; colours where a person looks."""
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=errors, show_path=False)
        form = "%(message)s"
    else:
        handler, form = logging.StreamHandler(), "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=config.log_level, handlers=[handler], format=form)
    for name in foreign_names(os.environ, Config):
        logging.getLogger("driftline").debug("%s is a cluster's word for a service, no key of ours: passed over", name)


def stream_choice(
    script: str | None, log: Path | None, mapping: str | None, archive: Path | None = None
) -> StreamChoice:
    """MovieLens 100K, or the script or log that is named."""
    from lab.streams.choice import StreamChoice

    return StreamChoice(script, log, mapping, archive)
