"""Announcements of drift: what they must be, and what is remembered of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.drift import MAX_NAME_BYTES, MOST, DriftBoard, fault
from streaming.events import DriftEvent, DriftPhase, decode_event, encode_event

MOST_METADATA = 4_096
"""What Kafka takes beside an offset unless it is told otherwise (`offset.metadata.max.bytes`)."""
FACETS = st.dictionaries(
    st.sampled_from(["scene", "region", "period"]), st.lists(st.text("abc", min_size=1), min_size=1, max_size=3)
)
EVENTS = st.builds(
    DriftEvent,
    name=st.sampled_from(["taste", "holiday sale", "ü" * 20, "x"]),
    kind=st.sampled_from(["taste", "campaign"]),
    phase=st.sampled_from(["begins", "full", "ends"]),
    time=st.integers(0, 9).map(float),
    domain=FACETS,
    returns=st.booleans(),
    recorded=st.none() | st.floats(0, 1e9),
)


def said(phase: DriftPhase, time: float, name: str = "taste", kind: str = "taste") -> DriftEvent:
    return DriftEvent(name, kind, phase, time)


def board(*events: DriftEvent) -> DriftBoard:
    made = DriftBoard()
    for event in events:
        made.take(event)
    return made


@given(EVENTS)
def test_an_announcement_comes_back_as_it_was_sent(event: DriftEvent) -> None:
    assert decode_event(encode_event(event)) == event
    assert fault(event) is None


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"name": ""}, "`name`"),
        ({"name": "  "}, "`name`"),
        ({"name": "two\nlines"}, "`name`"),
        ({"name": "ü" * 33}, "`name`"),
        ({"kind": ""}, "`kind`"),
        ({"kind": "Taste!"}, "`kind`"),
        ({"kind": "k" * 33}, "`kind`"),
        ({"domain": {"scene": []}}, "`domain.scene`"),
        ({"domain": {"region": ["north", ""]}}, "`domain.region`"),
        ({"domain": {"region": ["north"] * 1_001}}, "`domain.region`"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_wrong_with_an_announcement_is_named(changes: dict[str, object], names: str) -> None:
    event = DriftEvent(**({"name": "sale", "kind": "campaign", "phase": "begins", "time": 1.0} | changes))  # type: ignore[arg-type]
    assert names in str(fault(event))


def test_it_is_at_work_from_its_begin_to_its_end() -> None:
    key = ("taste", "taste")
    made = board(said("begins", 1.0))
    assert made.at_work(0.0) == {key: True}
    made.take(said("full", 2.0))
    assert made.at_work(0.0) == {key: True}
    made.take(said("ends", 3.0))
    assert made.at_work(0.0) == {key: False}
    made.take(said("begins", 4.0))
    assert made.at_work(0.0) == {key: True}


def test_two_kinds_of_one_name_are_two() -> None:
    made = board(said("begins", 1.0), said("begins", 1.0, kind="campaign"), said("ends", 2.0))
    assert made.at_work(0.0) == {("taste", "taste"): False, ("taste", "campaign"): True}


@given(st.lists(EVENTS, max_size=12))
def test_records_that_are_read_again_change_nothing(events: list[DriftEvent]) -> None:
    events.sort(key=lambda event: event.time)
    once = board(*events)
    for again in range(len(events) + 1):
        assert board(*events, *events[again:]).at_work(0.0) == once.at_work(0.0)


def test_an_announcement_that_comes_late_changes_nothing() -> None:
    assert board(said("begins", 1.0), said("ends", 5.0), said("full", 2.0)).at_work(0.0) == {("taste", "taste"): False}


def test_what_nobody_ends_is_over_after_a_while() -> None:
    made = board(said("begins", 100.0))
    assert made.at_work(99.0) == {("taste", "taste"): True}
    assert made.at_work(101.0) == {("taste", "taste"): False}


@given(st.lists(EVENTS, max_size=12))
def test_a_board_survives_its_way_through_the_offset(events: list[DriftEvent]) -> None:
    made = board(*events)
    assert DriftBoard.unpacked(made.packed()) == made
    assert DriftBoard.unpacked("") == DriftBoard()


@pytest.mark.parametrize("letter", ["x", '"', "\\", "ü", "語", "🙂"])
def test_however_many_and_long_the_names_the_board_fits_beside_the_offset(letter: str) -> None:
    longest = letter * (MAX_NAME_BYTES // len(letter.encode()) - 3)
    events = [said("begins", 1.7e9 + n + 0.123456, f"{longest}{n}", "k" * 32) for n in range(10 * MOST)]
    assert all(fault(event) is None for event in events)
    made = board(*events)
    assert len(made.entries) == MOST
    assert len(made.packed().encode()) <= MOST_METADATA


def test_what_has_ended_makes_room_before_what_is_at_work() -> None:
    names = [f"n{n}" for n in range(MOST)]
    made = board(*(said("begins", float(n), name) for n, name in enumerate(names)), said("ends", 90.0, "n7"))
    made.take(said("begins", 100.0, "new"))
    assert ("n7", "taste") not in made.entries
    made.take(said("begins", 101.0, "newer"))
    assert {name for name, _ in made.entries} == {*names, "new", "newer"} - {"n7", "n0"}
    assert all(made.at_work(0.0).values())


def test_phases_of_one_moment_count_in_the_order_they_come() -> None:
    for events in itertools.permutations([said("begins", 1.0), said("ends", 1.0)]):
        assert board(*events).at_work(0.0) == {("taste", "taste"): events[-1].phase == "begins"}
