"""A learner behind its gate: one call per micro-batch, from labelled requests to what may be published.

1. admit    weigh the requests, set aside those whose labels cannot be believed
2. learn    test, then train: the learner takes the admitted requests
3. judge    compare the arms, check the candidate's numbers
4. undo     if harm was found, return to an earlier state and serve another kernel at once
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.gate.decision import GateDecision
from model.gate.feedback import FeedbackPath
from model.gate.gate import Gate, RequestT, WeightedBatch
from model.gate.harm import HarmVerdict
from model.gate.scored_examples import Doubles, ScoredExamples
from model.kernel.batch import MicroBatch
from model.kernel.kernel import Kernel
from model.kernel.learner import Learner, LearnReport

_COUNTED = 0.5
_SPANS = 31
"""Number of earlier undone spans that are remembered beside the newest; late clicks reach back hours at most."""


@dataclass(frozen=True)
class GuardedBatch(Generic[RequestT]):
    """One micro-batch after the gate has decided about it."""

    requests: list[RequestT]
    learned: NDArray[np.bool_]
    """Mask of the requests that were learned, `(r,)`; the others are set aside for good."""
    learned_at: int
    """`Learner.examples` right after this batch."""
    scored: ScoredExamples
    """All its examples, learned or not."""
    weight: Doubles
    """Weights of all its examples, from the shares of their users and items, `(n,)`."""
    batch: MicroBatch | None = None
    """The examples that were learned; None if there were none."""
    request: NDArray[np.int64] | None = None
    """Index of the learned request that each example of `batch` belongs to, `(n,)`."""
    report: LearnReport | None = None
    counted: list[RequestT] = field(default_factory=list)
    """Learned requests of full weight. Only these enter the live features, which have no weights."""
    error: Exception | None = None
    """Why the learner could not learn the batch; its state is then unchanged."""


@dataclass
class Step(Generic[RequestT]):
    """Everything that followed from one micro-batch."""

    batches: list[GuardedBatch[RequestT]] = field(default_factory=list)
    decisions: list[GateDecision] = field(default_factory=list)
    served: Kernel | None = None
    """A kernel to publish at once, in place of a live kernel that does harm."""


class GuardedLearner(Generic[RequestT]):
    """A learner that learns only what its gate admits."""

    def __init__(
        self, learner: Learner, gate: Gate[RequestT], batch_of: Callable[[Sequence[RequestT]], MicroBatch]
    ) -> None:
        """`learner` must not have learned yet: its present state is what it returns to if no other state is good."""
        self.learner, self.gate = learner, gate
        self._batch_of = batch_of
        self._start = learner.snapshot()
        self._undone: list[tuple[int, int]] = []

    def step(self, requests: Sequence[RequestT], path: FeedbackPath | None = None) -> Step[RequestT]:
        """Passes a micro-batch of labelled requests through all four steps."""
        admission = self.gate.admit(requests, path)
        step: Step[RequestT] = Step(decisions=[*admission.decisions])
        self._undo(admission.harm, step)
        for weighted in admission.decided:
            step.batches.append(self._decide(weighted, step))
        return step

    def settle(self) -> Step[RequestT]:
        """Decides all waiting micro-batches now, because no more traffic is expected."""
        step: Step[RequestT] = Step()
        for weighed in self.gate.settle():
            step.batches.append(self._decide(weighed, step))
        return step

    def was_undone(self, learned_at: int) -> bool:
        """Whether a batch learned at this example count has been undone: a late click then has nothing to correct."""
        return any(first < learned_at <= last for first, last in self._undone)

    def _decide(self, weighted: WeightedBatch[RequestT], step: Step[RequestT]) -> GuardedBatch[RequestT]:
        """Passes what is not set aside to the learner; returns the whole micro-batch with what became of it."""
        kept = ~weighted.set_aside
        scored = weighted.scored or self.gate.scored_of(weighted.requests)
        whole = GuardedBatch(weighted.requests, kept, self.learner.examples, scored, weighted.weight)
        if not kept.any():
            self.gate.set_aside += len(weighted.weight)
            return whole
        if kept.all():
            return self._learn(whole, weighted.requests, scored, weighted.weight, step)
        requests = [request for request, stays in zip(weighted.requests, kept, strict=True) if stays]
        weight = weighted.weight[kept[scored.request]]
        self.gate.set_aside += len(weighted.weight) - len(weight)
        return self._learn(whole, requests, scored.select(kept), weight, step)

    def _learn(
        self,
        whole: GuardedBatch[RequestT],
        requests: list[RequestT],
        scored: ScoredExamples,
        weight: Doubles,
        step: Step[RequestT],
    ) -> GuardedBatch[RequestT]:
        """Learns those `requests` of the `whole` batch that were not set aside."""
        batch = self._batch_of(requests)
        batch = replace(batch, weight=torch.from_numpy(weight).to(batch.weight.dtype))
        try:
            report = self.learner.learn(batch)
        except Exception as error:  # noqa: BLE001 - the same batch would raise again after every restart
            return replace(whole, learned=np.zeros_like(whole.learned), error=error)
        learned_at, full = self.learner.examples, is_counted(scored.per_request(weight))
        counted = [request for request, counts in zip(requests, full, strict=True) if counts]
        logits = _doubles(report.candidate_logit), _doubles(report.learned_logit)
        verdict = self.gate.judge(scored, weight, *logits)
        self._undo(verdict.harm, step)
        if verdict.keep:
            self.gate.keep(self.learner.snapshot())
        return replace(
            whole, learned_at=learned_at, batch=batch, request=scored.request, report=report, counted=counted
        )

    def _undo(self, harm: HarmVerdict, step: Step[RequestT]) -> None:
        """Returns the learner to the state that `harm` names, if any; adds what follows to `step`."""
        step.decisions.extend(harm.decisions)
        good = self.gate.good
        if harm.undo:
            examples = self.learner.examples
            self.learner.restore(self._start if harm.undo == "start" or good is None else good.learner)
            # Keep counting upwards, so that later batches cannot be mistaken for undone ones.
            self._undone = [*self._undone[-_SPANS:], (self.learner.examples, examples)]
            self.learner.examples = examples
            self.gate.learner_restored()
        if harm.serve:
            to_good = harm.serve == "good"
            step.served = self.learner.candidate if to_good else Kernel.identity(self.learner.start)

    def state(self) -> dict[str, Any]:
        """For a snapshot: everything but learner, waiting requests and checkpoints, which have records of their own."""
        return {"gate": self.gate.state(), "undone": [list(span) for span in self._undone]}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.gate.load(state["gate"])
        self._undone = [(int(first), int(last)) for first, last in state["undone"]]


def is_counted(weight: Doubles) -> NDArray[np.bool_]:
    """Mask of the requests that enter the live features, by the mean weight of their examples, `(r,)`."""
    return weight >= _COUNTED


def _doubles(logit: Tensor) -> Doubles:
    return np.asarray(logit.double().numpy())
