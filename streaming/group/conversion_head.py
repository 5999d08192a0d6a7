"""The conversion task of a group: it has live rows, a learner and a gate of its own, beside those of the click task.

An example of this task is a clicked item, and its label says whether the click converted. Rows, learner and gate are
therefore the classes of the click task, fed with other examples (docs/decisions/0142).

    rows     A click enters them when its label is decided. Its conversion corrects them when it arrives.
    learner  It learns from a click when no label of its request can change any more. If it learned at once, it would
             count the click as unconverted until the conversion arrives.
    gate     It judges this task alone: shares of users and items, labels against what the frozen arm expects, harm, and
             non-finite numbers. It keeps no good state, so after harm the task restarts from its initial state. The
             click task is not affected.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch

from features.live.features import LiveFeatures
from features.live.layout import LiveRow
from features.live.tasks import as_conversions
from model.container import ContainerError
from model.encoding.domain import DomainSpace
from model.evaluation import PrequentialWindow
from model.gate.config import GateConfig
from model.gate.gate import Gate, WeightedBatch
from model.gate.guarded import GuardedLearner, Step
from model.kernel.kernel import Kernel
from model.kernel.learner import Learner
from model.kernel.start import KernelStart
from streaming.group.batches import conversion_batch, conversion_outcome, corrected_conversion, scored_conversions
from streaming.group.corrections import Correction
from streaming.join.join import LabelledRequest
from streaming.kernel_log.closed import ClosedRequest
from streaming.kernel_log.join_state import WaitingConversions
from streaming.kernel_log.snapshot import ConversionState

WINDOW_EXAMPLES = 5_000
"""Number of newest clicks over which the metrics of the arms are taken."""
NO_KEPT_STATE = sys.maxsize
"""Examples between two checkpoints of the learner; so many that none is kept. Conversions are few, and the frozen arm
is a sound answer after harm."""


class ConversionHead:
    """The conversion task's state of one group: live rows, learner, gate, published kernel and metrics."""

    def __init__(self, learner: Learner, live: LiveFeatures, space: DomainSpace, config: GateConfig) -> None:
        """`learner` and `live` belong to the conversion task and have not learned anything yet."""
        self.learner, self.live = learner, live
        without = config.model_copy(update={"good_every_examples": NO_KEPT_STATE})
        gate = Gate[LabelledRequest](
            without, space.values, lambda r: scored_conversions(r, space), labels="conversions"
        )
        self.guarded = GuardedLearner(learner, gate, lambda requests: conversion_batch(requests, space))
        self.window = PrequentialWindow(WINDOW_EXAMPLES)
        """The newest learned clicks with the scores that the arms gave them before learning."""
        self.learned = 0
        """Number of clicks learned since this process loaded the group."""
        self.beside: Kernel | None = None
        """The click kernel that was published last, which goes into the same record; None before the first."""
        self._published = Kernel.identity(learner.start)

    @property
    def gate(self) -> Gate[LabelledRequest]:
        """The gate that decides which labels are learned and which kernels are published."""
        return self.guarded.gate

    @property
    def kernel(self) -> Kernel:
        """The kernel that may be served: the candidate, or the last published one while the gate holds it."""
        return self._published if self.gate.held else self.learner.candidate

    def publish(self, version: int, instead: Kernel | None = None) -> None:
        """Notes that `kernel` was published, or `instead` after harm; `version` is the first record with it."""
        self._published = instead or self.kernel
        if instead is not None:
            self.gate.harm.serve(version)
        elif self.learner.examples and not self.gate.held:
            self.gate.harm.published()

    # --- live rows ---

    def clicked(self, requests: Sequence[LabelledRequest]) -> None:
        """Counts clicked requests whose labels are decided into the rows, with the conversions known so far."""
        self.live.update([conversion_outcome(request) for request in requests])

    def converted(self, corrections: Sequence[Correction]) -> None:
        """Corrects the rows by conversions that arrived after their click was counted.

        A conversion whose item has no click yet is left out: it is counted together with the click."""
        learned = [correction for correction in corrections if correction.learned_at > 0]
        self.live.correct([corrected_conversion(correction) for correction in learned])

    def take_changed(self) -> list[LiveRow]:
        """Rows that changed since the last call, under the keys that distinguish them from click rows."""
        return as_conversions(self.live.take_changed())

    def rows(self) -> list[LiveRow]:
        """All rows, under the same keys."""
        return as_conversions(self.live.rows())

    # --- learning ---

    def learn(self, requests: Sequence[LabelledRequest]) -> Step[LabelledRequest]:
        """Passes clicked requests with final labels to the gate: they are learned now, later or never."""
        return self._measured(self.guarded.step(requests))

    def settle(self) -> Step[LabelledRequest]:
        """Decides all examples whose labels are in doubt, because no further evidence is expected for now."""
        return self._measured(self.guarded.settle())

    def _measured(self, step: Step[LabelledRequest]) -> Step[LabelledRequest]:
        """Adds what the step has learned to the window of the arms' metrics."""
        for guarded in step.batches:
            if guarded.batch is None or guarded.report is None:
                continue
            self.learned += len(guarded.batch)
            logits = {
                "frozen": guarded.batch.frozen_logit,
                "live": guarded.batch.live_logit,
                "candidate": guarded.report.candidate_logit,
            }
            scores = {arm: torch.sigmoid(logit).numpy() for arm, logit in logits.items()}
            self.window.add(guarded.batch.label.double().numpy(), scores)
        return step

    # --- state ---

    def state(self) -> ConversionState:
        """For a snapshot: all but rows and clicks whose labels are not final, which the caller stores."""
        return ConversionState(
            learner=self.learner.snapshot(),
            gate=self.guarded.state(),
            waiting=[_waiting(batch) for batch in self.gate.waiting],
            clicks=b"" if self.beside is None else self.beside.weights.numpy().tobytes(),
            published=self._published.weights.numpy().tobytes(),
        )

    def restore(self, state: ConversionState, clicks: KernelStart) -> None:
        """Restores a `state`; `reopen` restores the waiting examples. `clicks` is the start of the click kernels.

        Raises ContainerError, and changes nothing, if the learner refuses its part or a kernel has the wrong width.
        """
        beside, published = _kernel(state.clicks, clicks), _kernel(state.published, self.learner.start)
        self.learner.restore(state.learner)
        self.beside = beside
        self._published = published or Kernel.identity(self.learner.start)
        self.guarded.load(state.gate)

    def reopen(
        self, waiting: Sequence[WaitingConversions], read: Callable[[ClosedRequest], LabelledRequest | None]
    ) -> int:
        """Reads the examples that waited in the gate when the state was saved; returns how many requests are lost.

        A micro-batch is weighted as a whole, so all of it is lost if the log no longer has one of its requests.
        """
        lost = 0
        self.gate.waiting = []
        for batch in waiting:
            requests = [found for closed in batch.requests if (found := read(closed)) is not None]
            if len(requests) < len(batch.requests):
                lost += len(batch.requests)
                continue
            weight, set_aside = np.frombuffer(batch.weight), np.frombuffer(batch.set_aside, dtype=np.bool_)
            self.gate.waiting.append(WeightedBatch(requests, weight.copy(), set_aside.copy()))
        return lost


def _kernel(weights: bytes, start: KernelStart) -> Kernel | None:
    """The kernel with these weights; None for no weights. Raises ContainerError if `start` has another width."""
    if not weights:
        return None
    values = torch.from_numpy(np.frombuffer(weights, dtype="<f4").astype(np.float32))
    if len(values) != start.features.width:
        raise ContainerError(f"the served kernel has {len(values)} weights, not {start.features.width}")
    return Kernel(start, values)


def _waiting(batch: WeightedBatch[LabelledRequest]) -> WaitingConversions:
    """A micro-batch that waits in the gate, by its requests' offsets, because the log has their tensors."""
    requests = [
        ClosedRequest(
            request.impression.request_id,
            request.offset,
            request.impression.time,
            request.reference.clicks,
            conversions=request.reference.conversions,
        )
        for request in batch.requests
    ]
    return WaitingConversions(requests, batch.weight.tobytes(), batch.set_aside.tobytes())
