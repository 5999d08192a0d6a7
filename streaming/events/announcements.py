"""Rules for announcements of drift, shared by all who make, accept or read them (docs/decisions/0074).

An announcement is a note for people, shown as a shade on a chart. No detector reads it, and nothing learns from it.
"""

from __future__ import annotations

import re

import msgspec

from streaming.events.decisions import Decision
from streaming.events.outside import DriftEvent

MAX_NAME_BYTES = 64
MAX_VALUES = 1_000
"""Largest number of values that an announcement may name per facet."""
ANNOUNCED = "drift_announced"
"""Kind of the decision that records an announcement."""
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def announcement_fault(event: DriftEvent) -> str | None:
    """What is wrong with an announcement, apart from its time; None if nothing is."""
    if not event.name.strip() or not event.name.isprintable() or len(event.name.encode()) > MAX_NAME_BYTES:
        return f"`name` must be printable text of 1 to {MAX_NAME_BYTES} bytes"
    if not _KIND.fullmatch(event.kind):
        return "`kind` must be a word of a-z, 0-9, _ and -, at most 32 of them, that begins with a letter"
    for facet, values in event.domain.items():
        if not values or len(values) > MAX_VALUES or not all(values):
            return f"`domain.{facet}` must name 1 to {MAX_VALUES} values, none of them empty"
    return None


def announced(event: DriftEvent) -> Decision:
    """The announcement as a decision, for consumers that read decisions and not all outside events."""
    fields = msgspec.to_builtins(event)
    detail = {key: value for key, value in fields.items() if key not in ("event", "time")}
    return Decision(ANNOUNCED, "", event.time, "announcement", detail)
