"""A learner behind its gate: one call per micro-batch, from labelled requests to what may be published.

1. admit    weigh the requests, set aside what cannot be believed
2. learn    test, then train: the learner takes what was admitted
3. judge    compare the arms, look at the numbers
4. undo     go back where harm was found, and serve something else at once
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic

import torch
from numpy.typing import NDArray
from torch import Tensor

from model.gate.decision import GateDecision
from model.gate.gate import Gate, RequestT, Weighed
from model.gate.harm import HarmVerdict
from model.gate.seen import Doubles, Seen
from model.kernel.batch import MicroBatch
from model.kernel.kernel import Kernel
from model.kernel.learner import Learner, LearnReport


@dataclass(frozen=True)
class Taught(Generic[RequestT]):
    """One micro-batch that was learned."""

    requests: list[RequestT]
    batch: MicroBatch
    request: NDArray[Any]
    """Which of the requests each example belongs to, int64 `(n,)`."""
    counted: list[RequestT]
    """Requests of full weight, which the live features count: they have no weights."""
    report: LearnReport


@dataclass
class Step(Generic[RequestT]):
    """What one micro-batch led to."""

    taught: list[Taught[RequestT]] = field(default_factory=list)
    decisions: list[GateDecision] = field(default_factory=list)
    served: Kernel | None = None
    """To be published at once, in place of a live kernel that does harm."""


_COUNTED = 0.5


class GuardedLearner(Generic[RequestT]):
    """A learner that takes nothing that its gate does not admit."""

    def __init__(
        self, learner: Learner, gate: Gate[RequestT], batch_of: Callable[[Sequence[RequestT]], MicroBatch]
    ) -> None:
        """`learner` has learned nothing yet: what it is now is what it goes back to where nothing else is good."""
        self.learner, self.gate = learner, gate
        self._batch_of = batch_of
        self._start = learner.snapshot()

    def step(self, seen: Seen, requests: Sequence[RequestT]) -> Step[RequestT]:
        """Takes a micro-batch of labelled requests."""
        admission = self.gate.admit(seen, requests)
        step: Step[RequestT] = Step(decisions=[*admission.decisions])
        self._undo(admission.harm, step)
        for one in admission.learn:
            self._learn(one, step)
        return step

    def _learn(self, one: Weighed[RequestT], step: Step[RequestT]) -> None:
        batch = self._batch_of(one.requests)
        batch = replace(batch, weight=torch.from_numpy(one.weight).to(batch.weight.dtype))
        try:
            report = self.learner.learn(batch)
        except FloatingPointError as error:
            self._undo(self.gate.harm.fail(str(error)), step)
            return
        share = one.seen.per_request(one.weight)
        counted = [request for request, full in zip(one.requests, share >= _COUNTED, strict=True) if full]
        step.taught.append(Taught(one.requests, batch, one.seen.request, counted, report))
        verdict = self.gate.judge(one, _doubles(report.candidate_logit), _doubles(self.learner.score(batch)))
        self._undo(verdict.harm, step)
        if verdict.keep:
            self.gate.keep(self.learner.snapshot())

    def _undo(self, harm: HarmVerdict, step: Step[RequestT]) -> None:
        step.decisions.extend(harm.decisions)
        if harm.undo:
            good = self.gate.good if harm.undo == "good" else None
            self.learner.restore(self._start if good is None else good)
        if harm.serve:
            good_kernel = harm.serve == "good" and self.gate.good is not None
            step.served = self.learner.candidate if good_kernel else Kernel.identity(self.learner.start)


def _doubles(logit: Tensor) -> Doubles:
    return logit.double().numpy()
