"""The player against a small scorer of the test's own that misbehaves on demand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio

from lab.streams import DriftSpan
from lab.streams.pacing import Slot
from lab.streams.request import Request
from local.replay.announce import Announcement, ReplayPlan
from local.replay.player import Player, ScorerGoneError
from local.replay.result import ReplayConfig
from model.encoding.domain import Domain
from streaming.events import DriftEvent, FeedbackEvent
from tests.local.replay.fake_scorer import FakeScorer, fake_scorer


@dataclass
class Clicks:
    events: list[FeedbackEvent] = field(default_factory=list)
    sent: list[FeedbackEvent | DriftEvent] = field(default_factory=list)

    def send(self, event: FeedbackEvent | DriftEvent) -> None:
        self.sent.append(event)
        if isinstance(event, FeedbackEvent):
            self.events.append(event)


@pytest_asyncio.fixture
async def scorer() -> AsyncIterator[FakeScorer]:
    async with fake_scorer() as fake:
        yield fake


def recorded(user: str, *clicks: bool) -> Request:
    items = tuple(f"{user}-{position}" for position in range(len(clicks)))
    return Request(0.0, user, Domain("home", "zip1", "night"), items, clicks)


def config(scorer: FakeScorer, **values: float) -> ReplayConfig:
    return ReplayConfig(scorer.url, click_after_s=(0.0, 0.001), **values)  # type: ignore[arg-type]


def at_once(count: int) -> list[Slot]:
    return [Slot(0.0, index) for index in range(count)]


async def test_clicks_name_the_request_and_the_clicked_items(scorer: FakeScorer) -> None:
    clicks = Clicks()
    played = await Player(config(scorer), clicks).play(ReplayPlan([recorded("a", True, False, True)], at_once(1)))
    assert [(click.request_id, click.item_id) for click in clicks.events] == [("main.1", "a-0"), ("main.1", "a-2")]
    assert played.answered == {"main.1"}
    assert (played.items, played.clicks, played.kernel_version) == (3, 2, 7)
    assert scorer.requests[0].domain.region == "zip1"


async def test_a_query_is_sent_where_the_backbone_reads_it(scorer: FakeScorer) -> None:
    requests = [replace(recorded("a", True), query="war films"), recorded("b", True)]
    for queries in (True, False):
        await Player(replace(config(scorer), queries=queries), Clicks()).play(ReplayPlan(requests, at_once(2)))
    asked = sorted((request.user_id, request.query or "") for request in scorer.requests)
    assert asked == [("a", ""), ("a", "war films"), ("b", ""), ("b", "")]


async def test_requests_of_one_user_never_overlap_and_keep_their_order(scorer: FakeScorer) -> None:
    scorer.delay_s = 0.01
    requests = [recorded("a", *[False] * length) for length in range(1, 6)]
    await Player(config(scorer), Clicks()).play(ReplayPlan(requests, at_once(5)))
    assert not scorer.overlapped
    assert [len(request.candidates) for request in scorer.requests] == [1, 2, 3, 4, 5]


async def test_requests_of_different_users_overlap(scorer: FakeScorer) -> None:
    scorer.delay_s = 0.05
    await Player(config(scorer), Clicks()).play(ReplayPlan([recorded(user, True) for user in "abcdefgh"], at_once(8)))
    assert scorer.most_open > 1


async def test_a_5xx_response_is_counted_by_its_status_and_gives_no_clicks(scorer: FakeScorer) -> None:
    scorer.status = 503
    clicks = Clicks()
    played = await Player(config(scorer), clicks).play(
        ReplayPlan([recorded("a", True), recorded("b", True)], at_once(2))
    )
    assert played.failed == {"HTTP 503": 2}
    assert not clicks.events
    assert not played.latencies_s


@pytest.mark.slow
async def test_a_request_that_times_out_is_counted(scorer: FakeScorer) -> None:
    scorer.delay_s = 5.0
    played = await Player(config(scorer, timeout_s=0.05), Clicks()).play(ReplayPlan([recorded("a", True)], at_once(1)))
    assert played.failed == {"no answer in 0.05 s": 1}


async def test_an_unreachable_scorer_ends_the_replay_with_its_address() -> None:
    nobody = ReplayConfig("http://127.0.0.1:9", give_up_after=3)
    with pytest.raises(ScorerGoneError, match=r"http://127.0.0.1:9"):
        await Player(nobody, Clicks()).play(ReplayPlan([recorded(user, True) for user in "abcdef"], at_once(6)))


async def test_progress_is_reported_at_the_end(scorer: FakeScorer) -> None:
    heard: list[int] = []
    player = Player(config(scorer), Clicks(), lambda played: heard.append(played.requests))
    await player.play(ReplayPlan([recorded("a", True)], at_once(1)))
    assert heard[-1] == 1


# --- what a script adds: delays and announcements ---


def delayed(user: str, *delays: float) -> Request:
    items = tuple(f"{user}-{position}" for position in range(len(delays)))
    return Request(0.0, user, Domain("home", "zip1", "night"), items, (True,) * len(delays), delays)


def drift(position: int, phase: str, name: str = "taste") -> Announcement:
    return Announcement(position, name, phase, DriftSpan(name, "taste", 1.0, 9.0, 1.0), 1.0)  # type: ignore[arg-type]


async def test_a_recorded_delay_passes_as_fast_as_the_recording_does(scorer: FakeScorer) -> None:
    clicks = Clicks()
    played = await Player(config(scorer), clicks).play(
        ReplayPlan([delayed("a", 1_000.0, 0.0, 3_000.0)], at_once(1), speed=10_000.0)
    )
    assert [click.item_id for click in clicks.events] == ["a-1", "a-0", "a-2"]
    first, second, third = (click.time for click in clicks.events)
    assert 0.1 <= second - first < 0.25
    assert 0.3 <= third - first < 0.6
    assert played.clicks == 3


async def test_a_conversion_follows_its_click_as_fast_as_the_recording_does(scorer: FakeScorer) -> None:
    clicks = Clicks()
    request = replace(delayed("a", 0.0, 2_000.0), conversions=(1_000.0, 0.0))
    played = await Player(config(scorer), clicks).play(ReplayPlan([request], at_once(1), speed=10_000.0))
    sent = [(click.item_id, click.kind) for click in clicks.events]
    assert sent == [("a-0", "click"), ("a-0", "conversion"), ("a-1", "click"), ("a-1", "conversion")]
    assert clicks.events[1].time - clicks.events[0].time >= 0.1
    assert (played.clicks, played.conversions) == (2, 2)


async def test_a_late_click_delays_neither_the_next_request_of_its_user_nor_other_users(scorer: FakeScorer) -> None:
    requests = [delayed("a", 1_000.0) for _ in range(6)]
    began = time.monotonic()
    player = Player(config(scorer, late_clicks_s=0.6), Clicks())
    await player.play(ReplayPlan(requests, at_once(6), speed=1_000.0))
    assert time.monotonic() - began < 1.0


async def test_clicks_due_long_after_the_last_answer_are_sent_at_the_end(scorer: FakeScorer) -> None:
    clicks = Clicks()
    began = time.time()
    player = Player(config(scorer, late_clicks_s=0.3), clicks)
    played = await player.play(ReplayPlan([delayed("a", 1e9, 10.0)], at_once(1), speed=1_000.0))
    assert [click.item_id for click in clicks.events] == ["a-1", "a-0"]
    assert 0.3 <= clicks.events[-1].time - began < 2.0
    assert played.clicks == 2


async def test_drift_is_announced_after_all_earlier_responses_and_before_the_next_request(scorer: FakeScorer) -> None:
    scorer.delay_s = 0.02
    answered: list[int] = []

    class Noting(Clicks):
        def send(self, event: FeedbackEvent | DriftEvent) -> None:
            if isinstance(event, DriftEvent):
                answered.append(len(scorer.requests))
                assert not any(scorer.open_by_user.values())
            super().send(event)

    plan = [drift(0, "begins"), drift(3, "ends"), drift(3, "begins", "other"), drift(6, "ends", "other")]
    sink = Noting()
    played = await Player(config(scorer), sink).play(
        ReplayPlan([recorded(user, True) for user in "abcdef"], at_once(6), plan)
    )
    assert answered == [0, 3, 3, 6]
    assert [(event.name, event.phase) for event in played.announced] == [
        ("taste", "begins"), ("taste", "ends"), ("other", "begins"), ("other", "ends"),
    ]  # fmt: skip
    assert [event.time for event in played.announced] == sorted(event.time for event in played.announced)
    assert played.announced[0].recorded == 1.0


async def test_a_failed_replay_ends_the_drift_it_announced() -> None:
    sink = Clicks()
    nobody = ReplayConfig("http://127.0.0.1:9", give_up_after=3)
    with pytest.raises(ScorerGoneError):
        await Player(nobody, sink).play(
            ReplayPlan([recorded(user, True) for user in "abcdef"], at_once(6), [drift(0, "begins"), drift(6, "ends")])
        )
    assert [event.phase for event in sink.sent if isinstance(event, DriftEvent)] == ["begins", "ends"]


async def test_an_interrupted_replay_ends_the_drift_it_announced_once(scorer: FakeScorer) -> None:
    begun = asyncio.Event()

    class Noting(Clicks):
        def send(self, event: FeedbackEvent | DriftEvent) -> None:
            super().send(event)
            begun.set()

    sink = Noting()
    scorer.delay_s = 0.05
    player = Player(config(scorer), sink)
    playing = asyncio.create_task(
        player.play(ReplayPlan([recorded(user, False) for user in "abcdef"], at_once(6), [drift(1, "begins")]))
    )
    await begun.wait()
    assert player.played.drift == ["taste"]
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert [event.phase for event in sink.sent if isinstance(event, DriftEvent)] == ["begins", "ends"]
    assert player.played.drift == []
