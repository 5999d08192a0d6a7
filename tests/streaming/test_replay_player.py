"""The player against a small scorer of the test's own that misbehaves on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from features.movielens import Request
from model.domain import Domain
from streaming.events import FeedbackEvent
from streaming.replay.player import PlayConfig, Player, ScorerGoneError
from streaming.replay.schedule import Slot
from streaming.scorer.schema import ItemScore, ScoreRequest, ScoreResponse


@dataclass
class FakeScorer:
    """Answers every request with its own items; `status` and `delay_s` change what a client sees."""

    url: str = ""
    status: int = 200
    delay_s: float = 0.0
    requests: list[ScoreRequest] = field(default_factory=list)
    open_by_user: dict[str, int] = field(default_factory=dict)
    overlapped: bool = False
    most_open: int = 0

    async def score(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=ScoreRequest)
        self.overlapped |= self.open_by_user.get(wanted.user_id, 0) > 0
        self.open_by_user[wanted.user_id] = self.open_by_user.get(wanted.user_id, 0) + 1
        self.most_open = max(self.most_open, sum(self.open_by_user.values()))
        await asyncio.sleep(self.delay_s)
        self.open_by_user[wanted.user_id] -= 1
        self.requests.append(wanted)
        answer = ScoreResponse(
            f"main.{len(self.requests)}", 7, "main", [ItemScore(item, 0.5) for item in wanted.candidates]
        )
        return web.Response(status=self.status, body=msgspec.json.encode(answer))


@dataclass
class Clicks:
    events: list[FeedbackEvent] = field(default_factory=list)

    def send(self, feedback: FeedbackEvent) -> None:
        self.events.append(feedback)


@pytest_asyncio.fixture
async def scorer() -> AsyncIterator[FakeScorer]:
    fake = FakeScorer()
    app = web.Application()
    app.router.add_post("/v1/score", fake.score)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


def recorded(user: str, *clicks: bool) -> Request:
    items = tuple(f"{user}-{place}" for place in range(len(clicks)))
    return Request(0.0, user, Domain("home", "zip1", "night"), items, clicks)


def config(scorer: FakeScorer, **values: float) -> PlayConfig:
    return PlayConfig(scorer.url, click_after_s=(0.0, 0.001), **values)  # type: ignore[arg-type]


def at_once(count: int) -> list[Slot]:
    return [Slot(0.0, index) for index in range(count)]


async def test_clicks_name_the_request_and_the_items_that_were_liked(scorer: FakeScorer) -> None:
    clicks = Clicks()
    played = await Player(config(scorer), clicks).play([recorded("a", True, False, True)], at_once(1))
    assert [(click.request_id, click.item_id) for click in clicks.events] == [("main.1", "a-0"), ("main.1", "a-2")]
    assert played.answered == {"main.1"}
    assert (played.items, played.clicks, played.kernel_version) == (3, 2, 7)
    assert scorer.requests[0].domain.region == "zip1"


async def test_requests_of_one_user_never_overlap_and_keep_their_order(scorer: FakeScorer) -> None:
    scorer.delay_s = 0.01
    requests = [recorded("a", *[False] * length) for length in range(1, 6)]
    await Player(config(scorer), Clicks()).play(requests, at_once(5))
    assert not scorer.overlapped
    assert [len(request.candidates) for request in scorer.requests] == [1, 2, 3, 4, 5]


async def test_requests_of_different_users_overlap(scorer: FakeScorer) -> None:
    scorer.delay_s = 0.05
    await Player(config(scorer), Clicks()).play([recorded(user, True) for user in "abcdefgh"], at_once(8))
    assert scorer.most_open > 1


async def test_an_answer_of_5xx_is_counted_by_its_status_and_gives_no_clicks(scorer: FakeScorer) -> None:
    scorer.status = 503
    clicks = Clicks()
    played = await Player(config(scorer), clicks).play([recorded("a", True), recorded("b", True)], at_once(2))
    assert played.failed == {"HTTP 503": 2}
    assert not clicks.events
    assert not played.latencies_s


async def test_a_request_without_an_answer_in_time_is_counted(scorer: FakeScorer) -> None:
    scorer.delay_s = 5.0
    played = await Player(config(scorer, timeout_s=0.05), Clicks()).play([recorded("a", True)], at_once(1))
    assert played.failed == {"no answer in 0.05 s": 1}


async def test_a_scorer_that_is_gone_ends_the_play_with_its_address() -> None:
    nobody = PlayConfig("http://127.0.0.1:9", give_up_after=3)
    with pytest.raises(ScorerGoneError, match=r"http://127.0.0.1:9"):
        await Player(nobody, Clicks()).play([recorded(user, True) for user in "abcdef"], at_once(6))


async def test_progress_hears_of_the_end(scorer: FakeScorer) -> None:
    heard: list[int] = []
    player = Player(config(scorer), Clicks(), lambda played: heard.append(played.requests))
    await player.play([recorded("a", True)], at_once(1))
    assert heard[-1] == 1
