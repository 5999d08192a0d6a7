"""What an outside event may hold, and what is no inside event."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.encoding.domain import Domain
from model.encoding.spelling import FieldValue
from streaming.events import (
    CONVERSION_PAYLOADS,
    EXPLORED,
    PAYLOADS,
    ConvertingImpression,
    ExploredConvertingImpression,
    ExploredImpression,
    ItemEvent,
    Payload,
    ServedImpression,
    UserEvent,
    decode_event,
    decode_traffic,
    encode_event,
    encode_traffic,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"7", 7),
        (b"9007199254740993", 2**53 + 1),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"true", True),
        (b"null", None),
        (b'[1, "two", true]', [1, "two", True]),
    ],
)
def test_a_field_accepts_any_scalar_or_list_and_keeps_every_digit(text: bytes, value: FieldValue) -> None:
    event = decode_event(b'{"event":"user","user_id":"u","time":1,"fields":{"code":%s}}' % text)
    assert isinstance(event, UserEvent)
    assert event.fields["code"] == value
    assert type(event.fields["code"]) is type(value)


def test_events_round_trip() -> None:
    """JSON has no infinity: it becomes null, which is a missing value and no reason to refuse an item."""
    event = decode_event(encode_event(ItemEvent("i", 1.0, "", {"year": float("inf"), "genres": ["a"]})))
    assert isinstance(event, ItemEvent)
    assert event.fields == {"year": None, "genres": ["a"]}


@pytest.mark.parametrize("data", [b"", b"\x91" * 20_000, b"\x93\xa1f\xa3\xbb\xbb\xbb", b"\xff", b"\x91\xa1?"])
def test_invalid_internal_events_are_refused_by_one_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_traffic(data)


@given(st.binary(max_size=80))
def test_no_bytes_raise_another_error(data: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        decode_traffic(data)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (ServedImpression, PAYLOADS),
        (ConvertingImpression, (*PAYLOADS, *CONVERSION_PAYLOADS)),
        (ExploredImpression, (*PAYLOADS, "propensity")),
        (ExploredConvertingImpression, (*PAYLOADS, *CONVERSION_PAYLOADS, "propensity")),
    ],
)
def test_an_impression_is_measured_with_all_its_arrays(
    kind: type[ServedImpression], names: tuple[Payload, ...]
) -> None:
    arrays = [bytes(2**place) for place in range(len(names))]
    place = (0,) if kind in EXPLORED else ()
    shown = kind("r", 0.0, "u", Domain(), ["i"], "f", 0, "live", *arrays, *place)
    assert decode_traffic(encode_traffic(shown)) == shown
    assert shown.payload_bytes == sum(len(getattr(shown, name)) for name in names) == 2 ** len(names) - 1
