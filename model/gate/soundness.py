"""Holds the publication of a candidate with unsound numbers: too large a step, saturated scores, non-finite weights
(ours).

It is held until its numbers are sound again and its loss on labels that it has not learned from is no larger than the
live kernel's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from model.gate.decision import GateDecision
from model.gate.scored_examples import Doubles

STEP = 2.0
"""Largest root mean square change of the logits of a micro-batch's own examples by learning it; sound learning on
scripts and logs showed at most 0.7."""
SATURATED = 12.0
"""A candidate's logit beyond this value, where the frozen one is not, cannot have been learned from labels."""
_SATURATED_SHARE = 0.05


class Soundness:
    """Whether the candidate's numbers hold its publication, and why."""

    def __init__(self) -> None:
        self.held = ""
        """Why publication is held; empty if it is not."""

    def judge(self, before: Doubles, after: Doubles, frozen: Doubles, *, better: bool) -> list[GateDecision]:
        """Takes the candidate's logits `(n,)` from before and after it learned from a micro-batch.

        `better` says whether its mean log loss before learning was no larger than the live kernel's.
        """
        reason, held = self._reason(before, after, frozen), self.held
        if reason:
            self.held = reason
            return [] if held else [GateDecision("held", {"reason": reason})]
        if held and better:
            self.held = ""
            return [GateDecision("resumed", {"reason": "the candidate's numbers are sound again", "was": held})]
        return []

    @staticmethod
    def _reason(before: Doubles, after: Doubles, frozen: Doubles) -> str:
        """Why the candidate's logits `(n,)` are unsound; empty if they are not."""
        if not np.isfinite(after).all():
            return "the candidate's logits are not finite"
        moved = float(np.sqrt(((after - before) ** 2).mean()))
        if moved > STEP:
            return f"one micro-batch moved the candidate's logits by {moved:.1f}, more than {STEP:.1f}"
        saturated = float(((np.abs(after) > SATURATED) & (np.abs(frozen) <= SATURATED)).mean())
        if saturated > _SATURATED_SHARE:
            return f"{saturated:.0%} of the candidate's logits are beyond {SATURATED:.0f}"
        return ""

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"held": self.held}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.held = str(state["held"])
