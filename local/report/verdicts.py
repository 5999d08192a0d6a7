"""Verdicts of the drift monitor during a run, read back from the log as spans: one per stratum and verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lab.verdict_bands import Band, noteworthy
from local.report.stream import ScoredStream
from model.drift.verdict import VerdictKind
from streaming.events.decisions import Decision


@dataclass(frozen=True)
class VerdictSpan:
    """A stretch of event time in which one verdict held."""

    group: str
    stratum: str
    kind: VerdictKind
    begins: float
    """Event time at which it was given, seconds since the epoch."""
    ends: float | None
    """Event time of the next verdict; None if it held to the end."""
    since: float
    """Event time since which it holds, according to the verdict itself."""
    words: str

    def rows(self, stream: ScoredStream) -> tuple[int, int]:
        """Row indices `[from, to)` of the stream that were served meanwhile, by the number of rows before each end."""
        begin, end = np.searchsorted(np.sort(stream.time), [self.begins, np.inf if self.ends is None else self.ends])
        return int(begin), int(end)

    def as_json(self, stream: ScoredStream) -> dict[str, Any]:
        """As JSON: the verdict, and the first and last item served meanwhile."""
        begin, end = self.rows(stream)
        return {
            "group": self.group,
            "stratum": self.stratum,
            "verdict": str(self.kind),
            "begins": self.begins,
            "ends": self.ends,
            "since": self.since,
            "words": self.words,
            "first_item": begin,
            "last_item": end,
        }


def verdict_spans(decisions: Iterable[Decision]) -> list[VerdictSpan]:
    """The spans of the monitor's verdicts, by begin; other decisions are ignored."""
    closed: list[VerdictSpan] = []
    open_: dict[tuple[str, str], VerdictSpan] = {}
    for decision in decisions:
        span = _begun(decision)
        if span is None:
            continue
        before = open_.get((span.group, span.stratum))
        if before is not None:
            closed.append(replace(before, ends=span.begins))
        open_[span.group, span.stratum] = span
    return sorted([*closed, *open_.values()], key=lambda span: (span.begins, span.stratum))


def bands_of(spans: Iterable[VerdictSpan], stream: ScoredStream) -> list[Band]:
    """The spans on an axis of served items; none if no stratum had a finding.

    Strata with only quiet verdicts are left out, except the group. If there are several kernel groups, names of strata
    start with their group's.
    """
    listed = list(spans)
    groups = {span.group for span in listed}
    names = [span.stratum if len(groups) == 1 else f"{span.group}: {span.stratum}" for span in listed]
    return noteworthy(Band(name, span.kind, *span.rows(stream)) for name, span in zip(names, listed, strict=True))


def _begun(decision: Decision) -> VerdictSpan | None:
    if decision.kind != "verdict":
        return None
    detail: Mapping[str, Any] = decision.detail
    try:
        kind, since = VerdictKind(detail["to"]), float(detail["since"])
        return VerdictSpan(
            decision.group, str(detail["stratum"]), kind, decision.time, None, since, str(detail["words"])
        )
    except (KeyError, TypeError, ValueError):
        return None
