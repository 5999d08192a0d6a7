"""The stream processor: a thin Faust shell around one learning thread per kernel group it owns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import faust
import mode.loop
from faust.types import TP

from features.live import LiveFeatures, LiveLayout, LiveRow
from features.store import FeatureStore
from model.backbone import FrozenBackbone
from model.checkpoint import load_backbone
from model.learner import Learner
from streaming import metrics
from streaming.arm_metrics import GroupMetrics
from streaming.clients import faust_broker_credentials, faust_brokers, wait_for_broker
from streaming.config import Config
from streaming.health import HealthServer, Watch
from streaming.kernel_log import GroupLog, KernelLogError, OwnershipLostError, Stored
from streaming.learning_thread import Checkpoint, LearningThread
from streaming.live_pusher import LivePusher
from streaming.machine import GroupMachine, Widths
from streaming.snapshots import decode_snapshot
from streaming.topics import ensure_topics

log = logging.getLogger(__name__)
_STRAY_LIMIT_S = 15.0
_LEAVE_S = 5.0
_SWITCH_S = 0.0005
"""Python's own 5 ms is how long the learner would wait for the interpreter after each tensor operation."""


class RecoveryGapError(Exception):
    """The committed offset lies behind what the snapshot needs; the message says what to do."""


@dataclass
class _Owned:
    """One group while this processor owns it."""

    machine: GroupMachine
    log: GroupLog
    thread: LearningThread
    commits: asyncio.Task[None]
    first_offset: int
    """No record before this one is left to read; the first to come must not lie behind it."""
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


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), within_s)
    return event.is_set()


