"""Sets requests with wrong labels aside before anything learns from them.

While labels are in doubt, micro-batches wait, at most `WAIT_EXAMPLES` examples; then they are learned after all. Once a
change is certain, the stratum's requests are set aside for good, waiting ones included, until its labels are as
expected again. A changed rate that lasts is accepted as the new expectation after `hold_max_examples`, but only if the
frozen model orders the new labels as it did the old ones: turned, made-up or missing labels have no such order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.config import GateConfig
from model.gate.decision import GateDecision
from model.gate.labels import KINDS, SUSPECT, LabelEvidence, LabelTest
from model.gate.scored_examples import Doubles, ScoredExamples, Strata

WAIT_EXAMPLES = 1_024
_SENTENCES = {
    "few": "far fewer {} than expected",
    "many": "far more {} than expected",
    "turned": "{} are ordered against the frozen model",
}


@dataclass(frozen=True)
class LabelVerdict:
    """What to do with a micro-batch."""

    set_aside: NDArray[np.bool_]
    """Mask of the requests to set aside for good, `(r,)`."""
    wait: bool
    decisions: list[GateDecision]


class Quarantine:
    """The strata of a group whose labels are set aside."""

    def __init__(self, strata: Strata, config: GateConfig, labels: str = "clicks") -> None:
        """`labels` is what decisions call the examples whose label is 1."""
        self._strata, self._config, self._called = strata, config, labels
        self.labels = LabelTest(strata, config.label_odds)
        self._doubt = np.where(np.arange(len(strata)) == 0, SUSPECT, self.labels.alarm / 2)
        self.aside = np.zeros(len(strata), dtype=np.bool_)
        """Mask of the strata whose labels are set aside, `(strata,)`."""
        self._examples: Doubles = np.zeros(len(strata))
        self._clicks: Doubles = np.zeros(len(strata))
        self._expected: Doubles = np.zeros(len(strata))
        self._order: Doubles = np.zeros(len(strata))
        self._order_before: Doubles = np.zeros(len(strata))

    def set_aside(self, scored: ScoredExamples) -> NDArray[np.bool_]:
        """Mask of the requests that belong to such a stratum, `(r,)`."""
        if not self.aside.any():
            return np.zeros(scored.requests, dtype=np.bool_)
        return np.asarray((self._strata.of(scored.domain) & self.aside[:, None]).any(axis=0))

    def judge(self, scored: ScoredExamples, weight: Doubles) -> LabelVerdict:
        """Takes a micro-batch whose examples weigh `weight` `(n,)`."""
        inside, set_aside = self._strata.of(scored.domain), self.set_aside(scored)
        # Requests that are left out must not count against the other strata that they belong to.
        evidence = self.labels.measure(scored, weight, inside & (~set_aside | self.aside[:, None]))
        decisions = self._end(evidence) + self._begin(evidence)
        doubt = ~self.aside & (self.labels.suspicion.max(axis=1) > self._doubt)
        wait = bool(doubt.any())
        if not wait:
            believed = np.where(self.aside, 0.0, 1.0)
            self.labels.believe(evidence, believed)
            self._order_before = np.clip(self._order_before + believed * evidence.order, 0.0, 1e3)
        return LabelVerdict(self.set_aside(scored), wait, decisions)

    def _begin(self, evidence: LabelEvidence) -> list[GateDecision]:
        """Begins at most one quarantine per batch, in the stratum with the most evidence: then the others lack it."""
        rising = np.where((evidence.ratio > 0) & ~self.aside[:, None], self.labels.suspicion, 0.0)
        stratum, change = divmod(int(rising.argmax()), len(KINDS))
        if rising[stratum, change] < self.labels.alarm:
            return []
        self.aside[stratum] = True
        for sums in (self._examples, self._clicks, self._expected, self._order):
            sums[stratum] = 0.0
        kind = KINDS[change]
        detail = {
            "reason": _SENTENCES[kind].format(self._called),
            "change": kind,
            "nats": round(float(rising[stratum, change]), 2),
            self._called: round(float(evidence.clicks[stratum]), 1),
            "expected": round(float(evidence.clicks[stratum] - evidence.error[stratum]), 1),
            "examples": round(float(evidence.examples[stratum]), 1),
        }
        return [GateDecision("quarantined", {"stratum": self._strata.name(stratum), **detail})]

    def _end(self, evidence: LabelEvidence) -> list[GateDecision]:
        """Releases strata whose labels are as expected again, or last and are in the frozen model's order."""
        decisions = []
        for total, part in (
            (self._examples, evidence.examples), (self._clicks, evidence.clicks),
            (self._expected, evidence.clicks - evidence.error), (self._order, evidence.order),
        ):  # fmt: skip
            total[self.aside] += part[self.aside]
        for stratum in np.flatnonzero(self.aside).tolist():
            name, examples = self._strata.name(stratum), round(float(self._examples[stratum]))
            if self.labels.suspicion[stratum].max() == 0:
                detail: dict[str, Any] = {"reason": "labels are as expected again", "examples": examples}
                decisions.append(GateDecision("resumed", {"stratum": name, **detail}))
                self.aside[stratum] = False
            elif self._is_new_truth(stratum):
                sums = (float(total[stratum]) for total in (self._examples, self._clicks, self._expected))
                self.labels.accept(stratum, *sums)
                detail = {
                    "reason": "the changed label rate lasts, and the frozen model orders the new labels",
                    "examples": examples,
                    self._called: round(float(self._clicks[stratum])),
                }
                decisions.append(GateDecision("accepted", {"stratum": name, **detail}))
                self.aside[stratum] = False
        return decisions

    def _is_new_truth(self, stratum: int) -> bool:
        """Whether the changed rate has lasted and the new labels are ordered, if the old ones were."""
        ordered = self._order[stratum] > SUSPECT or self._order_before[stratum] < SUSPECT
        return bool(self._examples[stratum] >= self._config.hold_max_examples and ordered)

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"labels": self.labels.state(), **{name: getattr(self, name).tobytes() for name in self._ARRAYS}}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.labels.load(state["labels"])
        for name in self._ARRAYS:
            like = getattr(self, name)
            setattr(self, name, np.frombuffer(state[name], dtype=like.dtype).copy())

    _ARRAYS = ("aside", "_examples", "_clicks", "_expected", "_order", "_order_before")
