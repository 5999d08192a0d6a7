"""A short scripted stream played on the real broker: its requests, its delays and what is announced of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from lab.streams.pacing import Pace
from lab.streams.recording import Recording
from local.replay.announce import make_replay_plan
from local.replay.run import play
from local.report.drift import announced_spans
from local.report.log import read_drift
from streaming.config import Config, JoinConfig
from streaming.events import DriftEvent, FeedbackEvent, decode_event
from streaming.topics import ensure_topics
from tests.benchmarks.test_direct_play import read
from tests.lab.streams.worlds import stream
from tests.local.replay.fake_scorer import FakeScorer, fake_scorer

EVENTS = """[
  {kind: taste, name: evenings, at: 0.3, until: 0.7, shape: gradual, ramp: 0.2, where: {period: [evening]}},
  {kind: label_delay, at: 0.7, mean_s: 40000},
]"""


@pytest_asyncio.fixture
async def scorer() -> AsyncIterator[FakeScorer]:
    async with fake_scorer() as fake:
        yield fake


async def test_spans_are_announced_in_order_between_requests_and_read_back(
    stream_config: Config, scorer: FakeScorer
) -> None:
    config = stream_config.model_copy(update={"join": JoinConfig(window_s=0.2, lateness_s=0.1)})
    ensure_topics(config)
    recording = Recording(
        stream(EVENTS, requests=120, pretrain_requests=20, users=60, shown=5, session=1.0), "Script test"
    )
    replay_plan = make_replay_plan(
        recording.requests("live"), recording.drift_spans, Pace(rate=200.0, think_s=0.05, session_s=1.0)
    )
    played = await play(config, replay_plan, scorer=scorer.url)

    assert len(played.answered) == 120
    assert not played.failed
    events = [decode_event(value) for value in read(config, config.topics.interactions, played.clicks + 5)]
    drift = sorted((event for event in events if isinstance(event, DriftEvent)), key=lambda event: event.time)
    assert [(event.name, event.phase) for event in drift] == [
        ("evenings", "begins"), ("evenings", "full"), ("evenings", "ends"),
        ("label_delay", "begins"), ("label_delay", "ends"),
    ]  # fmt: skip
    assert drift[0].domain == {"period": ["evening"]}
    assert drift[0].returns
    assert drift == played.announced

    clicks = [event for event in events if isinstance(event, FeedbackEvent)]
    assert len(clicks) == played.clicks == sum(sum(request.clicks) for request in replay_plan.requests)
    order = {answer: position for position, answer in enumerate(sorted(played.answered, key=_number))}
    begun = next(one.position for one in replay_plan.announcements if one.name == "label_delay")
    before = [click for click in clicks if order[click.request_id] < begun]
    after = [click for click in clicks if order[click.request_id] >= begun]
    assert all(click.time < drift[3].time + 0.3 for click in before)
    assert any(click.time > played.ended_at - 0.2 for click in after), "no click came later than its window"

    spans = announced_spans(read_drift(config))
    assert [(span.name, span.kind, span.full is not None) for span in spans] == [
        ("evenings", "taste", True), ("label_delay", "label_delay", False),
    ]  # fmt: skip
    assert spans[0].ends == drift[2].time


def _number(request_id: str) -> int:
    return int(request_id.rpartition(".")[2])
