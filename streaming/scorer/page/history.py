"""The recent past of each kernel group in bounded memory: the newest status, thinned earlier ones, and decisions.

There is no broker and no clock; `streaming.scorer.page.follower` brings the records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streaming.events.decisions import Decision
from streaming.events.status import DomainStatus, GroupStatus

HORIZON_S = 6 * 3_600.0
"""Seconds of event time for which the past is kept."""
MAX_POINTS = 2_000
"""Points kept per group. Beyond them every second point is dropped, so older points are sparser."""
MAX_STRATA = 512
"""Strata kept per group, more than any sensible configuration declares."""
MAX_DECISIONS = 500
"""Decisions kept; alarms have their own limit, because they are many."""
MEASURES = ("log_loss", "request_auc", "auc", "calibration")
SERIES = (
    *(f"{arm}_{measure}" for arm in ("frozen", "live") for measure in MEASURES),
    "label_rate",
    "expected_log_loss",
    "expected_auc",
)
"""Figures of a stratum kept at each point."""
VERDICT, ALARM = "verdict", "alarm"
"""Kinds of the drift monitor's decisions."""


class StatusSeries:
    """The past of one group: time and kernel version of each point, and the figures of each stratum."""

    def __init__(self) -> None:
        self._time = np.zeros(MAX_POINTS)
        self._version = np.zeros(MAX_POINTS, np.int64)
        self._rows: dict[str, NDArray[np.float32]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, status: GroupStatus) -> None:
        """Adds a status as a point, unless it is no newer than the last."""
        if not np.isfinite(status.time) or (self._count and status.time <= self._time[self._count - 1]):
            return
        if self._count == MAX_POINTS:
            self._thin(status.time)
        at = self._count
        self._time[at], self._version[at] = status.time, status.kernel_version
        for rows in self._rows.values():
            rows[at] = np.nan
        for domain in status.domains:
            if domain.stratum not in self._rows and len(self._rows) < MAX_STRATA:
                self._rows[domain.stratum] = np.full((MAX_POINTS, len(SERIES)), np.nan, np.float32)
            if domain.stratum in self._rows:
                self._rows[domain.stratum][at] = _figures(domain)
        self._count += 1

    def _thin(self, now: float) -> None:
        """Drops points beyond the horizon and, if those are few, every second point, but never the newest."""
        kept = np.flatnonzero(self._time[: self._count] >= now - HORIZON_S)
        if len(kept) > 3 * MAX_POINTS // 4:
            kept = kept[(len(kept) - 1) % 2 :: 2]
        self._count = len(kept)
        self._time[: self._count], self._version[: self._count] = self._time[kept], self._version[kept]
        for rows in self._rows.values():
            rows[: self._count] = rows[kept]

    def since(self, stratum: str, time: float) -> tuple[list[float], list[int], dict[str, list[float]]]:
        """Times, kernel versions and series of the points after event time `time`; unknown figures are NaN."""
        begin = int(np.searchsorted(self._time[: self._count], time, side="right"))
        rows = self._rows.get(stratum)
        span = slice(begin, self._count)
        series = {} if rows is None else {name: rows[span, n].tolist() for n, name in enumerate(SERIES)}
        return self._time[span].tolist(), self._version[span].tolist(), series


def _figures(domain: DomainStatus) -> list[float]:
    known: dict[str, float | None] = {
        f"{arm}_{measure}": getattr(arm_status, measure)
        for arm, arm_status in domain.arms.items()
        for measure in MEASURES
    }
    known |= {name: getattr(domain, name) for name in ("label_rate", "expected_log_loss", "expected_auc")}
    return [np.nan if (value := known.get(name)) is None else value for name in SERIES]


@dataclass
class StatusHistory:
    """The recent past of all groups."""

    groups: Sequence[str]
    newest: dict[str, GroupStatus] = field(default_factory=dict)
    """The newest status of each group."""
    decisions: deque[Decision] = field(default_factory=lambda: deque(maxlen=MAX_DECISIONS))
    """Changes of verdicts, announced drift, and actions of gate and operators, oldest first."""
    alarms: deque[Decision] = field(default_factory=lambda: deque(maxlen=MAX_DECISIONS))
    """Alarms of single detectors, oldest first."""
    decision_count: int = 0
    """Number of decisions so far, including those that were dropped."""
    unread: int = 0
    """Number of records that could not be decoded."""
    series_by_group: Mapping[str, StatusSeries] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.series_by_group = {group: StatusSeries() for group in self.groups}

    def take(self, status: GroupStatus) -> None:
        """Takes a status, unless its group is not configured."""
        if status.group in self.series_by_group:
            self.newest[status.group] = status
            self.series_by_group[status.group].add(status)

    def add_decisions(self, decisions: Iterable[Decision]) -> None:
        """Takes decisions in the order of the topic; an immediate repetition counts once."""
        for decision in decisions:
            kept = self.alarms if decision.kind == ALARM else self.decisions
            if not kept or kept[-1] != decision:
                kept.append(decision)
                self.decision_count += kept is self.decisions

    def after(self, count: int) -> list[Decision]:
        """The kept decisions after the first `count` of all."""
        new = min(max(self.decision_count - count, 0), len(self.decisions))
        return list(self.decisions)[len(self.decisions) - new :]
