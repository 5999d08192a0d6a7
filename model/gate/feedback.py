"""Whether the feedback's own path can be trusted: its share of late and orphan records, and ingest's progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.gate.decision import GateDecision

_KEPT = 0.98
"""Of what was counted, kept from one micro-batch to the next."""
_LEAST = 50.0
"""Fewer records of feedback say nothing of a share."""


@dataclass(frozen=True)
class FeedbackPath:
    """What came since the last micro-batch."""

    joined: int
    """Records of feedback that found their item in time."""
    lost: int
    """Late and orphan records."""
    paused: bool
    """Whether the join waits for ingest's progress."""


class FeedbackWatch:
    """Whether what is known of the feedback's path holds publication."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._joined = self._lost = 0.0
        self.held = ""
        """Why nothing is published; empty if nothing speaks against it."""

    def judge(self, path: FeedbackPath) -> list[GateDecision]:
        """Takes what came since the last micro-batch."""
        self._joined = _KEPT * self._joined + path.joined
        self._lost = _KEPT * self._lost + path.lost
        all_of_it = self._joined + self._lost
        held, self.held = self.held, ""
        if path.paused:
            self.held = "the feedback has not been read up to the end of its windows"
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
