"""What acknowledgements say of the broker's clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.broker_clock import BrokerClock

EPOCH = 1_767_225_600.0
writes = st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.floats(0, 60)), min_size=1, max_size=40)
"""Seconds from sending to appending, from there to the acknowledgement, and to the next write."""


def floor_ms(time: float) -> float:
    return math.floor(time * 1_000) / 1_000


def played(clock: BrokerClock, offset: float, steps: list[tuple[float, float, float]], wall: float = EPOCH) -> float:
    for there, back, pause in steps:
        clock.acknowledged(wall, wall + there + back, floor_ms(wall + there + offset))
        wall += there + back + pause
    return wall


@given(st.floats(-1e5, 1e5), writes)
def test_the_error_of_the_clock_offset_is_at_most_the_time_of_the_fastest_write(
    offset: float, steps: list[tuple[float, float, float]]
) -> None:
    clock = BrokerClock()
    wall = played(clock, offset, steps)
    drifted = 5e-4 * (wall - EPOCH)
    assert abs(clock.offset_s - offset) <= min(there + back for there, back, _ in steps) + drifted + 2e-3


@given(st.floats(-1e5, 1e5), writes, st.floats(0, 1e4))
def test_broker_time_is_never_before_the_claimed_lower_bound(
    offset: float, steps: list[tuple[float, float, float]], later: float
) -> None:
    clock = BrokerClock()
    wall = played(clock, offset, steps) + later
    assert clock.earliest(wall) <= wall + offset + 1e-6


@given(writes)
def test_a_clock_without_evidence_of_an_error_is_not_corrected(steps: list[tuple[float, float, float]]) -> None:
    clock = BrokerClock()
    wall = played(clock, 0.0, steps)
    assert clock.offset_s == pytest.approx(0.0, abs=1e-6) and clock.now(wall) == pytest.approx(wall)


def test_a_topic_with_sender_timestamps_gives_no_evidence() -> None:
    clock = BrokerClock()
    for step in range(9):
        sent = EPOCH + step
        clock.acknowledged(sent, sent + 0.3, floor_ms(sent))
    assert clock.offset_s == pytest.approx(0.0, abs=1e-3)


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5), writes, writes)
def test_after_a_clock_change_one_write_corrects_the_offset(
    before: float, after: float, first: list[tuple[float, float, float]], second: list[tuple[float, float, float]]
) -> None:
    clock = BrokerClock()
    wall = played(clock, before, first)
    played(clock, after, second[:1], wall)
    there, back, _ = second[0]
    # Less than the writes before left open is no step that could be told from their time on the way.
    slack = max(a + b for a, b, _ in first) + 5e-4 * (wall + 1 - EPOCH)
    assert abs(clock.offset_s - after) <= there + back + slack + 2e-3


def test_a_write_during_which_the_local_clock_was_set_back_gives_no_evidence() -> None:
    clock = BrokerClock()
    clock.acknowledged(EPOCH, EPOCH - 3_600, EPOCH)
    assert clock.offset_s == 0.0 and clock.earliest(EPOCH) == -math.inf


def test_nothing_is_claimed_before_the_first_acknowledgement() -> None:
    assert BrokerClock().earliest(EPOCH) == -math.inf
    assert BrokerClock().now(EPOCH) == EPOCH
