"""Settings of a play, and its results."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from streaming.events import DriftEvent


@dataclass(frozen=True)
class ReplayConfig:
    """How a replay sends requests and feedback."""

    scorer: str
    """Base address of the scorer, `http://host:port`."""
    key: str | None = None
    """API key that the scorer asks for."""
    queries: bool = False
    """Whether the backbone reads queries: the scorer refuses them otherwise, and recommends without."""
    timeout_s: float = 5.0
    """A request without an answer for this long has failed."""
    click_after_s: tuple[float, float] = (0.02, 0.15)
    """A user clicks this long after the answer, evenly between the two, seconds."""
    late_clicks_s: float = 5.0
    """Seconds after the last answer for which delayed clicks of the recording are waited for; those still due are then
    sent. It must exceed the join window, else late clicks would come in time."""
    max_open: int = 4
    """Requests on their way at once: on a machine that is too slow the play takes longer, instead of piling up what a
    single scorer process answers one by one anyway."""
    give_up_after: int = 100
    """Number of failures in a row that ends the play."""
    seed: int = 5
    """Seed of the click delays."""


@dataclass
class ReplayResult:
    """Counts of what was sent and answered, updated while the play runs."""

    answered: set[str] = field(default_factory=set)
    """Request ids that the scorer gave."""
    failed: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by cause."""
    latencies_s: list[float] = field(default_factory=list)
    """Seconds from sending a request to its complete answer, in the order of the answers."""
    items: int = 0
    clicks: int = 0
    conversions: int = 0
    announced: list[DriftEvent] = field(default_factory=list)
    """Drift that was announced, in order."""
    kernel_version: int = 0
    """Newest version seen in an answer."""
    behind_s: float = 0.0
    """Largest lag of the play behind its plan, seconds."""
    began_at: float = 0.0
    """Wall clock of the first request, seconds since the epoch."""
    ended_at: float = 0.0
    """Wall clock after the last click."""

    @property
    def drift(self) -> list[str]:
        """Names of the drift that is announced to be at work."""
        last = {(event.name, event.kind): event.phase for event in self.announced}
        return [name for (name, _), phase in last.items() if phase != "ends"]

    @property
    def requests(self) -> int:
        """Requests that ended, answered or not."""
        return len(self.answered) + self.failed.total()

    @property
    def seconds(self) -> float:
        """Duration so far, seconds."""
        return (self.ended_at or time.time()) - self.began_at if self.began_at else 0.0
