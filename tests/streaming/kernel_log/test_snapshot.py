"""The learner's snapshot as bytes: it round-trips, and an unusable one is refused with a remedy."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.kernel_log.closed import ClosedRequest
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.join_state import ClosedState, JoinState, RequestRef, TimeState, WaitingBatch, WaitingClicks
from streaming.kernel_log.snapshot import SCHEMA, GroupSnapshot, decode_snapshot, encode_snapshot

PRINT = "f" * 64
BITS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def snapshot() -> GroupSnapshot:
    return GroupSnapshot(
        group="main",
        fingerprint=PRINT,
        next_offset=9,
        version=2,
        examples=30,
        newest_event_time=5.0,
        published_at=4.0,
        join=JoinState(TimeState(5.5, 5.6, {0: 5.4}, 1), *JoinState.pack_open([7, 8]), closed=ClosedState(3, 2)),
        late=[WaitingClicks(ClosedRequest("r", 2, 1.5, b"\x40", 16), ["a"])],
        late_since=4.2,
        pending=[RequestRef(6, b"\x80", b"\x00")],
        pending_since=4.0,
        learner=b"tensors",
        gate={"left": 3},
        waiting=[WaitingBatch([RequestRef(5, b"\x80", b"\x00")], b"", b"\x00")],
        good=1,
        next_good=2,
    )


def written() -> dict[str, object]:
    """A snapshot encoded as in the log."""
    return dict(msgspec.msgpack.decode(encode_snapshot(snapshot())))


def test_a_snapshot_round_trips() -> None:
    assert decode_snapshot(encode_snapshot(snapshot()), group="main", fingerprint=PRINT) == snapshot()


def test_the_re_read_starts_at_the_oldest_record_referenced_by_the_snapshot() -> None:
    whole = snapshot()
    assert whole.resume_offset == 5
    assert msgspec.structs.replace(whole, waiting=[]).resume_offset == 6
    assert msgspec.structs.replace(whole, waiting=[], pending=[]).resume_offset == 7


@given(BITS)
def test_a_reference_keeps_every_items_labels(bits: list[tuple[bool, bool]]) -> None:
    clicks, conversions = (np.array(column, dtype=np.bool_) for column in zip(*bits, strict=True))
    back = RequestRef.of(1, clicks, conversions).labels(len(bits))
    assert [labels.tolist() for labels in back] == [clicks.tolist(), conversions.tolist()]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"garbage", "cannot be read"),
        (b"\x91" * 100_000, "cannot be read"),
        (encode_snapshot(snapshot())[:-3], "cannot be read"),
        (encode_snapshot(msgspec.structs.replace(snapshot(), schema=99)), "schema 99"),
        (msgspec.msgpack.encode({**written(), "recent": [], "schema": 1}), "schema 1"),
        (
            encode_snapshot(msgspec.structs.replace(snapshot(), schema=SCHEMA - 1)),
            f"schema {SCHEMA - 1}, this program reads {SCHEMA}",
        ),
        (encode_snapshot(msgspec.structs.replace(snapshot(), group="other")), "'other'"),
        (encode_snapshot(msgspec.structs.replace(snapshot(), fingerprint="0" * 64)), "backbone 000000000000"),
    ],
)
def test_an_unusable_snapshot_is_refused_with_a_remedy(data: bytes, message: str) -> None:
    with pytest.raises(SnapshotError, match=message) as refused:
        decode_snapshot(data, group="main", fingerprint=PRINT)
    assert "topics.kernels" in str(refused.value)
