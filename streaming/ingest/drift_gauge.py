"""Announced drift as a metric, which the dashboards show as shades."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from streaming.events import DriftEvent
from streaming.monitoring import metrics

log = logging.getLogger(__name__)

MAX_SHOWN = 16
"""Announcements shown at once. The limit is needed because names come from outside, and each is a time series."""

_NameAndKind = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Latest:
    """The newest announcement for one name and kind."""

    time: float
    active: bool
    partition: int


class DriftGauge:
    """The newest announcements that one member has read. They are in memory only, so a restart forgets them."""

    def __init__(self, keep_s: float) -> None:
        """`keep_s`: seconds after which drift without an announced end no longer counts as active."""
        self._keep_s = keep_s
        self._latest: dict[_NameAndKind, _Latest] = {}
        self._shown: set[_NameAndKind] = set()

    def take(self, partition: int, event: DriftEvent) -> None:
        """Takes an announcement; an older one changes nothing, so records may be read again."""
        key = (event.name, event.kind)
        known = self._latest.get(key)
        if known is not None and event.time < known.time:
            return
        log.info("drift: %s (%s) %s", event.name, event.kind, event.phase)
        self._latest[key] = _Latest(event.time, event.phase != "ends", partition)
        if len(self._latest) > MAX_SHOWN:
            others = self._latest.keys() - {key}
            del self._latest[min(others, key=lambda other: (self._latest[other].active, self._latest[other].time))]

    def show(self, now: float, partitions: Collection[int]) -> None:
        """Sets the metric at wall-clock time `now`, seconds.

        Announcements read from other than these partitions are dropped: another member will read their end, and this
        member's series would stay at 1.
        """
        self._latest = {key: latest for key, latest in self._latest.items() if latest.partition in partitions}
        for name, kind in self._shown - self._latest.keys():
            metrics.ingest.DRIFT_ANNOUNCED.remove(name, kind)
        for (name, kind), latest in self._latest.items():
            active = latest.active and now - latest.time <= self._keep_s
            metrics.ingest.DRIFT_ANNOUNCED.labels(name=name, kind=kind).set(active)
        self._shown = set(self._latest)
