"""Records for a join, and what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from model.encoding.domain import Domain
from streaming.config import JoinConfig
from streaming.events import FeedbackKind, LearningOrder, Progress, ServedFeedback, ServedImpression, Tick, Traffic
from streaming.join.join import Join, LabelledRequest, LateClick, LateConversion

CONFIG = JoinConfig(window_s=10, lateness_s=1, horizon_s=100, conversion_window_s=50)
Stamped = ServedImpression | ServedFeedback | Tick


def impression(request: str, time: float, items: Sequence[str] = ("a", "b")) -> ServedImpression:
    """What was served, with two numbers per item."""
    n = len(items)
    half, single = np.zeros((n, 2), "<f2").tobytes(), np.zeros(n, "<f4").tobytes()
    payload = (half, single, half, b"", single, single)
    return ServedImpression(request, time, "u", Domain(), list(items), "f", 0, "live", *payload)


def click(request: str, item: str, time: float, kind: FeedbackKind = "click") -> ServedFeedback:
    """Feedback of one item."""
    return ServedFeedback(request, item, time, kind)


def read(time: float) -> Progress:
    """Ingest has read the one partition of `interactions` up to `time`."""
    return Progress({0: time}, 1)


def appended(record: Traffic) -> float:
    """When a broker whose clock agrees with the senders' appended a record, seconds."""
    if isinstance(record, Progress):
        return max(record.read.values(), default=0.0)
    return 0.0 if isinstance(record, LearningOrder) else record.time


def labels(closed: LabelledRequest) -> dict[str, bool]:
    """Clicks by item."""
    return dict(zip(closed.impression.items, closed.clicks.tolist(), strict=True))


@dataclass
class Played:
    """A join, and all that it gave."""

    join: Join = field(default_factory=lambda: Join(CONFIG))
    closed: list[LabelledRequest] = field(default_factory=list)
    late: list[LateClick | LateConversion] = field(default_factory=list)
    offset: int = 0

    def feed(self, record: Traffic, at: float | None = None) -> None:
        """Feeds the next record, appended `at` or at its own time."""
        joined = self.join.feed(self.offset, record, appended(record) if at is None else at)
        self.closed += joined.closed
        self.join.closed.learned(len(joined.closed), sum(len(closed.clicks) for closed in self.closed))
        self.late += [] if joined.late is None else [joined.late]
        self.offset += 1

    @property
    def labels(self) -> list[dict[str, bool]]:
        """Labels of the requests in the order they closed."""
        return [labels(closed) for closed in self.closed]


def play(records: Sequence[Traffic], config: JoinConfig = CONFIG) -> Played:
    """All records, with an ingest that is never behind."""
    played = Played(Join(config))
    for record in records:
        if not isinstance(record, Progress):
            played.feed(read(max(appended(record), played.join.time.broker)))
        played.feed(record)
    return played
