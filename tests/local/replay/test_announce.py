"""Where in a play drift is announced: pure properties of the replay plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.streams import DriftSpan
from lab.streams.pacing import Pace
from lab.streams.request import Request
from local.replay.announce import Announcement, announcements, make_replay_plan, short_name
from model.encoding.domain import Domain
from streaming.events import DriftPhase
from streaming.events.announcements import announcement_fault

PACE = Pace(rate=100.0, think_s=0.5)


def request(time: float, user: str = "u") -> Request:
    return Request(time, user, Domain("home"), ("i",), (True,), (5.0,))


def span(start: float, end: float, full: float | None = None, name: str = "taste", **more: object) -> DriftSpan:
    return DriftSpan(name, "taste", start, end, start if full is None else full, **more)  # type: ignore[arg-type]


SPANS = st.lists(
    st.tuples(st.integers(-5, 30), st.integers(1, 20), st.floats(0, 1), st.sampled_from(["taste", "other"])).map(
        lambda made: span(made[0], made[0] + made[1], made[0] + made[2] * made[1], made[3])
    ),
    max_size=5,
)
REQUESTS = st.lists(st.tuples(st.integers(0, 25), st.sampled_from("abcd")), min_size=1, max_size=40).map(
    lambda pairs: [request(float(time), user) for time, user in sorted(pairs)]
)


def order_of(made: list[Announcement]) -> list[tuple[int, str, DriftPhase]]:
    return [(one.position, one.name, one.phase) for one in made]


@given(REQUESTS, SPANS)
def test_requests_between_begin_and_end_announcements_are_those_of_the_span(
    requests: list[Request], spans: list[DriftSpan]
) -> None:
    made = make_replay_plan(requests, spans, PACE)
    times = [requests[slot.index].time for slot in made.slots]
    for one in made.announcements:
        mark = {"begins": one.span.start, "full": one.span.full, "ends": one.span.end}[one.phase]
        assert all(time >= mark for time in times[one.position :]) or one.phase == "full"
        assert all(time < mark for time in times[: one.position])
    assert sorted(slot.index for slot in made.slots) == list(range(len(requests)))


@given(REQUESTS, SPANS)
def test_every_reached_span_begins_once_and_ends_once_in_replay_order(
    requests: list[Request], spans: list[DriftSpan]
) -> None:
    made = list(make_replay_plan(requests, spans, PACE).announcements)
    assert [one.position for one in made] == sorted(one.position for one in made)
    reached = [one for one in spans if one.start <= requests[-1].time]
    assert sum(one.phase == "begins" for one in made) == sum(one.phase == "ends" for one in made) == len(reached)
    phases: dict[str, list[str]] = {}
    for one in made:
        phases.setdefault(one.name, []).append(one.phase)
    for order in phases.values():
        text = " ".join(order).replace("begins full ends", "begins ends")
        assert text == " ".join(["begins ends"] * text.count("begins")), order


@given(REQUESTS, SPANS)
def test_every_announcement_is_a_valid_event(requests: list[Request], spans: list[DriftSpan]) -> None:
    assert all(
        announcement_fault(one.event(1.0)) is None for one in make_replay_plan(requests, spans, PACE).announcements
    )


def test_a_lasting_abrupt_drift_begins_at_its_time_and_ends_with_the_replay() -> None:
    made = announcements([span(3.0, 10.0)], [float(time) for time in range(9)])
    assert order_of(made) == [(3, "taste", "begins"), (9, "taste", "ends")]
    assert [one.recorded for one in made] == [3.0, None]


def test_a_gradual_drift_announces_its_full_strength() -> None:
    made = announcements([span(2.0, 8.0, full=5.0)], [float(time) for time in range(10)])
    assert order_of(made) == [(2, "taste", "begins"), (5, "taste", "full"), (8, "taste", "ends")]


def test_a_recurring_drift_keeps_its_name_and_overlapping_drifts_get_distinct_names() -> None:
    times = [float(time) for time in range(20)]
    again = announcements([span(1.0, 3.0, returns=True), span(5.0, 7.0)], times)
    assert [(one.name, one.phase, one.span.returns) for one in again] == [
        ("taste", "begins", True), ("taste", "ends", True), ("taste", "begins", False), ("taste", "ends", False),
    ]  # fmt: skip
    both = announcements([span(1.0, 6.0), span(5.0, 7.0)], times)
    assert [(one.name, one.phase) for one in both] == [
        ("taste", "begins"), ("taste 2", "begins"), ("taste", "ends"), ("taste 2", "ends"),
    ]  # fmt: skip


def test_at_the_same_time_an_end_is_announced_before_a_begin() -> None:
    made = announcements([span(1.0, 5.0, name="old"), span(5.0, 9.0, name="new")], [float(t) for t in range(10)])
    assert [(one.name, one.phase) for one in made][1:3] == [("old", "ends"), ("new", "begins")]


def test_a_shortened_replay_announces_only_the_drift_it_reaches() -> None:
    made = announcements([span(2.0, 9.0), span(6.0, 8.0, name="later")], [0.0, 1.0, 2.0, 3.0])
    assert order_of(made) == [(2, "taste", "begins"), (4, "taste", "ends")]
    assert announcements([span(0.0, 1.0)], []) == []


def test_no_request_crosses_the_begin_of_a_span_despite_think_time() -> None:
    requests = [request(float(n), "busy" if n < 10 else f"u{n}") for n in range(30)]
    free = [slot.index for slot in make_replay_plan(requests, [], PACE).slots]
    held = [slot.index for slot in make_replay_plan(requests, [span(10.0, 99.0)], PACE).slots]
    assert set(free[:10]) != set(range(10))
    assert set(held[:10]) == set(range(10))


def test_recorded_time_passes_faster_by_the_speed_factor() -> None:
    requests = [request(100.0 * n, f"u{n}") for n in range(11)]
    assert make_replay_plan(requests, [], PACE).speed == pytest.approx(1_000 / 0.1)
    assert make_replay_plan(requests[:1], [], PACE).speed == float("inf")
    assert np.isinf(make_replay_plan([replace(one, time=1.0) for one in requests], [], PACE).speed)


@pytest.mark.parametrize("name", ["", "two\nlines", "ü" * 200, "\0", "語" * 40, "\x1b[31mred"])
def test_any_script_name_becomes_a_valid_announcement_name(name: str) -> None:
    made = make_replay_plan([request(0.0)], [span(0.0, 5.0, name=name), span(0.0, 5.0, name=name)], PACE)
    assert len({one.name for one in made.announcements}) == 2
    assert all(announcement_fault(one.event(0.0)) is None for one in made.announcements)
    assert short_name(name)
