"""The truth of a stream: what is the matter, where and from when on; from the script, or from the fault put into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lab.streams.scripted.drift_events import (
    CorruptedLabels,
    LabelDelay,
    NewDomain,
    ScriptEvent,
    Taste,
    Window,
)
from lab.streams.scripted.effects import spans
from lab.streams.scripted.simulator import ScriptedStream
from model.encoding.domain import FACETS, DomainSpace


class Origin(StrEnum):
    """Cause of an episode."""

    DRIFT = "drift"
    """The world's: tastes, items, users."""
    LABELS = "labels"
    INPUTS = "inputs"
    OURS = "ours"
    """A kernel that does harm."""


STRONG = 0.7
"""A drift of this strength must be announced in time; a gradual one once it has grown so strong."""


@dataclass(frozen=True)
class Episode:
    """A span of time in which something is wrong in a stream."""

    name: str
    cause: Origin
    begin: float
    """Event time, s, from which an announcement is no false alarm."""
    full: float
    """Event time from which it must be announced: its begin, or when a gradual drift reaches `STRONG` (or its
    maximum)."""
    end: float
    strength: float
    """0 to 1; nan for an event that has none, such as new items."""
    facets: Mapping[str, tuple[str, ...]]
    """Facets and values that it is confined to; empty for all."""

    @property
    def strong(self) -> bool:
        """Whether the goals demand that it is announced: drift of strength `STRONG` and more, and all faults."""
        return self.cause is not Origin.DRIFT or self.strength >= STRONG

    def inside(self, domain: NDArray[np.int64], space: DomainSpace) -> NDArray[np.bool_]:
        """Mask of the requests in its domain, `(r,)`, from facet indices `(r, 3)`."""
        chosen = np.ones(len(domain), dtype=np.bool_)
        for facet, values in self.facets.items():
            wanted = [space.values[facet].index(value) for value in values]
            chosen &= np.isin(domain[:, FACETS.index(facet)], wanted)
        return chosen

    def concerns(self, stratum: str) -> bool:
        """Whether the stratum is where it happens: every stratum if it happens everywhere."""
        facet, _, value = stratum.partition("=")
        return not self.facets or value in self.facets.get(facet, ())

    def touches(self, stratum: str) -> bool:
        """Whether some of the stratum's requests are of its domain."""
        facet, _, value = stratum.partition("=")
        return value in self.facets.get(facet, (value,))


def scripted_episodes(stream: ScriptedStream) -> list[Episode]:
    """Episodes of a script, by begin: one per event, or per cycle of a recurring one."""
    episodes = [episode for event in stream.script.events for episode in _episodes(event, stream)]
    return sorted(episodes, key=lambda found: found.begin)


def _episodes(event: ScriptEvent, stream: ScriptedStream) -> list[Episode]:
    cause = Origin.LABELS if isinstance(event, LabelDelay | CorruptedLabels) else Origin.DRIFT
    strength, facets = _strength(event), event.where.facets() if isinstance(event, Window) else {}
    if isinstance(event, NewDomain):
        facets = {event.facet: (event.value,)}
    enough = STRONG / strength if strength > STRONG else 1.0
    return [
        Episode(
            event.label, cause, span.start, span.start + enough * (span.full - span.start), span.end, strength, facets
        )
        for span in spans(event, stream.clock)
    ]


def _strength(event: ScriptEvent) -> float:
    if isinstance(event, Taste | NewDomain):
        return event.strength
    return event.share if isinstance(event, CorruptedLabels) else float("nan")
