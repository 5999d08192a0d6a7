"""The running scorer: the core with its background tasks, which read kernels and write impressions and events."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable

from msgspec import UNSET

from features.store.online import StoreUnavailableError
from streaming.broker_clock import BrokerClock, steady_wall
from streaming.clients import aiokafka_options, wait_for_broker
from streaming.config import Config
from streaming.events import Event
from streaming.events.decisions import Order
from streaming.events.rules import EventRules
from streaming.monitoring import metrics
from streaming.monitoring.health import Check
from streaming.monitoring.heartbeat import Heartbeat
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.record_sizes import MAX_RECORD_BYTES
from streaming.scorer.access import AccessControl
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.core import Scored, Scorer
from streaming.scorer.daemon_thread import in_daemon_thread
from streaming.scorer.event_writer import EventWriter
from streaming.scorer.impression_log import ImpressionLog
from streaming.scorer.kernel_follower import KernelFollower
from streaming.scorer.page.follower import StatusFollower
from streaming.scorer.page.history import StatusHistory
from streaming.scorer.page.orders import OrderDesk
from streaming.scorer.page.views import OrderRequest, PageView
from streaming.scorer.producer import RestartingProducer
from streaming.scorer.query_reader import QueryReader
from streaming.scorer.request_scheduler import RequestScheduler
from streaming.scorer.schema import (
    KernelsResponse,
    RequestRefused,
    ScoreRequest,
)
from streaming.scorer.topic_ids import TopicIds
from streaming.topics import ensure_topics

_FLUSH_S = 10.0
_WAITING_CALLS = 10
"""Number of calls of the largest size whose events may wait for the broker."""
_WARM_UP_CANDIDATES = 100

log = logging.getLogger(__name__)


class ScorerService:
    """Implements `Backend`. It becomes ready in this order: broker, topics, newest kernels, warm-up."""

    def __init__(
        self,
        config: Config,
        scorer: Scorer,
        kernels: ActiveKernels,
        supervisor: TaskSupervisor,
        *,
        on_ready: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = steady_wall,
    ) -> None:
        """`wall` is this process's clock, seconds since the epoch."""
        self._wall = wall
        self._clock = BrokerClock()
        self._on_ready = on_ready
        self._config = config
        self._scorer = scorer
        self._kernels = kernels
        self._supervisor = supervisor
        self._missing = {"start": "the scorer has not started yet"}
        self._tasks: list[asyncio.Task[object]] = []
        self.max_body_bytes = config.scorer.max_body_bytes
        self._heartbeat = Heartbeat()
        self.checks: dict[str, Check] = {"tasks": supervisor.check, "event loop": self._heartbeat.check}
        self.rules = EventRules(config)
        self.access = AccessControl(config.access, time.monotonic)
        self.max_events = config.access.max_events
        self._scheduler = RequestScheduler(config.access.max_waiting_candidates)
        self._queries = QueryReader(scorer.read_query)
        self._history = StatusHistory(kernels.groups)
        self._desk = OrderDesk(config)
        self._status = StatusFollower(self._history, config, self.now)
        self.page = PageView(
            self._history,
            kernels,
            live_arm=config.scorer.live_arm,
            reads_queries=scorer.reads_queries,
            now=self.now,
            problem=lambda: self._status.problem,
        )
        self._reach_kafka()
        self._observe()

    def _reach_kafka(self) -> None:
        """Makes the Kafka clients' parts before anything can ask for them; `start` begins to use them."""
        options = aiokafka_options(self._config.kafka)
        topics, groups = self._config.topics, [group.name for group in self._config.groups]
        self._producer = RestartingProducer(options, max_bytes=MAX_RECORD_BYTES)
        self._impressions = ImpressionLog(
            self._producer,
            topic=topics.traffic,
            groups=groups,
            max_bytes=self._config.scorer.impression_buffer_bytes,
            broker_clock=self._clock,
            wall=self._wall,
        )
        self._events = EventWriter(
            self._producer,
            topic=topics.interactions,
            timeout_s=self._config.scorer.events_timeout_s,
            max_waiting=_WAITING_CALLS * self.max_events,
        )
        followed = TopicIds(self._config.kafka, (topics.kernels, topics.control))
        self._follower = KernelFollower(
            self._kernels, followed, topic=topics.kernels, control=topics.control, options=options
        )

    def _observe(self) -> None:
        metrics.every_process.CLOCK_OFFSET.set_function(lambda: self._clock.offset_s)
        for (group, arm), window in self._scorer.windows.items():
            metrics.scorer.SCORE_MEAN.labels(group=group, arm=arm).set_function(window.mean)
            metrics.scorer.SCORE_SHIFT.labels(group=group, arm=arm).set_function(window.shift)
        self._explored = {
            (group.name, drawn): metrics.scorer.EXPLORED_REQUESTS.labels(group=group.name, drawn=drawn)
            for group in self._config.groups
            for drawn in ("best", "other")
        }

    async def start(self) -> None:
        """Begins to start in the background; `missing` says what must still happen."""
        self._missing = {"broker": f"Kafka on {self._config.kafka.bootstrap} has not answered yet"}
        self._tasks.append(self._supervisor.task("heartbeat", self._heartbeat.run()))
        self._tasks.append(self._supervisor.task("scorer-start", self._get_ready(), lasting=False))

    async def _get_ready(self) -> None:
        await in_daemon_thread(lambda: wait_for_broker(self._config.kafka, log))
        await in_daemon_thread(lambda: ensure_topics(self._config))
        await self._producer.get()
        self._tasks.append(self._supervisor.task("impression-log", self._impressions.run()))
        self._missing = {"clock": "the broker's clock is not known yet"}
        await self._impressions.ask_time()
        self._tasks.append(self._supervisor.task("kernel-follower", self._follower.run()))
        self._tasks.append(self._supervisor.task("status-follower", self._status.run()))
        self._missing = {"kernels": "the newest kernels are not in use yet"}
        await self._follower.reached.wait()
        self._missing = {"warm-up": "the warm-up is running"}
        await self._warm_up()
        self._on_ready()
        self._missing = {}
        log.info("ready: kernels in use %s", self._kernels.versions())

    async def _warm_up(self) -> None:
        """Scores made-up requests, so that no caller pays for what happens only once; then freezes the collector.

        What exists after the warm-up stays until the end: the collector need not look at it again
        (docs/decisions/0042).
        """
        items = [f"warm-up-{index}" for index in range(min(_WARM_UP_CANDIDATES, self._config.scorer.max_candidates))]
        for _ in range(self._config.scorer.warmup_requests):
            self._scorer.warm_up(items)
            await asyncio.sleep(0)
        gc.collect()
        gc.freeze()

    def missing(self) -> dict[str, str]:
        """What is still waited for, by name; empty when ready. Not ready again once a task has died."""
        if not self._missing and (dead := self._supervisor.check()) is not None:
            return {"tasks": dead}
        if "kernels" in self._missing:
            return {"kernels": self._follower.missing() or self._missing["kernels"]}
        return self._missing

    def now(self) -> float:
        """Broker time, seconds since the epoch: what impressions are stamped with, however wrong the own clock is."""
        return self._clock.now(self._wall())

    async def score(self, request: ScoreRequest, time: float) -> Scored:
        """Scores and logs the impression. Raises RequestRefused."""
        new = self._scorer.new_query(request)
        query = None if new is None else await self._queries.read(new)
        try:
            scored = await self._scheduler.run(self._scorer.in_slices(request, time, query), len(request.candidates))
        except StoreUnavailableError as error:
            raise RequestRefused("feature_store", str(error), status=503) from error
        self._impressions.write(scored.response.group, scored.impression)
        if scored.response.explored is not UNSET:
            drawn = "best" if scored.response.explored.place == 1 else "other"
            self._explored[scored.response.group, drawn].inc()
        return scored

    async def write_events(self, events: list[Event]) -> None:
        """Writes outside events. Raises RequestRefused."""
        await self._events.write(events)

    def kernels(self) -> KernelsResponse:
        """Kernels in use and their history."""
        return KernelsResponse(
            live_arm=self._config.scorer.live_arm,
            current=[self._kernels.state(group) for group in self._kernels.groups],
            swaps=list(self._kernels.swaps),
            refusals=list(self._kernels.refusals),
        )

    async def order(self, request: OrderRequest, key: str) -> Order:
        """Gives an operator's order, on a thread: it waits for the broker. Raises RequestRefused."""
        return await in_daemon_thread(lambda: self._desk.give(request, key))

    async def stop(self) -> None:
        """Delivers the impressions that wait, then ends everything."""
        self._supervisor.stopping()
        self._missing = {"stop": "the scorer is stopping"}
        await self._impressions.flush(_FLUSH_S if self._producer.running() else 0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._producer.stop()
