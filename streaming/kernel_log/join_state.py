"""The join's part of a snapshot: references to the log, and small values."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from streaming.events import FeedbackKind
from streaming.kernel_log.closed import ClosedRequest
from streaming.kernel_log.label_bits import pack, unpack

_NEVER = float("-inf")


class RequestRef(msgspec.Struct, frozen=True, array_like=True):
    """A labelled request by reference: the record at `offset` of `traffic` has its tensors (decision 0070)."""

    offset: int
    clicks: bytes
    """Packed bits, one per item."""
    conversions: bytes
    """Packed bits, one per item; none if no conversion is set."""

    @classmethod
    def of(cls, offset: int, clicks: NDArray[np.bool_], conversions: NDArray[np.bool_]) -> RequestRef:
        """The reference of a request with these labels, both `(n,)`."""
        return cls(offset, pack(clicks), pack(conversions) if conversions.any() else b"")

    def labels(self, n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Clicks and conversions of the request's `n` items, both `(n,)`."""
        return unpack(self.clicks, n), unpack(self.conversions, n)


class WaitingBatch(msgspec.Struct, frozen=True, array_like=True):
    """A micro-batch whose labels are in doubt (`model.gate.gate.WeightedBatch`)."""

    requests: list[RequestRef]
    weight: bytes
    """Weights of its examples, float64."""
    set_aside: bytes
    """Mask of the requests set aside for good, a byte each."""


class WaitingConversions(msgspec.Struct, frozen=True, array_like=True):
    """A waiting micro-batch of the conversion task. Its requests closed long ago, so each is looked up in the log."""

    requests: list[ClosedRequest]
    weight: bytes
    """Weights of their clicked items, float64."""
    set_aside: bytes
    """Mask of the requests set aside for good, a byte each."""


class TimeState(msgspec.Struct, frozen=True, array_like=True):
    """The event time of a group."""

    newest: float = _NEVER
    """Newest event time of an impression or tick, seconds."""
    broker: float = _NEVER
    """Newest append time, seconds."""
    read: dict[int, float] = {}
    """Append time up to which each partition of `interactions` has been read, seconds."""
    partitions: int = 0
    """Number of partitions of `interactions`; 0 before ingest has reported it."""


class WaitingFeedback(msgspec.Struct, frozen=True, array_like=True):
    """All feedback of one request whose impression has not come yet."""

    request_id: str
    feedback: list[tuple[str, FeedbackKind, float]]
    """Item, kind and event time of each, in the order they came."""


class WaitingClicks(msgspec.Struct, frozen=True, array_like=True):
    """Late clicks, or conversions, of one request that wait to be looked up."""

    request: ClosedRequest
    items: list[str]


class ClosedState(msgspec.Struct, frozen=True, array_like=True):
    """The closed index's part of a snapshot; the segments in `state` hold the rest."""

    first: int = 0
    """Number of the oldest kept request, among all that the group ever closed."""
    segments: int = 0
    """Number of segments cut so far; segments with higher numbers belong to a later snapshot."""
    forgotten: float = _NEVER
    """Newest event time of any dropped request, seconds."""


class JoinState(msgspec.Struct, frozen=True, array_like=True):
    """The state of the join between two records."""

    time: TimeState = TimeState()
    open_from: int = 0
    """Offset of the oldest open impression."""
    open: bytes = b""
    """Packed bits, one per record from `open_from` on: whether it is an open impression."""
    labelled: list[RequestRef] = []
    """Open impressions that already have feedback."""
    unmatched: list[WaitingFeedback] = []
    closed: ClosedState = ClosedState()
    paused_until: float = _NEVER
    """Append time up to which feedback must have been read before any request may close, seconds."""
    delays: tuple[float, float] = (0.0, 0.0)
    """See `streaming.join.label_delays.LabelDelays.state`."""

    @staticmethod
    def pack_open(offsets: Sequence[int]) -> tuple[int, bytes]:
        """`open_from` and `open` for the ascending offsets of the open impressions."""
        if not offsets:
            return 0, b""
        bits = np.zeros(offsets[-1] - offsets[0] + 1, dtype=np.bool_)
        bits[np.array(offsets, dtype=np.int64) - offsets[0]] = True
        return offsets[0], np.packbits(bits).tobytes()

    @property
    def open_offsets(self) -> list[int]:
        """Offsets of the open impressions, in their order."""
        bits = np.unpackbits(np.frombuffer(self.open, dtype=np.uint8))
        offsets: list[int] = (np.flatnonzero(bits) + self.open_from).tolist()
        return offsets

    def without_log(self) -> JoinState:
        """The event time alone, for a log in which earlier offsets have no meaning."""
        return JoinState(time=self.time)
