"""What a group promises: the same records give the same kernel, however often it was stopped and read again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.live.features import LiveRow
from model.control_users import ControlUsers
from model.kernel.batch import MicroBatch
from model.kernel.learner import LearnReport
from streaming.events import LearningOrder, Progress, ServedImpression, Tick, Traffic, decode_traffic, encode_traffic
from streaming.kernel_log.closed import encode_closed, stored_segments
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.snapshot import GroupSnapshot, decode_snapshot, encode_snapshot
from streaming.processor.join import Joined
from streaming.processor.machine import GroupMachine
from tests.streaming.processor.tiny import (
    BACKBONE,
    FIRST_ROWS,
    JOIN,
    LAYOUT,
    LEARNER,
    WIDTH,
    appended,
    encoded,
    machine,
    served,
    traffic,
)
from tests.streaming.small_start import start_of

RECORDS = encoded(traffic(120))


class Store:
    """What a transaction keeps: the newest row per key, kernel and snapshot as bytes."""

    def __init__(self, new: Callable[[], GroupMachine] = machine) -> None:
        self._new = new
        self.rows: dict[tuple[str, str], LiveRow] = {}
        self.snapshot: bytes | None = None
        self.state: dict[bytes | None, bytes | None] = {}

    def commit(self, group: GroupMachine) -> None:
        for row in group.take_changed_rows():
            self.rows[row.kind, row.key] = row
        for record in encode_closed(group.group, group.take_closed()):
            self.state[record.key] = record.value
        self.snapshot = encode_snapshot(group.snapshot())

    def successor(self) -> tuple[GroupMachine, int]:
        """A machine restored from the store, and the offset that it must read from."""
        successor = self._new()
        if self.snapshot is None:
            return successor, 0
        snapshot = decode_snapshot(self.snapshot, group="main", fingerprint=BACKBONE.fingerprint)
        firsts = {(row.kind, row.key) for row in FIRST_ROWS}  # of others a tombstone leaves nothing behind
        kept = [row for key, row in self.rows.items() if not row.tombstone or key in firsts]
        successor.restore(snapshot, kept, stored_segments("main", self.state))
        return successor, snapshot.resume_offset


def whole(records: list[bytes]) -> GroupMachine:
    group = machine()
    for offset, value in enumerate(records):
        group.feed(offset, value, appended(value))
    return group


def same(one: GroupMachine, other: GroupMachine) -> bool:
    """Bit for bit: posteriors, trust, counts, what is open and pending, live features."""
    rows = [{(r.kind, r.key): (r.updated_at, r.values.tobytes()) for r in m.rows()} for m in (one, other)]
    snapshots = [msgspec.structs.asdict(m.snapshot()) for m in (one, other)]
    for snapshot in snapshots:  # how many cuts there were may differ, what they hold may not
        closed = msgspec.structs.replace(snapshot["join"].closed, segments=0)
        snapshot["join"] = msgspec.structs.replace(snapshot["join"], closed=closed)
    return rows[0] == rows[1] and equal(*snapshots)


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same; what the drift monitor does not know yet is not-a-number, and equals itself."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


REFERENCE = whole(RECORDS)


def test_every_joined_example_is_learned_once() -> None:
    records = [msgspec.msgpack.decode(value, type=Traffic) for value in RECORDS]
    shown = sum(len(record.items) for record in records if isinstance(record, ServedImpression))
    assert REFERENCE.examples == shown
    assert REFERENCE.version > 3


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
    assert group.examples == REFERENCE.examples - group.dropped["learning_stopped"]


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
    assert group.examples == REFERENCE.examples  # the control users' requests are learned from like all others


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
    begun = {(row.kind, row.key): row for row in machine().live.rows()}
    assert {key: begun[key].values.tolist() for key in begun} == {
        (row.kind, row.key): row.values.tolist() for row in FIRST_ROWS
    }
    store, group = Store(), machine()
    for offset, value in enumerate(RECORDS):
        group.feed(offset, value, appended(value))
    store.commit(group)
    assert store.rows["user", "gone"].tombstone, "or the test says little"
    successor, _ = store.successor()
    assert ("user", "gone") not in {(row.kind, row.key) for row in successor.live.rows()}
    assert {row.key for row in successor.live.rows() if row.kind == "item"} >= {"never", "i3"}


def test_a_kernel_is_published_at_most_once_per_interval_of_event_time() -> None:
    group = machine()
    times = []
    for offset, value in enumerate(RECORDS):
        times += [group.join.watermark for one in group.feed(offset, value, appended(value)) if one.published]
    assert times
    assert all(later - earlier >= LEARNER.publish_seconds for earlier, later in itertools.pairwise(times))


def broken(record: ServedImpression, **changes: object) -> bytes:
    return encode_traffic(msgspec.structs.replace(record, **changes))


def without_values(record: ServedImpression) -> bytes:
    """As an older Driftline wrote it."""
    fields = msgspec.msgpack.decode(encode_traffic(record))
    del fields[1 + record.__struct_fields__.index("values")]
    return msgspec.msgpack.encode(fields)


SOUND = served("main.bad", 1_000.0, ["a", "b"], np.random.default_rng(3))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\x00 not a record", "undecodable"),
        (None, "undecodable"),
        (b"\x91" * 100_000, "undecodable"),
        (broken(SOUND, fingerprint="another"), "other_backbone"),
        (broken(SOUND, x=SOUND.x[:-2]), "bad_payload"),
        (broken(SOUND, items=["a", "b", "c"]), "bad_payload"),
        (broken(SOUND, values=SOUND.values[:-2]), "bad_payload"),
        (broken(SOUND, values=np.full(6, 5, "<i2").tobytes()), "bad_payload"),
        (broken(SOUND, values=np.full(6, -2, "<i2").tobytes()), "bad_payload"),
        (without_values(SOUND), "undecodable"),
        (broken(SOUND, live=np.full(len(SOUND.live) // 4, np.nan, "<f4").tobytes()), "bad_payload"),
        (broken(SOUND, x=np.full(len(SOUND.x) // 2, np.inf, "<f2").tobytes()), "bad_payload"),
        (encode_traffic(Tick(float("nan"))), "bad_payload"),
    ],
)
def test_an_unusable_record_is_counted_and_stops_nothing(value: bytes | None, reason: str) -> None:
    group = machine()
    for offset, record in enumerate([value, *RECORDS]):
        group.feed(offset, record, appended(record))
    assert group.dropped[reason] == 1
    assert group.examples == REFERENCE.examples


def test_a_snapshot_of_another_backbone_is_refused_with_a_remedy() -> None:
    with pytest.raises(SnapshotError, match=r"topics\.kernels"):
        decode_snapshot(encode_snapshot(REFERENCE.snapshot()), group="main", fingerprint="0" * 64)


def test_a_snapshot_of_another_kernels_start_is_refused_by_the_key_before_anything_changes() -> None:
    start = start_of(LAYOUT, WIDTH, seed=1)
    other = machine(start=start)
    with pytest.raises(
        SnapshotError, match=r"'main' cannot be used: .*kernel\.start is '\w+' in the snapshot, '\w+' here"
    ):
        other.restore(REFERENCE.snapshot(), list(REFERENCE.live.rows()), {})
    assert same(other, machine(start=start))


def test_a_truncated_snapshot_is_refused() -> None:
    with pytest.raises(SnapshotError, match="cannot be read"):
        decode_snapshot(encode_snapshot(REFERENCE.snapshot())[:-9], group="main", fingerprint=BACKBONE.fingerprint)


def test_a_log_truncated_by_retention_is_logged_and_learning_continues(caplog: pytest.LogCaptureFixture) -> None:
    group, store, half = machine(), Store(), len(RECORDS) // 2
    for offset in range(half):
        group.feed(offset, RECORDS[offset], appended(RECORDS[offset]))
    store.commit(group)
    successor, _ = store.successor()
    for offset in range(half, len(RECORDS)):  # nothing before the snapshot is left
        successor.feed(offset, RECORDS[offset], appended(RECORDS[offset]))
    assert "traffic_retention_h" in caplog.text
    assert successor.examples > group.examples


def test_a_snapshot_holds_a_few_bytes_per_open_request() -> None:
    group = machine(join=JOIN.model_copy(update={"window_s": 1e6}))
    for offset, value in enumerate(RECORDS[:-2]):
        group.feed(offset, value, appended(value))
    snapshot: GroupSnapshot = group.snapshot()
    assert len(group.join.open) == 120
    rest = len(snapshot.learner) + sum(len(msgspec.msgpack.encode(one)) for one in (snapshot.gate, snapshot.drift))
    assert len(encode_snapshot(snapshot)) < rest + 600 + 12 * len(group.join.open)


def test_refused_records_are_logged_with_their_position_the_first_and_the_tenth_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    group = machine()
    for offset in range(12):
        group.feed(offset, None, 1_000.0)
    lines = [record.getMessage() for record in caplog.records if "undecodable" in record.getMessage()]
    assert len(lines) == 2
    assert "record 0 of traffic" in lines[0]
    assert "record 9 of traffic" in lines[1]
    assert str([*range(10)]) in lines[1]


def test_an_error_of_the_join_on_one_record_does_not_stop_learning_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    group = machine()
    feed = group.join.feed

    def stumble(offset: int, record: Traffic, at: float) -> Joined:
        if offset == 0:
            raise OverflowError("nobody thought of this one")
        return feed(offset, record, at)

    monkeypatch.setattr(group.join, "feed", stumble)
    for offset, value in enumerate([encode_traffic(Tick(1.0)), *RECORDS]):
        group.feed(offset, value, appended(value))
    assert group.dropped["unjoinable"] == 1
    assert group.examples == REFERENCE.examples


def test_a_group_with_unread_feedback_logs_once_when_it_pauses_and_when_it_continues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    silent = [value for value in RECORDS if not isinstance(decode_traffic(value), Progress)]
    group = machine()
    for offset, value in enumerate(silent):
        group.feed(offset, value, appended(value))
    assert group.join.paused
    assert group.examples == 0, "no click is taken for missing"
    assert group.dropped["feedback_unread"] == 120
    at = appended(silent[-1]) + 100
    group.feed(len(silent), encode_traffic(Progress({0: at}, 1)), at)
    assert not group.join.paused
    assert [record.levelname for record in caplog.records if "learning" in record.getMessage()] == ["ERROR", "WARNING"]


def test_an_unlearnable_micro_batch_is_skipped_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    group, batches = machine(), itertools.count()
    learn = group.learner.learn

    def third_raises(batch: MicroBatch) -> LearnReport:
        if next(batches) == 2:
            raise FloatingPointError("the posterior's precision is not finite")
        return learn(batch)

    monkeypatch.setattr(group.learner, "learn", third_raises)
    for offset, value in enumerate(RECORDS):
        group.feed(offset, value, appended(value))
    assert group.dropped["unlearnable"] > 0
    assert group.examples + group.dropped["unlearnable"] == REFERENCE.examples
    assert "cannot be learned" in caplog.text
