"""How far one member has read `interactions`, in broker time. It has no broker and no clock.

A claim `read[k] = t` says: everything appended to partition k of `interactions` before `t` has been written to
`traffic`. Two facts prove a claim. A record of the partition was handled: all earlier ones were, too, and the broker
stamps a partition in order. Or the read position was at the end offset that the broker reported at a known time:
nothing was missing then. Records that an earlier member handled are covered, because this member starts at the
committed offset, and offsets are committed after the writes. So a claim stays true when a partition moves to another
member, and no claim is made about a partition that has just arrived.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping


class ReadProgress:
    """Claims of one member about its partitions."""

    def __init__(self) -> None:
        self._read: dict[int, float] = {}

    def own(self, partitions: Collection[int]) -> None:
        """Sets the member's partitions; claims about others are dropped."""
        self._read = {partition: read for partition, read in self._read.items() if partition in partitions}

    def handled(self, partition: int, appended: float) -> None:
        """Records that everything up to a record with this append time is written and acknowledged; broker seconds."""
        self._claim(partition, appended)

    def looked(self, partition: int, position: int, end: int, asked_at: float) -> None:
        """Records that all records before `position` are written, and that at broker time `asked` or later the end of
        the partition was `end`."""
        if position >= end:
            self._claim(partition, asked_at)

    def claims(self) -> dict[int, float]:
        """Claims by partition of `interactions`: broker time, seconds."""
        return dict(self._read)

    def _claim(self, partition: int, read: float) -> None:
        if math.isfinite(read):
            self._read[partition] = max(self._read.get(partition, -math.inf), read)


class MarkSchedule:
    """Decides when a partition of `traffic` needs a mark: while windows may be open that no mark has passed."""

    def __init__(self) -> None:
        self._written: Mapping[int, float] = {}

    def due(self, claims: Mapping[int, float], assigned: Collection[int], until: float) -> bool:
        """Whether to write `claims` now; windows may be open up to broker time `until`, seconds.

        Not if nothing has changed since the last mark. But if there is no claim yet, a mark is written, because its
        acknowledgement tells the broker's time, from which claims are made.
        """
        if all(self._written.get(partition, -math.inf) >= until for partition in assigned):
            return False
        return dict(claims) != dict(self._written) or not claims

    def wrote(self, claims: Mapping[int, float]) -> None:
        """Records an acknowledged mark with these claims."""
        self._written = dict(claims)
