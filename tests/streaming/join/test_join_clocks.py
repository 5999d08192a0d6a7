"""Clocks, delays and standstills: what the join takes for now, and how long it waits."""

from __future__ import annotations

import pytest

from streaming.config import JoinConfig
from streaming.events import Progress, Tick
from streaming.join.join import Join
from tests.streaming.join.joined import Played, Stamped, click, impression, labels, play, read

FUTURE: list[Stamped] = [
    impression("other", 59),
    impression("other", 3_600),
    impression("other", 86_400),
    Tick(1e15),
    click("nobody", "x", 59),
    click("nobody", "x", 1e15),
    click("r7", "a", 3_600),
]


@pytest.mark.parametrize("ahead", FUTURE)
def test_a_time_ahead_of_the_broker_affects_no_other_request(ahead: Stamped) -> None:
    played = Played()
    for now in range(120):
        played.feed(read(now), at=now)
        played.feed(impression(f"r{now}", now), at=now)
        if now % 20 == 0:
            played.feed(ahead, at=now)
        played.feed(click(f"r{now}", "a", now + 0.5), at=now + 0.5)
    played.feed(read(200), at=200)
    played.feed(Tick(200), at=200)
    own = [labels(c) for c in played.closed if c.impression.request_id.startswith("r")]
    assert own == [{"a": True, "b": False}] * 120


def test_a_clock_set_back_a_day_affects_no_other_request() -> None:
    played = Played()
    day = 86_400.0
    for now in range(60):
        at = day + now
        played.feed(read(at), at=at)
        played.feed(impression(f"back{now}", at if now < 30 else at - day), at=at)
        played.feed(impression(f"r{now}", at), at=at)
    played.feed(read(2 * day), at=2 * day)
    played.feed(Tick(2 * day), at=2 * day)
    assert sum(c.impression.request_id.startswith("r") for c in played.closed) == 60
    assert played.join.dropped == {"late_impression": 30}


def test_an_impression_ahead_of_the_broker_gets_its_append_time() -> None:
    played = Played()
    played.feed(impression("r", 3_600), at=100)
    played.feed(read(112), at=112)
    played.feed(Tick(112), at=112)
    assert [closed.impression.time for closed in played.closed] == [100]
    assert played.join.ahead == 1


def test_a_click_stamped_before_its_impression_or_ahead_of_the_broker_still_counts() -> None:
    played = Played()
    played.feed(impression("r", 100), at=100)
    played.feed(click("r", "a", 5), at=101)
    played.feed(click("r", "b", 1e9), at=102)
    played.feed(read(200), at=200)
    played.feed(Tick(200), at=200)
    assert played.labels == [{"a": True, "b": True}]


def test_an_impression_after_its_window_is_labelled_by_buffered_feedback() -> None:
    played = play([click("slow", "b", 3), impression("other", 12), Tick(14), impression("slow", 1)])
    assert played.labels == [{"a": False, "b": True}]
    assert played.closed[0].impression.request_id == "slow"


def test_a_window_closes_only_when_ingest_has_read_every_partition_up_to_its_end() -> None:
    played = Played()
    played.feed(impression("r", 0))
    played.feed(Tick(50))
    played.feed(Progress({0: 50.0}, 2), at=50)
    assert played.closed == [], "the other partition may hold its click"
    played.feed(Progress({1: 10.9}, 2), at=50)
    assert played.closed == []
    played.feed(click("r", "a", 9), at=51)
    played.feed(Progress({1: 11.0}, 2), at=51)
    assert played.labels == [{"a": True, "b": False}]


def test_clicks_delayed_by_a_broker_outage_decide_their_labels() -> None:
    """Every sender finds back at a time of its own: impressions at 21, clicks at 24."""
    played = Played(Join(JoinConfig(window_s=1, lateness_s=0.2)))
    shown = [float(second) for second in range(20)]
    for second in shown:
        played.feed(impression(f"r{second:.0f}", second), at=21)
    for now in (22.0, 23.0, 24.0):
        played.feed(Tick(now), at=now)
        played.feed(read(now), at=now)
    for second in shown:
        played.feed(click(f"r{second:.0f}", "a", second + 0.5), at=24.1)
    played.feed(Tick(30), at=30)
    played.feed(read(30), at=30)
    assert played.labels == [{"a": True, "b": False}] * 20
    assert played.late == []


def test_a_replayed_old_log_waits_for_no_later_clicks() -> None:
    played = Played(Join(JoinConfig(window_s=1, lateness_s=0.2)))
    played.feed(impression("r", 0), at=1e6)
    played.feed(click("r", "a", 0.5), at=1e6)
    played.feed(Tick(30), at=1e6)
    played.feed(read(1e6), at=1e6)
    assert played.labels == [{"a": True, "b": False}]


def test_progress_ahead_of_the_broker_is_ignored() -> None:
    played = Played()
    played.feed(impression("r", 0), at=0)
    played.feed(Tick(50), at=5)
    played.feed(Progress({0: 1e9}, 1), at=5)
    assert played.closed == []


def test_no_click_becomes_a_negative_however_long_ingest_stalls() -> None:
    played = Played()
    stopped, back = 30, 230
    waiting: list[Stamped] = []
    for now in range(300):
        played.feed(impression(f"r{now}", now), at=now)
        waiting.append(click(f"r{now}", "a", now))
        if not stopped <= now < back:
            for feedback in waiting:
                played.feed(feedback, at=now)
            waiting = []
            played.feed(read(now), at=now)
    played.feed(read(400), at=400)
    played.feed(Tick(400), at=400)
    assert all(label == {"a": True, "b": False} for label in played.labels)
    given_up = played.join.dropped["feedback_unread"]
    assert 0 < given_up < back - stopped
    assert len(played.closed) == 300 - given_up


def test_a_dropped_request_does_not_return_without_its_clicks() -> None:
    played = Played()
    played.feed(impression("r", 0), at=0)
    played.feed(click("r", "a", 1), at=1)
    played.feed(Tick(200), at=200)
    assert played.join.dropped == {"feedback_unread": 1}
    played.feed(impression("r", 0), at=201)
    played.feed(read(300), at=300)
    played.feed(Tick(300), at=300)
    assert played.closed == []


def test_a_system_idle_for_long_drops_no_request() -> None:
    played = play([impression("r", 0), Tick(12)])
    played.feed(impression("s", 90_000), at=90_000)
    played.feed(Tick(90_020), at=90_020)
    played.feed(read(90_020), at=90_020)
    assert len(played.closed) == 2
    assert not played.join.dropped
