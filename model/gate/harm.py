"""Tests whether the candidate or the live kernel does harm, and decides what to do about it.

Each finding leads to an action after which its evidence starts again. The learner returns to its last good state; if
harm is found again before there is a new good state, it returns to its initial state. A live kernel that does harm is
replaced at once, by the good state's kernel or by the identity. After either action, nothing is published until the
candidate has passed a probation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from model.gate.config import GateConfig
from model.gate.decision import GateDecision
from model.gate.evidence import HarmEvidence
from model.gate.scored_examples import Doubles, ScoredExamples, Strata

COMPARISONS = ("candidate above live", "candidate above frozen", "live above frozen")
_LIVE_FROZEN = 2
UNJUDGED = 512
"""Examples without a believable label after which the identity is served."""
PROBATION = 1_000
"""Examples after an undo over which the candidate's mean log loss must not be above that of live and frozen."""


@dataclass(frozen=True)
class HarmVerdict:
    """What to do after a micro-batch."""

    undo: Literal["", "good", "start"] = ""
    """Where the learner returns to: its last good state, its initial state, or nowhere."""
    serve: Literal["", "good", "identity"] = ""
    """What is published at once, in place of a live kernel that does harm."""
    decisions: list[GateDecision] = field(default_factory=list)


def log_losses(logit: Doubles, label: Doubles) -> Doubles:
    """Log losses of 0/1 labels `(n,)`, nats, in the shape of the logits, `(..., n)`."""
    wrong = (1.0 - 2.0 * label) * logit
    return np.asarray(np.maximum(wrong, 0.0) + np.log(1.0 + np.exp(-np.abs(wrong))))


class HarmTest:
    """Compares the arms of one group after every micro-batch."""

    def __init__(self, strata: Strata, config: GateConfig) -> None:
        self._strata = strata
        self._evidence = HarmEvidence(len(COMPARISONS), len(strata))
        self.threshold = config.false_alarm_requests * len(COMPARISONS) * len(strata)
        """Evidence at which an arm counts as worse; the error rate is divided among comparisons and strata."""
        self._has_good = False
        self._probation = 0
        self._losses: Doubles = np.zeros(3)
        self._live_since = self._unjudged = 0
        self._identity = True

    @property
    def on_probation(self) -> bool:
        """Whether the candidate must still pass its probation."""
        return self._probation > 0

    @property
    def evidence(self) -> Doubles:
        """M of each stratum and comparison as a share of the threshold, `(strata, comparisons)`."""
        return self._evidence.value / self.threshold

    def judge(self, scored: ScoredExamples, weight: Doubles, losses: Doubles) -> HarmVerdict:
        """Takes a learned micro-batch.

        `losses` `(3, n)` are log losses, nats, of the candidate before it learned, of live and of frozen.
        """
        candidate, live, frozen = scored.per_request(losses)
        # Requests that a replaced kernel served say nothing about this one.
        current = scored.version >= self._live_since
        difference = np.stack([(candidate - live) * current, candidate - frozen, (live - frozen) * current], axis=1)
        self._evidence.update(difference, self._strata.of(scored.domain), scored.per_request(weight))
        found = self._evidence.value >= self.threshold
        if found.any():
            return self._undo(*(int(k) for k in np.argwhere(found.T)[-1][::-1]))
        return HarmVerdict(decisions=self._serve_probation(losses @ weight, len(weight)))

    def unjudged(self, examples: int) -> HarmVerdict:
        """Takes the number of examples set aside because no label of the group can be believed, 0 if there were none.

        The live kernel can then no longer be judged, so after `UNJUDGED` such examples the identity is served.
        """
        self._unjudged = self._unjudged + examples if examples else 0
        if self._unjudged < UNJUDGED or self._identity:
            return HarmVerdict()
        self._identity = True
        self._probation, self._losses = PROBATION, np.zeros(3)
        detail = {"reason": "no label can be believed, so the live kernel cannot be judged", "to": "identity"}
        return HarmVerdict("", "identity", [GateDecision("rolled_back", {**detail, "examples": self._unjudged})])

    def _undo(self, stratum: int, comparison: int) -> HarmVerdict:
        detail = {
            "reason": f"log loss of {COMPARISONS[comparison]}",
            "stratum": self._strata.name(stratum),
            "evidence": float(self._evidence.value[stratum, comparison]),
            "threshold": self.threshold,
        }
        return self._go_back(serve=comparison == _LIVE_FROZEN, detail=detail)

    def _go_back(self, *, serve: bool, detail: dict[str, Any]) -> HarmVerdict:
        """Undoes the candidate, which must then pass a probation; with `serve` it replaces the live kernel, too."""
        to: Literal["good", "start"] = "good" if self._has_good else "start"
        self._has_good = False
        self._probation, self._losses = PROBATION, np.zeros(3)
        self._evidence.forget()
        decisions = [GateDecision("undone", {**detail, "to": to})]
        if not serve:
            return HarmVerdict(to, "", decisions)
        served: Literal["good", "identity"] = "good" if to == "good" else "identity"
        self._identity = served == "identity"
        return HarmVerdict(to, served, [GateDecision("rolled_back", {**detail, "to": served}), *decisions])

    def _serve_probation(self, losses: Doubles, examples: int) -> list[GateDecision]:
        """Adds weighted losses of candidate, live and frozen, `(3,)`, nats. The candidate passes if it ends at least as
        good as the better of the other two; otherwise its probation begins again."""
        if not self._probation:
            return []
        self._losses = self._losses + losses
        self._probation = max(0, self._probation - examples)
        if self._probation:
            return []
        candidate, live, frozen = self._losses
        if candidate > min(live, frozen):
            self._probation, self._losses = PROBATION, np.zeros(3)
            return []
        return [GateDecision("resumed", {"reason": "the candidate has passed its probation", "examples": PROBATION})]

    def record_good_state(self) -> None:
        """Records that there is a new good state, to which the learner may return once."""
        self._has_good = True

    def serve(self, version: int) -> None:
        """Records that from this version on another kernel is served, in place of one that was rolled back."""
        self._live_since = version

    def published(self) -> None:
        """Records that a candidate was published, so the identity is no longer served."""
        self._identity = False

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {
            "evidence": self._evidence.state(),
            "has_good": self._has_good,
            "probation": self._probation,
            "losses": self._losses.tolist(),
            "live_since": self._live_since,
            "unjudged": self._unjudged,
            "identity": self._identity,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._evidence.load(state["evidence"])
        self._has_good, self._probation = bool(state["has_good"]), int(state["probation"])
        self._losses, self._live_since = np.array(state["losses"]), int(state["live_since"])
        self._unjudged, self._identity = int(state["unjudged"]), bool(state["identity"])
