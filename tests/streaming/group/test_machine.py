"""What a group promises: the same records give the same kernel, however often it was stopped and read again."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.control_users import ControlUsers
from streaming.events import LearningOrder, ServedImpression, Traffic, decode_traffic, encode_traffic
from streaming.kernel_log.snapshot import GroupSnapshot, encode_snapshot
from tests.streaming.group.restarts import RECORDS, REFERENCE, Store, same, whole
from tests.streaming.group.tiny import (
    FIRST_ROWS,
    JOIN,
    LEARNER,
    appended,
    machine,
)


def test_every_joined_example_is_learned_once() -> None:
    records = [msgspec.msgpack.decode(value, type=Traffic) for value in RECORDS]
    shown = sum(len(record.items) for record in records if isinstance(record, ServedImpression))
    assert REFERENCE.publisher.examples == shown
    assert REFERENCE.publisher.version > 3


def test_the_same_records_give_the_same_kernel_bit_for_bit() -> None:
    assert same(whole(RECORDS), REFERENCE)


def test_duplicate_records_change_nothing() -> None:
    group = machine()
    for offset, value in enumerate(RECORDS):
        group.feed(offset, value, appended(value))
        for again in range(max(0, offset - 7), offset):
            group.feed(again, RECORDS[again], appended(RECORDS[again]))
    assert same(group, REFERENCE)


@pytest.mark.slow
# The last record comes after every kill: it is what ends the last recovery.
@given(
    st.lists(st.integers(0, len(RECORDS) - 2), max_size=4, unique=True),
    st.lists(st.integers(0, len(RECORDS) - 1), max_size=12),
)
@settings(max_examples=25)
def test_kills_at_any_record_do_not_change_the_final_kernel(kills: list[int], commits: list[int]) -> None:
    store = Store()
    group, offset = machine(), 0
    waiting = sorted(kills)
    while offset < len(RECORDS):
        group.feed(offset, RECORDS[offset], appended(RECORDS[offset]))
        if offset in commits and not group.recovering:
            store.commit(group)
        offset += 1
        if waiting and offset > waiting[0]:
            waiting.pop(0)
            group, offset = store.successor()  # all that was not committed is gone
    assert same(group, REFERENCE)


STOPPED = [
    *RECORDS[: len(RECORDS) // 3],
    encode_traffic(LearningOrder(learning=False, by="ann")),
    *RECORDS[len(RECORDS) // 3 : len(RECORDS) // 2],
    encode_traffic(LearningOrder(learning=True, by="ann")),
    *RECORDS[len(RECORDS) // 2 :],
]


def test_requests_labelled_while_learning_is_stopped_are_skipped_and_counted() -> None:
    group = whole(STOPPED)
    assert group.dropped["learning_stopped"] > 20
    assert group.publisher.examples == REFERENCE.publisher.examples - group.dropped["learning_stopped"]


@given(st.lists(st.integers(0, len(STOPPED) - 2), min_size=1, max_size=4, unique=True))
@settings(max_examples=15)
def test_a_kill_does_not_change_where_an_operator_stopped_learning(kills: list[int]) -> None:
    store, group, offset = Store(), machine(), 0
    waiting = sorted(kills)
    while offset < len(STOPPED):
        group.feed(offset, STOPPED[offset], appended(STOPPED[offset]))
        if offset % 7 == 0 and not group.recovering:
            store.commit(group)
        offset += 1
        if waiting and offset > waiting[0]:
            waiting.pop(0)
            group, offset = store.successor()
    assert same(group, whole(STOPPED))


HALF = ControlUsers(0.5, "a test")


def _served_by_arms(records: list[bytes]) -> list[bytes]:
    """The same records as scorers with control users log them."""
    served = [decode_traffic(value) for value in records]
    return [
        encode_traffic(msgspec.structs.replace(record, arm="frozen"))
        if isinstance(record, ServedImpression) and HALF.draw(record.user_id).control
        else value
        for record, value in zip(served, records, strict=True)
    ]


def test_every_request_counts_for_the_arm_that_its_user_was_served_by() -> None:
    group = machine(control=HALF)
    for offset, value in enumerate(_served_by_arms(RECORDS)):
        group.feed(offset, value, appended(value))
    requests = group.experiment.uplift.requests()
    shown = [record for record in map(decode_traffic, RECORDS) if isinstance(record, ServedImpression)]
    control = sum(HALF.draw(record.user_id).control for record in shown)
    assert requests == {"live": len(shown) - control, "frozen": control}
    assert (
        group.publisher.examples == REFERENCE.publisher.examples
    )  # the control users' requests are learned from like all others


def test_a_control_user_served_by_the_live_arm_is_excluded_and_counted() -> None:
    group = machine(control=HALF)
    for offset, value in enumerate(RECORDS):
        group.feed(offset, value, appended(value))
    assert group.experiment.uplift.requests()["frozen"] == 0
    assert group.dropped["other_experiment"] > 0


def test_external_impressions_are_no_part_of_the_experiment() -> None:
    group = machine(control=HALF)
    for offset, value in enumerate(RECORDS):
        record = decode_traffic(value)
        other = msgspec.structs.replace(record, arm="other") if isinstance(record, ServedImpression) else record
        group.feed(offset, encode_traffic(other), appended(value))
    assert group.experiment.uplift.requests() == {"live": 0, "frozen": 0}


def test_the_experiment_continues_identically_after_a_restart() -> None:
    records = _served_by_arms(RECORDS)
    store, group = Store(lambda: machine(control=HALF)), machine(control=HALF)
    for offset, value in enumerate(records[:200]):
        group.feed(offset, value, appended(value))
    store.commit(group)
    (successor, resumed), undisturbed = store.successor(), machine(control=HALF)
    for offset, value in enumerate(records):
        undisturbed.feed(offset, value, appended(value))
        if offset >= resumed:
            successor.feed(offset, value, appended(value))
    assert successor.experiment.uplift.snapshot() == undisturbed.experiment.uplift.snapshot()
    assert successor.experiment.uplift.requests()["frozen"] > 0


def test_snapshots_do_not_change_learning() -> None:
    store, group = Store(), machine()
    for offset, value in enumerate(RECORDS):
        group.feed(offset, value, appended(value))
        store.commit(group)
    assert same(group, REFERENCE)


def test_only_undecided_requests_are_read_again() -> None:
    group, offset = machine(), 0
    while offset < len(RECORDS) // 2 or not group.snapshot().pending:
        group.feed(offset, RECORDS[offset], appended(RECORDS[offset]))
        offset += 1
    snapshot = group.snapshot()
    assert snapshot.resume_offset == min([*snapshot.join.open_offsets, *(ref.offset for ref in snapshot.pending)])
    open_or_pending = len(group.join.open) + len(snapshot.pending)
    assert len(_impressions(RECORDS[snapshot.resume_offset : offset])) < 3 * open_or_pending


def _impressions(values: list[bytes]) -> list[ServedImpression]:
    records = [decode_traffic(value) for value in values]
    return [record for record in records if isinstance(record, ServedImpression)]


def test_a_group_starts_with_its_first_rows_and_an_evicted_row_does_not_return() -> None:
    begun = {(row.kind, row.key): row for row in machine().rows.live.rows()}
    assert {key: begun[key].values.tolist() for key in begun} == {
        (row.kind, row.key): row.values.tolist() for row in FIRST_ROWS
    }
    store, group = Store(), machine()
    for offset, value in enumerate(RECORDS):
        group.feed(offset, value, appended(value))
    store.commit(group)
    assert store.rows["user", "gone"].tombstone, "or the test says little"
    successor, _ = store.successor()
    assert ("user", "gone") not in {(row.kind, row.key) for row in successor.rows.live.rows()}
    assert {row.key for row in successor.rows.live.rows() if row.kind == "item"} >= {"never", "i3"}


def test_a_kernel_is_published_at_most_once_per_interval_of_event_time() -> None:
    group = machine()
    times = []
    for offset, value in enumerate(RECORDS):
        times += [group.join.watermark for one in group.feed(offset, value, appended(value)) if one.published]
    assert times
    assert all(later - earlier >= LEARNER.publish_seconds for earlier, later in itertools.pairwise(times))


def test_a_snapshot_holds_a_few_bytes_per_open_request() -> None:
    group = machine(join=JOIN.model_copy(update={"window_s": 1e6}))
    for offset, value in enumerate(RECORDS[:-2]):
        group.feed(offset, value, appended(value))
    snapshot: GroupSnapshot = group.snapshot()
    assert len(group.join.open) == 120
    rest = len(snapshot.learner) + sum(len(msgspec.msgpack.encode(one)) for one in (snapshot.gate, snapshot.drift))
    assert len(encode_snapshot(snapshot)) < rest + 600 + 12 * len(group.join.open)
