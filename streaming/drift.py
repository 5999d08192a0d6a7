"""What drift is announced to be at work: one board per partition of `interactions`, small enough to travel.

A board is kept in the metadata of the partition's committed offset. It moves with the partition to another member,
survives a restart, and always fits the offset it stands beside: announcements before that offset are on it, the ones
behind it will be read again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from streaming.events import DriftEvent

MAX_NAME_BYTES = 64
KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
MAX_VALUES = 1_000
"""Facet values that an announcement may name per facet."""
MOST = 16
"""Announcements on one board: with the longest names they still fit the 4 kB that Kafka takes as metadata."""

Key = tuple[str, str]
"""Name and kind."""


def fault(event: DriftEvent) -> str | None:
    """What is wrong with an announcement beside its time; None if nothing is."""
    if not event.name.strip() or not event.name.isprintable() or len(event.name.encode()) > MAX_NAME_BYTES:
        return f"`name` must be printable text of 1 to {MAX_NAME_BYTES} bytes"
    if not KIND.fullmatch(event.kind):
        return "`kind` must be a word of a-z, 0-9, _ and -, at most 32 of them, that begins with a letter"
    for facet, values in event.domain.items():
        if not values or len(values) > MAX_VALUES or not all(values):
            return f"`domain.{facet}` must name 1 to {MAX_VALUES} values, none of them empty"
    return None


class _Entry(msgspec.Struct, array_like=True):
    name: str
    kind: str
    time: float
    open: bool


_decoder: msgspec.json.Decoder[list[_Entry]] = msgspec.json.Decoder(list[_Entry])


@dataclass
class DriftBoard:
    """What was last announced of each name and kind, at most `MOST` of them."""

    entries: dict[Key, _Entry] = field(default_factory=dict)

    def take(self, event: DriftEvent) -> None:
        """Takes an announcement in; one older than what is known is left out, so that records may come twice.

        Beyond `MOST`, the oldest of those that have ended goes first, then the oldest.
        """
        key = (event.name, event.kind)
        known = self.entries.get(key)
        if known is not None and event.time < known.time:
            return
        self.entries[key] = _Entry(event.name, event.kind, event.time, event.phase != "ends")
        while len(self.entries) > MOST:
            others = [entry for other, entry in self.entries.items() if other != key]
            oldest = min(others, key=lambda entry: (entry.open, entry.time))
            del self.entries[oldest.name, oldest.kind]

    def at_work(self, since: float) -> dict[Key, bool]:
        """By name and kind whether it is at work; what began before `since` without an end counts as over."""
        return {key: entry.open and entry.time >= since for key, entry in self.entries.items()}

    def packed(self) -> str:
        """As text for the offset's metadata; empty if nothing was announced."""
        return msgspec.json.encode(list(self.entries.values())).decode() if self.entries else ""

    @classmethod
    def unpacked(cls, text: str) -> DriftBoard:
        """The board of such a text. Raises msgspec.DecodeError or ValidationError for any other."""
        entries: Iterable[_Entry] = _decoder.decode(text) if text else ()
        return cls({(entry.name, entry.kind): entry for entry in entries})
