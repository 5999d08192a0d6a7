"""The re-read after a restart: what a snapshot refers to is looked up in the log, open requests are opened again."""

from __future__ import annotations

from collections.abc import Sequence

from streaming.events import ServedImpression, Traffic
from streaming.kernel_log.snapshot import GroupSnapshot, RequestRef
from streaming.processor.join import Join, LabelledRequest


class Recovery:
    """Takes the records from `snapshot.resume_offset` to `snapshot.next_offset` and fills `join` with what is open."""

    def __init__(self, snapshot: GroupSnapshot, join: Join) -> None:
        self.snapshot = snapshot
        self._join = join
        self._impressions: dict[int, ServedImpression | None] = {ref.offset: None for ref in snapshot.pending}
        # With a later watermark windows would close in another order than they did (decision 0070).
        join.watermark = snapshot.join_watermark

    def needs(self, offset: int) -> bool:
        """Whether the record at `offset` has anything to give."""
        return offset in self._impressions or offset >= self.snapshot.join_offset

    def take(self, offset: int, record: Traffic, appended: float) -> None:
        """A record that is needed."""
        if offset in self._impressions and isinstance(record, ServedImpression):
            self._impressions[offset] = record
        if offset >= self.snapshot.join_offset:
            self._join.feed(offset, record, appended)  # what closes here was learned before the snapshot

    @property
    def missing(self) -> int:
        """Requests that the snapshot refers to and the log no longer has."""
        return sum(1 for impression in self._impressions.values() if impression is None)

    def rebuild(self, refs: Sequence[RequestRef]) -> list[LabelledRequest]:
        """The labelled requests of `refs`, without those that are missing."""
        referred = ((ref, self._impressions[ref.offset]) for ref in refs)
        return [
            LabelledRequest(ref.offset, impression, *ref.labels(len(impression.items)))
            for ref, impression in referred
            if impression is not None
        ]
