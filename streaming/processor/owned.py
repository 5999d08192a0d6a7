"""One kernel group while a processor owns it, and how its state is loaded."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from features.live.features import LiveFeatures, LiveLayout
from model.backbone.interface import FrozenBackbone
from model.kernel.learner import Learner
from streaming.config import Config
from streaming.monitoring.health import Watch
from streaming.processor.arm_metrics import GroupMetrics
from streaming.processor.kernel_log import GroupLog, Stored
from streaming.processor.learning_thread import LearningThread
from streaming.processor.live_pusher import LivePusher
from streaming.processor.machine import GroupMachine
from streaming.processor.snapshots import decode_snapshot
from streaming.processor.traffic import Widths

log = logging.getLogger(__name__)
_STRAY_LIMIT_S = 15.0


class RecoveryGapError(Exception):
    """The committed offset lies behind what the snapshot needs; the message says what to do."""


@dataclass
class Owned:
    """One group while this processor owns it."""

    machine: GroupMachine
    log: GroupLog
    thread: LearningThread
    first_offset: int
    """No record before this one is left to read; the first to come must not lie behind it."""
    commits: asyncio.Task[None] = field(init=False)
    """Commits the group until it is left."""
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    begun: bool = False
    strays_since: float | None = None

    def accepts(self, offset: int) -> bool:
        """Whether a record follows on what is loaded. One that Faust fetched before it went back does not.

        Raises RecoveryGapError if only such records come.
        """
        if self.begun or offset <= self.first_offset:
            self.begun = True
            return True
        now = time.monotonic()
        self.strays_since = self.strays_since or now
        if now - self.strays_since > _STRAY_LIMIT_S:
            raise RecoveryGapError(
                f"group {self.machine.group!r} needs traffic from offset {self.first_offset}, but the consumer group "
                f"goes on at {offset}: set it back to {self.first_offset} (kafka-consumer-groups --reset-offsets)"
            )
        return False


class GroupOpener:
    """Loads groups: machine, log and learning thread."""

    def __init__(self, config: Config, backbone: FrozenBackbone, pusher: LivePusher, watch: Watch) -> None:
        self._config, self._backbone, self._pusher, self._watch = config, backbone, pusher, watch
        self._space = config.domain_space()
        self._layout = LiveLayout.of(config.live, backbone.content_width)

    async def open(self, group: str, partition: int) -> Owned:
        """The group as its log has it, its thread started; `commits` is left to the caller. Raises KernelLogError."""
        machine = self._machine(group)
        group_log = GroupLog(self._config, group, partition)
        stored = await group_log.open()
        self._restore(machine, stored)
        observed = GroupMetrics(group)
        thread = LearningThread(
            machine,
            queue_records=self._config.processor.queue_records,
            on_learned=observed.learned,
            on_rows=lambda rows: self._pusher.add(group, rows),
            on_cut=lambda waiting: observed.summarise(machine, waiting),
            on_failure=lambda error: self._watch.failed(f"learner-{group}", error),
        )
        thread.start()
        return Owned(machine, group_log, thread, max(machine.position, stored.traffic_begin))

    def _machine(self, group: str) -> GroupMachine:
        backbone, config = self._backbone, self._config
        learner = Learner(
            backbone,
            config.kernel,
            config.learner,
            live_width=self._layout.width,
            domain_sizes=self._space.sizes,
        )
        return GroupMachine(
            group,
            fingerprint=backbone.fingerprint,
            widths=Widths(backbone.width, self._layout.width, backbone.content_width),
            space=self._space,
            learner=learner,
            live=LiveFeatures(self._layout, config.live),
            join=config.join,
            config=config.learner,
        )

    def _restore(self, machine: GroupMachine, stored: Stored) -> None:
        fingerprint = self._backbone.fingerprint
        if stored.learner is None:
            log.info("group %s: no snapshot, the kernel is born as the identity", machine.group)
            return
        snapshot = decode_snapshot(stored.learner, group=machine.group, fingerprint=fingerprint)
        machine.restore(snapshot, stored.rows)
        self._pusher.add(machine.group, machine.live.rows())  # the store may miss what was pushed last before a crash
        log.info(
            "group %s: kernel %d after %d examples, %d rows of live features; re-reading from %d, learning from %d",
            machine.group,
            snapshot.version,
            snapshot.examples,
            len(stored.rows),
            snapshot.resume_offset,
            snapshot.next_offset,
        )
