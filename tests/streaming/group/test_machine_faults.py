"""What a group cannot use or learn is refused and counted, and stops nothing."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from model.kernel.batch import MicroBatch
from model.kernel.learner import LearnReport
from streaming.events import Progress, ServedImpression, Tick, Traffic, decode_traffic, encode_traffic
from streaming.join.join import Joined
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.snapshot import decode_snapshot, encode_snapshot
from tests.streaming.group.restarts import RECORDS, REFERENCE, Store, same
from tests.streaming.group.tiny import (
    BACKBONE,
    LAYOUT,
    WIDTH,
    appended,
    machine,
    served,
)
from tests.streaming.small_start import start_of


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
    assert group.publisher.examples == REFERENCE.publisher.examples


def test_a_snapshot_of_another_backbone_is_refused_with_a_remedy() -> None:
    with pytest.raises(SnapshotError, match=r"topics\.kernels"):
        decode_snapshot(encode_snapshot(REFERENCE.snapshot()), group="main", fingerprint="0" * 64)


def test_a_snapshot_of_another_kernels_start_is_refused_by_the_key_before_anything_changes() -> None:
    start = start_of(LAYOUT, WIDTH, seed=1)
    other = machine(start=start)
    with pytest.raises(
        SnapshotError, match=r"'main' cannot be used: .*kernel\.start is '\w+' in the snapshot, '\w+' here"
    ):
        other.restore(REFERENCE.snapshot(), list(REFERENCE.rows.live.rows()), {})
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
    assert successor.publisher.examples > group.publisher.examples


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
    assert group.publisher.examples == REFERENCE.publisher.examples


def test_a_group_with_unread_feedback_logs_once_when_it_pauses_and_when_it_continues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    silent = [value for value in RECORDS if not isinstance(decode_traffic(value), Progress)]
    group = machine()
    for offset, value in enumerate(silent):
        group.feed(offset, value, appended(value))
    assert group.join.paused
    assert group.publisher.examples == 0, "no click is taken for missing"
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
    assert group.publisher.examples + group.dropped["unlearnable"] == REFERENCE.publisher.examples
    assert "cannot be learned" in caplog.text
