"""The stream processor: a thin Faust shell around one learning thread per kernel group it owns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence

import faust
from faust.types import TP

from features.live.features import LiveRow
from model.backbone.interface import FrozenBackbone
from streaming.clients import faust_broker_credentials, faust_brokers
from streaming.config import Config
from streaming.monitoring import metrics
from streaming.monitoring.health import Watch
from streaming.processor.kernel_log import KernelLogError, OwnershipLostError
from streaming.processor.learning_thread import Checkpoint
from streaming.processor.live_pusher import LivePusher
from streaming.processor.owned import GroupOpener, Owned

log = logging.getLogger(__name__)
_LEAVE_S = 5.0


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
        self._watch = watch
        self._starting: dict[int, asyncio.Task[Owned]] = {}
        self._lost: dict[str, str] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self.pusher = LivePusher(push, config.processor.push_interval_s)
        self._opener = GroupOpener(config, backbone, self.pusher, watch)
        # Faust makes a folder for tables, which are not used here; its default is the working directory.
        self._scratch = tempfile.TemporaryDirectory(prefix="driftline-faust-")
        self.app = self._app()

    # --- Faust ---

    def _app(self) -> faust.App:
        config = self._config
        app = faust.App(
            config.processor.app_id,
            store="memory://",
            datadir=self._scratch.name,
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
            """Takes every record; offsets are committed behind the snapshots, never by acknowledging."""
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
        self._scratch.cleanup()

    # --- owning a group ---

    async def _own(self, partition: int) -> Owned:
        group = self._config.groups[partition].name
        began = time.monotonic()
        try:
            owned = await self._opener.open(group, partition)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._watch.failed(f"own-{group}", error)
            raise
        metrics.RECOVERY_SECONDS.labels(group).set(time.monotonic() - began)
        owned.commits = asyncio.create_task(self._commit_until_left(partition, owned), name=f"commits-{group}")
        owned.commits.add_done_callback(self._commits_done)
        return owned

    def _commits_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._watch.failed(task.get_name(), error)

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

    async def _give_up(self, owned: Owned) -> None:
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

    async def _commit_until_left(self, partition: int, owned: Owned) -> None:
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

    def _lose(self, partition: int, owned: Owned, error: OwnershipLostError) -> None:
        """Another processor fenced this one before Kafka told it: stand still until the next assignment."""
        log.warning("%s; this processor lets it go", error)
        self._lost[owned.machine.group] = str(error)
        self._starting.pop(partition)
        metrics.OWNED_GROUPS.set(len(self._starting))
        self._leaving.add(leaving := asyncio.create_task(self._abandon(owned)))
        leaving.add_done_callback(self._leaving.discard)

    async def _abandon(self, owned: Owned) -> None:
        await owned.thread.stop()
        await owned.log.close()

    async def _tell_broker(self, partition: int, checkpoint: Checkpoint) -> None:
        """Broker commits follow the snapshot, never lead it."""
        await self.app.consumer._commit({TP(self._config.topics.traffic, partition): checkpoint.resume_offset})

    async def _commit(self, owned: Owned, checkpoint: Checkpoint) -> None:
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

    def _observe(self, partition: int, owned: Owned) -> None:
        high = self.app.consumer.highwater(TP(self._config.topics.traffic, partition))
        if high is not None:
            metrics.PROCESSOR_LAG.labels(owned.machine.group).set(max(0, high - owned.machine.position))

    def check(self) -> str | None:
        """For `/healthz`: groups that were lost to another processor."""
        return "; ".join(self._lost.values()) or None
