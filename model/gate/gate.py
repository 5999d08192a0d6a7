"""The gate of one kernel group: what is learned from, what is published, what is undone.

Each micro-batch goes through it twice:

1. `admit`, before anything learns: users and items beyond their share weigh less, and labels that are not what they
   should be are set aside, first for as long as it takes to tell, then for good (`quarantine`);
2. `judge`, once the candidate has been scored and has learned: the arms are compared, and harm is undone (`harm`).

No broker, clock or global. The same batches give the same decisions, bit for bit (docs/gate.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from model.gate.config import GateConfig
from model.gate.decision import GateDecision
from model.gate.feedback import FeedbackWatch
from model.gate.harm import HarmTest, HarmVerdict, log_losses
from model.gate.quarantine import WAIT_EXAMPLES, Quarantine
from model.gate.seen import Doubles, Seen, Strata
from model.gate.shares import ShareCap
from model.gate.soundness import Soundness

RequestT = TypeVar("RequestT")


@dataclass(frozen=True)
class Weighed(Generic[RequestT]):
    """A micro-batch as it is to be learned."""

    requests: list[RequestT]
    seen: Seen
    weight: Doubles
    """Of its examples, 0 to 1, `(n,)`."""


@dataclass(frozen=True)
class Admission(Generic[RequestT]):
    """What is to be learned now, oldest first: nothing while labels are in doubt, then also what waited."""

    learn: list[Weighed[RequestT]]
    decisions: list[GateDecision]
    harm: HarmVerdict
    """What follows where no label can be believed."""


@dataclass(frozen=True)
class Verdict:
    """What follows from a micro-batch that was learned."""

    keep: bool
    """Whether the learner's state is to be handed to `Gate.keep`."""
    harm: HarmVerdict


class Gate(Generic[RequestT]):
    """Decides for one group; a request is whatever the caller learns from."""

    def __init__(self, config: GateConfig, facets: Mapping[str, Sequence[str]]) -> None:
        """`facets` are the domain facets and their values (`DomainSpace.values`)."""
        self.strata = Strata(facets)
        self.quarantine = Quarantine(self.strata, config)
        self.harm = HarmTest(self.strata, config)
        self.soundness = Soundness()
        self.waiting: list[Weighed[RequestT]] = []
        """Micro-batches whose labels are in doubt, oldest first."""
        self.left = 0
        """Examples set aside for good since the group began."""
        self.good: bytes | None = None
        """The learner's last good state; before there is one, it is the state that it began with."""
        self.next_good: bytes | None = None
        """A newer state that becomes the good one if nothing happens."""
        self.feedback = FeedbackWatch(config.late_share)
        self._config = config
        self._users, self._items = ShareCap(config.user_share), ShareCap(config.item_share)
        self._since_kept = 0

    def admit(self, seen: Seen, requests: Sequence[RequestT]) -> Admission[RequestT]:
        """Takes a micro-batch before anything has learned from it."""
        weight = self._weigh(seen)
        verdict = self.quarantine.judge(seen, weight)
        self.waiting.append(Weighed(list(requests), seen, weight))
        if any(decision.kind == "quarantined" for decision in verdict.decisions) or verdict.leave.any():
            self.waiting = [kept for one in self.waiting if (kept := self._without_left(one)) is not None]
        harm = self.harm.unjudged(len(weight) if self.quarantine.aside[0] else 0)
        if verdict.wait and sum(len(one.weight) for one in self.waiting) < WAIT_EXAMPLES:
            return Admission([], verdict.decisions, harm)
        learn, self.waiting = self.waiting, []
        return Admission(learn, verdict.decisions, harm)

    def judge(self, one: Weighed[RequestT], before: Doubles, after: Doubles) -> Verdict:
        """Takes the candidate's logits `(n,)` from before and after it learned from `one`."""
        harm = self.harm.judge(one.seen, one.weight, before)
        if harm.undo:
            self.next_good, self._since_kept = None, 0
            self.soundness = Soundness()
            return Verdict(False, harm)
        losses = [float(log_losses(logit, one.seen.label).sum()) for logit in (before, one.seen.live)]
        decisions = self.soundness.judge(before, after, one.seen.frozen, better=losses[0] <= losses[1])
        harm = replace(harm, decisions=[*harm.decisions, *decisions])
        self._since_kept += len(one.weight)
        due = self._since_kept >= self._config.good_every_examples
        return Verdict(due and not self.held and not self.quarantine.aside.any(), harm)

    @property
    def held(self) -> str:
        """Why the candidate may not be published; empty if nothing speaks against it."""
        if self.waiting:
            return "labels are in doubt"
        if self.harm.on_probation:
            return "the candidate is on probation"
        return self.soundness.held or self.feedback.held

    def keep(self, state: bytes) -> None:
        """Keeps the learner's state: it is good once as many examples have followed without an alarm."""
        if self.next_good is not None:
            self.good = self.next_good
            self.harm.went_well()
        self.next_good, self._since_kept = state, 0

    def _weigh(self, seen: Seen) -> Doubles:
        sizes = np.bincount(seen.request).tolist()
        user = np.array(self._users.weigh(zip(seen.user, sizes, strict=True)))
        item = np.array(self._items.weigh((item, 1) for item in seen.item))
        return np.asarray(np.minimum(user[seen.request], item))

    def _without_left(self, one: Weighed[RequestT]) -> Weighed[RequestT] | None:
        kept = ~self.quarantine.leaves(one.seen)
        examples = kept[one.seen.request]
        self.left += int((~examples).sum())
        if not kept.any():
            return None
        requests = [request for request, stays in zip(one.requests, kept, strict=True) if stays]
        return replace(one, requests=requests, seen=one.seen.select(kept), weight=one.weight[examples])

    # --- state ---

    def state(self) -> dict[str, Any]:
        """All but the waiting requests and the good states, which are the caller's to keep."""
        return {
            "users": self._users.state(),
            "items": self._items.state(),
            "quarantine": self.quarantine.state(),
            "harm": self.harm.state(),
            "soundness": self.soundness.state(),
            "feedback": self.feedback.state(),
            "left": self.left,
            "since_kept": self._since_kept,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._users.load(state["users"])
        self._items.load(state["items"])
        self.quarantine.load(state["quarantine"])
        self.harm.load(state["harm"])
        self.soundness.load(state["soundness"])
        self.feedback.load(state["feedback"])
        self.left, self._since_kept = int(state["left"]), int(state["since_kept"])
