"""Announced drift, read back from the log as spans of a run, and how both arms did in each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from local.report.stream import ScoredStream
from model import evaluation
from streaming.events import DriftEvent, Facet

_GAP_SHARE, _GAP_LEAST = 0.005, 20
"""Rows of the log are slightly out of time order; this few rows outside a span do not split its stretch."""


@dataclass(frozen=True)
class AnnouncedSpan:
    """A stretch of event time in which announced drift was active."""

    name: str
    kind: str
    begins: float
    """Event time, seconds since the epoch."""
    full: float | None = None
    """Event time from which it was at full strength; None if from its begin, or never."""
    ends: float | None = None
    """None if no end was announced."""
    domain: Mapping[Facet, list[str]] = field(default_factory=dict)
    """Facets and values it was confined to; empty for all domains."""
    returns: bool = False
    """Whether the state before its begin came back at its end."""

    def inside(self, stream: ScoredStream) -> NDArray[np.bool_]:
        """Mask of the rows served while it was active, in any domain, bool `(n,)`."""
        end = float("inf") if self.ends is None else self.ends
        return np.asarray((stream.time >= self.begins) & (stream.time < end))

    def stretches(self, stream: ScoredStream) -> list[tuple[int, int]]:
        """Row indices `[from, to)` that it covers: one stretch per kernel group, since groups follow one another."""
        rows = np.flatnonzero(self.inside(stream))
        if not rows.size:
            return []
        gap = max(_GAP_LEAST, int(_GAP_SHARE * len(stream)))
        cuts = np.flatnonzero(np.diff(rows) > gap) + 1
        return [(int(part[0]), int(part[-1]) + 1) for part in np.split(rows, cuts)]

    def as_json(self, stream: ScoredStream) -> dict[str, Any]:
        """As JSON: the announcement, and the figures of the items served meanwhile."""
        inside = self.inside(stream)
        label = stream.label[inside]
        return {
            "name": self.name,
            "kind": self.kind,
            "begins": self.begins,
            "full": self.full,
            "ends": self.ends,
            "domain": {facet: list(values) for facet, values in self.domain.items()},
            "returns": self.returns,
            "items_served": int(inside.sum()),
            "request_auc_frozen": evaluation.grouped_auc(label, stream.frozen[inside], stream.request[inside]),
            "request_auc_live": evaluation.grouped_auc(label, stream.live[inside], stream.request[inside]),
            "auc_frozen": evaluation.auc(label, stream.frozen[inside]),
            "auc_live": evaluation.auc(label, stream.live[inside]),
            "log_loss_frozen": evaluation.log_loss(label, stream.frozen[inside]),
            "log_loss_live": evaluation.log_loss(label, stream.live[inside]),
        }


def announced_spans(events: Iterable[DriftEvent]) -> list[AnnouncedSpan]:
    """The spans that these announcements make, in the order of their begins.

    An announcement that comes twice counts once, so does a second begin before the end. An end without a begin makes no
    span.
    """
    closed: list[AnnouncedSpan] = []
    open_: dict[tuple[str, str], AnnouncedSpan] = {}
    for event in sorted(events, key=lambda event: event.time):
        key = (event.name, event.kind)
        span = open_.get(key)
        if span is None and event.phase != "ends":
            open_[key] = AnnouncedSpan(
                event.name,
                event.kind,
                event.time,
                event.time if event.phase == "full" else None,
                None,
                event.domain,
                event.returns,
            )
        elif span is not None and event.phase == "full":
            open_[key] = replace(span, full=span.full if span.full is not None else event.time)
        elif span is not None and event.phase == "ends":
            closed.append(replace(open_.pop(key), ends=event.time))
    return sorted([*closed, *open_.values()], key=lambda span: (span.begins, span.name))


def label(span: AnnouncedSpan) -> str:
    """The name, with the kind where that is another word."""
    text = span.name if span.name == span.kind else f"{span.name} ({span.kind})"
    return text.replace("_", " ")
