"""Conversions have a window of their own: those behind the labels are counted once, for the arm of their user."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from model.control_users import ControlUsers
from model.uplift import COUNTS
from streaming.config import JoinConfig
from streaming.events import LearningOrder, Progress, ServedFeedback, Tick, Traffic, encode_traffic
from streaming.events.traffic import Arm
from streaming.group.machine import GroupMachine
from streaming.join.join import LateConversion
from tests.streaming.group.restarts import Store, same
from tests.streaming.group.tiny import appended, machine, served
from tests.streaming.join.joined import click, impression, play

HALF = ControlUsers(0.5, "a test")
JOIN = JoinConfig(window_s=3, lateness_s=0.5, horizon_s=20, conversion_window_s=600, progress_timeout_s=20)


def stream(requests: int = 40) -> list[Traffic]:
    """Requests whose first item is clicked at once, and converts: every third soon, the others a minute later."""
    random = np.random.default_rng(4)
    records: list[tuple[float, Traffic]] = []
    for number in range(requests):
        time, request = 1_000.0 + number, f"main.r{number}"
        user = f"u{number}"
        arm: Arm = "frozen" if HALF.draw(user).control else "live"
        shown = served(request, time, ["a", "b"], random)
        records.append((time, msgspec.structs.replace(shown, user_id=user, arm=arm)))
        records.append((time + 0.2, ServedFeedback(request, "a", time + 0.2)))
        at = time + (1.0 if number % 3 == 0 else 60.0)
        records.append((at, ServedFeedback(request, "a", at, "conversion")))
    last = 1_000.0 + requests + 80
    records += [(at, Progress({0: at}, 1)) for at in np.arange(1_000.0, last, 0.7).tolist()]
    records += [(at, Tick(at)) for at in np.arange(1_000.0, last, 5.0).tolist()]
    return [record for _, record in sorted(records, key=lambda one: one[0])]


def run(records: Sequence[Traffic], *, control: ControlUsers = HALF, lost: bool = False) -> GroupMachine:
    values = [encode_traffic(record) for record in records]
    group = machine(join=JOIN, log=[None] * len(values) if lost else values, control=control)
    for offset, value in enumerate(values):
        group.feed(offset, value, appended(value))
    return group


def counted(group: GroupMachine) -> int:
    """Conversions that the experiment has taken, of both arms."""
    return int(group.experiment.uplift._counts[:, COUNTS.index("conversions")].sum())


# --- the join ---


def test_a_conversion_of_a_closed_request_is_found_within_its_own_window() -> None:
    played = play([impression("r", 0), Tick(20), click("r", "a", 30, "conversion")])
    assert not played.join.dropped
    (late,) = played.late
    assert isinstance(late, LateConversion)
    assert (late.request.request_id, late.item_id) == ("r", "a")
    assert played.join.delays.take() == [("conversion", 30.0)]


def test_after_its_window_a_conversion_of_a_closed_request_is_late() -> None:
    played = play([impression("r", 0), Tick(20), click("r", "a", 51, "conversion")])
    assert played.join.dropped == {"late_feedback": 1}
    assert not played.late


def test_without_click_corrections_conversions_still_count() -> None:
    config = JoinConfig(window_s=10, lateness_s=1, horizon_s=0, conversion_window_s=50)
    played = play([impression("r", 0), Tick(20), click("r", "b", 30), click("r", "a", 30, "conversion")], config)
    assert [type(late) for late in played.late] == [LateConversion]
    assert played.join.dropped == {"late_feedback": 1}


# --- the group ---


def test_conversions_within_and_after_the_label_window_are_counted_once() -> None:
    group = run(stream())
    assert group.conversions.counts == {"in_window": 14, "later": 26}
    assert counted(group) == 40
    assert not group.dropped
    assert not group.late_clicks.counts


def test_the_click_kernel_is_unaffected_by_conversions() -> None:
    records = stream()
    alone = [r for r in records if not isinstance(r, ServedFeedback) or r.kind == "click"]
    one, other = run(records), run(alone)
    assert one.learner.snapshot() == other.learner.snapshot()
    rows = [
        {(r.kind, r.key): (r.updated_at, r.values.tobytes()) for r in group.rows.live.rows()} for group in (one, other)
    ]
    assert rows[0] == rows[1]


def test_a_duplicate_conversion_counts_once() -> None:
    doubled = [
        one for r in stream() for one in ([r] * 2 if isinstance(r, ServedFeedback) and r.kind == "conversion" else [r])
    ]
    group = run(doubled)
    assert counted(group) == 40
    assert group.dropped == {"duplicate": 40}


def test_while_learning_is_stopped_conversions_are_counted() -> None:
    group = run([LearningOrder(learning=False, by="ann"), *stream()])
    assert counted(group) == 40


def test_a_conversion_with_an_expired_impression_is_counted_as_such() -> None:
    group = run(stream(), lost=True)
    assert group.dropped["uncorrectable"] == group.conversions.counts["in_window"] + 12 == 26


def test_an_item_that_was_not_shown_does_not_convert() -> None:
    records = [
        ServedFeedback(r.request_id, "never shown", r.time, r.kind)
        if isinstance(r, ServedFeedback) and r.kind == "conversion"
        else r
        for r in stream()
    ]
    group = run(records)
    assert counted(group) == 0
    assert group.dropped["unshown_item"] == 40


@pytest.mark.parametrize("every", [1, 3, 11])
def test_kills_neither_lose_nor_duplicate_a_conversion(every: int) -> None:
    values = [encode_traffic(record) for record in stream()]
    store = Store(lambda: machine(join=JOIN, log=values, control=HALF))
    group, offset, kills = machine(join=JOIN, log=values, control=HALF), 0, [60, 150, 220]
    while offset < len(values):
        group.feed(offset, values[offset], appended(values[offset]))
        if offset % every == 0 and not group.recovering:
            store.commit(group)
        offset += 1
        if kills and offset > kills[0]:
            kills.pop(0)
            group, offset = store.successor()
    assert same(group, run(stream()))
    assert counted(group) == 40
