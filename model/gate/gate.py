"""The gate of one kernel group: decides what is learned, what is published and what is undone.

Each micro-batch passes it twice:

1. `admit`, before anything learns: examples of users and items beyond their share lose weight. Requests whose labels
   are not as expected wait while there is doubt, and are set aside for good once it is certain (`quarantine`);
2. `judge`, after the candidate was scored and has learned: the arms are compared, and harm is undone (`harm`).

It has no broker, clock or global. The same batches give the same decisions, bit for bit (docs/gate.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.gate.config import GateConfig
from model.gate.decision import GateDecision
from model.gate.feedback import FeedbackMonitor, FeedbackPath
from model.gate.harm import HarmTest, HarmVerdict, log_losses
from model.gate.quarantine import WAIT_EXAMPLES, Quarantine
from model.gate.scored_examples import Doubles, ScoredExamples, Strata
from model.gate.shares import ShareCaps
from model.gate.soundness import Soundness

RequestT = TypeVar("RequestT")


@dataclass(frozen=True)
class WeightedBatch(Generic[RequestT]):
    """A micro-batch with the weights of its examples."""

    requests: list[RequestT]
    weight: Doubles
    """Weight of each example, 0 to 1, `(n,)`."""
    set_aside: NDArray[np.bool_]
    """Mask of the requests that are set aside for good, `(r,)`."""
    scored: ScoredExamples | None = None
    """Its examples if they have just been read; None for a batch that waited, because its labels may have changed."""


@dataclass(frozen=True)
class Admission(Generic[RequestT]):
    """The micro-batches decided now, oldest first: none while labels are in doubt, then also those that waited."""

    decided: list[WeightedBatch[RequestT]]
    decisions: list[GateDecision]
    harm: HarmVerdict
    """What to do about the live kernel when no label can be believed."""


@dataclass(frozen=True)
class Judgement:
    """What to do after a micro-batch was learned."""

    keep: bool
    """Whether to hand the learner's state to `Gate.keep`."""
    harm: HarmVerdict


@dataclass(frozen=True)
class LearnerCheckpoint:
    """A snapshot to which the learner may return."""

    number: int
    """Counts the group's checkpoints from 1."""
    learner: bytes


class Gate(Generic[RequestT]):
    """The gate of one group. A request may be of any type; `scored_of` reads its examples."""

    def __init__(
        self,
        config: GateConfig,
        facets: Mapping[str, Sequence[str]],
        scored_of: Callable[[Sequence[RequestT]], ScoredExamples],
        *,
        labels: str = "clicks",
    ) -> None:
        """`facets` are the domain facets and their values (`DomainSpace.values`).

        `scored_of` reads the examples of requests. `labels` is what decisions call the examples whose label is 1.
        """
        self.strata = Strata(facets)
        self.quarantine = Quarantine(self.strata, config, labels)
        self.harm = HarmTest(self.strata, config)
        self.soundness = Soundness()
        self.feedback = FeedbackMonitor(config.late_share)
        self.scored_of = scored_of
        self.waiting: list[WeightedBatch[RequestT]] = []
        """Micro-batches whose labels are in doubt, oldest first."""
        self.set_aside = 0
        """Number of examples set aside for good since the group began."""
        self.good: LearnerCheckpoint | None = None
        """The learner's last good state; None until there is one, so that the initial state is used."""
        self.next_good: LearnerCheckpoint | None = None
        """A newer state that becomes the good one if no alarm follows."""
        self._config = config
        self._shares = ShareCaps(config)
        self._since_kept = self._kept = 0

    @property
    def held(self) -> str:
        """Why the candidate may not be published; empty if it may."""
        if self.waiting:
            return "labels are in doubt"
        if self.harm.on_probation:
            return "the candidate is on probation"
        return self.soundness.held or self.feedback.held

    def admit(self, requests: Sequence[RequestT], path: FeedbackPath | None = None) -> Admission[RequestT]:
        """Takes a micro-batch before anything has learned from it, and the feedback counts since the last one."""
        scored = self.scored_of(requests)
        weight = self._shares.weigh(scored)
        verdict = self.quarantine.judge(scored, weight)
        decisions = [*verdict.decisions, *([] if path is None else self.feedback.judge(path))]
        if any(decision.kind == "quarantined" for decision in verdict.decisions):
            self.waiting = [self._quarantined(batch) for batch in self.waiting]
        self.waiting.append(WeightedBatch(list(requests), weight, verdict.set_aside))
        harm = self.harm.unjudged(len(weight) if self.quarantine.aside[0] else 0)
        if verdict.wait and sum(len(batch.weight) for batch in self.waiting) < WAIT_EXAMPLES:
            return Admission([], decisions, harm)
        *waited, newest = self.settle()
        return Admission([*waited, replace(newest, scored=scored)], decisions, harm)

    def _quarantined(self, batch: WeightedBatch[RequestT]) -> WeightedBatch[RequestT]:
        """The batch, without the requests of quarantined strata."""
        return replace(batch, set_aside=batch.set_aside | self.quarantine.set_aside(self.scored_of(batch.requests)))

    def settle(self) -> list[WeightedBatch[RequestT]]:
        """Releases all waiting micro-batches for a decision now."""
        decided, self.waiting = self.waiting, []
        return decided

    def judge(self, scored: ScoredExamples, weight: Doubles, before: Doubles, after: Doubles) -> Judgement:
        """Takes a learned micro-batch and the candidate's logits `(n,)` from before and after it learned from it."""
        losses = log_losses(np.stack([before, scored.live, scored.frozen]), scored.label)
        harm = self.harm.judge(scored, weight, losses)
        if harm.undo:
            self.soundness = Soundness()
            return Judgement(False, harm)
        candidate, live, _ = losses.sum(axis=1)
        decisions = self.soundness.judge(before, after, scored.frozen, better=bool(candidate <= live))
        harm = replace(harm, decisions=[*harm.decisions, *decisions])
        self._since_kept += len(weight)
        due = self._since_kept >= self._config.good_every_examples
        return Judgement(due and not self.held and not self.quarantine.aside.any(), harm)

    def keep(self, learner: bytes) -> None:
        """Keeps the learner's snapshot; it counts as good once enough examples have followed without an alarm."""
        if self.next_good is not None:
            self.good = self.next_good
            self.harm.record_good_state()
        self._kept += 1
        self.next_good, self._since_kept = LearnerCheckpoint(self._kept, learner), 0

    def learner_restored(self) -> None:
        """Discards the newer checkpoint, because the learner has returned to an older one."""
        self.next_good, self._since_kept = None, 0

    # --- state ---

    def state(self) -> dict[str, Any]:
        """For a snapshot: everything but waiting requests and checkpoints, which the caller stores separately."""
        return {
            **self._shares.state(),
            "quarantine": self.quarantine.state(),
            "harm": self.harm.state(),
            "soundness": self.soundness.state(),
            "feedback": self.feedback.state(),
            "set_aside": self.set_aside,
            "since_kept": self._since_kept,
            "kept": self._kept,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._shares.load(state)
        parts = {
            "quarantine": self.quarantine,
            "harm": self.harm,
            "soundness": self.soundness,
            "feedback": self.feedback,
        }
        for name, part in parts.items():
            part.load(state[name])  # type: ignore[attr-defined]
        self.set_aside, self._since_kept, self._kept = (
            int(state[name]) for name in ("set_aside", "since_kept", "kept")
        )
