"""A group's state as its next owner reads it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from features.live.layout import LiveRow
from streaming.clients import aiokafka_options
from streaming.config import Config
from streaming.kernel_log.closed import ClosedSegment, is_closed_key, stored_segments
from streaming.kernel_log.errors import KernelLogError, RowError
from streaming.kernel_log.keys import MAX_RECORD_BYTES, learner_key
from streaming.kernel_log.rows import decode_row

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredGroup:
    """What the log holds of a group."""

    snapshot: bytes | None
    """The learner's snapshot; None for a group that never committed."""
    rows: Sequence[LiveRow]
    unreadable: int
    """`state` records that are no rows; each was logged by its key."""
    traffic_begin: int
    """First offset of the group's traffic that the broker still holds."""
    closed: Mapping[int, ClosedSegment]
    """Requests that late clicks may correct, by number of their segment."""


async def read_group(config: Config, group: str, partition: int) -> StoredGroup:
    """The newest committed value of every key of a group. Raises KernelLogError.

    To be called once the group's `GroupWriter` is open: until then an earlier owner may still write.
    """
    kernels, state, traffic = (
        TopicPartition(topic, partition)
        for topic in (config.topics.kernels, config.topics.state, config.topics.traffic)
    )
    try:
        newest, begin = await _read_newest(config, (kernels, state), traffic)
    except KafkaError as error:
        raise KernelLogError(f"group {group!r}: reading its kernel log failed: {error!r}") from error
    values = {key: value for (topic, key), value in newest.items() if topic == state.topic}
    rows, unreadable = stored_rows(values)
    closed = stored_segments(group, values)
    return StoredGroup(newest.get((kernels.topic, learner_key(group))), rows.get(group, ()), unreadable, begin, closed)


def stored_rows(values: Mapping[bytes | None, bytes | None]) -> tuple[dict[str, list[LiveRow]], int]:
    """Rows by group, from the newest value of each key of the `state` topic, and how many values are no rows.

    One unreadable row costs what is known live about one key. Refusing the whole state for it would end the processor
    at every start.
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
) -> tuple[_Newest, int]:
    """The newest value by topic and key of compacted `partitions`, and the first offset that is left of `traffic`."""
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
        begins = await consumer.beginning_offsets([traffic])
        while not await _reached(consumer, ends):
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                for record in batch:
                    newest[record.topic, record.key] = record.value
    finally:
        await consumer.stop()
    return newest, begins[traffic]


async def _reached(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return False
    return True