class Processor:
    """Owns the groups of the partitions that Kafka assigns to it."""

    def __init__(
        self, config: Config, backbone: FrozenBackbone, push: Callable[[Sequence[LiveRow], str], object], watch: Watch
    ) -> None:
        """`push` writes live rows of a scope to the feature store."""
        self._config = config
        self._backbone = backbone
        self._space = config.domain_space()
        self._layout = LiveLayout.of(config.live, backbone.content_width)
        self._watch = watch
        self._starting: dict[int, asyncio.Task[_Owned]] = {}
        self._lost: dict[str, str] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self.pusher = LivePusher(push, config.processor.push_interval_s)
        self.app = self._app()

    # --- Faust ---

    def _app(self) -> faust.App:
        config = self._config
        app = faust.App(
            config.processor.app_id,
            store="memory://",
            value_serializer="raw",
            key_serializer="raw",
            autodiscover=False,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            topic_replication_factor=config.kafka.replication_factor,
            consumer_auto_offset_reset="earliest",
            broker_commit_livelock_soft_timeout=10**9,  # we commit ourselves, behind the snapshots
            stream_wait_empty=False,
            broker_session_timeout=config.processor.session_timeout_s,
            broker_heartbeat_interval=config.processor.session_timeout_s / 5,
            broker=faust_brokers(config.kafka),
            broker_credentials=faust_broker_credentials(config.kafka),
        )
        traffic = app.topic(config.topics.traffic, value_serializer="raw", key_serializer="raw")

        async def learn(stream: faust.Stream[bytes]) -> None:
            async for event in stream.noack().events():
                message = event.message
                await self.take(message.partition, message.offset, message.value)

        app.agent(traffic, name="learn")(learn)
        app.on_partitions_assigned.connect(self._assigned)
        app.on_partitions_revoked.connect(self._revoked)
        app.on_before_shutdown.connect(self._shutdown)
        return app

    async def _assigned(self, _app: faust.App, assigned: Iterable[TP], **_: object) -> None:
        wanted = {tp.partition for tp in assigned if tp.topic == self._config.topics.traffic}
        await self._release(set(self._starting) - wanted)
        self._lost.clear()
        for partition in sorted(wanted - set(self._starting)):
            self._starting[partition] = asyncio.create_task(self._own(partition), name=f"own-{partition}")
        metrics.OWNED_GROUPS.set(len(self._starting))

    async def _revoked(self, _app: faust.App, revoked: Iterable[TP], **_: object) -> None:
        await self._release({tp.partition for tp in revoked if tp.topic == self._config.topics.traffic})

    async def _shutdown(self, *_: object, **__: object) -> None:
        self._watch.stopping()
        await self._release(set(self._starting))

    # --- owning a group ---

    async def _own(self, partition: int) -> _Owned:
        group = self._config.groups[partition].name
        began = time.monotonic()
        try:
            owned = await self._open(group, partition)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._watch.failed(f"own-{group}", error)
            raise
        metrics.RECOVERY_SECONDS.labels(group).set(time.monotonic() - began)
        return owned

    async def _open(self, group: str, partition: int) -> _Owned:
        machine = self._machine(group)
        group_log = GroupLog(self._config, group, partition)
        stored = await group_log.open()
        self._restore(machine, stored)
        observed = GroupMetrics(group)
        thread = LearningThread(
            machine,
            queue_records=self._config.processor.queue_records,
            on_learned=observed.learned,
            on_rows=lambda rows: self.pusher.add(group, rows),
            on_cut=lambda waiting: observed.summarise(machine, waiting),
            on_failure=lambda error: self._watch.failed(f"learner-{group}", error),
        )
        thread.start()
        ready: asyncio.Future[_Owned] = asyncio.get_running_loop().create_future()
        commits = asyncio.create_task(self._commit_until_left(partition, ready), name=f"commits-{group}")
        commits.add_done_callback(self._commits_done)
        owned = _Owned(machine, group_log, thread, commits, max(machine.position, stored.traffic_begin))
        ready.set_result(owned)
        return owned

    def _commits_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._watch.failed(task.get_name(), error)

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
        self.pusher.add(machine.group, machine.live.rows())  # the store may miss what was pushed last before a crash
        log.info(
            "group %s: kernel %d after %d examples, %d rows of live features; re-reading from %d, learning from %d",
            machine.group,
            snapshot.version,
            snapshot.examples,
            len(stored.rows),
            snapshot.resume_offset,
            snapshot.next_offset,
        )

    async def _release(self, partitions: Iterable[int]) -> None:
        for partition in sorted(partitions):
            task = self._starting.pop(partition, None)
            if task is None:
                continue
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
            if not task.cancelled() and task.exception() is None:
                await self._give_up(task.result())
        metrics.OWNED_GROUPS.set(len(self._starting))

    async def _give_up(self, owned: _Owned) -> None:
        """Leaves the group as far as it got; what a successor already fenced is simply its own now."""
        owned.leaving.set()
        done, _ = await asyncio.wait([owned.commits], timeout=_LEAVE_S)
        clean = bool(done) and not owned.commits.cancelled() and owned.commits.exception() is None
        owned.commits.cancel()
        last = await owned.thread.stop()
        try:
            if last is not None and clean:  # behind a cut that was not committed, another one would leave a hole
                await self._commit(owned, last)
        except KernelLogError as error:
            log.warning(
                "group %s: the last snapshot was not stored, a successor re-learns it: %s", owned.machine.group, error
            )
        finally:
            await owned.log.close()

    # --- records and commits ---

    async def take(self, partition: int, offset: int, value: bytes) -> None:
        """Hands a record to its group, once the group's state is loaded."""
        task = self._starting.get(partition)
        if task is None:
            return  # revoked meanwhile: the record belongs to another owner
        owned = task.result() if task.done() else await asyncio.shield(task)
        if owned.accepts(offset):
            await owned.thread.put(offset, value)

    async def _commit_until_left(self, partition: int, ready: asyncio.Future[_Owned]) -> None:
        owned = await ready
        while not await _is_set(owned.leaving, self._config.processor.commit_interval_s):
            checkpoint = await owned.thread.checkpoint()
            if checkpoint is not None:
                try:
                    await self._commit(owned, checkpoint)
                except OwnershipLostError as error:
                    return self._lose(partition, owned, error)
                await self._tell_broker(partition, checkpoint)
            self._observe(partition, owned)
        return None

    def _lose(self, partition: int, owned: _Owned, error: OwnershipLostError) -> None:
        """Another processor fenced this one before Kafka told it: stand still until the next assignment."""
        log.warning("%s; this processor lets it go", error)
        self._lost[owned.machine.group] = str(error)
        self._starting.pop(partition)
        metrics.OWNED_GROUPS.set(len(self._starting))
        self._leaving.add(leaving := asyncio.create_task(self._abandon(owned)))
        leaving.add_done_callback(self._leaving.discard)

    async def _abandon(self, owned: _Owned) -> None:
        await owned.thread.stop()
        await owned.log.close()

    async def _tell_broker(self, partition: int, checkpoint: Checkpoint) -> None:
        """Broker commits follow the snapshot, never lead it."""
        await self.app.consumer._commit({TP(self._config.topics.traffic, partition): checkpoint.resume_offset})

    async def _commit(self, owned: _Owned, checkpoint: Checkpoint) -> None:
        group = owned.machine.group
        try:
            with metrics.COMMIT_SECONDS.labels(group).time():
                await owned.log.commit(checkpoint.commit)
        except KernelLogError as error:
            reason = "fenced" if isinstance(error, OwnershipLostError) else "failed"
            metrics.COMMITS_FAILED.labels(group, reason).inc()
            raise
        if checkpoint.commit.kernel is not None:
            metrics.KERNELS_PUBLISHED.labels(group).inc()

    def _observe(self, partition: int, owned: _Owned) -> None:
        high = self.app.consumer.highwater(TP(self._config.topics.traffic, partition))
        if high is not None:
            metrics.PROCESSOR_LAG.labels(owned.machine.group).set(max(0, high - owned.machine.position))

    def check(self) -> str | None:
        """For `/healthz`: groups that were lost to another processor."""
        return "; ".join(self._lost.values()) or None


def run_processor(config: Config) -> int:
    """Processes until SIGTERM or SIGINT; the exit code. Raises the named errors of broker, backbone and store."""
    watch = Watch()
    sys.setswitchinterval(_SWITCH_S)
    if sys.platform != "win32":
        mode.loop.use("uvloop")
    wait_for_broker(config.kafka, log)
    ensure_topics(config)
    store = FeatureStore(config.features, config.run_dir)
    store.apply()
    processor = Processor(config, load_backbone(config.backbone_dir).backbone, store.push_live, watch)
    return run_until_stopped(config, processor, watch)


def run_until_stopped(config: Config, processor: Processor, watch: Watch) -> int:
    """Runs the Faust worker, `/metrics` and the pusher until a signal or a failure; the exit code."""
    checks = {"tasks": watch.check, "groups": processor.check, "feature_push": processor.pusher.check}
    with HealthServer(config.processor.metrics_port, checks):
        pushing = watch.thread("live-pusher", processor.pusher.run)
        worker = faust.Worker(processor.app, loglevel=config.log_level, redirect_stdouts=False, override_logging=False)
        try:
            worker.execute_from_commandline()
        except SystemExit as error:
            if error.code not in (0, None):
                watch.failed("faust-worker", RuntimeError(f"the Faust worker ended with {error.code}"))
        finally:
            watch.stopping()
            processor.pusher.stop()
            pushing.join()
            processor.pusher.flush()
    return watch.exit_code
