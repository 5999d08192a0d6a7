"""The re-read after a restart: what a snapshot refers to is looked up in the log, what was open is opened again."""

from __future__ import annotations

from collections.abc import Sequence

from streaming.events import ServedImpression, Traffic
from streaming.processor.join import ClosedRequest, Join
from streaming.processor.snapshots import GroupSnapshot, RequestRef, closed_request


class Recovery:
    """Takes the records from `snapshot.resume_offset` to `snapshot.next_offset` and fills `join` with what is open."""

    def __init__(self, snapshot: GroupSnapshot, join: Join) -> None:
        self.snapshot = snapshot
        self._join = join
        self._found: dict[int, ServedImpression | None] = {
            ref.offset: None for batch in (snapshot.pending, *snapshot.recent) for ref in batch
        }
        join.watermark = snapshot.join_watermark

    def needs(self, offset: int) -> bool:
        """Whether the record at `offset` has anything to give."""
        return offset in self._found or offset >= self.snapshot.join_offset

    def take(self, offset: int, record: Traffic) -> None:
        """A record that is needed."""
        if offset in self._found and isinstance(record, ServedImpression):
            self._found[offset] = record
        if offset >= self.snapshot.join_offset:
            self._join.feed(offset, record)  # what closes here was learned before the snapshot

    @property
    def missing(self) -> int:
        """Requests that the snapshot refers to and the log no longer has."""
        return sum(1 for impression in self._found.values() if impression is None)

    def rebuild(self, refs: Sequence[RequestRef]) -> list[ClosedRequest]:
        """The labelled requests of `refs`, without those that are missing."""
        found = ((ref, self._found[ref.offset]) for ref in refs)
        return [closed_request(ref, impression) for ref, impression in found if impression is not None]
