"""The plan of a replay: order, pauses, rate and look-ahead hold for every stream."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.streams.pacing import Pace, Slot, plan

STREAMS = st.lists(st.sampled_from("abcdef"), max_size=60)
PACES = st.builds(
    Pace,
    rate=st.sampled_from([0.5, 3.0, 120.0]),
    think_s=st.sampled_from([0.0, 0.4, 5.0]),
    session_s=st.sampled_from([0.0, 1.0, 30.0]),
    lookahead=st.integers(1, 80),
)


def by_user(users: list[str], slots: list[Slot]) -> dict[str, list[Slot]]:
    grouped: dict[str, list[Slot]] = defaultdict(list)
    for slot in slots:
        grouped[users[slot.index]].append(slot)
    return grouped


@given(STREAMS, PACES)
def test_every_request_is_planned_exactly_once(users: list[str], pace: Pace) -> None:
    assert sorted(slot.index for slot in plan(users, pace)) == list(range(len(users)))


@given(STREAMS, PACES)
def test_each_user_keeps_the_recorded_order_and_pauses_between_requests(users: list[str], pace: Pace) -> None:
    for slots in by_user(users, plan(users, pace)).values():
        assert [slot.index for slot in slots] == sorted(slot.index for slot in slots)
        pause = pace.pause(len(slots))
        assert all(b.at - a.at >= pause - 1e-6 for a, b in itertools.pairwise(slots))


@given(STREAMS, PACES)
def test_the_rate_is_never_exceeded(users: list[str], pace: Pace) -> None:
    times = [slot.at for slot in plan(users, pace)]
    assert all(b - a >= 1 / pace.rate - 1e-6 for a, b in itertools.pairwise(times))


@given(STREAMS, PACES)
def test_no_request_overtakes_one_older_by_the_lookahead(users: list[str], pace: Pace) -> None:
    waiting = set(range(len(users)))
    for slot in plan(users, pace):
        assert slot.index - min(waiting) < pace.lookahead
        waiting.remove(slot.index)


@given(STREAMS, PACES, st.lists(st.integers(-2, 70), max_size=4))
def test_no_request_crosses_an_edge_and_the_other_rules_hold(users: list[str], pace: Pace, edges: list[int]) -> None:
    slots = plan(users, pace, edges)
    order = [slot.index for slot in slots]
    for edge in edges:
        inside = min(max(edge, 0), len(users))
        assert sorted(order[:inside]) == list(range(inside))
    times = [slot.at for slot in slots]
    assert all(b - a >= 1 / pace.rate - 1e-6 for a, b in itertools.pairwise(times))
    for of_user in by_user(users, slots).values():
        pause = pace.pause(len(of_user))
        assert all(b.at - a.at >= pause - 1e-6 for a, b in itertools.pairwise(of_user))


def test_other_users_fill_the_think_time_of_one_user() -> None:
    users = ["busy"] * 10 + ["other"] * 10
    slots = plan(users, Pace(rate=10, think_s=0.2, session_s=100, lookahead=20))
    assert slots[-1].at == pytest.approx(1.9)
    assert [users[slot.index] for slot in slots[:4]] == ["busy", "other", "busy", "other"]


def test_a_lookahead_of_one_keeps_the_recorded_order() -> None:
    users = list("aabbab")
    assert [slot.index for slot in plan(users, Pace(lookahead=1))] == list(range(6))


def test_a_user_with_many_requests_pauses_less_so_that_the_replay_ends_in_time() -> None:
    heavy = plan(["a"] * 100, Pace(rate=1000, think_s=1.0, session_s=10.0))
    assert heavy[-1].at == pytest.approx(9.9)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rate": 0.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"think_s": -1.0}, "think_s"),
        ({"lookahead": 0}, "lookahead"),
    ],
)
def test_an_invalid_pace_is_refused_by_name(values: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Pace(**values)  # type: ignore[arg-type]
