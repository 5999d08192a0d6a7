"""Reads a group's state for its next owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from kafka.errors import KafkaError as PythonKafkaError

from features.live.layout import LiveRow
from model.gate.gate import LearnerCheckpoint
from model.kernel.record import KernelRefused, read_info
from streaming.clients import aiokafka_options, make_admin, topic_id
from streaming.config import Config
from streaming.kernel_log.checkpoints import stored_checkpoints
from streaming.kernel_log.closed import ClosedSegment, is_closed_key, stored_segments
from streaming.kernel_log.cuts import ChosenCut, choose
from streaming.kernel_log.errors import KernelLogError, RowError
from streaming.kernel_log.keys import SLOTS, kernel_key, learner_key, mark_key
from streaming.kernel_log.rows import decode_row
from streaming.record_sizes import MAX_RECORD_BYTES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrafficLog:
    """A group's partition of `traffic` at the broker."""

    topic: str
    """Id of the topic, which changes if it is deleted and created again."""
    begin: int
    """First offset that the broker still holds."""
    end: int
    """Offset of the next record to come."""


@dataclass(frozen=True)
class StoredGroup:
    """The contents of a group's log."""

    chosen: ChosenCut
    """The cut to continue from."""
    rows: Sequence[LiveRow]
    unreadable: int
    """Number of `state` records that are no rows; each was logged."""
    kernel_version: int
    """Version of the newest kernel in the log, which may be newer than the cut; 0 if there is none."""
    traffic: TrafficLog
    closed: Mapping[int, ClosedSegment]
    """Requests that late clicks may correct, by segment number."""
    kept: Sequence[LearnerCheckpoint] = ()
    """States to which the learner may return."""


async def read_group(config: Config, group: str, partition: int) -> StoredGroup:
    """Reads the newest committed value of every key of a group. Raises KernelLogError.

    Call it after the group's `GroupWriter` is open; before that, an earlier owner may still write.
    """
    kernels, state, traffic = (
        TopicPartition(topic, partition)
        for topic in (config.topics.kernels, config.topics.state, config.topics.traffic)
    )
    try:
        newest, log_of_traffic = await _read_newest(config, (kernels, state), traffic)
    except (KafkaError, PythonKafkaError) as error:
        raise KernelLogError(f"group {group!r}: reading its kernel log failed: {error!r}") from error
    slots = {slot: newest.get((kernels.topic, learner_key(group, slot))) for slot in SLOTS}
    chosen = choose(group, slots, newest.pop((state.topic, mark_key(group)), None))
    values = {key: value for (topic, key), value in newest.items() if topic == state.topic}
    rows, unreadable = stored_rows(values)
    version = newest_version(group, newest.get((kernels.topic, kernel_key(group))))
    closed = stored_segments(group, values)
    kept = stored_checkpoints(group, {key: value for (topic, key), value in newest.items() if topic == kernels.topic})
    return StoredGroup(chosen, rows.get(group, ()), unreadable, version, log_of_traffic, closed, kept)


def newest_version(group: str, kernel: bytes | None) -> int:
    """Version of a group's kernel record; 0 if there is none that can be read."""
    if kernel is None:
        return 0
    try:
        info = read_info(kernel)
    except KernelRefused as refused:
        log.error("the kernel of group %r in the log cannot be read (%s); the next one replaces it", group, refused)
        return 0
    return info.version if info.group == group else 0


def stored_rows(values: Mapping[bytes | None, bytes | None]) -> tuple[dict[str, list[LiveRow]], int]:
    """Rows by group, from the newest value of each key of the `state` topic, and the number of unreadable rows.

    An unreadable row only loses what is known live about one key. Refusing the whole state for it would end the
    processor at every start.
    """
    rows: dict[str, list[LiveRow]] = {}
    unreadable = 0
    for key, value in values.items():
        if value is None or is_closed_key(key):
            continue
        try:
            group, row = decode_row(key, value)
        except RowError as error:
            log.error("%s; the live features of that key start again from nothing", error)
            unreadable += 1
        else:
            rows.setdefault(group, []).append(row)
    return rows, unreadable


_Newest = dict[tuple[str, bytes | None], bytes | None]


async def _read_newest(
    config: Config, partitions: Sequence[TopicPartition], traffic: TopicPartition
) -> tuple[_Newest, TrafficLog]:
    """The newest value by topic and key of compacted `partitions`, and the broker's state of `traffic`."""
    topic = await asyncio.to_thread(_topic_id, config, traffic.topic)
    newest: _Newest = {}
    consumer = AIOKafkaConsumer(
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        **aiokafka_options(config.kafka),
    )
    await consumer.start()
    try:
        consumer.assign(list(partitions))
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        begins, last = await consumer.beginning_offsets([traffic]), await consumer.end_offsets([traffic])
        while not await _reached(consumer, ends):
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                for record in batch:
                    newest[record.topic, record.key] = record.value
    finally:
        await consumer.stop()
    return newest, TrafficLog(topic, begins[traffic], last[traffic])


def _topic_id(config: Config, name: str) -> str:
    with make_admin(config.kafka) as admin:
        return topic_id(admin, name) or ""


async def _reached(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return False
    return True
