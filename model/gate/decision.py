"""Decisions of the gate with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Decided = Literal["held", "resumed", "quarantined", "accepted", "rolled_back", "undone"]
"""`held`: publication stops; `quarantined`: labels are set aside; `resumed`: either ends; `accepted`: a changed label
rate is the new expectation; `undone`: the learner returns to an earlier state; `rolled_back`: so does the live
kernel."""


@dataclass(frozen=True)
class GateDecision:
    """One decision of the gate with its evidence."""

    kind: Decided
    detail: dict[str, Any]
    """The evidence as JSON values: `reason` is a sentence, the rest are figures."""
