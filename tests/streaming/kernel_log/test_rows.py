"""Rows of live features in the `state` topic: bit for bit, and one that cannot be read costs only itself."""

from __future__ import annotations

import logging

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.live.layout import KINDS, Kind, LiveRow
from streaming.kernel_log.errors import RowError
from streaming.kernel_log.reader import stored_rows
from streaming.kernel_log.rows import decode_row, encode_row

KEY = b"main/user/u1"
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.sampled_from(KINDS),
    st.text(max_size=20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(FINITE, min_size=1, max_size=8),
)
def test_a_row_round_trips_bit_for_bit_with_any_key(
    kind: Kind, key: str, updated_at: float, values: list[float]
) -> None:
    row = LiveRow(kind, key, updated_at, np.array(values, dtype=np.float32))
    record = encode_row("main", row, first=False)
    assert record.value is not None
    group, back = decode_row(record.key, record.value)
    assert (group, back.kind, back.key, back.updated_at) == ("main", kind, key, updated_at)
    assert back.values.tobytes() == row.values.tobytes()


def test_a_history_round_trips_with_its_items_in_order() -> None:
    row = LiveRow("history", "u1", 5.0, np.arange(6, dtype=np.float32), ("i9", "i1"))
    record = encode_row("main", row, first=False)
    assert record.value is not None
    _, back = decode_row(record.key, record.value)
    assert (back.kind, back.key, back.items) == ("history", "u1", ("i9", "i1"))
    assert back.values.tobytes() == row.values.tobytes()


EVICTED = LiveRow("item", "i", 1.0, np.zeros(0, dtype=np.float32))


def test_an_evicted_row_is_a_tombstone() -> None:
    assert encode_row("main", EVICTED, first=False).value is None


def test_the_eviction_of_a_first_row_stays_in_the_log_permanently() -> None:
    record = encode_row("main", EVICTED, first=True)
    rows, _ = stored_rows({record.key: record.value})
    assert [(row.kind, row.key, row.tombstone) for row in rows["main"]] == [("item", "i", True)]


def body(updated_at: float, values: bytes) -> bytes:
    return msgspec.msgpack.encode((updated_at, values, ()))


UNREADABLE: list[tuple[bytes | None, bytes]] = [
    (KEY, b"garbage"),
    (KEY, b""),
    (KEY, b"\x91" * 100_000),
    (KEY, body(1.0, b"\x00\x00\x00")),
    (KEY, body(1.0, np.array([np.nan], dtype="<f4").tobytes())),
    (KEY, body(float("inf"), np.ones(1, dtype="<f4").tobytes())),
    (b"main/planet/u1", body(1.0, np.ones(1, dtype="<f4").tobytes())),
    (b"no slashes", body(1.0, b"")),
    (b"\xff\xfe/user/u1", body(1.0, b"")),
    (None, body(1.0, b"")),
]


@pytest.mark.parametrize(("key", "value"), UNREADABLE)
def test_an_invalid_row_is_refused_by_its_key(key: bytes | None, value: bytes) -> None:
    with pytest.raises(RowError) as refused:
        decode_row(key, value)
    assert repr(key) in str(refused.value)


@pytest.mark.parametrize(("key", "value"), UNREADABLE)
def test_an_unreadable_row_is_counted_and_logged_and_the_others_are_loaded(
    key: bytes | None, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good = encode_row("main", LiveRow("item", "i", 1.0, np.ones(2, dtype=np.float32)), first=False)
    with caplog.at_level(logging.ERROR):
        rows, unreadable = stored_rows({key: value, good.key: good.value, b"main/user/gone": None})
    assert [(row.kind, row.key) for row in rows["main"]] == [("item", "i")]
    assert unreadable == 1
    assert repr(key) in caplog.text
