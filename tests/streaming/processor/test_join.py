"""What the join promises: labels by event time, no memory of the closed, the same on every replay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.encoding.domain import Domain
from streaming.config import JoinConfig
from streaming.events import FeedbackKind, LearningOrder, Progress, ServedFeedback, ServedImpression, Tick, Traffic
from streaming.processor.join import Join, LabelledRequest

CONFIG = JoinConfig(window_s=10, lateness_s=1, max_open=100)


def impression(request: str, time: float, items: Sequence[str] = ("a", "b")) -> ServedImpression:
    n = len(items)
    half, single = np.zeros((n, 2), "<f2").tobytes(), np.zeros(n, "<f4").tobytes()
    return ServedImpression(
        request, time, "u", Domain(), list(items), "f", 0, "live", half, single, half, b"", single, single
    )


def click(request: str, item: str, time: float, kind: FeedbackKind = "click") -> ServedFeedback:
    return ServedFeedback(request, item, time, kind)


def appended(record: Traffic) -> float:
    """When a broker whose clock agrees with the senders' appended a record, seconds."""
    if isinstance(record, LearningOrder):
        return 0.0
    return max(record.read.values()) if isinstance(record, Progress) else record.time


def play(records: Sequence[Traffic], config: JoinConfig = CONFIG) -> tuple[Join, list[LabelledRequest]]:
    join = Join(config)
    return join, [r for offset, record in enumerate(records) for r in join.feed(offset, record, appended(record))]


def labels(closed: LabelledRequest) -> dict[str, bool]:
    return dict(zip(closed.impression.items, closed.clicks.tolist(), strict=True))


def test_a_click_inside_the_window_is_a_positive_and_the_rest_are_negatives() -> None:
    _, closed = play([impression("r", 0), click("r", "b", 5), Tick(11)])
    assert [labels(c) for c in closed] == [{"a": False, "b": True}]


def test_nothing_closes_before_the_watermark_has_passed_the_window() -> None:
    join, closed = play([impression("r", 0), Tick(10.9)])
    assert closed == []
    assert len(join) == 1


def test_feedback_does_not_make_an_impression_late_that_was_shown_before_it() -> None:
    join, closed = play([impression("r", 8), click("r", "a", 17.9), impression("s", 6), click("s", "b", 7), Tick(30)])
    assert not join.dropped
    assert [labels(c) for c in closed] == [{"a": False, "b": True}, {"a": True, "b": False}]


def test_feedback_before_its_impression_waits_for_it() -> None:
    _, closed = play([click("r", "a", 1), impression("r", 0), Tick(11)])
    assert labels(closed[0]) == {"a": True, "b": False}


def test_a_conversion_is_no_click() -> None:
    _, closed = play([impression("r", 0), click("r", "a", 1, "conversion"), Tick(11)])
    assert closed[0].conversions.tolist() == [True, False]
    assert not closed[0].clicks.any()


UNUSABLE: list[tuple[Sequence[Traffic], str]] = [
    ([impression("r", 0), impression("r", 0)], "duplicate"),
    ([impression("r", 0), click("r", "a", 1), click("r", "a", 2)], "duplicate"),
    ([impression("r", 0), Tick(20), impression("r", 0)], "late_impression"),
    ([impression("r", 0), Tick(20), click("r", "a", 5)], "late_feedback"),
    ([impression("r", 0), click("r", "a", 10.5), Tick(30)], "late_feedback"),
    ([click("r", "a", 0), Tick(20)], "orphan_feedback"),
    ([impression("r", 0), click("r", "never shown", 1), Tick(20)], "unshown_item"),
]


@pytest.mark.parametrize(("records", "reason"), UNUSABLE)
def test_what_cannot_be_used_is_counted_by_reason(records: Sequence[Traffic], reason: str) -> None:
    join, _ = play(records)
    assert join.dropped == {reason: 1}


def test_a_duplicate_of_a_closed_request_is_not_learned_twice() -> None:
    records: list[Traffic] = [impression("r", 0), click("r", "a", 1), Tick(12)]
    _, closed = play([*records, *records])
    assert len(closed) == 1


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    join, _ = play([impression(f"r{i}", i / 100) for i in range(150)])
    assert len(join) == 100
    assert join.dropped["evicted"] == 50
    assert join.resume_point is not None
    assert join.resume_point.offset == 50


RECORDS = st.lists(
    st.tuples(st.sampled_from("ifft"), st.integers(0, 12), st.floats(0, 3), st.sampled_from("abz")),
    max_size=80,
)


def build(steps: list[tuple[str, int, float, str]]) -> list[Traffic]:
    now = 0.0
    records: list[Traffic] = []
    shown: dict[int, float] = {}
    for kind, request, ahead, item in steps:
        now += ahead
        time = now - request % 3  # some records come out of order
        records.append(
            impression(f"r{request}", shown.setdefault(request, time))
            if kind == "i"
            else click(f"r{request}", item, time)
            if kind == "f"
            else Tick(now)
        )
    return records


def test_feedback_that_waits_for_its_impression_waits_together() -> None:
    early: list[Traffic] = [click("r", "a", 0), click("r", "b", 5), Tick(12)]
    _, closed = play([*early, impression("r", 8), Tick(30)])
    assert labels(closed[0]) == {"a": True, "b": True}


@given(RECORDS)
@settings(max_examples=150)
def test_every_request_is_closed_at_most_once_for_one_impression(
    steps: list[tuple[str, int, float, str]],
) -> None:
    _, closed = play([*build(steps), Tick(1e6)])
    offsets = [c.offset for c in closed]
    assert len(set(offsets)) == len(offsets)


@given(RECORDS, st.data())
@settings(max_examples=150)
def test_a_re_read_from_the_resume_point_closes_the_same_requests(
    steps: list[tuple[str, int, float, str]], data: st.DataObject
) -> None:
    records = [*build(steps), Tick(1e6)]
    cut = data.draw(st.integers(0, len(records)))
    whole = Join(CONFIG)
    for offset in range(cut):
        whole.feed(offset, records[offset], appended(records[offset]))
    point = whole.resume_point
    again = Join(CONFIG)
    if point is None:
        again.watermark = whole.watermark
        start = cut
    else:
        again.watermark = point.watermark
        start = point.offset
    for offset in range(start, cut):
        again.feed(offset, records[offset], appended(records[offset]))
    assert again.watermark == whole.watermark
    for offset in range(cut, len(records)):
        ours = [(c.offset, labels(c)) for c in again.feed(offset, records[offset], appended(records[offset]))]
        assert ours == [(c.offset, labels(c)) for c in whole.feed(offset, records[offset], appended(records[offset]))]
