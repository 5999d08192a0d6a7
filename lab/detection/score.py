"""How well announcements match the episodes of a stream (docs/evaluation.md explains the rules)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.detection.episodes import Episode, Origin
from model.encoding.domain import DomainSpace

WITHIN = 2_000
"""Examples of its own domain within which an episode is to be announced, and for which its end may be."""
GROUP = "group"


@dataclass(frozen=True)
class Announced:
    """One announcement about a stratum."""

    time: float
    """Event time, s."""
    stratum: str
    cause: Origin | None
    """None: nothing is known to be the matter any more."""
    lasts: bool = True
    """Whether it holds until the next one of the stratum, as a verdict does; an alarm is of the moment."""


@dataclass(frozen=True)
class Traffic:
    """When how many examples of which domain were served: the clock that episodes are measured by."""

    time: NDArray[np.float64]
    """Event time of each request, ascending, s, `(r,)`."""
    examples: NDArray[np.int64]
    """Number of examples of each request, `(r,)`."""
    domain: NDArray[np.int64]
    """Facet indices, `(r, 3)`."""
    space: DomainSpace

    def count(self, episode: Episode, begin: float, end: float) -> int:
        """Examples of the episode's domain served from `begin` to `end`."""
        counted = (self.time >= begin) & (self.time <= end) & episode.inside(self.domain, self.space)
        return int(self.examples[counted].sum())

    def after(self, episode: Episode, begin: float) -> float:
        """When `WITHIN` examples of the episode's domain have been served from `begin` on; infinite if never."""
        own = episode.inside(self.domain, self.space) & (self.time >= begin)
        passed = np.flatnonzero(np.cumsum(self.examples[own]) >= WITHIN)
        return float(self.time[own][passed[0]]) if len(passed) else float("inf")

    def outside(self, episodes: Sequence[Episode]) -> int:
        """Examples served while no episode of all domains was at work or had ended `WITHIN` examples ago."""
        quiet = np.ones(len(self.time), dtype=np.bool_)
        for one in episodes:
            if not one.facets:
                quiet &= (self.time < one.begin) | (self.time > self.after(one, one.end))
        return int(self.examples[quiet].sum())


@dataclass(frozen=True)
class Found:
    """Result for one episode."""

    episode: str
    cause: Origin
    named: Origin | None
    """The cause that was named last in time; None if the episode was not announced."""
    strong: bool
    """Whether the goals demand it."""
    delay: int
    """Examples of its domain from when it had to be announced to its first announcement; 0 if that came sooner."""

    @property
    def right(self) -> bool:
        """Whether it was announced with the right cause."""
        return self.named is self.cause


@dataclass(frozen=True)
class Score:
    """Result of one detector on one stream and seed."""

    found: tuple[Found, ...]
    """Results by episode."""
    false_alarms: int
    quiet: int
    """Examples over which false alarms were counted."""


def score(announcements: Sequence[Announced], episodes: Sequence[Episode], traffic: Traffic) -> Score:
    """Announcements in the order in which they were made."""
    return Score(
        found=tuple(_found(one, episodes, announcements, traffic) for one in episodes),
        false_alarms=sum(one.cause is not None and not _excused(one, episodes, traffic) for one in announcements),
        quiet=traffic.outside(episodes),
    )


def _excused(said: Announced, episodes: Sequence[Episode], traffic: Traffic) -> bool:
    """Whether something was the matter with the stratum, or had ended lately: its end is a change, too."""
    return any(one.touches(said.stratum) and one.begin <= said.time <= traffic.after(one, one.end) for one in episodes)


def _found(
    episode: Episode, episodes: Sequence[Episode], announcements: Sequence[Announced], traffic: Traffic
) -> Found:
    until = traffic.after(episode, episode.full)
    said = [one for one in announcements if one.cause is not None and episode.concerns(one.stratum)]
    inside = [one for one in said if episode.begin <= one.time <= until]
    if _shown_already(episode, episodes, announcements):
        return Found(episode.name, episode.cause, _last_named(inside) or episode.cause, episode.strong, 0)
    if not inside:
        return Found(episode.name, episode.cause, None, episode.strong, 0)
    delay = traffic.count(episode, episode.full, inside[0].time)
    return Found(episode.name, episode.cause, _last_named(inside), episode.strong, delay)


def _last_named(inside: Sequence[Announced]) -> Origin | None:
    """The last announced cause; for an episode of the whole group, the group's own stratum decides."""
    own = [one for one in inside if one.stratum == GROUP] or inside
    return own[-1].cause if own else None


def _shown_already(episode: Episode, episodes: Sequence[Episode], announcements: Sequence[Announced]) -> bool:
    """Whether its cause is already announced because of an earlier episode of that cause that has not ended."""
    standing: dict[str, Announced] = {}
    for said in announcements:
        if said.time < episode.begin and said.lasts and episode.concerns(said.stratum):
            before = standing.get(said.stratum)
            if before is None or before.cause is not said.cause:
                standing[said.stratum] = said
    earlier = [one for one in episodes if one.cause is episode.cause and one.begin < episode.begin < one.end]
    return any(
        said.cause is episode.cause and any(one.begin <= said.time and one.touches(said.stratum) for one in earlier)
        for said in standing.values()
    )
