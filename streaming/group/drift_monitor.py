"""Feeds the drift monitor of one group with what its machine sees: impressions, micro-batches, and the feedback path.

The monitor's results become decisions with their evidence: `verdict` when a domain's verdict has changed, `alarm` when
a single detector has fired. They are written in the transaction of the state that they were made from.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from model.drift.config import DriftConfig
from model.drift.monitor import DriftMonitor
from model.drift.reference import Reference
from model.drift.signs import NAN, LabelHealth
from model.drift.verdict import Alarm, Verdict, VerdictKind
from model.encoding.domain import DomainSpace
from model.gate.decision import GateDecision
from model.gate.feedback import FeedbackPath
from model.gate.gate import Gate
from model.gate.guarded import GuardedBatch
from model.gate.scored_examples import Doubles
from streaming.events import ServedImpression
from streaming.events.decisions import Decision
from streaming.events.traffic import FloatPayload
from streaming.join.join import Join, LabelledRequest

log = logging.getLogger(__name__)
VERDICT, ALARM = "verdict", "alarm"
"""Kinds of the monitor's decisions."""
MONITOR = "monitor"
"""Name of the decider in the drift monitor's decisions."""
LOST = (
    "late_impression",
    "evicted",
    "feedback_evicted",
    "feedback_unread",
    "other_backbone",
    "other_tasks",
    "bad_payload",
)
"""Reasons for which the join drops traffic that should have been learned."""
_KEPT = 0.98
"""Factor that counts keep from one micro-batch to the next, as in the gate (`model.gate.feedback`)."""
_WELL = (VerdictKind.STABLE, VerdictKind.TOO_LITTLE)
_JUDGE_S = 5.0
"""Event time after a judgement from which another one is due, seconds."""
_SERVED: tuple[FloatPayload, ...] = ("frozen_logit", "live_logit", "x")


