"""Live histories: which events are kept, and that a row holds them to the last bit."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.live.features import LiveFeatures
from features.live.history import HISTORY, HistoryTable, joined_history, read_history
from features.live.layout import LiveRow
from features.live.outcome import RequestOutcome
from model.config import HistorySpec
from model.encoding.profile import HistoryEvent
from tests.features.live.live_parts import fresh, outcome, quick, streams


def table(length: int = 4, *, skips: bool = False, limit: int = 100) -> HistoryTable:
    return HistoryTable(HistorySpec(length, skips), limit)


def clicked(user: str, items: list[str], time: float) -> RequestOutcome:
    return outcome(user, items, [1.0] * len(items), time)


def names(events: list[HistoryEvent]) -> list[str]:
    return [event.item_id for event in events]


def newest(stream: list[RequestOutcome], user: str, length: int, *, skips: bool) -> list[tuple[float, str, bool]]:
    """Reference: a user's events, each item of one time once, the newest last."""
    events: dict[tuple[float, str], bool] = {}
    for one in stream:
        for item, click in zip(one.items, one.click.tolist(), strict=True):
            if one.user_id == user and (click > 0 or skips):
                at = (round(one.time * 1024) / 1024, item)
                events[at] = events.get(at, False) or click > 0
    return [(time, item, click) for (time, item), click in sorted(events.items())][-length:]


@quick
@given(streams, st.booleans(), st.randoms(use_true_random=False))
def test_a_history_holds_the_newest_events_in_any_order_of_decision(
    stream: list[RequestOutcome], skips: bool, shuffler: random.Random
) -> None:
    expected = {user: newest(stream, user, 4, skips=skips) for user in "uvw"}
    shuffler.shuffle(stream)
    known = table(skips=skips)
    for one in stream:
        known.add([one])
    for user in "uvw":
        assert [(e.time, e.item_id, e.clicked) for e in known.events(user)] == expected[user]


@quick
@given(streams, st.booleans())
def test_late_clicks_give_the_same_history_as_clicks_on_time(stream: list[RequestOutcome], skips: bool) -> None:
    on_time, late = table(skips=skips, length=50), table(skips=skips, length=50)
    on_time.add(stream)
    # Someone who is not known any more stays away, so everybody clicked something on time.
    for known in (on_time, late):
        known.add([clicked(user, ["i0"], 1.0) for user in "uvw"])
    late.add([replace(one, click=np.zeros_like(one.click)) for one in stream])
    late.correct(stream)
    for user in "uvw":
        assert late.events(user) == on_time.events(user)


def test_a_late_click_of_an_evicted_user_is_ignored() -> None:
    known = table()
    known.correct([clicked("u", ["i1"], 1.0)])
    assert known.events("u") == []
    assert list(known.take_changed()) == []


@given(st.floats(-1e9, 4e9), st.booleans())
def test_a_row_holds_times_to_the_millisecond_and_round_trips_bit_for_bit(time: float, skips: bool) -> None:
    known, again = table(skips=skips), table(skips=skips)
    known.add([outcome("u", ["i1", "i2", "i3"], [1.0, -1.0, 1.0], time)])
    (row,) = known.rows()
    assert np.isfinite(row.values).all()
    again.put(LiveRow(row.kind, row.key, row.updated_at, row.values.copy(), row.items))
    (copy,) = again.rows()
    assert copy.values.tobytes() == row.values.tobytes()
    assert (copy.items, copy.updated_at) == (row.items, row.updated_at)
    assert read_history(row) == known.events("u") == again.events("u")
    assert abs(known.events("u")[-1].time - time) <= 1e-3


def test_changed_rows_are_returned_once_and_the_longest_idle_users_are_evicted_first() -> None:
    known = table(limit=16)
    known.add([clicked(f"u{n}", ["i1"], float(n)) for n in range(16)])
    assert len(list(known.take_changed())) == 16
    assert list(known.take_changed()) == []
    known.add([clicked("new", ["i1"], 99.0)])
    tombstones = {row.key: row.tombstone for row in known.take_changed()}
    assert tombstones == {"u0": True, "u1": True, "new": False}
    assert known.evicted == 2
    assert known.events("u0") == []


def test_items_in_no_history_are_forgotten_even_without_an_eviction() -> None:
    known = table()
    for n in range(30_000):
        known.add([replace(clicked("u", ["i0"], float(n)), items=[f"i{n}"])])
    assert len(known._names) < 15_000
    assert names(known.events("u")) == ["i29996", "i29997", "i29998", "i29999"]


def test_an_event_older_than_all_stored_events_changes_nothing() -> None:
    known = table(length=2)
    known.add([clicked("u", ["i1"], 10.0), clicked("u", ["i2"], 11.0)])
    list(known.take_changed())
    known.add([clicked("u", ["i3"], 9.0)])
    assert names(known.events("u")) == ["i1", "i2"]
    assert list(known.take_changed()) == []


def test_histories_of_two_groups_merge_to_the_newest_events_of_both() -> None:
    north, south = table(length=3), table(length=3)
    north.add([clicked("u", ["i1"], 1.0), clicked("u", ["i2"], 3.0)])
    south.add([clicked("u", ["i3"], 2.0), clicked("u", ["i4"], 4.0)])
    joined = joined_history(HistorySpec(3), *north.rows(), *south.rows())
    assert names(read_history(joined)) == ["i3", "i2", "i4"]


def test_a_row_that_is_not_a_history_is_refused_by_its_key() -> None:
    torn = LiveRow(HISTORY, "u9", 1.0, np.zeros(5, dtype=np.float32), ("i1",))
    for take in (table().put, read_history):
        with pytest.raises(ValueError, match="u9"):
            take(torn)
    known = table(length=9)
    known.add([clicked("u", [f"i{n}" for n in range(6)], 1.0)])
    with pytest.raises(ValueError, match="6 events"):
        table(length=3).put(next(known.rows()))


def test_without_histories_in_the_configuration_none_is_kept_and_a_row_is_refused() -> None:
    live = fresh(history=HistorySpec(0))
    live.update([clicked("u", ["i1"], 1.0)])
    assert [row for row in live.rows() if row.kind == HISTORY] == []
    kept = fresh(history=HistorySpec(3))
    kept.update([clicked("u", ["i1"], 1.0)])
    with pytest.raises(ValueError, match="history"):
        live.restore(row for row in kept.rows() if row.kind == HISTORY)


def test_live_features_keep_the_history_together_with_their_other_rows() -> None:
    live: LiveFeatures = fresh(history=HistorySpec(3))
    live.update([outcome("u", ["i1", "i2"], [1.0, -1.0], 5.0)])
    assert live.history("u") == [HistoryEvent("i1", 5.0, True)]
    live.correct([clicked("u", ["i2"], 5.0)])
    assert names(live.history("u")) == ["i1", "i2"]
    rows = [row for row in live.take_changed() if row.kind == HISTORY]
    assert [row.items for row in rows] == [("i1", "i2")]
