"""The conversion task of a group: live rows, a learner and a harm test of its own, beside those of the click.

The task is put as that of clicks: its examples are clicked items, its labels are whether they converted. So rows,
learner and test are those of clicks, fed with these. There is no second learner to keep alike (docs/decisions/0142).

    rows     a click enters them once its label is decided; its conversion puts them right when it comes
    learner  takes a click when no label of its request can change any more: taught at once, it would count as
             unconverted for as long as its conversion is under way
    gate     that of clicks, for this task alone: shares, labels against what the frozen arm expects, harm, numbers.
             There is no kept state to go back to: where there is harm the task begins anew. The click goes on
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
from model.gate.gate import Gate, Weighed
from model.gate.guarded import GuardedLearner, Step
from model.kernel.kernel import Kernel
from model.kernel.learner import Learner
from model.kernel.start import KernelStart
from streaming.kernel_log.closed import ClosedRequest
from streaming.kernel_log.join_state import WaitingConversions
from streaming.kernel_log.snapshot import ConversionState
from streaming.processor.batches import conversion_batch, conversion_outcome, conversions_seen, corrected_conversion
from streaming.processor.corrections import Correction
from streaming.processor.join import LabelledRequest

WINDOW_EXAMPLES = 5_000
"""Clicks over which the arms are measured."""
NO_KEPT_STATE = sys.maxsize
"""Examples from one kept state of the learner to the next: conversions are few, the frozen arm is a sound answer."""


class ConversionHead:
    """All that a group knows of conversions."""

    def __init__(self, learner: Learner, live: LiveFeatures, space: DomainSpace, config: GateConfig) -> None:
        """`learner` and `live` are of the conversion task, and new."""
        self.learner, self.live = learner, live
        without = config.model_copy(update={"good_every_examples": NO_KEPT_STATE})
        gate = Gate[LabelledRequest](without, space.values, lambda r: conversions_seen(r, space), labels="conversions")
        self.guarded = GuardedLearner(learner, gate, lambda requests: conversion_batch(requests, space))
        self.window = PrequentialWindow(WINDOW_EXAMPLES)
        """Clicks that were learned, with what the arms said of them before."""
        self.learned = 0
        """Clicks that were learned since this head began."""
        self.beside: Kernel | None = None
        """The kernel of clicks that was published last; None before the first."""
        self._published = Kernel.identity(learner.start)

    @property
    def gate(self) -> Gate[LabelledRequest]:
        """What believes the labels and lets kernels out."""
        return self.guarded.gate

    @property
    def kernel(self) -> Kernel:
        """What may be served: while the gate holds the candidate, what was published last."""
        return self._published if self.gate.held else self.learner.candidate

    def publish(self, version: int, instead: Kernel | None = None) -> None:
        """`kernel` is published, or `instead` because what is served does harm; `version` is the first that has it."""
        self._published = instead or self.kernel
        if instead is not None:
            self.gate.harm.serve(version)
        elif self.learner.examples and not self.gate.held:
            self.gate.harm.published()

    # --- live rows ---

    def clicked(self, requests: Sequence[LabelledRequest]) -> None:
        """Clicks were decided: they enter the rows with what converted so far."""
        self.live.update([conversion_outcome(request) for request in requests])

    def converted(self, corrections: Sequence[Correction]) -> None:
        """Conversions came that no row knows of yet; those of items that were not clicked wait for their click."""
        taught = [correction for correction in corrections if correction.learned_at > 0]
        self.live.correct([corrected_conversion(correction) for correction in taught])

    def take_changed(self) -> list[LiveRow]:
        """Rows that changed since the last call, as they travel beside those of clicks."""
        return as_conversions(self.live.take_changed())

    def rows(self) -> list[LiveRow]:
        """Every row, likewise."""
        return as_conversions(self.live.rows())

    # --- learning ---

    def learn(self, requests: Sequence[LabelledRequest]) -> Step[LabelledRequest]:
        """Takes clicked requests whose labels are final: the gate decides what of them is learned, now or later."""
        return self._measured(self.guarded.step(requests))

    def settle(self) -> Step[LabelledRequest]:
        """Decides all whose labels are in doubt: nothing more will come for now."""
        return self._measured(self.guarded.settle())

    def _measured(self, step: Step[LabelledRequest]) -> Step[LabelledRequest]:
        for one in step.batches:
            if one.batch is None or one.report is None:
                continue
            self.learned += len(one.batch)
            logits = {
                "frozen": one.batch.frozen_logit,
                "live": one.batch.live_logit,
                "candidate": one.report.candidate_logit,
            }
            scores = {arm: torch.sigmoid(logit).numpy() for arm, logit in logits.items()}
            self.window.add(one.batch.label.double().numpy(), scores)
        return step

    # --- state ---

    def state(self) -> ConversionState:
        """All of it but the rows and what has not ripened, which the caller has."""
        return ConversionState(
            learner=self.learner.snapshot(),
            gate=self.guarded.state(),
            waiting=[_waiting(batch) for batch in self.gate.waiting],
            clicks=b"" if self.beside is None else self.beside.weights.numpy().tobytes(),
            published=self._published.weights.numpy().tobytes(),
        )

    def restore(self, state: ConversionState, clicks: KernelStart) -> None:
        """The inverse of `state` but for what waits (`reopen`), of a group whose click kernels start from `clicks`.

        Raises ContainerError, and changes nothing, if the learner cannot take its part or kernels have other weights.
        """
        beside, published = _kernel(state.clicks, clicks), _kernel(state.published, self.learner.start)
        self.learner.restore(state.learner)
        self.beside = beside
        self._published = published or Kernel.identity(self.learner.start)
        self.guarded.load(state.gate)

    def reopen(
        self, waiting: Sequence[WaitingConversions], read: Callable[[ClosedRequest], LabelledRequest | None]
    ) -> int:
        """Takes what waited when its state was taken; returns how many requests are lost, for the log has them no more.

        A micro-batch is weighed as a whole: without one of its requests it is lost.
        """
        lost = 0
        self.gate.waiting = []
        for batch in waiting:
            requests = [found for closed in batch.requests if (found := read(closed)) is not None]
            if len(requests) < len(batch.requests):
                lost += len(batch.requests)
                continue
            weight, left = np.frombuffer(batch.weight), np.frombuffer(batch.left, dtype=np.bool_)
            self.gate.waiting.append(Weighed(requests, weight.copy(), left.copy()))
        return lost


def _kernel(weights: bytes, start: KernelStart) -> Kernel | None:
    """Raises ContainerError if there are weights, but not as many as `start` has."""
    if not weights:
        return None
    values = torch.from_numpy(np.frombuffer(weights, dtype="<f4").astype(np.float32))
    if len(values) != start.features.width:
        raise ContainerError(f"the served kernel has {len(values)} weights, not {start.features.width}")
    return Kernel(start, values)


def _waiting(batch: Weighed[LabelledRequest]) -> WaitingConversions:
    requests = [
        ClosedRequest(
            one.impression.request_id, one.offset, one.impression.time, ref.clicks, conversions=ref.conversions
        )
        for one in batch.requests
        for ref in (one.reference,)
    ]
    return WaitingConversions(requests, batch.weight.tobytes(), batch.left.tobytes())