class GroupDriftMonitor:
    """Feeds a drift monitor in the order of the machine's records."""

    def __init__(
        self,
        group: str,
        gate: Gate[LabelledRequest],
        space: DomainSpace,
        config: DriftConfig,
        reference: Reference | None,
    ) -> None:
        """Without a `reference` the group's first examples become the reference."""
        self._parts = gate.strata, reference, config
        self.reference = "first_examples" if reference is None else "pretraining"
        self.monitor: DriftMonitor
        self.failures = 0
        """How often the monitor has failed since this owner took over."""
        self._begin()
        self._group, self._gate, self._place = group, gate, lru_cache(1_024)(space.encode)
        self._late = 0
        self._shares = dict.fromkeys(("joined", "late", "kept", "dropped"), 0.0)
        self._happened = {"undone": 0, "rolled_back": 0}
        self._unshown: list[ServedImpression] = []
        self._unshown_items = 0
        self._lost_before = 0
        self._judged_at = -math.inf

    # --- inputs from the machine ---

    def served(self, record: ServedImpression) -> None:
        """Takes an impression that the join has accepted."""
        self._shares["kept"] += 1
        self.monitor.move_on(record.time)
        self._unshown.append(record)
        self._unshown_items += len(record.items)
        if self._unshown_items >= self.monitor.room:
            self._show()

    def _show(self) -> None:
        """Passes the waiting impressions to the monitor together, which costs hardly more than passing one."""
        records, self._unshown, self._unshown_items = self._unshown, [], 0
        if not records:
            return
        with self._watching():
            frozen, live, x = (ServedImpression.joined(records, name) for name in _SERVED)
            domain = np.array([self._place(record.domain) for record in records], dtype=np.int64)
            domain = np.repeat(domain, [len(record.items) for record in records], axis=0)
            self.monitor.served(frozen, live, x, domain, records[-1].time)

    def late_click(self) -> None:
        """Counts a click that came after its request was closed."""
        self._late += 1

    def decided(self, batch: GuardedBatch[LabelledRequest]) -> None:
        """Takes a micro-batch that the gate has decided about."""
        with self._watching():
            scored = batch.scored
            candidate: Doubles = np.full(len(scored.label), NAN)
            if batch.report is not None:
                candidate[batch.learned[scored.request]] = batch.report.candidate_logit.double().numpy()
            newest = max(request.impression.time for request in batch.requests)
            self.monitor.learned(scored, batch.weight, candidate, newest)

    def followed(self, decisions: Sequence[GateDecision]) -> None:
        """Counts the gate's decisions."""
        for decision in decisions:
            if decision.kind in self._happened:
                self._happened[decision.kind] += 1

    def is_due(self, watermark: float) -> bool:
        """Whether a judgement is due without a full micro-batch, because missing labels are a fault, too."""
        return watermark - self._judged_at >= _JUDGE_S

    def judge(self, path: FeedbackPath, join: Join, dropped: Counter[str]) -> list[Decision]:
        """Decisions about changes. `path` counts feedback since the last call, `dropped` are the machine's counts."""
        self._judged_at = join.watermark
        self._count(path, dropped)
        outputs: list[Verdict | Alarm] = []
        with self._watching():
            outputs = self.monitor.judge(self._health(join), join.watermark)
        return [self._decision(output, join.watermark) for output in outputs]

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Catches every error of the monitor, so that the group learns on: the monitor only observes."""
        try:
            yield
        except Exception as error:
            log.exception("group %s: the drift monitor failed and starts again; learning goes on", self._group)
            self.failures += 1
            self._begin(repr(error))

    def _begin(self, failed: str = "") -> None:
        self.monitor, self._failed = DriftMonitor(*self._parts), failed
        self._reported = {verdict.stratum: str(verdict.kind) for verdict in self.monitor.verdicts}

    @property
    def verdicts(self) -> list[Verdict]:
        """The monitor's present verdicts, one per stratum."""
        verdicts = self.monitor.verdicts
        if not self._failed:
            return verdicts
        words = f"The drift monitor failed ({self._failed}) and starts again: nothing is known yet."
        unknown = VerdictKind.TOO_LITTLE
        return [
            dataclasses.replace(verdict, words=words) if verdict.kind is unknown else verdict for verdict in verdicts
        ]

    def _count(self, path: FeedbackPath, dropped: Counter[str]) -> None:
        lost = self._lost(dropped)
        came = {"joined": path.joined, "late": path.lost + self._late, "dropped": lost - self._lost_before}
        for name in self._shares:
            # `kept` counts up as impressions come; here it decays like the other counts.
            self._shares[name] = _KEPT * self._shares[name] + came.get(name, 0)
        self._late, self._lost_before = 0, lost

    def _health(self, join: Join) -> LabelHealth:
        shares = self._shares
        return LabelHealth(
            aside=self._gate.quarantine.aside,
            held=bool(self._gate.held),
            undone=self._happened["undone"],
            rolled_back=self._happened["rolled_back"],
            late_share=_share(shares["late"], shares["joined"]),
            delay_s=join.delays.click_s,
            paused=join.paused,
            dropped_share=_share(shares["dropped"], shares["kept"]),
        )

    def _decision(self, output: Verdict | Alarm, now: float) -> Decision:
        """A verdict or an alarm as a decision; the change of verdict is also logged."""
        if isinstance(output, Alarm):
            return Decision(ALARM, self._group, output.time, MONITOR, dataclasses.asdict(output))
        before, self._reported[output.stratum] = self._reported[output.stratum], str(output.kind)
        detail = {
            "stratum": output.stratum,
            "from": before,
            "to": str(output.kind),
            "since": output.since,
            "words": output.words,
            "advice": output.advice,
            "evidence": dict(output.evidence),
        }
        level = logging.INFO if output.kind in _WELL else logging.WARNING
        log.log(level, "group %s: %s: %s: %s", self._group, output.stratum, output.kind, output.words)
        return Decision(VERDICT, self._group, now, MONITOR, detail)

    @staticmethod
    def _lost(dropped: Counter[str]) -> int:
        return sum(dropped[reason] for reason in LOST)

    # --- state ---

    def state(self, dropped: Counter[str]) -> dict[str, Any]:
        """For a snapshot."""
        self._show()
        return {
            "monitor": self.monitor.state(),
            "reported": dict(self._reported),
            "late": self._late,
            "shares": dict(self._shares),
            "happened": dict(self._happened),
            "lost": self._lost(dropped) - self._lost_before,
            "judged_at": self._judged_at,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, for a machine whose counts start at zero; an empty state starts a new monitor."""
        if not state:
            return
        with self._watching():  # the state may come from another reference or another version of the program
            self.monitor.load(state["monitor"])
            self._reported.update({stratum: str(kind) for stratum, kind in state["reported"].items()})
        self._late, self._lost_before = int(state["late"]), -int(state["lost"])
        self._shares.update({name: float(value) for name, value in state["shares"].items()})
        self._happened.update({name: int(value) for name, value in state["happened"].items()})
        self._judged_at = float(state["judged_at"])


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest > 0 else math.nan
