"""The conversion task of a group: live rows, a learner and a harm test of its own, beside those of the click.

The task is put as that of clicks: its examples are clicked items, its labels are whether they converted. So rows,
learner and test are those of clicks, fed with these. There is no second learner to keep alike (docs/decisions/0142).

    rows     a click enters them once its label is decided; its conversion puts them right when it comes
    learner  takes a click when no label of its request can change any more: taught at once, it would count as
             unconverted for as long as its conversion is under way
    gate     where served or candidate do harm, the task begins anew and the frozen arm answers, until the candidate
             has stood a probation; the click goes on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from features.live.features import LiveFeatures
from features.live.layout import LiveRow
from features.live.tasks import as_conversions
from model.container import ContainerError
from model.encoding.domain import DomainSpace
from model.evaluation import PrequentialWindow
from model.gate.config import GateConfig
from model.gate.decision import GateDecision
from model.gate.harm import HarmTest
from model.gate.seen import Strata
from model.gate.shares import ShareCaps
from model.kernel.kernel import Kernel
from model.kernel.learner import Learner
from model.kernel.start import KernelStart
from streaming.kernel_log.snapshot import ConversionState
from streaming.processor.batches import conversion_batch, conversion_outcome, conversions_seen, corrected_conversion
from streaming.processor.corrections import Correction
from streaming.processor.join import LabelledRequest

WINDOW_EXAMPLES = 5_000
"""Clicks over which the arms are measured."""


class ConversionHead:
    """All that a group knows of conversions."""

    def __init__(self, learner: Learner, live: LiveFeatures, space: DomainSpace, config: GateConfig) -> None:
        """`learner` and `live` are of the conversion task, and new."""
        self.learner, self.live = learner, live
        self.harm = HarmTest(Strata(space.values), config)
        self.window = PrequentialWindow(WINDOW_EXAMPLES)
        """Clicks that were learned, with what the arms said of them before."""
        self.learned = 0
        """Clicks that were learned since this head began."""
        self._shares = ShareCaps(config)
        """What one user and one item may teach, as of clicks."""
        self._space, self._start = space, learner.snapshot()
        self.beside: Kernel | None = None
        """The kernel of clicks that was published last; None before the first."""
        self.fell_back = False
        """Whether harm was found and the kernel that does it is still served."""

    @property
    def kernel(self) -> Kernel:
        """What may be served: the identity on probation."""
        return Kernel.identity(self.learner.start) if self.harm.on_probation else self.learner.candidate

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

    def learn(self, requests: Sequence[LabelledRequest]) -> list[GateDecision]:
        """Tests and teaches the clicks of requests whose labels are final; then the harm test judges.

        Raises as `Learner.learn` does; nothing is changed then.
        """
        seen, batch = conversions_seen(requests, self._space), conversion_batch(requests, self._space)
        weight = self._shares.weigh(seen)
        report = self.learner.learn(replace(batch, weight=torch.from_numpy(weight).to(batch.weight.dtype)))
        candidate = np.asarray(report.candidate_logit.double().numpy())
        self.learned += len(batch)
        logits = {"frozen": batch.frozen_logit, "live": batch.live_logit, "candidate": report.candidate_logit}
        self.window.add(seen.label, {arm: torch.sigmoid(logit).numpy() for arm, logit in logits.items()})
        verdict = self.harm.judge(seen, weight, candidate)
        if not verdict.undo:
            return [GateDecision(one.kind, {**one.detail, "task": "conversions"}) for one in verdict.decisions]
        self.learner.restore(self._start)
        self.fell_back = True
        detail = {**verdict.decisions[-1].detail, "to": "identity", "task": "conversions"}
        return [GateDecision("rolled_back", detail)]

    def served_frozen(self, version: int) -> None:
        """From this version on the frozen arm tells conversions: earlier kernels are judged no more."""
        self.harm.serve(version)
        self.fell_back = False

    # --- state ---

    def state(self) -> ConversionState:
        """All of it but the rows and what waits, which the caller has."""
        gate: dict[str, Any] = {"harm": self.harm.state(), **self._shares.state()}
        clicks = b"" if self.beside is None else self.beside.weights.numpy().tobytes()
        return ConversionState(learner=self.learner.snapshot(), gate=gate, clicks=clicks)

    def restore(self, state: ConversionState, clicks: KernelStart) -> None:
        """The inverse of `state`, of a group whose click kernels start from `clicks`.

        Raises ContainerError, and changes nothing, if the learner cannot take its part or kernels have other weights.
        """
        weights = torch.from_numpy(np.frombuffer(state.clicks, dtype="<f4").astype(np.float32))
        if len(weights) not in {0, clicks.features.width}:
            raise ContainerError(f"the served kernel has {len(weights)} weights, not {clicks.features.width}")
        self.learner.restore(state.learner)
        self.beside = Kernel(clicks, weights) if len(weights) else None
        self.harm.load(state.gate["harm"])
        self._shares.load(state.gate)
