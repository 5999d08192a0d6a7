"""Plays recorded requests against a scorer as live traffic, and the clicks that followed as feedback."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

import aiohttp
import msgspec

from lab.streams.request import ItemFeedback, Request
from local.api_keys import key_cure, key_headers
from local.replay.announce import Announcement, ReplayPlan, early_end
from local.replay.result import ReplayConfig, ReplayResult
from streaming.events import DriftEvent, FeedbackEvent
from streaming.scorer.schema import DomainFacets, ScoreRequest, ScoreResponse

_JSON = {"Content-Type": "application/json"}
_TICK_S = 0.2


class ScorerGoneError(Exception):
    """The scorer does not answer any more; the message names it and the cure."""


class EventSink(Protocol):
    """Receives clicks and announcements. Must not block."""

    def send(self, event: FeedbackEvent | DriftEvent) -> None:
        """Takes an event to be delivered soon."""


Progress = Callable[[ReplayResult], None]
_Later = Callable[[ScoreResponse, list[ItemFeedback]], None]


class Player:
    """Plays one plan. Each user's requests are sent one after the other, even if the plan says otherwise."""

    def __init__(self, config: ReplayConfig, sink: EventSink, progress: Progress | None = None) -> None:
        self._config = config
        self._sink = sink
        self._progress = progress
        self._random = random.Random(config.seed)
        self._in_a_row = 0
        self._open = asyncio.Semaphore(config.max_open)
        self._late: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()
        self._active: dict[tuple[str, str], Announcement] = {}
        self.played = ReplayResult()

    async def play(self, replay_plan: ReplayPlan) -> ReplayResult:
        """Sends every request at its time and announces in between what drift begins and ends.

        Raises ScorerGoneError after too many failures in a row. However the play ends, what was announced has ended.
        """
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_s)
        connector = aiohttp.TCPConnector(limit=self._config.max_open)
        self.played.began_at = time.time()
        ticker = asyncio.create_task(self._tick())
        try:
            headers = key_headers(self._config.key)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
                await self._play_all(session, replay_plan)
        except* ScorerGoneError as gone:
            raise gone.exceptions[0] from None
        finally:
            ticker.cancel()
            self._send([early_end(announcement) for announcement in self._active.values()])
            self.played.ended_at = time.time()
            self._report()
        return self.played

    async def _play_all(self, session: aiohttp.ClientSession, replay_plan: ReplayPlan) -> None:
        last_of_user: dict[str, asyncio.Task[None]] = {}
        due: dict[int, list[Announcement]] = {}
        for announcement in replay_plan.announcements:
            due.setdefault(announcement.position, []).append(announcement)
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            later = partial(self._send_later, tasks, replay_plan.speed)
            for position, slot in enumerate(replay_plan.slots):
                await asyncio.sleep(max(0.0, began + slot.at - time.monotonic()))
                await self._announce(due.get(position, ()))
                await self._open.acquire()
                self.played.behind_s = max(self.played.behind_s, time.monotonic() - began - slot.at)
                request = replay_plan.requests[slot.index]
                before = last_of_user.get(request.user_id)
                last_of_user[request.user_id] = tasks.create_task(self._one(session, request, before, later))
            if last_of_user:
                await asyncio.wait(last_of_user.values())
            await self._announce(due.get(len(replay_plan.slots), ()))
            if self._late:
                await asyncio.wait(self._late, timeout=self._config.late_clicks_s)
            self._ending.set()

    def _send_later(
        self, tasks: asyncio.TaskGroup, speed: float, answer: ScoreResponse, feedback: list[ItemFeedback]
    ) -> None:
        """Starts a task for each feedback, which sends it after its delay, shortened by `speed`."""
        for event in feedback:
            task = tasks.create_task(self._send_late(event.delay / speed, answer.request_id, event))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _announce(self, announcements: Sequence[Announcement]) -> None:
        """Sends them when every request before has its answer, and before the next one leaves."""
        if not announcements:
            return
        for _ in range(self._config.max_open):
            await self._open.acquire()
        self._send(announcements)
        for _ in range(self._config.max_open):
            self._open.release()

    def _send(self, announcements: Iterable[Announcement]) -> None:
        for announcement in announcements:
            key = (announcement.name, announcement.span.kind)
            event = announcement.event(time.time())
            self._sink.send(event)
            self.played.announced.append(event)
            if announcement.phase == "ends":
                self._active.pop(key, None)
            else:
                self._active[key] = announcement

    async def _one(
        self, session: aiohttp.ClientSession, request: Request, before: asyncio.Task[None] | None, later: _Later
    ) -> None:
        try:
            if before is not None:
                await asyncio.wait([before])
            answer = await self._score(session, request)
        finally:
            self._open.release()
        if answer is not None:
            await self._send_clicks(request, answer, later)

    async def _score(self, session: aiohttp.ClientSession, request: Request) -> ScoreResponse | None:
        body = msgspec.json.encode(_score_request(request, queries=self._config.queries))
        began = time.perf_counter()
        try:
            async with session.post(f"{self._config.scorer}/v1/score", data=body, headers=_JSON) as response:
                content = await response.read()
        except TimeoutError:
            self._failed(f"no answer in {self._config.timeout_s:g} s")
            return None
        except aiohttp.ClientError as error:
            self._failed(type(error).__name__)
            return None
        if response.status != 200:
            self._failed(f"HTTP {response.status}{key_cure(response.status, 'score')}")
            return None
        self.played.latencies_s.append(time.perf_counter() - began)
        return self._answered(msgspec.json.decode(content, type=ScoreResponse))

    def _answered(self, answer: ScoreResponse) -> ScoreResponse:
        self.played.answered.add(answer.request_id)
        self.played.items += len(answer.scores)
        self.played.kernel_version = max(self.played.kernel_version, answer.kernel_version)
        self._in_a_row = 0
        return answer

    def _failed(self, cause: str) -> None:
        self.played.failed[cause] += 1
        self._in_a_row += 1
        if self._in_a_row >= self._config.give_up_after:
            raise ScorerGoneError(
                f"{self._in_a_row} requests in a row got no answer from {self._config.scorer} (last: {cause}); "
                "look at the scorer's log"
            )

    async def _send_clicks(self, request: Request, answer: ScoreResponse, later: _Later) -> None:
        feedback = request.feedback()
        if not feedback:
            return
        await asyncio.sleep(self._random.uniform(*self._config.click_after_s))
        now = time.time()
        at_once = [event for event in feedback if event.delay <= 0]
        for event in at_once:
            self._send_feedback(answer.request_id, event, now)
        later(answer, feedback[len(at_once) :])

    async def _send_late(self, delay_s: float, request_id: str, feedback: ItemFeedback) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), delay_s)
        self._send_feedback(request_id, feedback, time.time())

    def _send_feedback(self, request_id: str, feedback: ItemFeedback, now: float) -> None:
        self._sink.send(FeedbackEvent(request_id, feedback.item, now, feedback.kind))
        if feedback.kind == "click":
            self.played.clicks += 1
        else:
            self.played.conversions += 1

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self.played)


def _score_request(request: Request, *, queries: bool) -> ScoreRequest:
    facets = DomainFacets(request.domain.scene, request.domain.region, request.domain.period)
    query = request.query if queries and request.query else None
    return ScoreRequest(request.user_id, list(request.items), facets, query=query)
