"""Plays recorded requests against a scorer as live traffic, and the clicks that followed as feedback."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
import msgspec

from features.movielens import Request
from streaming.events import FeedbackEvent
from streaming.replay.schedule import Slot
from streaming.scorer.schema import DomainFacets, ScoreRequest, ScoreResponse

_JSON = {"Content-Type": "application/json"}
_TICK_S = 0.2


class ScorerGoneError(Exception):
    """The scorer does not answer any more; the message names it and the cure."""


class FeedbackSink(Protocol):
    """Where clicks go. Must not block."""

    def send(self, feedback: FeedbackEvent) -> None: ...


@dataclass(frozen=True)
class PlayConfig:
    """How requests are sent."""

    scorer: str
    """Base address of the scorer, `http://host:port`."""
    timeout_s: float = 5.0
    """A request without an answer for this long has failed."""
    click_after_s: tuple[float, float] = (0.02, 0.15)
    """A user clicks this long after the answer, evenly between the two, seconds."""
    max_open: int = 4
    """Requests on their way at once: on a machine that is too slow the play takes longer, instead of piling up what a
    single scorer process answers one by one anyway."""
    give_up_after: int = 100
    """So many failures in a row end the play."""
    seed: int = 5
    """Seed of the click delays."""


@dataclass
class Played:
    """What was sent and what came back; counts while the play runs."""

    answered: set[str] = field(default_factory=set)
    """Request ids that the scorer gave."""
    failed: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by cause."""
    latencies_s: list[float] = field(default_factory=list)
    """From sending a request to its whole answer, seconds, in the order of the answers."""
    items: int = 0
    clicks: int = 0
    kernel_version: int = 0
    """Newest version seen in an answer."""
    behind_s: float = 0.0
    """The furthest the play fell behind its plan, seconds."""
    began_at: float = 0.0
    """Wall clock of the first request, seconds since the epoch."""
    ended_at: float = 0.0
    """Wall clock after the last click."""

    @property
    def requests(self) -> int:
        """Requests that ended, answered or not."""
        return len(self.answered) + self.failed.total()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return (self.ended_at or time.time()) - self.began_at if self.began_at else 0.0


Progress = Callable[[Played], None]


class Player:
    """Plays one plan. Each user's requests go one after the other, whatever the plan says."""

    def __init__(self, config: PlayConfig, sink: FeedbackSink, progress: Progress | None = None) -> None:
        self._config = config
        self._sink = sink
        self._progress = progress
        self._random = random.Random(config.seed)
        self._in_a_row = 0
        self._open = asyncio.Semaphore(config.max_open)
        self.played = Played()

    async def play(self, requests: Sequence[Request], slots: Sequence[Slot]) -> Played:
        """Sends every request of `slots` at its time. Raises ScorerGoneError after too many failures in a row."""
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_s)
        connector = aiohttp.TCPConnector(limit=self._config.max_open)
        self.played.began_at = time.time()
        ticker = asyncio.create_task(self._tick())
        try:
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                await self._play_all(session, requests, slots)
        except* ScorerGoneError as gone:
            raise gone.exceptions[0] from None
        finally:
            ticker.cancel()
            self.played.ended_at = time.time()
            self._report()
        return self.played

    async def _play_all(
        self, session: aiohttp.ClientSession, requests: Sequence[Request], slots: Sequence[Slot]
    ) -> None:
        last_of_user: dict[str, asyncio.Task[None]] = {}
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for slot in slots:
                await asyncio.sleep(max(0.0, began + slot.at - time.monotonic()))
                await self._open.acquire()
                self.played.behind_s = max(self.played.behind_s, time.monotonic() - began - slot.at)
                request = requests[slot.index]
                before = last_of_user.get(request.user_id)
                last_of_user[request.user_id] = tasks.create_task(self._one(session, request, before))

    async def _one(self, session: aiohttp.ClientSession, request: Request, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait([before])
            answer = await self._score(session, request)
        finally:
            self._open.release()
        if answer is not None:
            await self._click(request, answer)

    async def _score(self, session: aiohttp.ClientSession, request: Request) -> ScoreResponse | None:
        body = msgspec.json.encode(_score_request(request))
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
            self._failed(f"HTTP {response.status}")
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

    async def _click(self, request: Request, answer: ScoreResponse) -> None:
        liked = [item for item, clicked in zip(request.items, request.clicks, strict=True) if clicked]
        if not liked:
            return
        await asyncio.sleep(self._random.uniform(*self._config.click_after_s))
        now = time.time()
        for item in liked:
            self._sink.send(FeedbackEvent(answer.request_id, item, now))
        self.played.clicks += len(liked)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self.played)


def _score_request(request: Request) -> ScoreRequest:
    domain = request.domain
    return ScoreRequest(request.user_id, list(request.items), DomainFacets(domain.scene, domain.region, domain.period))
