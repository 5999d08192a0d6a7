"""What the gate decided, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Decided = Literal["held", "resumed", "quarantined", "accepted", "rolled_back", "undone"]
"""`held`: nothing is published; `quarantined`: labels are set aside; `resumed`: the end of either; `accepted`: a
changed label rate is the new truth; `undone`: the learner went back; `rolled_back`: so did the live kernel."""


@dataclass(frozen=True)
class GateDecision:
    """One decision with its evidence."""

    kind: Decided
    detail: dict[str, Any]
    """Why, as JSON values: `reason` is a sentence, the rest are figures."""
