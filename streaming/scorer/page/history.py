"""What was lately said of each kernel group, bounded: the newest look, a thinned past, and what happened.

No broker, no clock: `streaming.scorer.page.follower` brings the records.
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
"""How far back the past is kept, event time."""
MAX_POINTS = 2_000
"""Looks kept of each group: when there are more, every second one is forgotten, so the older the thinner."""
MAX_STRATA = 512
"""Strata kept of each group, beyond what a configuration declares in earnest."""
MAX_HAPPENINGS = 500
"""Decisions kept; alarms are kept apart, for they are many."""
MEASURES = ("log_loss", "request_auc", "auc", "calibration")
SERIES = (
    *(f"{arm}_{measure}" for arm in ("frozen", "live") for measure in MEASURES),
    "label_rate",
    "expected_log_loss",
    "expected_auc",
)
"""What is kept of a stratum at each look."""
VERDICT, ALARM = "verdict", "alarm"
"""Kinds of what a drift monitor says."""


class PastLooks:
    """The past of one group: a time and a kernel version for each look, and a row of figures for each stratum."""

    def __init__(self) -> None:
        self._time = np.zeros(MAX_POINTS)
        self._version = np.zeros(MAX_POINTS, np.int64)
        self._rows: dict[str, NDArray[np.float32]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, status: GroupStatus) -> None:
        """Adds a look; one that is no newer than the last is passed over."""
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
        """Forgets what is beyond the horizon, and if that is little, every second look; never the newest."""
        kept = np.flatnonzero(self._time[: self._count] >= now - HORIZON_S)
        if len(kept) > 3 * MAX_POINTS // 4:
            kept = kept[(len(kept) - 1) % 2 :: 2]
        self._count = len(kept)
        self._time[: self._count], self._version[: self._count] = self._time[kept], self._version[kept]
        for rows in self._rows.values():
            rows[: self._count] = rows[kept]

    def since(self, stratum: str, time: float) -> tuple[list[float], list[int], dict[str, list[float]]]:
        """Times, kernel versions and series of the looks after `time`, event time; nan is not known."""
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
    """What is known of all groups."""

    groups: Sequence[str]
    newest: dict[str, GroupStatus] = field(default_factory=dict)
    """The newest look at each group."""
    happenings: deque[Decision] = field(default_factory=lambda: deque(maxlen=MAX_HAPPENINGS))
    """Verdicts, announced drift, and what gate and operators did, oldest first."""
    alarms: deque[Decision] = field(default_factory=lambda: deque(maxlen=MAX_HAPPENINGS))
    """Single detectors that fired, oldest first."""
    told: int = 0
    """Happenings in all, those that are forgotten included."""
    unread: int = 0
    """Records that could not be read."""
    looks: Mapping[str, PastLooks] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.looks = {group: PastLooks() for group in self.groups}

    def take(self, status: GroupStatus) -> None:
        """Takes a look in; of a group that is not configured there is none."""
        if status.group in self.looks:
            self.newest[status.group] = status
            self.looks[status.group].add(status)

    def hear(self, decisions: Iterable[Decision]) -> None:
        """Takes decisions in, in the order of the topic; one that was told again right away counts once."""
        for decision in decisions:
            kept = self.alarms if decision.kind == ALARM else self.happenings
            if not kept or kept[-1] != decision:
                kept.append(decision)
                self.told += kept is self.happenings

    def after(self, told: int) -> list[Decision]:
        """The happenings behind the first `told` of all, as far as they are kept."""
        new = min(max(self.told - told, 0), len(self.happenings))
        return list(self.happenings)[len(self.happenings) - new :]
