"""Whether the candidate or the live kernel does harm, and what is done about it.

Evidence is followed by an act that makes it old: the learner goes back to its last good state, and if harm is found
again before a new good state was reached, to the one that it began with. A live kernel that does harm is replaced at
once, by the good state's kernel or by the identity. After either, nothing is published until the candidate has stood a
probation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from model.gate.config import GateConfig
from model.gate.decision import GateDecision
from model.gate.evidence import HarmEvidence
from model.gate.seen import Doubles, Seen, Strata

COMPARISONS = ("candidate above live", "candidate above frozen", "live above frozen")
_LIVE_FROZEN = 2
UNJUDGED = 512
"""Examples without a believable label after which the identity is served."""
PROBATION = 1_000
"""Examples over which a candidate must not be above live and frozen in mean log loss, after something was undone."""


@dataclass(frozen=True)
class HarmVerdict:
    """What follows from a micro-batch."""

    undo: Literal["", "good", "start"] = ""
    """The learner goes back to its last good state, or to the one that it began with."""
    serve: Literal["", "good", "identity"] = ""
    """What is published at once, in place of a live kernel that does harm."""
    decisions: list[GateDecision] = field(default_factory=list)


def log_losses(logit: Doubles, label: Doubles) -> Doubles:
    """Nats, of labels 0 or 1 `(n,)`."""
    wrong = (1.0 - 2.0 * label) * logit
    return np.asarray(np.maximum(wrong, 0.0) + np.log(1.0 + np.exp(-np.abs(wrong))))


class HarmTest:
    """Compares the arms of one group for ever."""

    def __init__(self, strata: Strata, config: GateConfig) -> None:
        self._strata = strata
        self._evidence = HarmEvidence(len(COMPARISONS), len(strata))
        self.threshold = config.false_alarm_requests * len(COMPARISONS) * len(strata)
        """Evidence at which an arm is found worse: the error rate is divided among comparisons and strata."""
        self._has_good = False
        self._probation = 0
        self._losses: Doubles = np.zeros(3)
        self._live_since = self._unjudged = 0
        self._identity = True

    @property
    def on_probation(self) -> bool:
        """Whether the candidate still has to show that it does no harm."""
        return self._probation > 0

    @property
    def evidence(self) -> Doubles:
        """M of each stratum and comparison as a share of the threshold, `(strata, comparisons)`."""
        return self._evidence.value / self.threshold

    def judge(self, seen: Seen, weight: Doubles, candidate: Doubles) -> HarmVerdict:
        """Takes a micro-batch that was learned; `candidate` are the logits `(n,)` from before."""
        arms = np.stack([log_losses(logit, seen.label) for logit in (candidate, seen.live, seen.frozen)])
        one, live, frozen = (seen.per_request(loss) for loss in arms)
        current = seen.version >= self._live_since  # a kernel that is no longer served needs no judgement
        difference = np.stack([(one - live) * current, one - frozen, (live - frozen) * current], axis=1)
        self._evidence.update(difference, self._strata.of(seen.domain), seen.per_request(weight))
        found = self._evidence.value >= self.threshold
        if found.any():
            return self._undo(*(int(k) for k in np.argwhere(found.T)[-1][::-1]))
        return HarmVerdict(decisions=self._serve_probation(arms @ weight, len(weight)))

    def unjudged(self, examples: int) -> HarmVerdict:
        """Takes how many examples were set aside because no label of the group can be believed, 0 for none.

        Nothing can tell then whether the live kernel still fits, and the identity needs nobody to tell.
        """
        self._unjudged = self._unjudged + examples if examples else 0
        if self._unjudged < UNJUDGED or self._identity:
            return HarmVerdict()
        self._identity = True
        self._probation, self._losses = PROBATION, np.zeros(3)
        detail = {"reason": "no label can be believed that would judge the live kernel", "to": "identity"}
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
        return [GateDecision("resumed", {"reason": "the candidate has stood its probation", "examples": PROBATION})]

    def went_well(self) -> None:
        """A new good state was reached, to which the learner may go back once."""
        self._has_good = True

    def serve(self, version: int) -> None:
        """From this version on another kernel is served, in place of one that was rolled back."""
        self._live_since = version

    def published(self) -> None:
        """A candidate is live."""
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
