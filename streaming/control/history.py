"""The kernels that a group has published, as far back as `topics.history_retention_h` keeps them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from model.kernel.record import KernelInfo, KernelRefused, read_info
from model.near_names import did_you_mean
from streaming.config import Config
from streaming.topic_scan import scan, scan_back

log = logging.getLogger(__name__)


class ControlError(Exception):
    """An operator's command cannot be carried out; the message names the thing and the cure."""


@dataclass(frozen=True)
class PastKernel:
    """One published kernel."""

    offset: int
    published_at: float
    """When its transaction was written, seconds since the epoch."""
    info: KernelInfo
    record: bytes
    """The record as it is in the log."""


def read_history(config: Config, group: str) -> list[PastKernel]:
    """The kernels of a group, oldest first; records that hold no kernel are logged and skipped.

    Raises ControlError, TopicScanError.
    """
    return list(_kernels(config, scan(config, config.topics.history, partition_of(config, group))))


def read_history_back(config: Config, group: str) -> Iterator[PastKernel]:
    """The kernels of a group, newest first, read only as far back as the caller iterates."""
    return _kernels(config, scan_back(config, config.topics.history, partition_of(config, group)))


def _kernels(config: Config, records: Iterable[Any]) -> Iterator[PastKernel]:
    for record in records:
        if record.value is None:
            continue
        try:
            info = read_info(record.value)
        except KernelRefused as refused:
            log.warning("offset %d of %s holds no kernel: %s", record.offset, config.topics.history, refused)
            continue
        yield PastKernel(record.offset, record.timestamp / 1_000, info, record.value)


def partition_of(config: Config, group: str) -> int:
    """The partition of a group. Raises ControlError for an unknown group."""
    partition = config.partition_of(group)
    if partition is None:
        known = [known.name for known in config.groups]
        near = did_you_mean(group, known)
        raise ControlError(f"there is no kernel group {group!r}; the configured ones are: {', '.join(known)}{near}")
    return partition


def version_of(history: Sequence[PastKernel], version: int) -> PastKernel:
    """The newest kernel with this version. Raises ControlError."""
    found = next((past for past in reversed(history) if past.info.version == version), None)
    if found is None:
        raise ControlError(f"version {version} is not in the history: {_range(history)}")
    return found


def version_before(history: Sequence[PastKernel], version: int) -> PastKernel:
    """The newest kernel with a smaller version. Raises ControlError."""
    found = next((past for past in reversed(history) if past.info.version < version), None)
    if found is None:
        raise ControlError(f"there is no version before {version} in the history: {_range(history)}")
    return found


def _range(history: Sequence[PastKernel]) -> str:
    if not history:
        return "it holds no kernel yet"
    versions = [past.info.version for past in history]
    return f"it holds {min(versions)} to {max(versions)} (topics.history_retention_h says how long it is kept)"
