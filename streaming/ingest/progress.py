"""How far one member has read `interactions`, in broker time. No broker and no clock in it: times in, claims out.

A claim `read[k] = t` says: all that was appended to partition k of `interactions` before `t` has been written to
`traffic`. Two things prove one. A record of the partition was handled: all before it was too, and the broker stamps a
partition in its order. Or the position was at an end that was asked for at a known moment: nothing was missing then.
What others handled before a partition came here is covered: its position begins where they committed, and they commit
behind their writes. So no claim becomes false when a partition moves on, and none is made about one that has just come.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping


class ReadProgress:
    """The claims of one member about the partitions it owns."""

    def __init__(self) -> None:
        self._read: dict[int, float] = {}

    def own(self, partitions: Collection[int]) -> None:
        """These partitions are this member's: of others it claims nothing more."""
        self._read = {partition: read for partition, read in self._read.items() if partition in partitions}

    def handled(self, partition: int, appended: float) -> None:
        """All records up to one that was appended then are written and acknowledged; broker time, seconds."""
        self._claim(partition, appended)

    def looked(self, partition: int, position: int, end: int, asked: float) -> None:
        """All records before `position` are written; at broker time `asked`, or later, the partition ended at `end`."""
        if position >= end:
            self._claim(partition, asked)

    def claims(self) -> dict[int, float]:
        """Partition of `interactions` to broker time, seconds."""
        return dict(self._read)

    def _claim(self, partition: int, read: float) -> None:
        if math.isfinite(read):
            self._read[partition] = max(self._read.get(partition, -math.inf), read)


class MarkSchedule:
    """When one partition of `traffic` is due a mark: as long as windows may be open that no mark has passed."""

    def __init__(self) -> None:
        self._written: Mapping[int, float] = {}

    def due(self, claims: Mapping[int, float], own: Collection[int], until: float) -> bool:
        """Whether to write `claims` now; windows may be open up to broker time `until`, seconds.

        Not if nothing is new since the last mark, unless nothing can be claimed yet: a mark's own acknowledgement tells
        the broker's time, which claims are made of.
        """
        if all(self._written.get(partition, -math.inf) >= until for partition in own):
            return False
        return dict(claims) != dict(self._written) or not claims

    def wrote(self, claims: Mapping[int, float]) -> None:
        """A mark with these claims is acknowledged."""
        self._written = dict(claims)
