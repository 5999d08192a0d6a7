"""Watches the feedback path: the share of late and orphan feedback, and ingest's progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.gate.decision import GateDecision

_KEPT = 0.98
"""Factor that the counts keep from one micro-batch to the next."""
_LEAST = 50.0
"""Least records of feedback from which a share is judged."""


@dataclass(frozen=True)
class FeedbackPath:
    """Feedback counts since the last micro-batch."""

    joined: int
    """Number of records of feedback that found their item in time."""
    lost: int
    """Number of late and orphan records."""
    paused: bool
    """Whether the join is waiting for ingest's progress."""


class FeedbackMonitor:
    """Decides whether the state of the feedback path holds publication."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._joined = self._lost = 0.0
        self.held = ""
        """Why publication is held; empty if it is not."""

    def judge(self, path: FeedbackPath) -> list[GateDecision]:
        """Takes the counts since the last micro-batch; returns a decision if holding begins or ends."""
        self._joined = _KEPT * self._joined + path.joined
        self._lost = _KEPT * self._lost + path.lost
        all_of_it = self._joined + self._lost
        held, self.held = self.held, ""
        if path.paused:
            self.held = "ingest has not read the feedback up to the end of the join windows"
        elif all_of_it >= _LEAST and self._lost > self._share * all_of_it:
            self.held = "more feedback is late or orphan than `gate.late_share` allows"
        if bool(self.held) == bool(held):
            return []
        share = round(self._lost / max(all_of_it, 1.0), 3)
        if self.held:
            return [GateDecision("held", {"reason": self.held, "lost_share": share})]
        return [GateDecision("resumed", {"reason": "feedback comes in time again", "was": held, "lost_share": share})]

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"joined": self._joined, "lost": self._lost, "held": self.held}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._joined, self._lost, self.held = float(state["joined"]), float(state["lost"]), str(state["held"])
