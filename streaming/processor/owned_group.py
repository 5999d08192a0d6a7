"""One kernel group while a processor owns it, and how its state is loaded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from features.live.features import LiveFeatures
from features.live.first_rows import read_first_rows
from features.live.layout import LiveRow
from model.kernel.learner import Learner
from streaming.backbone import OpenedBackbone
from streaming.config import Config
from streaming.kernel_log.reader import StoredGroup, read_group
from streaming.kernel_log.snapshot import decode_snapshot
from streaming.kernel_log.writer import GroupWriter
from streaming.monitoring import metrics
from streaming.monitoring.watch import Watch
from streaming.processor.commit import GroupCommitter
from streaming.processor.group_metrics import GroupMetrics
from streaming.processor.learning_thread import LearningThread
from streaming.processor.live_pusher import LivePusher
from streaming.processor.machine import GroupMachine
from streaming.processor.partition_reader import PartitionReader
from streaming.processor.traffic_reader import Widths

log = logging.getLogger(__name__)
_STRAY_LIMIT_S = 15.0

StoreOffset = Callable[[int], Awaitable[object]]
"""Commits the offset that a group's next owner reads from to the broker."""


class RecoveryGapError(Exception):
    """The committed offset lies behind what the snapshot needs; the message says what to do."""


@dataclass
class OwnedGroup:
    """One group while this processor owns it."""

    machine: GroupMachine
    thread: LearningThread
    committer: GroupCommitter
    writer: GroupWriter
    reader: PartitionReader
    """Gives back what late clicks belong to; only its thread reads."""
    first_offset: int
    """No record before this one is left to read; the first to come must not lie behind it."""
    commits: asyncio.Task[None] = field(init=False)
    """Commits the group until it is left."""
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    reached: bool = False
    """Whether a record at or before `first_offset` has come."""
    strays_since: float | None = None
    """Monotonic clock when the first record came that lies behind it, seconds."""

    def accepts(self, offset: int) -> bool:
        """Whether a record follows on what is loaded. Raises RecoveryGapError if only such come that do not."""
        # Records that Faust fetched before it went back may come first: taken, they would be a gap (decision 0073).
        if self.reached or offset <= self.first_offset:
            self.reached = True
            return True
        now = time.monotonic()
        self.strays_since = self.strays_since or now
        if now - self.strays_since > _STRAY_LIMIT_S:
            raise RecoveryGapError(
                f"group {self.machine.group!r} needs traffic from offset {self.first_offset}, but the consumer group "
                f"goes on at {offset}: set it back to {self.first_offset} (kafka-consumer-groups --reset-offsets)"
            )
        return False


def first_rows(config: Config, opened: OpenedBackbone, group: str) -> list[LiveRow]:
    """The live rows that the pretraining log gave a group. Raises FirstRowsRefused."""
    return read_first_rows(config.backbone_dir, group, config.domains_of(group), opened.layout)


class GroupLoader:
    """Takes groups over; the steps are numbered as in `docs/recovery.md`, section Taking over."""

    def __init__(self, config: Config, opened: OpenedBackbone, pusher: LivePusher, watch: Watch) -> None:
        self._config, self._opened, self._pusher, self._watch = config, opened, pusher, watch
        self._space = config.domain_space()

    async def load(self, group: str, partition: int, store_offset: StoreOffset) -> OwnedGroup:
        """The group as its log has it, its thread started; `commits` is left to the caller. Raises KernelLogError."""
        reader = PartitionReader(self._config, partition)
        machine = await asyncio.to_thread(self._machine, group, reader)
        writer = GroupWriter(self._config, group, partition)

        # 1. Fence: from here on Kafka refuses whatever an earlier owner still sends.
        await writer.open()
        try:
            # 2. Read: only now is the log at rest.
            stored = await read_group(self._config, group, partition)

            # 3. Restore: the machine stands where the snapshot was cut; steps 4 and 5 are the machine's own.
            # Off the loop, as the machine was made: rows are many, and heartbeats go on.
            await asyncio.to_thread(self._restore, machine, stored)
        except BaseException:
            await writer.close()
            raise
        # The store may miss the first rows, and what was pushed last before a crash. On the loop: a group that was lost
        # meanwhile is cancelled here, and its rows must not overwrite those of its next owner.
        self._pusher.begin(group, machine.live.rows())
        thread = self._thread(machine)
        thread.start()
        committer = GroupCommitter(group, cut=thread.cut, writer=writer, store_offset=store_offset)
        return OwnedGroup(machine, thread, committer, writer, reader, max(machine.position, stored.traffic_begin))

    def _thread(self, machine: GroupMachine) -> LearningThread:
        group, observed = machine.group, GroupMetrics(machine.group, self._space)
        return LearningThread(
            machine,
            queue_records=self._config.processor.queue_records,
            on_learned=observed.learned,
            on_rows=lambda rows: self._pusher.add(group, rows),
            on_cut=lambda waiting: observed.summarise(machine, waiting),
            on_failure=lambda error: self._watch.failed(f"learner-{group}", error),
        )

    def _machine(self, group: str, traffic: PartitionReader) -> GroupMachine:
        opened, config = self._opened, self._config
        fingerprint, layout = opened.backbone.fingerprint, opened.layout
        learner = Learner(opened.start, config.learner, fingerprint=fingerprint, domain_sizes=self._space.sizes)
        return GroupMachine(
            group,
            fingerprint=fingerprint,
            widths=Widths.of(opened.backbone, layout),
            space=self._space,
            learner=learner,
            live=LiveFeatures(layout, config.live),
            first_rows=first_rows(config, opened, group),
            join=config.join,
            config=config.learner,
            traffic=traffic,
        )

    def _restore(self, machine: GroupMachine, stored: StoredGroup) -> None:
        if stored.unreadable:
            metrics.JOIN_DROPPED.labels(machine.group, "unreadable_row").inc(stored.unreadable)
        if stored.snapshot is None:
            log.info("group %s: no snapshot, the kernel begins as the identity", machine.group)
        else:
            self._go_back(machine, stored.snapshot, stored)

    def _go_back(self, machine: GroupMachine, data: bytes, stored: StoredGroup) -> None:
        fingerprint = self._opened.backbone.fingerprint
        snapshot = decode_snapshot(data, group=machine.group, fingerprint=fingerprint)
        machine.restore(snapshot, stored.rows, stored.closed)
        log.info(
            "group %s: kernel %d after %d examples, %d rows of live features; re-reading from %d, learning from %d",
            machine.group,
            snapshot.version,
            snapshot.examples,
            len(stored.rows),
            snapshot.resume_offset,
            snapshot.next_offset,
        )
