"""Announcements of each detector while a stream was played."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from lab.detection.episodes import Origin
from lab.detection.score import Announced
from lab.played.record import Said
from model.drift.verdict import Verdict, VerdictKind
from model.gate.seen import Strata

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


def announcements(said: Sequence[Said], strata: Strata, judged: Sequence[float]) -> dict[str, list[Announced]]:
    """Announcements by detector: the verdict, each single detector by its input, and the two dummies."""
    heard: dict[str, list[Announced]] = defaultdict(list)
    heard[VERDICT] = _verdicts(said)
    for one in said:
        if not isinstance(one.what, Verdict):
            signal = _plain(one.what.signal)
            alarm = Announced(one.time, one.what.stratum, CAUSES.get(signal, Origin.DRIFT), lasts=False)
            heard[f"{one.what.detector} {signal}"].append(alarm)
    names = [strata.name(number) for number in range(len(strata))]
    heard[ALWAYS] = [Announced(time, name, Origin.DRIFT, lasts=False) for time in judged for name in names]
    heard[NEVER] = []
    return heard


def _verdicts(said: Sequence[Said]) -> list[Announced]:
    """A verdict announces something where it names another cause than before; a cause that stays is no news."""
    standing: dict[str, Origin | None] = {}
    told = []
    for one in said:
        if isinstance(one.what, Verdict):
            cause = CAUSE_OF.get(one.what.kind)
            if standing.get(one.what.stratum) is not cause:
                told.append(Announced(one.time, one.what.stratum, cause))
            standing[one.what.stratum] = cause
    return told


def _plain(signal: str) -> str:
    """`projection` of `projection_3`: its number is no detector of its own."""
    name, _, number = signal.rpartition("_")
    return name if number.isdigit() else signal
