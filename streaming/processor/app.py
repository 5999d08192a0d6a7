"""The stream processor: a thin Faust shell around one learning thread per kernel group it owns."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import tempfile
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Literal

import faust
from aiokafka import ConsumerRecord
from faust.types import TP

from streaming.backbone import OpenedBackbone
from streaming.clients import faust_broker_credentials, faust_brokers
from streaming.config import Config
from streaming.kernel_log.errors import KernelLogError, OwnershipLostError
from streaming.monitoring import metrics
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.processor.fetches import FetchConsumer
from streaming.processor.live_pusher import LivePusher, LiveRowStore
from streaming.processor.owned_group import GroupLoader, OwnedGroup, RecoveryGapError

log = logging.getLogger(__name__)
_LEAVE_S = 5.0
"""Seconds that a commit already under way may take when its group is given up."""
_RELEASE_S = 30.0
"""Seconds that a rebalance waits for all groups that are given up. Groups still closing then go on in the background;
the next owner has fenced them."""


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), within_s)
    return event.is_set()


def _loaded(task: asyncio.Task[OwnedGroup] | None) -> OwnedGroup | None:
    """The group that a task has loaded; None while it does, and where it was cancelled or failed."""
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


class Processor:
    """Owns the groups of the partitions that Kafka assigns to it."""

    def __init__(
        self,
        config: Config,
        opened: OpenedBackbone,
        store: LiveRowStore,
        supervisor: TaskSupervisor,
    ) -> None:
        """`store` takes the live rows of the groups."""
        self._config = config
        self._supervisor = supervisor
        self._groups: dict[int, asyncio.Task[OwnedGroup]] = {}
        self._lost: dict[str, str] = {}
        self._start: Literal["unassigned", "taking over", "done"] = "unassigned"
        self._closing: set[asyncio.Task[None]] = set()
        self.pusher = LivePusher(store, config.processor.push_interval_s)
        self._loader = GroupLoader(config, opened, self.pusher, supervisor)
        # Faust makes a folder for its tables, by default in the working directory; there are no tables here.
        self._scratch = tempfile.TemporaryDirectory(prefix="driftline-faust-")
        self.app = self._app()

    # --- Faust ---

    def _app(self) -> faust.App:
        config = self._config
        app = faust.App(
            config.processor_consumers,
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
            stream_wait_empty=False,
            broker_session_timeout=config.processor.session_timeout_s,
            broker_heartbeat_interval=config.processor.session_timeout_s / 5,
            broker=faust_brokers(config.kafka),
            broker_credentials=faust_broker_credentials(config.kafka),
        )
        app.topics.add(app.topic(config.topics.traffic, value_serializer="raw", key_serializer="raw"))
        app.transport.Consumer = functools.partial(FetchConsumer, self.take)
        app.on_partitions_assigned.connect(self._assigned)
        app.on_partitions_revoked.connect(self._revoked)
        app.on_before_shutdown.connect(self._shutdown)
        return app

    async def _assigned(self, _app: faust.App, assigned: Iterable[TP], **_: object) -> None:
        """Takes over the partitions that are newly assigned, each in a task of its own, and gives up the others."""
        wanted = {tp.partition for tp in assigned if tp.topic == self._config.topics.traffic}
        await self._release(set(self._groups) - wanted)
        self._lost.clear()
        for partition in sorted(wanted - set(self._groups)):
            self._groups[partition] = asyncio.create_task(self._own(partition), name=f"own-{partition}")
        if self._start == "unassigned":
            self._start = "taking over"
        metrics.kernel_log.OWNED_GROUPS.set(len(self._groups))

    async def _revoked(self, _app: faust.App, revoked: Iterable[TP], **_: object) -> None:
        await self._release({tp.partition for tp in revoked if tp.topic == self._config.topics.traffic})

    async def _shutdown(self, *_: object, **__: object) -> None:
        self._supervisor.stopping()
        await self._release(set(self._groups))
        self._scratch.cleanup()

    # --- ownership of groups ---

    async def _own(self, partition: int) -> OwnedGroup:
        """Loads a group and starts its commits. A failure ends the process, except for a partition lost meanwhile."""
        group = self._config.groups[partition].name
        began = time.monotonic()
        try:
            owned = await self._loader.load(group, partition, functools.partial(self._store_offset, partition))
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._supervisor.failed(f"own-{group}", error)
            raise
        metrics.kernel_log.RECOVERY_SECONDS.labels(group).set(time.monotonic() - began)
        owned.commits = asyncio.create_task(self._commit_until_left(partition, owned), name=f"commits-{group}")
        owned.commits.add_done_callback(self._commits_done)
        return owned

    def _commits_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._supervisor.failed(task.get_name(), error)  # ends this process; the next one recovers (decision 0072)

    async def _release(self, partitions: Iterable[int]) -> None:
        """Gives up the groups of these partitions. Raises what their last commits raised."""
        tasks = [task for partition in sorted(partitions) if (task := self._groups.pop(partition, None)) is not None]
        metrics.kernel_log.OWNED_GROUPS.set(len(self._groups))
        if not tasks:
            return
        # All groups at once and within one timeout: giving up one after the other would outlast the session.
        done, late = await asyncio.wait([self._behind(self._leave(task)) for task in tasks], timeout=_RELEASE_S)
        if late:
            log.error("%d groups are not given up after %.0f s; the rebalance goes on", len(late), _RELEASE_S)
        for left in done:
            left.result()

    def _behind(self, closing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs the coroutine that closes a group as a task that goes on even if its caller stops waiting."""
        self._closing.add(task := asyncio.create_task(closing))
        task.add_done_callback(self._closing.discard)
        return task

    async def _leave(self, task: asyncio.Task[OwnedGroup]) -> None:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        owned = _loaded(task)
        if owned is not None:
            await self._give_up(owned)

    async def _give_up(self, owned: OwnedGroup) -> None:
        """Commits a group's progress, then closes it. Without that commit the next owner learns the records again."""
        owned.leaving.set()
        await asyncio.wait([owned.commits], timeout=_LEAVE_S)
        owned.commits.cancel()
        await owned.thread.stop()
        try:
            await asyncio.to_thread(self.pusher.flush)  # afterwards these rows belong to the next owner
            await owned.committer.commit(leaving=True)
        except KernelLogError as error:
            log.warning(
                "group %s: the last snapshot was not stored, a successor re-learns it: %s", owned.machine.group, error
            )
        finally:
            await self._close(owned)

    # --- records and commits ---

    async def take(self, partition: int, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Passes records to their group after its state has been loaded."""
        task = self._groups.get(partition)
        if task is None:
            return  # the partition was revoked, and the records belong to its next owner
        await asyncio.wait([task])
        owned = _loaded(task)
        if owned is None:
            return  # revoked while loading, or loading failed, which ends the process
        try:
            for record in records:
                if owned.accepts(record.offset):
                    await owned.thread.put(record.offset, record.value, record.timestamp / 1_000)
        except RecoveryGapError as error:
            self._supervisor.failed(f"read-{owned.machine.group}", error)  # ends this process
            raise

    async def _commit_until_left(self, partition: int, owned: OwnedGroup) -> None:
        while not await _is_set(owned.leaving, self._config.processor.commit_interval_s):
            try:
                await owned.committer.commit()
            except OwnershipLostError as error:
                return self._lose(partition, owned, error)
            self._observe_lag(partition, owned)
        return None

    async def _store_offset(self, partition: int, offset: int) -> None:
        await self.app.consumer.store_offset(TP(self._config.topics.traffic, partition), offset)

    def _lose(self, partition: int, owned: OwnedGroup, error: OwnershipLostError) -> None:
        """Leaves a group that another processor has fenced before Kafka revoked it, until the next assignment
        (0072)."""
        if _loaded(self._groups.get(partition)) is not owned:
            return  # already being given up and closed; the partition may even have been assigned here again
        log.warning("%s; this processor lets it go", error)
        self._lost[owned.machine.group] = str(error)
        del self._groups[partition]
        metrics.kernel_log.OWNED_GROUPS.set(len(self._groups))
        self._behind(self._abandon(owned))

    async def _abandon(self, owned: OwnedGroup) -> None:
        await owned.thread.stop()
        await self._close(owned)

    async def _close(self, owned: OwnedGroup) -> None:
        await asyncio.to_thread(self.pusher.drop, owned.machine.group)
        await asyncio.to_thread(owned.reader.close)
        await owned.writer.close()

    def _observe_lag(self, partition: int, owned: OwnedGroup) -> None:
        tp = TP(self._config.topics.traffic, partition)
        # Faust knows no end offset of a partition that was revoked during the commit.
        high = self.app.consumer.highwater(tp) if tp in self.app.consumer.assignment() else None
        if high is not None:
            metrics.kernel_log.PROCESSOR_LAG.labels(owned.machine.group).set(max(0, high - owned.machine.position))

    def check_start(self) -> str | None:
        """For `/healthz`: what must still happen before the groups of the first assignment work; None if nothing.

        A group works once its live rows are in the feature store; before, scorers would serve its users as unknown.
        Later assignments do not count, because a group that changes its owner has its rows in the store already.
        """
        if self._start == "unassigned":
            return "Kafka has not assigned any groups yet"
        if self._start == "taking over":
            groups = self._config.groups
            loading = [groups[partition].name for partition, task in [*self._groups.items()] if not task.done()]
            if loading:
                return f"taking over {', '.join(loading)}"
            if self.pusher.beginning:
                return f"the live rows of {', '.join(self.pusher.beginning)} are not in the feature store yet"
            self._start = "done"
        return None

    def check_feedback(self) -> str | None:
        """For `/healthz`: groups that cannot learn because ingest does not report that it has read their feedback."""
        owned = [_loaded(task) for task in [*self._groups.values()]]  # the `tasks` check reports those that failed
        paused = [group.machine.group for group in owned if group is not None and group.machine.join.paused]
        if not paused:
            return None
        return f"learning of {', '.join(paused)} is paused: ingest does not report how much feedback it has read"

    def check(self) -> str | None:
        """For `/healthz`: groups that another processor has fenced."""
        return "; ".join(self._lost.values()) or None
