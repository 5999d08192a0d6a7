"""Explored requests in the log: the group learns from them as from others, and other policies are judged by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest

from model.control_users import ControlUsers
from model.kernel.kernel import Kernel
from streaming.events import Progress, ServedFeedback, ServedImpression, Tick, Traffic
from streaming.events.traffic import ExploredImpression, encode_traffic
from streaming.group.explored import POLICIES, ExploredRequests, PastPolicy
from streaming.group.machine import GroupMachine
from streaming.group.traffic_reader import TrafficReader, Widths
from tests.streaming.group.exploring import drawn, explored, exploring, reordered
from tests.streaming.group.tiny import BACKBONE, JOIN, LAYOUT, START, appended, encoded, machine, served, traffic

RECORDS = traffic(60)
EXPLORED = exploring(RECORDS)
SHOWN = [record for record in EXPLORED if isinstance(record, ExploredImpression)]
CHANCES = np.array([0.5, 0.3, 0.2])
THREE = served("main.r", 1_000.0, ["a", "b", "c"], np.random.default_rng(3))


def singles(*numbers: float) -> bytes:
    return np.array(numbers, dtype="<f4").tobytes()


def reader() -> TrafficReader:
    return TrafficReader("main", BACKBONE.fingerprint, Widths.of(BACKBONE, LAYOUT))


def read_back(records: Sequence[Traffic], kernels: Mapping[str, PastPolicy] | None = None) -> ExploredRequests:
    """What explored requests tell, after all records."""
    requests = ExploredRequests("main", JOIN, reader(), kernels)
    for offset, value in enumerate(encoded(records)):
        requests.feed(offset, value, appended(value))
    return requests


def learned(records: Sequence[Traffic]) -> GroupMachine:
    values = encoded(records)
    group = machine(log=values)
    for offset, value in enumerate(values):
        group.feed(offset, value, appended(value))
    return group


def test_a_group_learns_from_explored_requests_exactly_what_it_would_learn_if_they_had_been_ordered_so() -> None:
    plain = [
        ServedImpression(*msgspec.structs.astuple(record)[: len(ServedImpression.__struct_fields__)])
        if isinstance(record, ExploredImpression)
        else record
        for record in EXPLORED
    ]
    assert len(SHOWN) > 30 and not any(isinstance(record, ExploredImpression) for record in plain)
    one, other = learned(EXPLORED), learned(plain)
    assert one.learner.snapshot() == other.learner.snapshot()
    assert one.publisher.examples == other.publisher.examples > 100
    assert [row.values.tobytes() for row in one.rows.live.rows()] == [
        row.values.tobytes() for row in other.rows.live.rows()
    ]


def test_the_experiment_leaves_explored_requests_out() -> None:
    group = machine(control=ControlUsers(1e-9, "a test"))
    for offset, value in enumerate(encoded(EXPLORED)):
        group.feed(offset, value, appended(value))
    ordinary = sum(type(record) is ServedImpression for record in EXPLORED)
    assert group.experiment.uplift.requests() == {"live": ordinary, "frozen": 0}


def test_outcome_and_propensity_of_every_explored_request_are_read_back() -> None:
    requests = read_back(EXPLORED)
    logged = requests.logged()
    clicked = {(record.request_id, record.item_id) for record in EXPLORED if isinstance(record, ServedFeedback)}
    assert logged.propensity.tolist() == [record.array("propensity")[0] for record in SHOWN]
    assert logged.click.tolist() == [float((record.request_id, record.items[0]) in clicked) for record in SHOWN]
    assert 0 < logged.click.mean() < 1
    assert requests.open == 0


def test_ordinary_impressions_and_those_of_old_logs_are_no_explored_requests() -> None:
    requests = read_back(RECORDS)
    assert len(requests.logged().click) == 0
    assert set(requests.targets()) == set(POLICIES)


def test_every_policy_chooses_the_first_of_its_own_order() -> None:
    requests = read_back(EXPLORED)
    targets = {name: target for name, (target, _) in requests.targets().items()}
    np.testing.assert_array_equal(targets["served"].chance, [float(record.place == 0) for record in SHOWN])
    np.testing.assert_array_equal(targets["live"].chance, targets["served"].chance)
    best = [float(np.argmax(record.array("frozen_logit")) == 0) for record in SHOWN]
    np.testing.assert_array_equal(targets["frozen"].chance, best)
    np.testing.assert_allclose(targets["uniform"].chance, [1 / len(record.items) for record in SHOWN])
    np.testing.assert_allclose(targets["logged"].chance, requests.logged().propensity)
    np.testing.assert_allclose(targets["logged"].square, 1.0, rtol=1e-6)
    inverse = [1 / record.array("propensity")[np.argmax(record.array("frozen_logit"))] for record in SHOWN]
    np.testing.assert_allclose(targets["frozen"].square, inverse, rtol=1e-6)
    chances = [1 / (1 + np.exp(-record.array("live_logit").astype(float))) for record in SHOWN]
    np.testing.assert_allclose(targets["live"].predicted, [chance[0] for chance in chances])
    np.testing.assert_allclose(targets["live"].expected, [chance.max() for chance in chances])
    np.testing.assert_allclose(targets["uniform"].expected, [chance.mean() for chance in chances])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_among_equal_scores_a_policy_chooses_the_same_item_whatever_was_drawn(place: int) -> None:
    equal = np.zeros(3, dtype="<f4").tobytes()
    alike = msgspec.structs.replace(THREE, frozen_logit=equal, live_logit=equal)
    shown = drawn(alike, np.arange(3), place, CHANCES)
    requests = read_back([shown, *traffic(0, start=1_000.0)])
    for name in ("served", "live", "frozen"):
        (target, _) = requests.targets()[name]
        assert target.chance.tolist() == [float(place == 0)]


def test_a_past_kernel_is_judged_only_by_requests_after_what_it_learned() -> None:
    middle = SHOWN[len(SHOWN) // 2].time
    identity = PastPolicy(Kernel.identity(START), middle)
    requests = read_back(EXPLORED, {"kernel 3": identity})
    target, mask = requests.targets()["kernel 3"]
    np.testing.assert_array_equal(mask, [record.time > middle for record in SHOWN])
    frozen, every = requests.targets()["frozen"]
    assert every.all()
    np.testing.assert_array_equal(target.chance, frozen.chance)


def test_a_click_after_the_window_counts_and_one_on_another_item_does_not() -> None:
    shown = explored(THREE)
    time = shown.time
    later: list[Traffic] = [Progress({0: time + 60}, 1), Tick(time + 60)]
    for item, click in ((shown.items[0], 1.0), (shown.items[1], 0.0)):
        late = ServedFeedback(shown.request_id, item, time + 50)
        requests = read_back([shown, *later, late, late])
        assert requests.logged().click.tolist() == [click]


def test_a_request_whose_window_is_open_waits() -> None:
    requests = read_back([explored(THREE)])
    assert (len(requests.logged().click), requests.open) == (0, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"place": 3},
        {"place": -1},
        {"propensity": singles(0.0, 0.5, 0.5)},
        {"propensity": singles(-0.2, 0.7, 0.5)},
        {"propensity": singles(0.2, 0.2, 0.2)},
        {"propensity": singles(0.5, 0.5)},
        {"propensity": singles(0.25, 0.25, 0.25, 0.25)},
        {"propensity": singles(float("nan"), 0.5, 0.5)},
        {"propensity": singles(float("inf"), 0.5, 0.5)},
        {"propensity": b""},
        {"propensity": b"odd"},
    ],
)
def test_a_draw_that_cannot_have_been_is_refused_and_counted(change: dict[str, object]) -> None:
    shown = drawn(THREE, np.arange(3), 1, CHANCES)
    checked = reader()
    assert checked.read(0, encode_traffic(shown)) == shown
    assert checked.read(1, encode_traffic(msgspec.structs.replace(shown, **change))) is None
    assert checked.refused.total() == 1


def test_a_record_of_a_draw_without_its_fields_is_refused() -> None:
    fields = msgspec.msgpack.decode(encode_traffic(drawn(THREE, np.arange(3), 1, CHANCES)))
    checked = reader()
    for short in (fields[:-1], fields[:-2], [*fields[:-1], "first"], [*fields[:-2], 0.5, 1]):
        assert checked.read(0, msgspec.msgpack.encode(short)) is None
    assert checked.refused == {"undecodable": 4}


def test_the_rows_of_a_drawn_impression_follow_its_items() -> None:
    shown = drawn(THREE, np.array([2, 0, 1]), 1, CHANCES)
    assert shown.items == ["a", "c", "b"]
    assert shown.x == reordered(THREE, "x", np.array([0, 2, 1]))
    np.testing.assert_allclose(shown.array("propensity"), [0.3, 0.5, 0.2])
