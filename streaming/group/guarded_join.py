"""A group's join that goes on after every record, and says when learning has to wait for ingest."""

from __future__ import annotations

import logging

from streaming.events import Traffic
from streaming.group.traffic_reader import TrafficReader
from streaming.join.join import NOTHING, Join, Joined

log = logging.getLogger(__name__)


class GuardedJoin:
    """Refuses records that the join cannot take, and logs when learning is paused and when it goes on."""

    def __init__(self, group: str, join: Join, reader: TrafficReader) -> None:
        """`reader` counts the refused records, as it does those that it cannot read."""
        self._group, self._join, self._reader = group, join, reader

    def feed(self, offset: int, record: Traffic, appended: float) -> Joined:
        """Takes a record as `Join.feed` does; one that raises is refused and closes nothing."""
        was_paused = self._join.paused
        try:
            joined = self._join.feed(offset, record, appended)
        except Exception as error:  # noqa: BLE001 - one bad record must not stop the learning of the others
            self._reader.refuse(offset, "unjoinable", repr(error))
            return NOTHING
        if self._join.paused and not was_paused:
            log.error(
                "group %s: learning is paused: ingest has not reported that it has read the feedback of requests whose "
                "window ended; they are dropped unlearned (feedback_unread) until it has; look at ingest",
                self._group,
            )
        elif was_paused and not self._join.paused:
            log.warning("group %s: learning goes on, ingest has read the missing feedback", self._group)
        return joined
