"""What the join promises: labels by event time, true however feedback travels."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streaming.events import Tick, Traffic
from tests.streaming.join.joined import CONFIG, Stamped, click, impression, play


def test_a_click_inside_the_window_is_a_positive_and_the_rest_are_negatives() -> None:
    assert play([impression("r", 0), click("r", "b", 5), Tick(11)]).labels == [{"a": False, "b": True}]


def test_nothing_closes_before_the_watermark_has_passed_the_window() -> None:
    played = play([impression("r", 0), Tick(10.9)])
    assert played.closed == []
    assert len(played.join.open) == 1


def test_feedback_before_its_impression_is_buffered() -> None:
    assert play([click("r", "a", 1), impression("r", 0), Tick(11)]).labels == [{"a": True, "b": False}]


def test_several_events_before_their_impression_are_buffered_together() -> None:
    early: list[Stamped] = [click("r", "a", 0), click("r", "b", 15), Tick(22)]
    assert play([*early, impression("r", 8), Tick(30)]).labels == [{"a": True, "b": True}]


def test_a_conversion_is_not_a_click() -> None:
    (closed,) = play([impression("r", 0), click("r", "a", 1, "conversion"), Tick(11)]).closed
    assert closed.conversions.tolist() == [True, False]
    assert not closed.clicks.any()


UNUSABLE: list[tuple[Sequence[Traffic], str]] = [
    ([impression("r", 0), impression("r", 0)], "duplicate"),
    ([impression("r", 0), Tick(20), impression("r", 0)], "duplicate"),
    ([impression("r", 0), Tick(20), impression("r", 15)], "duplicate"),
    ([impression("r", 0), click("r", "a", 1), click("r", "a", 2)], "duplicate"),
    ([click("r", "a", 1), click("r", "a", 2), impression("r", 0)], "duplicate"),
    ([Tick(30), impression("r", 5)], "late_impression"),
    ([impression("r", 0), Tick(20), click("r", "a", 101)], "late_feedback"),
    ([Tick(100), click("r", "a", 5)], "late_feedback"),
    ([impression("r", 0), click("r", "a", 51, "conversion"), Tick(30)], "late_feedback"),
    ([click("r", "a", 0), Tick(22)], "orphan_feedback"),
    ([impression("r", 0), click("r", "never shown", 1), Tick(20)], "unshown_item"),
]


@pytest.mark.parametrize(("records", "reason"), UNUSABLE)
def test_unusable_records_are_counted_by_reason(records: Sequence[Traffic], reason: str) -> None:
    assert play(records).join.dropped == {reason: 1}


def test_a_duplicate_of_a_closed_request_is_neither_learned_twice_nor_a_correction() -> None:
    records: list[Traffic] = [impression("r", 0), click("r", "a", 1), Tick(12)]
    assert len(play([*records, *records]).closed) == 1


def test_a_delay_is_counted_from_the_impression_and_never_negative() -> None:
    played = play([impression("r", 10), click("r", "a", 12.5), click("r", "b", 3)])
    assert played.join.delays.take() == [("click", 2.5), ("click", 0.0)]


def test_a_click_after_its_window_is_a_late_click_until_the_horizon() -> None:
    played = play([impression("r", 0), Tick(12), click("r", "b", 30), Tick(120), click("r", "a", 60)])
    assert [(late.request.request_id, late.item_id) for late in played.late] == [("r", "b")]
    assert played.join.dropped == {"late_feedback": 1}, "the horizon is over"


def test_a_click_after_its_window_counts_while_the_request_is_open() -> None:
    assert play([impression("r", 0), click("r", "a", 10.5), Tick(30)]).labels == [{"a": True, "b": False}]


def test_without_a_horizon_a_click_after_its_window_is_too_late() -> None:
    config = CONFIG.model_copy(update={"horizon_s": 0})
    behind: list[list[Traffic]] = [
        [impression("r", 0), click("r", "a", 10.5), Tick(30)],
        [impression("r", 0), Tick(11), click("r", "a", 5)],
    ]
    for records in behind:
        played = play(records, config)
        assert played.labels == [{"a": False, "b": False}]
        assert played.join.dropped == {"late_feedback": 1}
        assert not played.late
