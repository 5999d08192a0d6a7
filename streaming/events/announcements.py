"""What an announcement of drift must be: one rule for whoever makes, takes or reads it (docs/decisions/0074).

An announcement is a note for people: a shade on a chart. Nothing here detects drift, and nothing learns from it.
"""

from __future__ import annotations

import re

import msgspec

from streaming.events.decisions import Decision
from streaming.events.outside import DriftEvent

MAX_NAME_BYTES = 64
MAX_VALUES = 1_000
"""Facet values that an announcement may name per facet."""
ANNOUNCED = "drift_announced"
"""Kind of the decision that tells of an announcement."""
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def announcement_fault(event: DriftEvent) -> str | None:
    """What is wrong with an announcement beside its time; None if nothing is."""
    if not event.name.strip() or not event.name.isprintable() or len(event.name.encode()) > MAX_NAME_BYTES:
        return f"`name` must be printable text of 1 to {MAX_NAME_BYTES} bytes"
    if not _KIND.fullmatch(event.kind):
        return "`kind` must be a word of a-z, 0-9, _ and -, at most 32 of them, that begins with a letter"
    for facet, values in event.domain.items():
        if not values or len(values) > MAX_VALUES or not all(values):
            return f"`domain.{facet}` must name 1 to {MAX_VALUES} values, none of them empty"
    return None


def announced(event: DriftEvent) -> Decision:
    """An announcement as it stands among the decisions, for those who do not read all that comes from outside."""
    told = msgspec.to_builtins(event)
    detail = {key: value for key, value in told.items() if key not in ("event", "time")}
    return Decision(ANNOUNCED, "", event.time, "announcement", detail)
