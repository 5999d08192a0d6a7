"""Detections of each detector while a stream was replayed."""

from __future__ import annotations

from collections.abc import Sequence

from lab.detection.episodes import Origin
from lab.detection.score import Detection
from lab.replay.record import MonitorOutput
from model.drift.monitor import ALARMS
from model.drift.verdict import Verdict, VerdictKind
from model.gate.scored_examples import Strata

VERDICT, ALWAYS, NEVER = "verdict", "always-fire", "never-fire"
CAUSE_OF = {
    VerdictKind.HANDLED: Origin.DRIFT,
    VerdictKind.UNHANDLED: Origin.DRIFT,
    VerdictKind.BROKEN_BY_US: Origin.OURS,
    VerdictKind.LABELS: Origin.LABELS,
    VerdictKind.INPUTS: Origin.INPUTS,
}
"""Causes of the verdicts that announce something; other verdicts announce nothing."""
CAUSES = {
    "label_delay": Origin.LABELS, "late_share": Origin.LABELS, "dropped_share": Origin.LABELS, "labels": Origin.LABELS,
    "score": Origin.INPUTS, "norm": Origin.INPUTS, "projection": Origin.INPUTS, "x": Origin.INPUTS,
    "gap": Origin.OURS,
}  # fmt: skip
"""The cause that an alarm on a signal stands for; drift for any other signal."""


def detections(outputs: Sequence[MonitorOutput], strata: Strata, judged: Sequence[float]) -> dict[str, list[Detection]]:
    """Detections by detector: the verdict, each single detector by its input, heard or not, and the two dummies."""
    by_detector: dict[str, list[Detection]] = {f"{detector} {_plain(signal)}": [] for detector, signal in ALARMS}
    by_detector[VERDICT] = _verdicts(outputs)
    for item in outputs:
        if not isinstance(item.output, Verdict):
            signal = _plain(item.output.signal)
            alarm = Detection(item.time, item.output.stratum, CAUSES.get(signal, Origin.DRIFT), lasts=False)
            by_detector[f"{item.output.detector} {signal}"].append(alarm)
    names = [strata.name(number) for number in range(len(strata))]
    by_detector[ALWAYS] = [Detection(time, name, Origin.DRIFT, lasts=False) for time in judged for name in names]
    by_detector[NEVER] = []
    return by_detector


def _verdicts(outputs: Sequence[MonitorOutput]) -> list[Detection]:
    """A verdict announces something where it names another cause than before; a cause that stays is no news."""
    current: dict[str, Origin | None] = {}
    found = []
    for item in outputs:
        if isinstance(item.output, Verdict):
            cause = CAUSE_OF.get(item.output.kind)
            if current.get(item.output.stratum) is not cause:
                found.append(Detection(item.time, item.output.stratum, cause))
            current[item.output.stratum] = cause
    return found


def _plain(signal: str) -> str:
    """`projection` of `projection_3`: its number is no detector of its own."""
    name, _, number = signal.rpartition("_")
    return name if number.isdigit() else signal
