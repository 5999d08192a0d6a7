"""Closed requests in the `state` topic: what a late click needs to correct a learned label."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from streaming.kernel_log.label_bits import is_set, unpack, with_set
from streaming.kernel_log.rows import StateRecord

log = logging.getLogger(__name__)
_CLOSED = "closed"
NOT_LEARNED = 0
"""`ClosedRequest.learned_at` of a request that was set aside, or that came while learning was stopped."""


class ClosedRequest(msgspec.Struct, array_like=True, gc=False):
    """A request whose labels are decided. Its tensors are in `traffic`."""

    request_id: str
    offset: int
    """Offset of its impression in `traffic`."""
    time: float
    """Event time of its impression, seconds."""
    clicks: bytes
    """Packed bits, one per item: the labels as last learned."""
    learned_at: int = -1
    """`Learner.examples` right after the micro-batch that learned it; -1 before that, or `NOT_LEARNED`."""
    conversions: bytes = b""
    """Packed bits, one per item; empty before the first conversion."""
    weight: bytes = b""
    """Weight of each of its examples when learned, float64 `(n,)`; empty if all weights are 1."""

    def weights(self, items: int) -> NDArray[np.float64]:
        """Weights of its `items` examples, `(n,)`."""
        return np.frombuffer(self.weight) if self.weight else np.ones(items)

    def clicked(self, index: int) -> bool:
        """Whether the item at `index` is marked as clicked."""
        return is_set(self.clicks, index)

    def click(self, index: int) -> None:
        """Marks the item at `index` as clicked."""
        self.clicks = with_set(self.clicks, index)

    def labels(self, n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Present clicks and conversions of its `n` items, both `(n,)`."""
        return unpack(self.clicks, n), unpack(self.conversions, n)

    def converted(self, index: int) -> bool:
        """Whether the item at `index` is marked as converted."""
        return is_set(self.conversions, index)

    def convert(self, index: int) -> None:
        """Marks the item at `index` as converted."""
        self.conversions = with_set(self.conversions or bytes(len(self.clicks)), index)


class ClosedSegment(msgspec.Struct, frozen=True, array_like=True):
    """Changes of the closed requests between two cuts."""

    first: int
    """Number of the first of `requests` among all that the group ever closed."""
    requests: list[ClosedRequest]
    """Learned since the cut before, in the order they closed."""
    corrected: dict[str, bytes]
    """Clicks of earlier requests that late clicks have changed, by request id."""
    converted: dict[str, bytes] = {}
    """Conversions of earlier requests that later ones have changed, by request id."""


@dataclass(frozen=True)
class ClosedChanges:
    """What a transaction writes of the closed requests."""

    number: int
    """Of the new segment."""
    segment: bytes | None
    expired: Sequence[int]
    """Numbers of segments of which no request can be corrected any more."""


_decoder = msgspec.msgpack.Decoder(ClosedSegment)


def encode_segment(segment: ClosedSegment) -> bytes:
    """A segment as MessagePack."""
    return msgspec.msgpack.encode(segment)


def decode_segment(data: bytes) -> ClosedSegment:
    """The inverse of `encode_segment`. Raises msgspec.DecodeError."""
    return _decoder.decode(data)


def encode_closed(group: str, changes: ClosedChanges) -> list[StateRecord]:
    """The records of `changes`: the new segment, and tombstones."""
    records = []
    if changes.segment is not None:
        records.append(StateRecord(segment_key(group, changes.number), changes.segment))
    return records + [StateRecord(segment_key(group, number), None) for number in changes.expired]


def stored_segments(group: str, values: Mapping[bytes | None, bytes | None]) -> dict[int, ClosedSegment]:
    """Segments of a group by number, in their order, from the newest value of each key of the `state` topic.

    One that cannot be read is logged: late clicks for the requests in it correct nothing.
    """
    prefix = f"{group}/{_CLOSED}/".encode()
    found = {}
    for key, value in values.items():
        if key is None or value is None or not key.startswith(prefix):
            continue
        try:
            found[int(key.removeprefix(prefix))] = _decoder.decode(value)
        # RecursionError: MessagePack may nest deeper than the decoder goes, and anybody can write such a record
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            log.error("the state record %r cannot be read (%s); late clicks for its requests are lost", key, error)
    return {number: found[number] for number in sorted(found)}


def is_closed_key(key: bytes | None) -> bool:
    """Whether a key of the `state` topic is that of a segment."""
    parts = (key or b"").split(b"/", 2)
    return len(parts) == 3 and parts[1] == _CLOSED.encode()


def segment_key(group: str, number: int) -> bytes:
    """Key of a segment in the `state` topic."""
    return f"{group}/{_CLOSED}/{number}".encode()
