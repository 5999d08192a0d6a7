"""What a drift monitor is told while a live half is played, and what it says, with the time at which it said so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.drift.monitor import DriftMonitor
from model.drift.signs import KernelHealth, LabelHealth
from model.drift.verdict import Alarm, Verdict
from model.gate.decision import GateDecision
from model.gate.gate import Gate
from model.gate.guarded import GuardedBatch
from model.gate.seen import Seen
from model.kernel.learner import Learner

_KEPT = 0.995
"""Of what is known of feedback, kept from one click to the next: the last 200 clicks or so."""


class Feedback:
    """Clicks in the order in which they come."""

    def __init__(self, arrival: NDArray[np.float64], example: NDArray[np.int64], late: NDArray[np.int64]) -> None:
        """All by click, rising by `arrival`, s; `late` is 0 in time, 1 to be put right, 2 for lost."""
        self._arrival, self._example, self._late = arrival, example, late
        self._taken = 0
        self._mass = self._late_mass = self._delay_mass = 0.0
        self._delay: NDArray[np.float64] = np.zeros(0)

    @staticmethod
    def of(
        click: NDArray[np.bool_], delay: NDArray[np.float64], time: NDArray[np.float64], limits: tuple[float, float]
    ) -> Feedback:
        """Of examples `(n,)` shown at `time`; `limits` are when a click is late, and when it is lost, s behind it."""
        example = np.flatnonzero(click)
        example = example[np.argsort((time + delay)[example], kind="stable")]
        late = (delay[example] > limits[0]).astype(np.int64) + (delay[example] > limits[1])
        feedback = Feedback((time + delay)[example], example, late)
        feedback._delay = delay[example]
        return feedback

    def until(self, now: float) -> NDArray[np.int64]:
        """Examples whose clicks came too late for their window since the last call, but not too late to count."""
        end = int(np.searchsorted(self._arrival, now, side="right"))
        come = slice(self._taken, end)
        for late, delay in zip((self._late[come] > 0).tolist(), self._delay[come].tolist(), strict=True):
            self._mass = _KEPT * self._mass + 1
            self._late_mass = _KEPT * self._late_mass + late
            self._delay_mass = _KEPT * self._delay_mass + delay
        self._taken = end
        return np.asarray(self._example[come][self._late[come] == 1])

    @property
    def late_share(self) -> float:
        """Of recent clicks, those that came behind their window; nan before the first."""
        return self._late_mass / self._mass if self._mass else float("nan")

    @property
    def delay_s(self) -> float:
        """Mean delay of recent clicks, s; nan before the first."""
        return self._delay_mass / self._mass if self._mass else float("nan")


@dataclass(frozen=True)
class Said:
    """Something the monitor said."""

    time: float
    """Event time at which it was said, s."""
    what: Verdict | Alarm


class Watch:
    """A monitor beside a play."""

    def __init__(self, monitor: DriftMonitor) -> None:
        self._monitor = monitor
        self.said: list[Said] = []
        self._undone = self._rolled_back = 0
        self.judged: list[float] = []
        """Event times at which the monitor was asked, s."""

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
        self._monitor.served(frozen, live, x, (scene, region, period), time)

    def learned(self, seen: Seen, batch: GuardedBatch[int], learner: Learner, time: float) -> None:
        """It is decided what becomes of a micro-batch; `seen` are all of its requests, `time` its newest."""
        weight, candidate = np.zeros(len(seen.label)), None
        if batch.batch is not None and batch.report is not None:
            taught = batch.taught[seen.request]
            candidate = seen.live.copy()
            candidate[taught] = batch.report.candidate_logit.numpy()
            weight[taught] = batch.batch.weight.numpy()
        moved = float(np.sqrt(np.mean((seen.live - seen.frozen) ** 2)))
        self._monitor.learned(seen, weight, candidate, KernelHealth(distance=moved, trust=learner.arms), time)

    def judge(
        self, gate: Gate[int], decisions: Sequence[GateDecision], feedback: Feedback, time: float
    ) -> None:
        """Asks the monitor what has changed."""
        self._undone += sum(decision.kind == "undone" for decision in decisions)
        self._rolled_back += sum(decision.kind == "rolled_back" for decision in decisions)
        health = LabelHealth(
            aside=gate.quarantine.aside.copy(),
            held=bool(gate.held),
            undone=self._undone,
            rolled_back=self._rolled_back,
            late_share=feedback.late_share,
            delay_s=feedback.delay_s,
        )
        self.judged.append(time)
        self.said.extend(Said(time, one) for one in self._monitor.judge(health, time))
