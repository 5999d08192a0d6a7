"""Records everything that a drift monitor would be given during a replay, which does not depend on its verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.replay.feedback import Feedback
from model.drift.signs import LabelHealth
from model.gate.decision import GateDecision
from model.gate.gate import Gate
from model.gate.guarded import GuardedBatch
from model.gate.scored_examples import Doubles, ScoredExamples

if TYPE_CHECKING:  # replays are kept under the code that makes them, and the monitor is none of it
    from model.drift.monitor import DriftMonitor
    from model.drift.verdict import Alarm, Verdict


@dataclass(frozen=True)
class ServeCall:
    """A call of `DriftMonitor.served`: a request whose labels are not known yet."""

    frozen: NDArray[np.float32]
    live: NDArray[np.float32]
    x: NDArray[np.float16]
    domain: tuple[int, int, int]
    time: float


@dataclass(frozen=True)
class LearnCall:
    """A call of `DriftMonitor.learned`: a micro-batch after the gate's decision."""

    scored: ScoredExamples
    weight: Doubles
    candidate: Doubles
    time: float


@dataclass(frozen=True)
class JudgeCall:
    """A call of `DriftMonitor.judge`: the monitor is asked what has changed."""

    health: LabelHealth
    time: float


@dataclass(frozen=True)
class MonitorOutput:
    """One verdict or alarm of the monitor."""

    time: float
    """Event time of it, s."""
    output: Verdict | Alarm


@dataclass
class Record:
    """The calls of a replay in their order."""

    calls: list[ServeCall | LearnCall | JudgeCall] = field(default_factory=list)

    def replay(self, monitor: DriftMonitor) -> list[MonitorOutput]:
        """The verdicts and alarms of a new monitor on this record."""
        outputs: list[MonitorOutput] = []
        for call in self.calls:
            if isinstance(call, ServeCall):
                monitor.served(call.frozen, call.live, call.x, call.domain, call.time)
            elif isinstance(call, LearnCall):
                monitor.learned(call.scored, call.weight, call.candidate, call.time)
            else:
                outputs.extend(MonitorOutput(call.time, output) for output in monitor.judge(call.health, call.time))
        return outputs


class Recorder:
    """Records the calls that a replay would make to a drift monitor."""

    def __init__(self) -> None:
        self.record = Record()
        self._undone = self._rolled_back = 0

    def served(
        self,
        frozen: NDArray[np.float32],
        live: NDArray[np.float32],
        x: NDArray[np.float16],
        domain: NDArray[np.int64],
        time: float,
    ) -> None:
        """A request was served, its labels are not known yet."""
        scene, region, period = domain.tolist()
        self.record.calls.append(ServeCall(frozen, live, x, (scene, region, period), time))

    def learned(self, batch: GuardedBatch[int], time: float) -> None:
        """Records a micro-batch after the gate's decision; `time` is that of its newest request, s."""
        scored = batch.scored
        candidate: Doubles = np.full(len(scored.label), np.nan)
        if batch.report is not None:
            candidate[batch.learned[scored.request]] = batch.report.candidate_logit.double().numpy()
        self.record.calls.append(LearnCall(scored, batch.weight, candidate, time))

    def followed(self, decisions: Sequence[GateDecision]) -> None:
        """Records the gate's decisions."""
        self._undone += sum(decision.kind == "undone" for decision in decisions)
        self._rolled_back += sum(decision.kind == "rolled_back" for decision in decisions)

    def judge(self, gate: Gate[int], feedback: Feedback, time: float) -> None:
        """The monitor is asked what has changed."""
        health = LabelHealth(
            aside=gate.quarantine.aside.copy(),
            held=bool(gate.held),
            undone=self._undone,
            rolled_back=self._rolled_back,
            late_share=feedback.late_share,
            delay_s=feedback.delay_s,
        )
        self.record.calls.append(JudgeCall(health, time))
