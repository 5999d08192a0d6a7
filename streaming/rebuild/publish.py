"""Makes a state the group's own: one fenced transaction, and the broker's offset set back to where its records
start."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError, for_code
from kafka.structs import OffsetAndMetadata
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from features.live.layout import LiveRow
from model.kernel.record import pack_kernel
from streaming.clients import make_admin
from streaming.config import Config
from streaming.events.decisions import Decision, encode_decision
from streaming.kernel_log.checkpoints import encode_checkpoint
from streaming.kernel_log.closed import encode_segment, segment_key
from streaming.kernel_log.cuts import StoredCut, seal
from streaming.kernel_log.keys import learner_key, mark_key
from streaming.kernel_log.reader import StoredGroup, read_group
from streaming.kernel_log.rows import StateRecord, encode_row
from streaming.kernel_log.snapshot import encode_snapshot
from streaming.kernel_log.writer import GroupWriter, Transaction
from streaming.rebuild.replay import ReplayError
from streaming.rebuild.state import WholeState

_EVICTED = np.zeros(0, dtype=np.float32)
_WAIT_S, _RETRY_S = 15.0, 0.5


async def publish(config: Config, state: WholeState, decision: Decision) -> int:
    """Writes a state as its group's own; returns its kernel's version, which is above any that scorers have seen.

    Every owner of the group is fenced. Raises ReplayError while processors run, KernelLogError if it fails.
    """
    group = state.snapshot.group
    partition = config.partition_of(group)
    assert partition is not None
    reset_offset(config, TopicPartition(config.topics.traffic, partition), state.snapshot.resume_offset)
    writer = GroupWriter(config, group, partition)
    await writer.open()
    try:
        stored = await read_group(config, group, partition)
        version = max(state.snapshot.version, stored.kernel_version) + 1
        await writer.write(_transaction(state, stored, version, decision))
    finally:
        await writer.close()
    return version


def _transaction(state: WholeState, stored: StoredGroup, version: int, decision: Decision) -> Transaction:
    """What replaces the stored state: rows and segments that the new one lacks are deleted."""
    group, chosen, kernel = state.snapshot.group, stored.chosen, state.kernel
    conversions = state.snapshot.conversions
    if conversions is not msgspec.UNSET:  # from now on the candidate is served
        conversions = msgspec.structs.replace(conversions, clicks=kernel.kernel.weights.numpy().tobytes())
    snapshot = encode_snapshot(msgspec.structs.replace(state.snapshot, version=version, conversions=conversions))
    rows = {(row.kind, row.key): row for row in state.rows}
    gone = {(row.kind, row.key) for row in stored.rows} | state.first_keys
    rows |= {key: LiveRow(*key, 0.0, _EVICTED) for key in gone - set(rows)}
    return Transaction(
        pack_kernel(kernel.kernel, replace(kernel.info, version=version), kernel.depends_on),
        StateRecord(
            learner_key(group, chosen.slot), seal(StoredCut(chosen.number, state.topic, state.rows_offset, snapshot))
        ),
        [
            *[encode_row(group, row, first=key in state.first_keys) for key, row in rows.items()],
            *[StateRecord(segment_key(group, number), None) for number in set(stored.closed) - set(state.segments)],
            *[
                StateRecord(segment_key(group, number), encode_segment(segment))
                for number, segment in state.segments.items()
            ],
            StateRecord(mark_key(group), seal(StoredCut(chosen.number, state.topic, state.rows_offset))),
        ],
        [encode_decision(decision)],
        # The log may hold states with these numbers from the run that this one replaces.
        [encode_checkpoint(group, kept) for kept in state.kept],
    )


def reset_offset(config: Config, partition: TopicPartition, offset: int) -> None:
    """Moves the processors' offset back to `offset` unless it is there or before. Raises ReplayError while they run."""
    retrying = Retrying(  # a new cluster must first create its topic of consumer offsets
        retry=retry_if_exception(lambda error: isinstance(error, KafkaError) and bool(error.retriable)),
        stop=stop_after_delay(_WAIT_S),
        wait=wait_fixed(_RETRY_S),
        reraise=True,
    )
    try:
        with make_admin(config.kafka) as admin:
            retrying(lambda: _set_back(admin, config.processor_consumers, partition, offset))
    except KafkaError as error:
        raise ReplayError(
            f"the offset of consumer group {config.processor_consumers!r} cannot be set: {error!r}"
        ) from error


def _set_back(admin: KafkaAdminClient, group: str, partition: TopicPartition, offset: int) -> None:
    """Sets the consumer group's offset back, never forward. Raises ReplayError if a processor still runs."""
    state = str(admin.describe_groups([group])[group]["group_state"])
    if state not in ("Empty", "Dead"):
        raise ReplayError(
            f"processors of consumer group {group!r} still run ({state}): stop them, for they would go on from what"
            " they have in memory"
        )
    stored = admin.list_group_offsets({group: [partition]})[group].get(partition)
    if stored is None or stored.offset < 0 or stored.offset > offset:
        answer = admin.alter_group_offsets(group, {partition: OffsetAndMetadata(offset, "", -1)})
        if answer[partition] is not for_code(0):
            raise ReplayError(f"Kafka did not set the offset of {group!r} to {offset}: {answer[partition].__name__}")
