"""Reads back what a run wrote to Kafka: the report is made from the log itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from streaming.config import Config
from streaming.events import DriftEvent, Traffic, decode_event, decode_traffic
from streaming.events.announcements import announcement_fault
from streaming.kernel_log.keys import kernel_group
from streaming.topic_scan import scan

Progress = Callable[[int, int], None]
"""Called with records read and records in all."""


class LogUnreadableError(Exception):
    """A record of the log cannot be decoded; the message names topic, partition and offset."""


class _Tag(msgspec.Struct):
    event: str


_tag: msgspec.json.Decoder[_Tag] = msgspec.json.Decoder(_Tag)


@dataclass(frozen=True)
class PublishedKernels:
    """Versions and backbones of all kernels ever published, from the kernel log."""

    newest: dict[str, int]
    """Highest version by group; versions count up from 1, so it is also how many were published."""
    fingerprints: frozenset[str]
    """Backbones they were learned on: one, if all is well."""


def read_traffic(config: Config, progress: Progress = lambda _done, _total: None) -> list[Traffic]:
    """All records of `traffic`, partition by partition, in the order of the log.

    Raises TopicScanError if the broker stops answering, LogUnreadableError if a record cannot be decoded.
    """
    records: list[Traffic] = []
    for place, _, value in _read(config, config.topics.traffic, progress):
        try:
            records.append(decode_traffic(value))
        except msgspec.DecodeError as error:
            raise LogUnreadableError(f"{place}: {error}") from error
    return records


def read_drift(config: Config) -> list[DriftEvent]:
    """All valid announcements of drift in `interactions`. Raises TopicScanError."""
    events: list[DriftEvent] = []
    for _, _, value in _read(config, config.topics.interactions):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):  # ingest has reported what is wrong with it
            if _tag.decode(value).event == "drift":
                event = decode_event(value)
                if isinstance(event, DriftEvent) and announcement_fault(event) is None:
                    events.append(event)
    return events


def read_kernels(config: Config) -> PublishedKernels:
    """Versions and backbones of the kernels in the log. Raises TopicScanError, LogUnreadableError."""
    from model.kernel.record import KernelRefused, read_info

    newest: dict[str, int] = {}
    fingerprints = set()
    for place, key, value in _read(config, config.topics.kernels):
        if kernel_group(key) is None:
            continue
        try:
            info = read_info(value)
        except KernelRefused as refused:
            raise LogUnreadableError(f"{place}: {refused}") from refused
        newest[info.group] = max(info.version, newest.get(info.group, 0))
        fingerprints.add(info.backbone_fingerprint)
    return PublishedKernels(newest, frozenset(fingerprints))


def _read(
    config: Config, topic: str, progress: Progress = lambda _done, _total: None
) -> Iterator[tuple[str, bytes | None, bytes]]:
    """Place, key and value of every committed record of `topic` at the time of the call that is no tombstone."""
    for record in scan(config, topic, progress=progress):
        if record.value is not None:
            yield f"{topic}[{record.partition}]@{record.offset}", record.key, record.value
