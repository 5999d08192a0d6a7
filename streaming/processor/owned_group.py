"""One kernel group while a processor owns it, and how its state is loaded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from features.live.layout import LiveRow
from streaming.backbone import OpenedBackbone
from streaming.config import Config
from streaming.group.assembly import new_machine
from streaming.group.machine import GroupMachine
from streaming.kernel_log.cuts import StoredCut
from streaming.kernel_log.reader import StoredGroup, TrafficLog, read_group
from streaming.kernel_log.snapshot import GroupSnapshot, decode_snapshot, on_another_log
from streaming.kernel_log.writer import GroupWriter
from streaming.monitoring import metrics
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.processor.commit import CutPlace, GroupCommitter, SnapshotPace, StoreOffset
from streaming.processor.group_metrics import GroupMetrics
from streaming.processor.learning_thread import LearningThread
from streaming.processor.live_pusher import LivePusher
from streaming.processor.partition_reader import PartitionReader
from streaming.processor.status import ShownStrata

log = logging.getLogger(__name__)
_STRAY_LIMIT_S = 15.0


class RecoveryGapError(Exception):
    """The committed offset is later than the snapshot needs; the message names the cure."""


@dataclass
class OwnedGroup:
    """One group while this processor owns it."""

    machine: GroupMachine
    thread: LearningThread
    committer: GroupCommitter
    writer: GroupWriter
    reader: PartitionReader
    """Reads again the records that late clicks belong to; used by the learning thread only."""
    first_offset: int
    """Offset at which reading must start; the first record must not have a later one."""
    commits: asyncio.Task[None] = field(init=False)
    """The task that commits the group until it is left."""
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    reached: bool = False
    """Whether a record at or before `first_offset` has come."""
    strays_since: float | None = None
    """Monotonic clock in seconds when the first later record came; None if there was none."""

    def accepts(self, offset: int) -> bool:
        """Whether a record continues the loaded state. Raises RecoveryGapError if for long only later ones come."""
        # Records that Faust fetched before it went back may come first; taking them would leave a gap (decision 0073).
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


@dataclass(frozen=True)
class _Restored:
    another: AnotherLog | None
    """Why the log of `traffic` is not the one that the cut was made on; None if it is."""
    resume_offset: int | None
    """Where the re-read for the cut begins; None without a cut."""


class GroupLoader:
    """Takes over groups; the numbered steps are those of `docs/recovery.md`, section Taking over."""

    def __init__(self, config: Config, opened: OpenedBackbone, pusher: LivePusher, supervisor: TaskSupervisor) -> None:
        self._config, self._opened, self._pusher, self._supervisor = config, opened, pusher, supervisor
        self._space = config.domain_space()

    async def load(self, group: str, partition: int, store_offset: StoreOffset) -> OwnedGroup:
        """Restores a group from its log and starts its thread; the caller starts `commits`. Raises KernelLogError."""
        reader = PartitionReader(self._config, partition)
        machine = await asyncio.to_thread(new_machine, self._config, self._opened, group, reader)
        writer = GroupWriter(self._config, group, partition)

        # 1. Fence: from now on Kafka refuses everything that an earlier owner still sends.
        await writer.open()
        try:
            # 2. Read: only now can the log no longer change.
            stored = await read_group(self._config, group, partition)

            # 3. Restore: the machine stands where the snapshot was cut; the machine itself does steps 4 and 5.
            # Off the event loop, like making the machine: there are many rows, and heartbeats must go on.
            restored = await asyncio.to_thread(self._restore, machine, stored)
            if restored.another is not None:
                await store_offset(restored.another.begin)
        except BaseException:
            await writer.close()
            raise
        # The store may lack the first rows and the last rows before a crash. This runs on the event loop: a group lost
        # meanwhile is cancelled here, so its rows cannot overwrite those of its next owner.
        self._pusher.begin(group, machine.rows.all())
        pace = SnapshotPace(self._config.processor.snapshot_interval_s, self._config.processor.relearn_s)
        thread = self._thread(machine, pace, stored.kernel_version)
        thread.start()
        place = CutPlace(stored.chosen.number, stored.chosen.slot, stored.traffic.topic, restored.resume_offset)
        committer = GroupCommitter(
            group, source=thread, pace=pace, writer=writer, store_offset=store_offset, place=place
        )
        return OwnedGroup(machine, thread, committer, writer, reader, max(machine.position, stored.traffic.begin))

    def _thread(self, machine: GroupMachine, pace: SnapshotPace, published_version: int) -> LearningThread:
        group = machine.group
        held = (domain for domain in self._space.domains() if self._config.group_of(domain) == group)
        observed = GroupMetrics(group, self._space, ShownStrata(self._space, held))
        return LearningThread(
            machine,
            queue_records=self._config.processor.queue_records,
            pace=pace,
            published_version=published_version,
            status_seconds=self._config.processor.status_seconds,
            status=lambda: observed.status(machine, time.time()),
            on_learned=observed.learned,
            on_rows=lambda rows: self._push(machine, rows),
            on_cut=lambda waiting: observed.summarise(machine, waiting),
            on_failure=lambda error: self._supervisor.failed(f"learner-{group}", error),
        )

    def _push(self, machine: GroupMachine, changed: Sequence[LiveRow]) -> None:
        """Pushes the changed rows, and all of them if the store has lost them; runs on the learning thread."""
        self._pusher.add(machine.group, changed)
        if self._pusher.take_lost(machine.group):
            self._pusher.add(machine.group, machine.rows.all())

    def _restore(self, machine: GroupMachine, stored: StoredGroup) -> _Restored:
        """Goes back to the chosen cut, or to none. If the cut's log is gone, what it has learned is kept."""
        group = machine.group
        if stored.unreadable:
            metrics.join.JOIN_DROPPED.labels(group, "unreadable_row").inc(stored.unreadable)
        for sentence in stored.chosen.refused:
            metrics.kernel_log.SNAPSHOTS_REFUSED.labels(group).inc()
            log.error("%s; going on without it", sentence)
        cut = stored.chosen.cut
        if cut is None:
            log.info("group %s: no snapshot, so the kernel starts as the identity", group)
            if stored.traffic.begin > 0:  # other records than at first, so versions must continue where scorers are
                machine.publisher.version = stored.kernel_version
            return _Restored(None, None)
        snapshot = decode_snapshot(cut.snapshot, group=group, fingerprint=self._opened.backbone.fingerprint)
        another = another_log(cut, snapshot, stored.traffic)
        if another is not None:
            metrics.join.JOIN_DROPPED.labels(group, "lost_with_topic").inc(len(snapshot.pending))
            log.error(
                "group %s: %s; what was learned is kept, what waited for its label is lost (%d labelled requests and "
                "all open ones), and learning goes on from offset %d",
                group, another.why, len(snapshot.pending), another.begin,
            )  # fmt: skip
            snapshot = on_another_log(snapshot, another.begin, stored.kernel_version)
        self._go_back(machine, snapshot, stored)
        return _Restored(another, snapshot.resume_offset)

    def _go_back(self, machine: GroupMachine, snapshot: GroupSnapshot, stored: StoredGroup) -> None:
        """Restores the machine and logs from where it reads, learns and publishes."""
        rows_offset = stored.chosen.rows_offset(stored.traffic.topic)
        machine.restore(snapshot, stored.rows, stored.closed, rows_offset, stored.kept)
        if stored.chosen.fallen_back:
            log.error(
                "group %s: fallen back to the snapshot before; it learns again from %d, the live rows wait until %d",
                machine.group, snapshot.next_offset, machine.rows_offset,
            )  # fmt: skip
        log.info(
            "group %s: kernel %d after %d examples, %d rows of live features; re-reading from %d, learning from %d, "
            "kernels from version %d on are published",
            machine.group,
            snapshot.version,
            snapshot.examples,
            len(stored.rows),
            snapshot.resume_offset,
            snapshot.next_offset,
            max(snapshot.version, stored.kernel_version) + 1,
        )


@dataclass(frozen=True)
class AnotherLog:
    """The log that a cut refers to no longer exists."""

    why: str
    begin: int
    """Offset at which learning goes on."""


def another_log(cut: StoredCut, snapshot: GroupSnapshot, traffic: TrafficLog) -> AnotherLog | None:
    """Why the offsets of a cut have no meaning in this log; None if they have."""
    if cut.topic != traffic.topic:
        why = f"the topic of traffic was deleted and made anew since the last cut ({cut.topic}, now {traffic.topic})"
        return AnotherLog(why, traffic.begin)
    if traffic.end < snapshot.next_offset:
        why = f"its traffic ends at offset {traffic.end}, but the snapshot has seen all up to {snapshot.next_offset}"
        return AnotherLog(why, traffic.end)
    return None
